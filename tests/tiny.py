"""Small random models with a real tokenizer, made on the spot, for tests that need no trained weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Clip, GenerationOptions, Query
from naturelm.model.configuration import BeatsConfig, NatureLMConfig, NatureLMProjectorConfig
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor

SPECIAL_TOKENS = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
LORA = {
    "r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 300 entries: <|pad|> 0, <|im_start|> 1 (BOS), <|im_end|> 2 (EOS)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = "What is the common name for the focal species in the audio? Lazuli Bunting, Dog, Cat, None user assistant"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([words] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )


def tiny_text_config(vocab_size: int = 300) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


BEATS = {
    "embed_dim": 16,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "position_conv_kernel": 16,
    "position_conv_groups": 4,
    "num_buckets": 32,
    "max_distance": 64,
    "exact_mask": True,
}
PROJECTOR = {
    "window_frames": 16,
    "stride_frames": 16,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "honour_mask": True,
}


def tiny_beats_config(**changes: object) -> BeatsConfig:
    return BeatsConfig(**{**BEATS, **changes})


def tiny_projector_config(**changes: object) -> NatureLMProjectorConfig:
    return NatureLMProjectorConfig(**{**PROJECTOR, **changes})


def tiny_config(**changes: object) -> NatureLMConfig:
    """Our own kind of model: exact masks, honoured to the end, 5 s clips."""
    fields = {
        "audio_config": tiny_beats_config(),
        "projector_config": tiny_projector_config(),
        "text_config": tiny_text_config(),
        "lora": dict(LORA),
        "prompt_template": CHATML,
        "end_of_answer": "<|im_end|>",
        "add_bos": False,
        "clip_seconds": 5.0,
    }
    return NatureLMConfig(**{**fields, **changes})


def tiny_model(seed: int = 0, **changes: object) -> NatureLMForConditionalGeneration:
    """Random weights, LoRA's B included, so that the adapter matters; in eval mode."""
    torch.manual_seed(seed)
    model = NatureLMForConditionalGeneration(tiny_config(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.generation_config.eos_token_id = [2]
    model.generation_config.pad_token_id = 0
    model.language_model.generation_config = model.generation_config
    return model.eval()


def tiny_naturelm(seed: int = 0, **changes: object) -> NatureLM:
    model = tiny_model(seed, **changes)
    return NatureLM(
        model, NatureLMProcessor.from_model_config(model.config, tiny_tokenizer()), name="tiny", revision="0"
    )


def save_tiny_llm(folder: Path, seed: int = 0) -> Path:
    """A language model's folder as from the hub: config, safetensors, tokenizer."""
    torch.manual_seed(seed)
    LlamaForCausalLM(tiny_text_config()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def noise(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """(samples,) float32 noise."""
    return (np.random.default_rng(seed).standard_normal(round(seconds * rate)) * 0.1).astype(np.float32)


def require_padding_unheard(naturelm: NatureLM) -> None:
    """A short clip beside a long one is answered as it is alone."""
    short, long = noise(0.4, 1), 5 * noise(3, 2)
    options = GenerationOptions(max_new_tokens=5)
    together = naturelm.answer([Query((Clip(each),), "What is it?") for each in (short, long)], options)
    alone = [naturelm.answer([Query((Clip(each),), "What is it?")], options)[0] for each in (short, long)]
    for one, other in zip(together, alone, strict=True):
        assert one.token_ids == other.token_ids
        assert one.probability == pytest.approx(other.probability, rel=1e-4)


def save_tiny_naturelm(folder: Path) -> Path:
    """A tiny random model in a folder, in our layout, tokenizer included; 5 s windows."""
    tiny = tiny_naturelm()
    tiny.model.save_pretrained(folder)
    tiny.processor.save_pretrained(folder)
    return folder
