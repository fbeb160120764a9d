"""The official layout: its `config.json` and tensor names, turned into ours and back.

The official `config.json` holds the constructor's keyword arguments, and the tensors keep the
names of the original modules. Names and shapes are facts of the published checkpoint; the
translations below are tables of patterns, read from top to bottom, first match wins.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from naturelm.errors import CheckpointError
from naturelm.model.configuration import LLAMA3_PROMPT, BeatsConfig, NatureLMConfig, NatureLMProjectorConfig

# Patches a second as the original counts them: 1500 for 30 s.
_PATCHES_PER_SECOND = 1500 / 30
_LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]

# Ours is None where the tensor repeats another or plays no part in hearing.
_BEATS_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"predictor\..*", None),
    (r"patch_embedding\.(weight|bias)", r"patch_embedding.\1"),
    (r"layer_norm\.(.*)", r"patch_norm.\1"),
    (r"post_extract_proj\.(.*)", r"patch_projection.\1"),
    (r"encoder\.pos_conv\.0\.(.*)", r"position_conv.\1"),
    (r"encoder\.layer_norm\.(.*)", r"norm.\1"),
    (r"encoder\.layers\.0\.self_attn\.relative_attention_bias\.weight", "relative_position.weight"),
    (r"encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight", None),
    (r"encoder\.layers\.(\d+)\.self_attn\.grep_a", r"layers.\1.attention.gate_scale"),
    (r"encoder\.layers\.(\d+)\.self_attn\.grep_linear\.(.*)", r"layers.\1.attention.gate.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.(.*)", r"layers.\1.attention.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.(.*)", r"layers.\1.attention_norm.\2"),
    (r"encoder\.layers\.(\d+)\.final_layer_norm\.(.*)", r"layers.\1.final_norm.\2"),
    (r"encoder\.layers\.(\d+)\.(fc[12]\..*)", r"layers.\1.\2"),
)
_NAMES: tuple[tuple[str, str | None], ...] = (
    *((rf"beats\.{theirs}", ours and f"ear.{ours}") for theirs, ours in _BEATS_NAMES),
    (r"audio_query_tokens", "projector.query_tokens"),
    (r"ln_audio\.(.*)", r"projector.input_norm.\1"),
    (r"audio_Qformer\.bert\.embeddings\.LayerNorm\.(.*)", r"projector.qformer.layernorm.\1"),
    (r"audio_Qformer\.bert\.embeddings\..*", None),
    (
        r"audio_Qformer\.bert\.encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.(.*)",
        r"projector.qformer.encoder.layer.\1.\2.attention.\3",
    ),
    (r"audio_Qformer\.bert\.encoder\.(.*)", r"projector.qformer.encoder.\1"),
    (r"audio_llama_proj\.(.*)", r"projector.linear.\1"),
    (r"llama_embed_tokens\..*", None),
    (r"llama_model\.base_model\.model\.(.*)", r"language_model.\1"),
    (r"llama_model\.(.*)", r"language_model.\1"),
)
# The other way. The language model's prefix depends on the adapter: see `official_name`.
_RELATIVE_POSITION = "ear.relative_position.weight"
_OFFICIAL_NAMES: tuple[tuple[str, str], ...] = (
    (r"ear\.patch_embedding\.(.*)", r"beats.patch_embedding.\1"),
    (r"ear\.patch_norm\.(.*)", r"beats.layer_norm.\1"),
    (r"ear\.patch_projection\.(.*)", r"beats.post_extract_proj.\1"),
    (r"ear\.position_conv\.(.*)", r"beats.encoder.pos_conv.0.\1"),
    (r"ear\.norm\.(.*)", r"beats.encoder.layer_norm.\1"),
    (r"ear\.relative_position\.(.*)", r"beats.encoder.layers.0.self_attn.relative_attention_bias.\1"),
    (r"ear\.layers\.(\d+)\.attention\.gate_scale", r"beats.encoder.layers.\1.self_attn.grep_a"),
    (r"ear\.layers\.(\d+)\.attention\.gate\.(.*)", r"beats.encoder.layers.\1.self_attn.grep_linear.\2"),
    (r"ear\.layers\.(\d+)\.attention\.(.*)", r"beats.encoder.layers.\1.self_attn.\2"),
    (r"ear\.layers\.(\d+)\.attention_norm\.(.*)", r"beats.encoder.layers.\1.self_attn_layer_norm.\2"),
    (r"ear\.layers\.(\d+)\.final_norm\.(.*)", r"beats.encoder.layers.\1.final_layer_norm.\2"),
    (r"ear\.layers\.(\d+)\.(fc[12]\..*)", r"beats.encoder.layers.\1.\2"),
    (r"projector\.query_tokens", "audio_query_tokens"),
    (r"projector\.input_norm\.(.*)", r"ln_audio.\1"),
    (r"projector\.qformer\.layernorm\.(.*)", r"audio_Qformer.bert.embeddings.LayerNorm.\1"),
    (
        r"projector\.qformer\.encoder\.layer\.(\d+)\.(attention|crossattention)\.attention\.(.*)",
        r"audio_Qformer.bert.encoder.layer.\1.\2.self.\3",
    ),
    (r"projector\.qformer\.encoder\.(.*)", r"audio_Qformer.bert.encoder.\1"),
    (r"projector\.linear\.(.*)", r"audio_llama_proj.\1"),
)
_BEATS_CFG_FIELDS = {
    "input_patch_size": "patch_size",
    "embed_dim": "embed_dim",
    "conv_bias": "conv_bias",
    "encoder_layers": "num_hidden_layers",
    "encoder_embed_dim": "hidden_size",
    "encoder_ffn_embed_dim": "intermediate_size",
    "encoder_attention_heads": "num_attention_heads",
    "activation_fn": "hidden_act",
    "layer_norm_first": "layer_norm_first",
    "deep_norm": "deep_norm",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "conv_pos": "position_conv_kernel",
    "conv_pos_groups": "position_conv_groups",
    "num_buckets": "num_buckets",
    "max_distance": "max_distance",
    "gru_rel_pos": "gated_position_bias",
}


def is_official_config(fields: Mapping[str, Any]) -> bool:
    """Whether a `config.json` holds the official constructor's arguments."""
    return "llama_path" in fields or "beats_cfg" in fields


def translate_config(fields: Mapping[str, Any], text_config: Any, vocab_size: int) -> NatureLMConfig:
    """Our configuration of an official checkpoint.

    fields: the official `config.json`; missing and extra keys are tolerated.
    text_config: of the language model that it names; vocab_size: rows with the added pad token.
    """
    if not fields.get("window_level_Qformer", True) and fields.get("use_audio_Qformer", True):
        raise ValueError("window_level_Qformer is false; only the window-level Q-Former is supported")
    text_config.vocab_size = vocab_size
    window = round(_PATCHES_PER_SECOND * fields.get("second_per_window", 0.333333))
    stride = round(_PATCHES_PER_SECOND * fields.get("second_stride", 0.333333))
    projector = NatureLMProjectorConfig(
        kind="qformer" if fields.get("use_audio_Qformer", True) else "mean",
        window_frames=window,
        stride_frames=stride,
        num_queries=fields.get("num_audio_query_token", 1),
    )
    lora = None
    if fields.get("lora", True):
        lora = {
            "r": fields.get("lora_rank", 32),
            "lora_alpha": fields.get("lora_alpha", 32),
            "lora_dropout": fields.get("lora_dropout", 0.1),
            "target_modules": list(_LORA_TARGETS),
        }
    return NatureLMConfig(
        audio_config=beats_config(fields.get("beats_cfg") or {}),
        projector_config=projector,
        text_config=text_config,
        text_model=fields.get("llama_path"),
        lora=lora,
        prompt_template=fields.get("prompt_template") or LLAMA3_PROMPT,
        end_of_answer=fields.get("end_sym") or "<|end_of_text|>",
        add_bos=True,
        clip_seconds=10.0,
        pad_to_clip=True,
    )


def beats_config(cfg: Mapping[str, Any]) -> BeatsConfig:
    """Our configuration of an original BEATs `cfg`; keys that only training uses are passed over."""
    known = {ours: cfg[theirs] for theirs, ours in _BEATS_CFG_FIELDS.items() if theirs in cfg}
    return BeatsConfig(**known)


def official_config(config: NatureLMConfig) -> dict[str, Any]:
    """The official `config.json` that comes nearest to a configuration of ours.

    What it cannot carry is left out: read it back with `translate_config` and compare. The inverse of
    `translate_config`, where that gave the configuration.
    """
    projector, lora = config.projector_config, config.lora or {}
    named = {"r": "lora_rank", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}
    ear = config.audio_config
    beats = {theirs: getattr(ear, ours) for theirs, ours in _BEATS_CFG_FIELDS.items() if hasattr(ear, ours)}
    return {
        "llama_path": config.text_model,
        # The head for AudioSet classes plays no part in hearing, and is not written.
        "beats_cfg": {**beats, "relative_position_embedding": True, "finetuned_model": False},
        "use_audio_Qformer": projector.kind == "qformer",
        "num_audio_query_token": projector.num_queries,
        "window_level_Qformer": True,
        "second_per_window": projector.window_frames / _PATCHES_PER_SECOND,
        "second_stride": projector.stride_frames / _PATCHES_PER_SECOND,
        "lora": config.lora is not None,
        **{theirs: lora[ours] for ours, theirs in named.items() if ours in lora},
        "prompt_template": config.prompt_template,
        "end_sym": config.end_of_answer,
    }


def translate_name(name: str) -> str | None:
    """Our name of an official tensor; None if it is not needed. Raises KeyError if it is not known."""
    return _translate(name, _NAMES)


def translate_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors under our names, with the weight norm of the positional convolution folded in."""
    return _fold_weight_norm(_rename(tensors, _NAMES))


def translate_beats_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an original BEATs `.pt` (its `model`) under the names of our `BeatsModel`."""
    return _fold_weight_norm(_rename(tensors, _BEATS_NAMES))


def fold_weight_norm(gain: Tensor, direction: Tensor) -> Tensor:
    """The convolution's weight from its gain (1, 1, k) and direction (out, in, k)."""
    return gain * direction / direction.norm(dim=(0, 1), keepdim=True)


def official_name(name: str, *, lora: bool) -> str:
    """The official name of a tensor of ours. lora: whether the language model carries an adapter.

    Raises KeyError if the official model has no such tensor.
    """
    if name.startswith("language_model."):
        prefix = "llama_model.base_model.model." if lora else "llama_model."
        return prefix + name.removeprefix("language_model.")
    theirs = _translate(name, _OFFICIAL_NAMES)
    assert theirs is not None  # no pattern of this table drops a tensor
    return theirs


def official_weights(tensors: Mapping[str, Tensor], *, lora: bool, layers: int) -> dict[str, Tensor]:
    """Our tensors under the official names, so that `translate_weights` gives the same values again.

    lora: whether the language model carries an adapter; layers: of the ear, which all repeat one table
    of relative positions. Raises KeyError naming a tensor that the official model does not have.
    """
    theirs = {official_name(name, lora=lora): tensor for name, tensor in tensors.items()}
    first = official_name(_RELATIVE_POSITION, lora=lora)
    if first in theirs:
        for layer in range(1, layers):
            theirs[first.replace(".0.", f".{layer}.", 1)] = theirs[first].clone()
    weight = theirs.pop("beats.encoder.pos_conv.0.weight", None)
    if weight is not None:
        gain, direction = unfold_weight_norm(weight)
        theirs["beats.encoder.pos_conv.0.weight_g"] = gain
        theirs["beats.encoder.pos_conv.0.weight_v"] = direction
    embeddings = official_name("language_model.model.embed_tokens.weight", lora=lora)
    if embeddings in theirs:
        theirs["llama_embed_tokens.weight"] = theirs[embeddings].clone()
    return theirs


def unfold_weight_norm(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gain (1, 1, k) and direction (out, in, k), which `fold_weight_norm` makes the same weight of.

    The gain is float64: in float32 folding would round twice, and every other value would change in its
    last digit.
    """
    direction = weight.float()
    gain = direction.norm(dim=(0, 1), keepdim=True)
    # A tap that is zero has no direction of its own: any will do, and a gain of zero.
    return gain.double(), torch.where(gain == 0, torch.ones_like(direction), direction)


def _translate(name: str, table: Iterable[tuple[str, str | None]]) -> str | None:
    for pattern, ours in table:
        match = re.fullmatch(pattern, name)
        if match:
            return None if ours is None else match.expand(ours)
    raise KeyError(name)


def _rename(tensors: Mapping[str, Tensor], table: tuple[tuple[str, str | None], ...]) -> dict[str, Tensor]:
    renamed, unknown = {}, []
    for name, tensor in tensors.items():
        try:
            ours = _translate(name, table)
        except KeyError:
            unknown.append(name)
            continue
        if ours is not None:
            # Small matrices may be stored as float8; they were made to be exact in it.
            renamed[ours] = tensor.float() if tensor.dtype == torch.float8_e4m3fn else tensor
    if unknown:
        raise CheckpointError(f"tensors that this model does not have: {shorten(unknown)}")
    return renamed


def _fold_weight_norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Both of torch's spellings of weight norm are known."""
    for name in [n for n in tensors if n.endswith(("position_conv.weight_g", "weight.original0"))]:
        stem = name.removesuffix(".weight_g").removesuffix(".parametrizations.weight.original0")
        new_style = name.endswith("original0")
        other = f"{stem}.parametrizations.weight.original1" if new_style else f"{stem}.weight_v"
        if other in tensors:
            tensors[f"{stem}.weight"] = fold_weight_norm(tensors.pop(name), tensors.pop(other))
    return tensors


def shorten(names: Iterable[str], limit: int = 6) -> str:
    """A list of names for one line of an error."""
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
