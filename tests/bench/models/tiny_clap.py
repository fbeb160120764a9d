"""A small random CLAP, saved as the real one is."""

from pathlib import Path

import torch
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    ClapTextConfig,
)

from bench.models.tiny_texts import byte_tokenizer


def save_clap(folder: Path, *, fusion: bool = False) -> Path:
    """A random ClapModel of windows of 1 s, and its processor."""
    torch.manual_seed(1)
    tokenizer = byte_tokenizer(
        ["<s>", "<pad>", "</s>"], bos_token="<s>", pad_token="<pad>", eos_token="</s>", model_max_length=120
    )
    text = ClapTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=128,
    )  # fmt: skip
    audio = ClapAudioConfig(
        spec_size=64, patch_embeds_hidden_size=8, depths=(1, 1), num_attention_heads=(2, 2), num_hidden_layers=2,
        hidden_size=16, window_size=4, num_mel_bins=16, enable_fusion=fusion, fusion_type="aff_2d" if fusion else None,
        aff_block_r=2,
    )  # fmt: skip
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # larger than usual, so that clips and sentences differ
            torch.nn.init.normal_(parameter, std=0.5)
    model.logit_scale_a.data.fill_(3.0)
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(
        feature_size=16, max_length_s=1, truncation="fusion" if fusion else "rand_trunc", hop_length=480
    )
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder
