"""Small random audio language models of the published classes, saved as the real ones are."""

from pathlib import Path

import torch
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    PreTrainedModel,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from bench.models.tiny_texts import byte_tokenizer

SPECIAL = ["<pad>", "<|im_start|>", "<|im_end|>", "<sound>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<sound>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "model_type": "qwen2", "vocab_size": 263, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
EAR = {"num_mel_bins": 16, "max_source_positions": 100}


def loud(model: PreTrainedModel) -> PreTrainedModel:
    """Weights larger than usual, so that what it hears and reads changes what it says."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.0 if "embed_tokens" in name else 0.3)
    return model.eval()


def save_qwen(folder: Path) -> Path:
    ear = {**EAR, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    config = Qwen2AudioConfig(
        audio_config={"model_type": "qwen2_audio_encoder", **ear}, text_config=TEXT, audio_token_index=4
    )
    loud(Qwen2AudioForConditionalGeneration(config)).save_pretrained(folder)
    Qwen2AudioProcessor(extractor(), tokenizer()).save_pretrained(folder)
    return folder


def save_flamingo(folder: Path) -> Path:
    ear = {
        **EAR,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = AudioFlamingo3Config(
        audio_config={"model_type": "audioflamingo3_encoder", **ear}, text_config=TEXT, audio_token_id=3
    )
    loud(AudioFlamingo3ForConditionalGeneration(config)).save_pretrained(folder)
    AudioFlamingo3Processor(extractor(), tokenizer(), chat_template=TEMPLATE).save_pretrained(folder)
    return folder


def tokenizer() -> object:
    return byte_tokenizer(SPECIAL, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>")


def extractor() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=16, chunk_length=2)
