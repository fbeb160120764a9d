"""Recordings in, samples and windows out. No module here but `fbank` loads torch."""

from naturelm.audio.decode import SAMPLE_RATE, AudioInfo, audio_info, iter_blocks, read_audio
from naturelm.audio.sources import AudioSource
from naturelm.audio.windows import Window, WindowSpec, iter_windows

__all__ = [
    "SAMPLE_RATE",
    "AudioInfo",
    "AudioSource",
    "Window",
    "WindowSpec",
    "audio_info",
    "iter_blocks",
    "iter_windows",
    "read_audio",
]
