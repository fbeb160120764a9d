"""transformers' Trainer with what it lacks here: batches by step, per-task sums, checkpoints that are whole."""

import math
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from naturelm.model.loading import quiet_unless_watched
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.train.checkpoints import settle_checkpoint, staging_folder
from naturelm.train.data import Example, TrainingRows
from naturelm.train.kept_features import KeptFeatures
from naturelm.train.label_rows import AllRows
from naturelm.train.metrics import RowResults, Tally, answer_results
from naturelm.train.mixture import Draws, StepBatches
from naturelm.train.options import TrainError
from naturelm.train.parts import PartRates, parameter_groups, part_rates
from naturelm.train.runlog import RunLog
from naturelm.train.warm_up import WordHearer, load_readers, save_readers

READERS = "readers.safetensors"
Phase = str


@dataclass(frozen=True)
class PhaseData:
    """What a phase is trained on."""

    name: Phase
    rows: TrainingRows | KeptFeatures | AllRows
    mixture: Draws
    collator: Callable[[list[Any]], dict[str, Any]]
    tally: Tally
    steps: int
    micro_batch_size: int
    workers: int


class Unusable(TrainError):
    """Training cannot go on; the weights are as they were after the last step."""


class NatureLMTrainer(Trainer):
    """Trains a joint model, or its audio side under a `WordHearer`.

    Batches come from the mixture by step number, so that a resumed run gets those that it would have got.
    """

    optimizer: Any  # accelerate wraps it
    control: Any

    def __init__(
        self,
        model: NatureLMForConditionalGeneration | WordHearer,
        args: TrainingArguments,
        data: PhaseData,
        *,
        joint: NatureLMForConditionalGeneration,
        rates: PartRates,
        checkpoints: Path,
        keep: int,
        log: RunLog,
        evaluate: Callable[[int], dict[str, float]] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """joint: the model that `model` is, or is a part of. evaluate: called with the step, gives scalars to log."""
        super().__init__(model, args, callbacks=list(callbacks))
        self.data = data
        self.joint = joint
        self.rates = rates
        self.checkpoints = checkpoints
        self.keep = keep
        self.run_log = log
        self._evaluate_now = evaluate
        self.first_step = 0
        # Every way of computing the loss here divides by the items of the whole step.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        self._clock = _Clock()

    # --- batches ------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The loader of this process's micro-batches from `first_step` on."""
        batches = StepBatches(
            self.data.mixture,
            steps=self.data.steps,
            first_step=self.first_step,
            micro_batch_size=self.data.micro_batch_size,
            rank=self.args.process_index,
            processes=self.args.world_size,
        )
        return DataLoader(
            self.data.rows,
            batch_sampler=batches,
            collate_fn=self.data.collator,
            num_workers=self.data.workers,
            prefetch_factor=4 if self.data.workers else None,
            # Of its own: beginning to load must not change which units the model's dropout takes.
            generator=torch.Generator(),
            worker_init_fn=_ignore_signals,
            pin_memory=self.args.device.type == "cuda",
        )

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader[Any]) -> Any:
        """One epoch of all steps, wherever the loader begins."""
        whole = self.data.steps * args.gradient_accumulation_steps
        per_step = self.data.mixture.batch_size
        return (
            1,
            self.data.steps,
            self.data.steps * per_step,
            self.data.steps * per_step,
            per_step,
            whole,
            args.max_steps,
        )

    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, Any]], device: torch.device
    ) -> Tensor | None:
        """What the losses of a step are divided by; a batch with a row that cannot be read stops the training."""
        if not batch_samples:
            return None
        unreadable = [message for batch in batch_samples for message in batch.get("unreadable", ())]
        if self._over_processes(torch.tensor(len(unreadable))):
            raise Unusable(unreadable[0] if unreadable else "another process met a pair that cannot be read")
        return self._over_processes(torch.stack([_items(batch) for batch in batch_samples]).sum())

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Loss of a micro-batch as its share of the whole step, counted in for the log."""
        examples: list[Example] = inputs.pop("examples")
        outputs = model(**inputs, num_items_in_batch=num_items_in_batch)
        if "labels" in inputs:
            results = answer_results(inputs["labels"], outputs.token_losses, outputs.logits.detach())
        else:
            hits = outputs["hits"]
            results = RowResults(outputs["row_losses"], hits, torch.ones_like(hits))
        self.data.tally.add([each.task for each in examples], [each.source for each in examples], results)
        self._clock.count(len(examples), _tokens(inputs))
        # Gradients of several processes are averaged, and their shares have to be summed.
        loss = outputs["loss"] * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float:
        """The norm, which every process knows alike: where it is no number, all stop before the weights change."""
        norm = float(super()._get_grad_norm(model, grad_norm))
        if not math.isfinite(norm):
            step = self.state.global_step + 1
            tasks = ", ".join(sorted(self.data.tally.take(self.args.device)["tasks"]))
            raise Unusable(
                f"step {step} of {self.data.name}: loss or gradient is not a number (tasks since the last log line: {tasks}); "
                "begin a new run from this one's model (model.start) with a lower optimizer.learning_rate"
            )
        return norm

    # --- optimiser ----------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with a group for each part; norms and biases do not decay."""
        if self.optimizer is None:
            groups = parameter_groups(model or self.model, self.rates)
            fused = self.args.device.type == "cuda"
            betas = (self.rates.beta1, self.rates.beta2)
            self.optimizer = torch.optim.AdamW(groups, betas=betas, fused=fused)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """Linear rise, cosine fall."""
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda step: self.rates.factor(step, num_training_steps)
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    # --- seeing it ----------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the sums by task; the line goes to the run's log and to every callback."""
        if "loss" not in logs:
            return
        rates = part_rates(self.optimizer)
        pace = self._clock.take(
            self._over_processes(torch.tensor([self._clock.examples, self._clock.tokens]))
        )
        line = {
            "kind": "step",
            "phase": self.data.name,
            "step": self.state.global_step,
            "seconds": self._clock.seconds,
            "loss": logs["loss"],
            "learning_rate": rates,
            "grad_norm": logs.get("grad_norm"),
            "examples": self.state.global_step * self.data.mixture.batch_size,
            **pace,
            "peak_memory": _peak_memory(self.args.device),
            **self.data.tally.take(self.args.device),
        }
        fault = None
        if self.is_world_process_zero():
            try:
                self.run_log.append(line)
            except TrainError as error:
                fault = Unusable(str(error))
        self._stop_together(fault)
        scalars = {f"learning_rate/{part}": rate for part, rate in rates.items()}
        for task, sums in line["tasks"].items():
            scalars |= {f"loss/{task}": sums["loss"], f"accuracy/{task}": sums["accuracy"]}
        logs = {**logs, **scalars, **pace}
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False
    ) -> dict[str, float]:
        self.control.should_evaluate = False
        if self._evaluate_now is None:
            return {}
        self._clock.pause()
        fault, scalars = None, {}
        try:
            scalars = self._evaluate_now(self.state.global_step)
        except Unusable as error:
            fault = error
        self._stop_together(fault)
        self._clock.go_on()
        self.control = self.callback_handler.on_log(
            self.args, self.state, self.control, {f"eval_{name}": value for name, value in scalars.items()}
        )
        return scalars

    # --- checkpoints --------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write aside, then rename: a checkpoint that has its name is whole."""
        self._clock.pause()
        staging = staging_folder(self.checkpoints)
        output, self.args.output_dir = self.args.output_dir, str(staging)
        try:
            self._stop_together(
                self._fault_of(lambda: super(NatureLMTrainer, self)._save_checkpoint(model, trial))
            )
            self._stop_together(self._fault_of(lambda: self._settle(staging)))
        finally:
            self.args.output_dir = output
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
        self._clock.go_on()

    def _settle(self, staging: Path) -> None:
        if self.args.should_save:
            settle_checkpoint(staging, self.checkpoints, self.data.name, self.state.global_step, self.keep)

    def _fault_of(self, write: Callable[[], None]) -> Unusable | None:
        """What keeps a part of a checkpoint from being written; None if nothing does."""
        try:
            write()
        # What a full disk is to Python, safetensors, torch.
        except (OSError, SafetensorError, RuntimeError) as error:
            return Unusable(
                f"{self.checkpoints}: checkpoint of step {self.state.global_step} cannot be written ({error}); "
                "make room and resume"
            )
        return None

    def go_on_from(self, step: int, seconds: float) -> None:
        """Take up the count of a run that was stopped after `step`, which took `seconds`."""
        self.first_step = step
        self._clock.seconds = self._clock.taken = seconds

    def gathered_weights(self) -> dict[str, Tensor] | None:
        """Whole weights, where processes hold parts of them; None where each has the whole model."""
        if not self.is_fsdp_enabled:
            return None
        weights: dict[str, Tensor] = self.accelerator.get_state_dict(self.model_wrapped)
        return weights

    def save_after_fault(self) -> None:
        """Keep the weights as they were after the last whole step, if they are numbers and there is room."""
        sound = all(bool(torch.isfinite(p).all()) for p in self.model.parameters() if p.requires_grad)
        if sound and self.state.global_step > self.first_step:
            with suppress(Unusable):
                self._save_checkpoint(self.model, None)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Our layout, without the language model's own weights where they are had elsewhere."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        # FSDP hands the gathered weights over; of the warm-up's model they are not named as the joint model's.
        save_weights(self.joint, folder, None if isinstance(self.model, WordHearer) else state_dict)
        if isinstance(self.model, WordHearer):
            save_readers(self.model, folder / READERS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_weights(self.joint, Path(resume_from_checkpoint))
        if isinstance(self.model, WordHearer):
            load_readers(self.model, Path(resume_from_checkpoint) / READERS)

    # --- processes ----------------------------------------------------------------------------

    def _stop_together(self, fault: Unusable | None) -> None:
        """Raise a fault of this process, or for that of another one, which this one would wait for in vain."""
        faults = int(self._over_processes(torch.tensor(int(fault is not None))))
        if fault is not None:
            raise fault
        if faults:
            raise Unusable("another process met a fault, and says which")

    def _over_processes(self, count: Tensor) -> Tensor:
        if self.args.world_size == 1:
            return count
        moved = count.to(self.args.device)
        torch.distributed.all_reduce(moved)
        return moved


def save_weights(
    model: NatureLMForConditionalGeneration, folder: Path, state_dict: dict[str, Tensor] | None = None
) -> None:
    """Write a checkpoint in our layout; of a language model that has a name, only the adapter."""
    kwargs = {} if state_dict is None else {"state_dict": state_dict}
    with quiet_unless_watched():
        model.save_pretrained(folder, with_language_model=model.config.text_model is None, **kwargs)


def load_weights(model: NatureLMForConditionalGeneration, folder: Path) -> None:
    """Read back what `save_weights` wrote. TrainError if it does not fit the model."""
    try:
        weights: dict[str, Tensor] = {}
        for path in sorted(folder.glob("model*.safetensors")):
            weights |= load_file(path)
        missing, left_over = model.load_state_dict(weights, strict=False)
    except Exception as error:  # safetensors, torch and the disk each have their own
        raise TrainError(
            f"{folder}: its weights cannot be read ({error}); remove this checkpoint and resume"
        ) from error
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    lost = sorted(trained.intersection(missing)) + sorted(left_over)
    if lost or not weights:
        what = lost[0] if lost else "model.safetensors"
        raise TrainError(f"{folder}: does not fit this model at {what}; remove this checkpoint and resume")


class _Clock:
    """Time spent on training itself, and what was done in it since the last log line."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.examples = 0
        self.tokens = 0
        self._since = time.perf_counter()
        self.taken = 0.0

    def count(self, examples: int, tokens: int) -> None:
        self.examples += examples
        self.tokens += tokens

    def pause(self) -> None:
        self.seconds += time.perf_counter() - self._since

    def go_on(self) -> None:
        self._since = time.perf_counter()

    def take(self, totals: Tensor) -> dict[str, float]:
        """Pace since this was last asked. totals: examples and tokens of all processes since then."""
        self.pause()
        self.go_on()
        spent = max(self.seconds - self.taken, 1e-9)
        self.taken = self.seconds
        self.examples = self.tokens = 0
        examples, tokens = totals.tolist()
        return {"examples_per_second": examples / spent, "tokens_per_second": tokens / spent}


def _ignore_signals(worker: int) -> None:
    """A signal to all processes at once must not take the loaders away before the last step and its checkpoint."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _items(batch: dict[str, Any]) -> Tensor:
    """What the loss of a batch is a sum over: answer tokens, or clips in the warm-up."""
    if "labels" in batch:
        return (batch["labels"][:, 1:] != -100).sum()
    return torch.tensor(len(batch["examples"]))


def _tokens(inputs: dict[str, Any]) -> int:
    return int(inputs["attention_mask"].sum()) if "attention_mask" in inputs else 0


def _peak_memory(device: torch.device) -> float:
    """Bytes: of the GPU where one is used, else of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    with suppress(ImportError):  # no such module on Windows
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return float("nan")
