"""Writes a tiny checkpoint in the official layout: names spelled from ours, by a table of its own."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from naturelm.model.modeling import NatureLMForConditionalGeneration
from tiny import (
    CHATML,
    tiny_beats_config,
    tiny_model,
    tiny_projector_config,
    tiny_text_config,
    tiny_tokenizer,
)

_BLOCK = r"ear\.layers\.(\d+)\."
_THEIRS = r"beats.encoder.layers.\1."
_OFFICIAL_NAMES = (
    (r"ear\.patch_embedding\.(.*)", r"beats.patch_embedding.\1"),
    (r"ear\.patch_norm\.(.*)", r"beats.layer_norm.\1"),
    (r"ear\.patch_projection\.(.*)", r"beats.post_extract_proj.\1"),
    (r"ear\.position_conv\.(.*)", r"beats.encoder.pos_conv.0.\1"),
    (r"ear\.norm\.(.*)", r"beats.encoder.layer_norm.\1"),
    (_BLOCK + r"attention\.gate_scale", _THEIRS + "self_attn.grep_a"),
    (_BLOCK + r"attention\.gate\.(.*)", _THEIRS + r"self_attn.grep_linear.\2"),
    (_BLOCK + r"attention\.(.*)", _THEIRS + r"self_attn.\2"),
    (_BLOCK + r"attention_norm\.(.*)", _THEIRS + r"self_attn_layer_norm.\2"),
    (_BLOCK + r"final_norm\.(.*)", _THEIRS + r"final_layer_norm.\2"),
    (_BLOCK + r"(fc.*)", _THEIRS + r"\2"),
    (r"projector\.input_norm\.(.*)", r"ln_audio.\1"),
    (r"projector\.linear\.(.*)", r"audio_llama_proj.\1"),
    (r"language_model\.(.*)", r"llama_model.base_model.model.\1"),
)
BEATS_CFG = {
    "input_patch_size": 16,
    "embed_dim": 16,
    "encoder_layers": 2,
    "encoder_embed_dim": 24,
    "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 4,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "num_buckets": 32,
    "max_distance": 64,
    "relative_position_embedding": True,
    "predictor_class": 527,
}


def official_like_model(vocab_size: int = 300) -> NatureLMForConditionalGeneration:
    """Without a Q-Former, whose official size is fixed and large."""
    return tiny_model(
        audio_config=tiny_beats_config(exact_mask=False),
        projector_config=tiny_projector_config(
            kind="mean", window_frames=17, stride_frames=17, honour_mask=False
        ),
        text_config=tiny_text_config(vocab_size),
        clip_seconds=10.0,
        pad_to_clip=True,
        add_bos=True,
    )


def official_tensors(model: NatureLMForConditionalGeneration) -> dict[str, Tensor]:
    """The model's tensors as the original would store them, the repeated and the unused included."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "ear.relative_position.weight":
            for layer in range(model.config.audio_config.num_hidden_layers):
                tensors[f"beats.encoder.layers.{layer}.self_attn.relative_attention_bias.weight"] = (
                    tensor.clone()
                )
            continue
        pattern, theirs = next(row for row in _OFFICIAL_NAMES if re.fullmatch(row[0], name))
        tensors[re.fullmatch(pattern, name).expand(theirs)] = tensor.clone()  # type: ignore[union-attr]
    weight = tensors.pop("beats.encoder.pos_conv.0.weight")
    # Any positive factor of the direction cancels out.
    tensors["beats.encoder.pos_conv.0.weight_v"] = weight * torch.linspace(0.5, 2, weight.shape[2])
    tensors["beats.encoder.pos_conv.0.weight_g"] = weight.square().sum((0, 1), keepdim=True).sqrt()
    tensors["beats.predictor.weight"] = torch.zeros(527, 24)
    tensors["llama_embed_tokens.weight"] = tensors[
        "llama_model.base_model.model.model.embed_tokens.weight"
    ].clone()
    return tensors


def save_llm(folder: Path, *, vocab_size: int = 300, weights: bool = True, pad: bool = True) -> Path:
    """The language model's folder: configuration, tokenizer (without a pad token unless `pad`), weights."""
    torch.manual_seed(7)
    model = LlamaForCausalLM(tiny_text_config(vocab_size))
    if weights:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    if not pad:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>"
        )
    tokenizer.save_pretrained(folder)
    return folder


def save_official(folder: Path, llm: Path | str, tensors: dict[str, Tensor] | None, **fields: Any) -> Path:
    """The checkpoint's folder; tensors None writes no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "llama_path": str(llm),
        "beats_cfg": BEATS_CFG,
        "use_audio_Qformer": False,
        "lora_rank": 4,
        "lora_alpha": 8,
        "prompt_template": CHATML,
        "end_sym": "<|im_end|>",
        **fields,
    }
    (folder / "config.json").write_text(json.dumps(config))
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors")
    return folder
