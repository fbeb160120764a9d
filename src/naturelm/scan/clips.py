"""The best events as sound files to listen to."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import soundfile as sf

from naturelm.audio import read_audio
from naturelm.audio.sources import FloatArray
from naturelm.errors import AudioError
from naturelm.scan.best import Best

_LONGEST_NAME = 80
_WRITTEN = re.compile(r"\d\.\d{3}_.+_\d+\.\d\ds\.wav")
_LONGEST_CLIP = 60.0  # s; of a longer event, its beginning


def write_clips(best: Mapping[str, Sequence[Best]], folder: Path) -> int:
    """Write `LABEL/SCORE_RECORDING_START.wav` at the recording's own rate, in place of what an earlier export wrote.

    Only files that are named so are replaced. Returns how many were written; a recording that is no longer there is left out.
    """
    for old in folder.glob("*/*.wav"):
        if _WRITTEN.fullmatch(old.name):
            old.unlink()
    written: set[Path] = set()
    for label, events in best.items():
        place = folder / safe_name(label)
        for each in events:
            try:
                samples = event_samples(each)
            except AudioError:
                continue
            place.mkdir(parents=True, exist_ok=True)
            stem = safe_name(Path(each.event.recording).stem)
            score, start = f"{each.event.score:.3f}", f"{each.event.start:.2f}s.wav"
            # Recordings of one name may lie in several folders, and labels be alike but for their signs.
            numbered = (f"{score}_{stem}{f'-{n}' if n > 1 else ''}_{start}" for n in itertools.count(1))
            path = next(place / name for name in numbered if place / name not in written)
            sf.write(path, samples, each.scene.facts.sample_rate, subtype="PCM_16")
            written.add(path)
    return len(written)


def event_samples(
    best: Best, *, sample_rate: int | None = None, longest: float = _LONGEST_CLIP
) -> FloatArray:
    """An event's sound, (samples,) float32; sample_rate: Hz, the recording's own by default. Raises AudioError."""
    event, facts = best.event, best.scene.facts
    return read_audio(
        facts.path,
        sample_rate=sample_rate or facts.sample_rate,
        channel=best.scene.channel,
        start=event.start,
        end=min(event.end, event.start + longest, facts.duration),
    )


def safe_name(text: str) -> str:
    """A text as part of a file's name: letters, digits, spaces and `-_.`, no leading dot."""
    name = "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in text)
    return name.strip(" .")[:_LONGEST_NAME] or "_"
