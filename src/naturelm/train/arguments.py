"""What transformers' Trainer is told of a phase."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from naturelm.train.checkpoints import PHASES
from naturelm.train.options import TrainError, TrainOptions
from naturelm.train.precision import in_bfloat16
from naturelm.train.trainer import PhaseData


def training_arguments(
    options: TrainOptions, out: Path, data: PhaseData, processes: int
) -> TrainingArguments:
    """The arguments of a phase. TrainError where one process sees several GPUs."""
    cpu = not torch.cuda.is_available()
    fsdp: dict[str, Any] = {}
    if options.parallel == "fsdp" and processes > 1 and data.name == PHASES[1]:
        fsdp = {"fsdp": True, "fsdp_config": {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}}
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=data.steps,
        per_device_train_batch_size=data.micro_batch_size,
        gradient_accumulation_steps=data.mixture.batch_size // (data.micro_batch_size * processes),
        max_grad_norm=options.optimizer.max_grad_norm,
        logging_steps=options.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=options.save_every,
        eval_strategy="no",
        ignore_data_skip=True,
        remove_unused_columns=False,
        activation_checkpointing=options.gradient_checkpointing and data.name == PHASES[1],
        bf16=in_bfloat16(options.precision),
        use_cpu=cpu,
        seed=options.seed,
        report_to="none",
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        **fsdp,
    )
    if arguments.n_gpu > 1:
        raise TrainError(
            f"there are {arguments.n_gpu} GPUs and one process; start with `torchrun --nproc-per-node "
            f"{arguments.n_gpu} -m naturelm train ...`, or show it one with CUDA_VISIBLE_DEVICES=0"
        )
    return arguments
