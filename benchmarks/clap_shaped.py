"""Write a randomly initialised CLAP to a folder, small or of the published size: `clap=FOLDER` runs it as the real one."""

import argparse
from pathlib import Path

import torch
from common import print_machine
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    ClapTextConfig,
    PreTrainedTokenizerFast,
)

SMALL_TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
SMALL_AUDIO = {
    "patch_embeds_hidden_size": 16,
    "depths": (1, 1, 1, 1),
    "num_attention_heads": (1, 2, 4, 8),
    "hidden_size": 128,
}
SPECIAL = ("<s>", "<pad>", "</s>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--published-size", action="store_true", help="115 million weights; default: 1 million"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print_machine()
    torch.manual_seed(options.seed)
    tokenizer = byte_tokenizer()
    # Transformers' defaults are LAION's sizes; letters stand for the words of a vocabulary that is not to be had here.
    text, audio = ({}, {}) if options.published_size else (SMALL_TEXT, SMALL_AUDIO)
    text_config = ClapTextConfig(vocab_size=len(tokenizer), **text)
    model = ClapModel(ClapConfig(text_config=text_config, audio_config=ClapAudioConfig(**audio)))
    model.save_pretrained(options.folder)
    ClapProcessor(ClapFeatureExtractor(truncation="rand_trunc"), tokenizer).save_pretrained(options.folder)
    print(f"{sum(of.numel() for of in model.parameters()):,} random weights in {options.folder}")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, after the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    roles = dict(zip(("bos_token", "pad_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **roles)


if __name__ == "__main__":
    main()
