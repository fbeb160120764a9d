"""Audio Flamingo 3 (Goel et al. 2025, arXiv:2507.08128), through transformers' own class and processor.

It hears windows of 30 s; a longer clip is several of them, up to 10 minutes.
"""

from pathlib import Path

from naturelm.bench.models.audio_chat import ChatModel, ChatOptions, ChatSystem

AUDIO_FLAMINGO_3 = ChatModel(
    "Audio Flamingo 3", "AudioFlamingo3ForConditionalGeneration", "AudioFlamingo3Processor", longest=600.0
)


def open_audio_flamingo_3(
    folder: Path | str, options: ChatOptions | None = None, *, device: str | None = None
) -> ChatSystem:
    """The model of a folder, such as a download of `nvidia/audio-flamingo-3-hf`. Raises CheckpointError."""
    return ChatSystem(AUDIO_FLAMINGO_3, folder, options, device=device)
