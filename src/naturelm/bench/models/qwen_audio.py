"""Qwen2-Audio (Chu et al. 2024, arXiv:2407.10759), through transformers' own class and processor."""

from pathlib import Path

from naturelm.bench.models.audio_chat import ChatModel, ChatOptions, ChatSystem

QWEN2_AUDIO = ChatModel(
    "Qwen2-Audio", "Qwen2AudioForConditionalGeneration", "Qwen2AudioProcessor", longest=30.0
)


def open_qwen2_audio(
    folder: Path | str, options: ChatOptions | None = None, *, device: str | None = None
) -> ChatSystem:
    """The model of a folder, such as a download of `Qwen/Qwen2-Audio-7B-Instruct`. Raises CheckpointError."""
    return ChatSystem(QWEN2_AUDIO, folder, options, device=device)
