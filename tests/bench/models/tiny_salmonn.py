"""Small random parts of SALMONN, in the published layout."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from bench.models.tiny_texts import byte_tokenizer
from model.official_folder import BEATS_CFG, official_like_model, official_tensors

WIDTH, HIDDEN, SPEECH, AUDIO, RANK, QUERIES = 32, 64, 16, 24, 4, 2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * 0.2


def bridge() -> dict[str, Tensor]:
    """What was trained, under the names of the original modules."""
    tensors = {
        "ln_speech.weight": 1 + drawn(SPEECH), "ln_speech.bias": drawn(SPEECH, seed=1),
        "ln_audio.weight": 1 + drawn(AUDIO), "ln_audio.bias": drawn(AUDIO, seed=1),
        "speech_query_tokens": drawn(1, QUERIES, HIDDEN) * 5,
        "speech_Qformer.bert.embeddings.LayerNorm.weight": 1 + drawn(HIDDEN),
        "speech_Qformer.bert.embeddings.LayerNorm.bias": drawn(HIDDEN, seed=1),
        "speech_Qformer.bert.embeddings.position_ids": torch.arange(8)[None],
        "speech_llama_proj.weight": drawn(WIDTH, HIDDEN), "speech_llama_proj.bias": drawn(WIDTH),
    }  # fmt: skip
    for layer in range(2):
        stem = f"speech_Qformer.bert.encoder.layer.{layer}"
        for seed, block in enumerate(("attention", "crossattention")):
            inputs = HIDDEN if block == "attention" else SPEECH + AUDIO
            for place, width in (
                ("self.query", HIDDEN),
                ("self.key", inputs),
                ("self.value", inputs),
                ("output.dense", HIDDEN),
            ):
                tensors |= linear(f"{stem}.{block}.{place}", HIDDEN, width, seed + 2 * layer)
            tensors |= norm(f"{stem}.{block}.output.LayerNorm")
        tensors |= linear(f"{stem}.intermediate_query.dense", 2 * HIDDEN, HIDDEN, layer)
        tensors |= linear(f"{stem}.output_query.dense", HIDDEN, 2 * HIDDEN, layer)
        tensors |= norm(f"{stem}.output_query.LayerNorm")
        for place in ("q_proj", "v_proj"):
            adapted = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{place}"
            outputs = WIDTH if place == "q_proj" else WIDTH // 2
            tensors[f"{adapted}.lora_A.default.weight"] = drawn(RANK, WIDTH, seed=layer)
            tensors[f"{adapted}.lora_B.default.weight"] = drawn(outputs, RANK, seed=layer)
    return tensors


def linear(name: str, outputs: int, inputs: int, seed: int) -> dict[str, Tensor]:
    return {f"{name}.weight": drawn(outputs, inputs, seed=seed), f"{name}.bias": drawn(outputs, seed=seed)}


def norm(name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": 1 + drawn(HIDDEN), f"{name}.bias": drawn(HIDDEN, seed=1)}


def save_salmonn(place: Path) -> Path:
    """The `.pth`, BEATs, Whisper and Vicuna in one folder."""
    torch.manual_seed(0)
    whisper = WhisperConfig(
        d_model=SPEECH, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=16, max_source_positions=150, vocab_size=60,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    WhisperForConditionalGeneration(whisper).save_pretrained(place / "whisper")
    WhisperFeatureExtractor(feature_size=16, chunk_length=3).save_pretrained(place / "whisper")
    llm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    for name, parameter in llm.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.0 if "embed" in name else 0.25)
    llm.save_pretrained(place / "vicuna")
    byte_tokenizer(
        ["<unk>", "<s>", "</s>"], bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(place / "vicuna")
    beats = {
        name.removeprefix("beats."): t
        for name, t in official_tensors(official_like_model()).items()
        if name.startswith("beats.")
    }
    torch.save({"cfg": BEATS_CFG, "model": beats}, place / "BEATs_tiny.pt")
    torch.save({"model": bridge(), "iters": 3}, place / "salmonn_v1.pth")
    return place
