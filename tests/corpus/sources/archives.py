"""Small archives for the tests of sources: generated sound in an archive's exact layout."""

from pathlib import Path

import numpy as np
import soundfile as sf

from naturelm.corpus.recordings import Failure, Recording
from naturelm.corpus.sources import ArchiveSource


def tone(path: Path, *, seconds: float = 0.5, rate: int = 44100, pitch: float = 880.0) -> Path:
    """Write a tone as a sound file of the kind that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    sf.write(path, 0.3 * np.sin(2 * np.pi * pitch * time), rate)
    return path


def write(path: Path, text: str) -> Path:
    """Write a metadata file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def listed(source: ArchiveSource) -> tuple[list[Recording], list[Failure]]:
    """What a source gives, its sounds read to see that they are there."""
    rows = list(source.recordings())
    recordings = [row for row in rows if isinstance(row, Recording)]
    assert len({recording.id for recording in recordings}) == len(recordings)
    for recording in recordings:
        sound = recording.sound.read()
        assert sound.dtype == np.float32 and len(sound) > 0
    return recordings, [row for row in rows if isinstance(row, Failure)]
