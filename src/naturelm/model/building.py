"""A fresh model to train: an untrained audio side before any causal language model."""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from naturelm.errors import CheckpointError
from naturelm.model.configuration import NatureLMConfig, NatureLMProjectorConfig
from naturelm.model.loading import quiet_unless_watched, resolve_llm
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor
from naturelm.model.projector import WindowedProjector

_QUESTION = "<the question goes here>"


def new_model(
    text_model: str,
    *,
    audio_config: PreTrainedConfig | None = None,
    projector_config: NatureLMProjectorConfig | None = None,
    lora: dict[str, Any] | None = None,
    **config: Any,
) -> tuple[NatureLMForConditionalGeneration, NatureLMProcessor]:
    """An untrained ear and projector before a pretrained language model.

    text_model: embedded name, folder or hub id of any causal language model.
    audio_config: of any registered ear; default BEATs base. lora: r, lora_alpha, lora_dropout,
    target_modules; None for no adapter. config: other fields of `NatureLMConfig`; the prompt
    is taken from the language model's chat template unless given.

    The language model is frozen but for its LoRA layers. Raises CheckpointError.
    """
    folder = resolve_llm(text_model)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    full = NatureLMConfig(
        audio_config=audio_config,
        projector_config=projector_config,
        text_config=AutoConfig.from_pretrained(folder, trust_remote_code=False),
        text_model=text_model,
        lora=lora,
        **{**_prompt_of(tokenizer, text_model, wanted="prompt_template" not in config), **config},
    )
    model = NatureLMForConditionalGeneration(full)
    with quiet_unless_watched():
        pretrained = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False
        )
    ours = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.language_model.state_dict().items()
    }
    with torch.no_grad():
        for name, tensor in pretrained.state_dict().items():
            ours[name].copy_(tensor)
    for name, parameter in model.language_model.named_parameters():
        parameter.requires_grad = ".lora_" in name
        if parameter.requires_grad:
            # Beside a language model in bfloat16 the steps of training would be too small for its adapter to take.
            parameter.data = parameter.data.float()
    start_projector(model.projector)
    if model.hints is not None:
        model.hints.spell(model.ear.label_names(), tokenizer)
    model.generation_config = model.language_model.generation_config = pretrained.generation_config
    return model, NatureLMProcessor.from_model_config(full, tokenizer)


def start_projector(projector: WindowedProjector) -> None:
    """Let a fresh Q-Former pass on what it reads.

    Its residual stream begins with the queries alone, and at transformers' usual spread of 0.02 next to nothing
    of a window gets into it: a small one learnt nothing in 25,000 clips.
    """
    if projector.config.kind != "qformer":
        return
    for module in projector.qformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)


def _prompt_of(tokenizer: Any, name: str, *, wanted: bool) -> dict[str, Any]:
    """prompt_template, end_of_answer and add_bos as the language model's own chat template has them.

    With a template of one's own, its end of answer is still the language model's.
    """
    if not wanted:
        return {"end_of_answer": tokenizer.eos_token} if tokenizer.eos_token else {}
    if tokenizer.chat_template is None:
        raise CheckpointError(
            f"language model {name}: no chat template; give prompt_template and end_of_answer"
        )
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": _QUESTION}], tokenize=False, add_generation_prompt=True
    )
    bos = tokenizer.bos_token
    add_bos = bool(bos) and turn.startswith(bos) and tokenizer.bos_token_id != tokenizer.eos_token_id
    if add_bos:
        turn = turn.removeprefix(bos)
    return {
        "prompt_template": turn.replace(_QUESTION, "{}"),
        "end_of_answer": tokenizer.eos_token,
        "add_bos": add_bos,
    }
