"""Recordings that the page's user has uploaded: checked, and called by the names that the user knows them by.

What a browser sends for one is JSON that anybody can write. Only files in the page's own folder are taken, whatever
it says.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Clip
from naturelm.audio import SAMPLE_RATE
from naturelm.audio.sources import open_recording
from naturelm.errors import AudioError, NatureLMError
from naturelm.serve.faults import Fault, RequestFault

_BLOCK_FRAMES = 65_536
_LONGEST_NAME = 200
"""Bytes; file systems take 255, and the tables add an ending."""

_CONTROLS = {
    "--window": "Window",
    "--hop": "Hop",
    "--min-confidence": "Least confidence",
    "--ask": "Question",
}
"""What the page calls what the command line calls so."""


@dataclass(frozen=True)
class Upload:
    """A file in the page's folder. name: as its owner calls it, a plain file name."""

    path: Path
    name: str


def received(payload: object, folder: Path) -> Upload:
    """What the browser says of one file. RequestFault unless it lies in `folder`."""
    path = payload.get("path") if isinstance(payload, dict) else None
    if not isinstance(path, str) or "\0" in path:
        raise RequestFault(
            Fault.INVALID, "there is no recording yet: upload one, record one, or take an example"
        )
    found = Path(path)
    # Resolved first: neither `..` nor a link leads out.
    if not found.resolve().is_relative_to(folder.resolve()) or not found.is_file():
        raise RequestFault(Fault.NOT_FOUND, "the recording is no longer here; upload it again")
    assert isinstance(payload, dict)
    given = payload.get("orig_name")
    return Upload(found, plain_name(given if isinstance(given, str) else found.name))


def plain_name(given: str) -> str:
    """A file's name without folders, on one line, not hidden and not too long."""
    name = PurePosixPath(given.replace("\\", "/")).name
    name = "".join(letter for letter in name if letter.isprintable()).strip().lstrip(".")
    stem, suffix = Path(name).stem, Path(name).suffix[:16]
    room = _LONGEST_NAME - len(suffix.encode())
    stem = stem.encode("utf-8", "ignore")[:room].decode("utf-8", "ignore")
    return f"{stem}{suffix}" if stem else "recording"


@contextmanager
def in_page_words(upload: Upload | None = None, path: Path | None = None) -> Iterator[None]:
    """Errors become RequestFaults that speak as the page does: of its controls, and of uploads by their names.

    path: where the upload lies, if elsewhere than it did.
    """
    try:
        yield
    except RequestFault:
        raise
    except NatureLMError as error:
        kind = Fault.BAD_AUDIO if isinstance(error, AudioError) else Fault.INVALID
        raise RequestFault(kind, page_words(str(error), upload, path)) from error


def page_words(text: str, upload: Upload | None = None, path: Path | None = None) -> str:
    """A text with the page's names for options, and the upload's own name in the place of its path."""
    if upload is not None:
        text = text.replace(str(path or upload.path), upload.name)
    for option, control in _CONTROLS.items():
        text = text.replace(option, control)
    return text


def check_length(upload: Upload, most: float, cure: str) -> float:
    """Seconds of the upload. RequestFault above `most`, found out without decoding much more than that.

    cure: what to do about it.
    """
    with in_page_words(upload), open_recording(upload.path, SAMPLE_RATE) as recording:
        rate, frames = recording.sample_rate, recording.frames
        if frames is None:  # its header does not say
            frames = 0
            while frames <= most * rate and (block := len(recording.read(_BLOCK_FRAMES))):
                frames += block
    if frames > most * rate:
        length = f"more than {most:g} s" if recording.frames is None else f"{frames / rate:.0f} s"
        raise RequestFault(
            Fault.TOO_LARGE, f"{upload.name}: {length} of sound; at most {most:g} s are taken here; {cure}"
        )
    return frames / rate


def read_clip(upload: Upload, model: NatureLM, most: float) -> Clip:
    """The upload as one clip of at most `most` s, and no more than the model takes. RequestFault."""
    most = min(most, model.model.config.max_clip_seconds)
    check_length(upload, most, "cut it, or look through it under Scan")
    with in_page_words(upload):
        clip = model.read_clip(upload.path)
    return Clip(clip.samples, upload.name, clip.start, clip.end)


def split_labels(text: str) -> tuple[str, ...]:
    """Labels as people write them: one a line, or with commas between."""
    return tuple(label for each in re.split(r"[,\n]", text) if (label := each.strip()))
