"""Open any kind of audio source as one thing: a `Recording`, read forwards a block at a time.

All that soundfile and libsndfile get wrong or leave unsaid is dealt with here, so
that `decode` sees either samples or an `AudioError`.

* soundfile seeks after every read of a seekable file. That throws away an MP3's bit
  reservoir (errors as large as the sound itself) and fails at the end of a FLAC
  file of unknown length, so files are read here as if they could not seek.
* libsndfile shortens a cut-off WAV without a word; only its log tells.
* libsndfile estimates the length of an MP3 that states none from its first frame and
  its size, tags included, and stops there even if most of the sound is still to come.
  Such a length counts as unknown, and sound left behind is an error.
* An Ogg file and an MP3 without a length cannot be told from shorter ones when they
  were cut off: they are read to where they end.
"""

import contextlib
import io
import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile as sf

from naturelm.errors import AudioError

AudioSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.float32]

MIN_RATE = 4_000
MAX_RATE = 384_000

# Lengths that programs write when they stream and cannot know the length: within
# this many bytes of 2 GiB or 4 GiB (ffmpeg 0xFFFFFFFF, sox 0x7FFFF000).
_STREAMED_SIZES = (2**31, 2**32)
_STREAMED_SLACK = 2**16
# Some recorders count their own header as sound; no sound is missing then.
_HEADER_SLACK = 512
_DECLARED_AND_FOUND = re.compile(
    r"^\s*(?:(?:data|SSND|Data Size|riff)\s*:\s*(?P<declared>\d+) \(should be (?P<found>\d+)\)"
    r"|\*\*\* Calculated frame count (?P<found64>\d+) does not match value from 'ds64' chunk of"
    r" (?P<declared64>\d+))",
    re.MULTILINE,
)

# Formats in which libsndfile's seek lands on exactly the sample that reading would reach.
_EXACT_SEEK_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"})
_EXACT_SEEK_SUBTYPES = re.compile(r"PCM_|FLOAT|DOUBLE")

_MP3_SLACK_FRAMES = 4 * 1152
_MP3_SLACK_SHARE = 0.01
_MP3_TAIL_BYTES = 16_384
_MP3_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
_SKIP_FRAMES = 65_536
_MANY_CHANNELS = 64

_CONTAINERS = (
    (4, b"ftyp", "an MP4/M4A file"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMA/ASF file"),
    (0, b"\x1a\x45\xdf\xa3", "a WebM/Matroska file"),
    (0, b"\xff\xf1", "a raw AAC file"),
    (0, b"\xff\xf9", "a raw AAC file"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"wvpk", "a WavPack file"),
    (0, b"MAC ", "a Monkey's Audio file"),
)
_SOUND_MAGIC = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"ID3", b".snd", b"caff")


class Recording(Protocol):
    """A recording opened for one forward pass.

    name: as the caller gave it, kept to one line. sample_rate: Hz. frames: what the
    header says, None where it says nothing. Positions count frames at `sample_rate`.
    """

    name: str
    sample_rate: int
    channels: int
    frames: int | None
    format: str
    subtype: str

    def skip_to(self, frame: int) -> None:
        """Go to `frame`, once, before the first `read`; AudioError if the sound ends before it."""

    def read(self, frames: int) -> FloatArray:
        """Next samples, (n, channels), not clipped; n < frames only at the end, 0 after it.

        AudioError where the recording is damaged.
        """

    def check_end(self) -> None:
        """After the last `read`: AudioError if sound is missing or was left behind."""


@contextlib.contextmanager
def open_recording(source: AudioSource, array_rate: int) -> Iterator[Recording]:
    """Open `source`; what this function opened is closed afterwards, the caller's file object is not.

    array_rate: Hz, the sample rate of an array. Raises AudioError for anything that
    is missing, not sound, empty or of a sample rate outside 4 to 384 kHz, TypeError
    for an object of another kind.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, np.ndarray):
            recording: Recording = _ArrayRecording(source, array_rate)
        else:
            name, file = _open_binary(source, stack)
            path = os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else None
            recording = _FileRecording(name, file, path, stack)
        _check_rate(recording)
        yield recording


def _check_rate(recording: Recording) -> None:
    if not MIN_RATE <= recording.sample_rate <= MAX_RATE:
        raise AudioError(
            f"{recording.name}: its sample rate of {recording.sample_rate} Hz lies outside {MIN_RATE} to"
            f" {MAX_RATE} Hz; correct the rate, or resample the recording first"
        )


class _ForwardFile(sf.SoundFile):
    """A SoundFile that never seeks by itself (see the module's docstring)."""

    def seekable(self) -> bool:
        return False


def _open_decoder(file: BinaryIO, path: str | None) -> _ForwardFile:
    """Open by content, or else by the name's ending, which saves MP3 files with a broken first frame."""
    try:
        return _ForwardFile(file)
    except sf.SoundFileError:
        if path is None:
            raise
        return _ForwardFile(path)


class _FileRecording:
    def __init__(self, name: str, file: BinaryIO, path: str | None, stack: contextlib.ExitStack) -> None:
        self.name = name
        self._bytes = file
        size, head = _size_and_head(name, file)
        if size == 0:
            raise AudioError(f"{name}: is empty (0 bytes); record or copy it again")
        self._mp3_length_stated = _states_mp3_length(file, head)
        try:
            self._file = stack.enter_context(_open_decoder(file, path))
        except (sf.SoundFileError, TypeError, OSError, ValueError) as error:
            # TypeError: soundfile asks for a sample rate when a file is called *.raw.
            raise AudioError(_why_unreadable(name, head)) from error
        if self._file.format == "RAW":
            raise AudioError(_why_unreadable(name, head))
        if self._file.frames <= 0:
            raise AudioError(_no_samples(name, size))
        self.sample_rate = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        self.format = str(self._file.format)
        self.subtype = str(self._file.subtype)
        self.frames = self._header_frames()
        self._position = 0

    def _header_frames(self) -> int | None:
        readable = int(self._file.frames)
        if self.format == "MP3" and not self._mp3_length_stated:
            return None
        if readable >= np.iinfo(np.int64).max:
            return None
        match = _DECLARED_AND_FOUND.search(self._file.extra_info)
        if match is None:
            return readable
        declared = int(match["declared"] or match["declared64"])
        found = int(match["found"] or match["found64"])
        streamed = any(abs(declared - size) <= _STREAMED_SLACK for size in _STREAMED_SIZES)
        if streamed or declared - found <= _HEADER_SLACK:
            return readable
        return round(readable * declared / max(found, 1))

    def skip_to(self, frame: int) -> None:
        if frame == 0:
            return
        exact = self.format in _EXACT_SEEK_FORMATS and _EXACT_SEEK_SUBTYPES.match(self.subtype)
        if exact and self.frames is not None and frame <= self._file.frames:
            try:
                self._file.seek(frame)
            except sf.SoundFileError as error:
                raise AudioError(self._damaged("before", frame)) from error
            self._position = frame
            return
        while self._position < frame:
            if len(self.read(min(_SKIP_FRAMES, frame - self._position))) == 0:
                self.check_end()
                raise AudioError(
                    f"{self.name}: start is {frame / self.sample_rate:g} s, but the recording lasts"
                    f" {self._position / self.sample_rate:g} s; choose an earlier start"
                )

    def read(self, frames: int) -> FloatArray:
        try:
            block: FloatArray = self._file.read(frames, dtype="float32", always_2d=True)
        except (sf.SoundFileError, OSError) as error:
            raise AudioError(self._damaged("after", self._position)) from error
        self._position += len(block)
        return block

    def check_end(self) -> None:
        if self.frames is not None:
            slack = 0.0
            if self.format == "MP3":
                slack = _MP3_SLACK_FRAMES + _MP3_SLACK_SHARE * self.frames
            if self._position < self.frames - slack:
                raise AudioError(self._damaged("after", self._position))
        if self.format == "MP3" and self._position >= self._file.frames:
            self._check_mp3_tail()

    def _check_mp3_tail(self) -> None:
        tail = self._bytes.read(_MP3_TAIL_BYTES)
        if len(tail) == _MP3_TAIL_BYTES and b"APETAGEX" not in tail and b"LYRICSBEGIN" not in tail:
            seconds = self._position / self.sample_rate
            raise AudioError(
                f"{self.name}: goes on after the {seconds:.1f} s that its MP3 header leads to;"
                f" give it a true length first, e.g. ffmpeg -i {_quoted(self.name)} -c copy fixed.mp3"
            )

    def _damaged(self, where: str, frame: int) -> str:
        said = "" if self.frames is None else f" (its header says {self.frames / self.sample_rate:.1f} s)"
        return (
            f"{self.name}: truncated or damaged {where} {frame / self.sample_rate:.1f} s{said};"
            " copy it again from the original, or cut off the damaged part"
        )


class _ArrayRecording:
    def __init__(self, array: npt.NDArray[Any], rate: int) -> None:
        self.name = "<array>"
        if array.ndim not in (1, 2):
            raise AudioError(
                f"{self.name}: has {array.ndim} dimensions; pass (samples,) or (channels, samples)"
            )
        rows = np.atleast_2d(array)
        if rows.size == 0:
            raise AudioError(f"{self.name}: holds no samples; pass at least one")
        if rows.shape[0] > max(_MANY_CHANNELS, rows.shape[1]):
            raise AudioError(
                f"{self.name}: shape {array.shape} would be {rows.shape[0]} channels of"
                f" {rows.shape[1]} samples; pass (channels, samples), probably array.T"
            )
        if not _is_audio_dtype(rows.dtype):
            raise AudioError(
                f"{self.name}: {rows.dtype} is not a sample format; pass floats in [-1, 1],"
                " or integers of 8, 16 or 32 bits"
            )
        self._rows = rows
        self._position = 0
        self.sample_rate = rate
        self.channels: int = rows.shape[0]
        self.frames: int | None = rows.shape[1]
        self.format = "ARRAY"
        self.subtype = str(rows.dtype)

    def skip_to(self, frame: int) -> None:
        self._position = frame

    def read(self, frames: int) -> FloatArray:
        block = _to_float(self._rows[:, self._position : self._position + frames].T)
        self._position += len(block)
        return block

    def check_end(self) -> None:
        return


def _is_audio_dtype(dtype: np.dtype[Any]) -> bool:
    # Nobody stores sound in 64-bit integers: they are 16-bit samples that numpy
    # widened, and scaling them by their full range would leave silence.
    return dtype.kind == "f" or (dtype.kind in "iu" and dtype.itemsize <= 4)


def _to_float(block: npt.NDArray[Any]) -> FloatArray:
    if block.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return block.astype(np.float32)
    half = 2.0 ** (8 * block.dtype.itemsize - 1)
    middle = half if block.dtype.kind == "u" else 0.0
    return ((block.astype(np.float64) - middle) / half).astype(np.float32)


def _open_binary(source: object, stack: contextlib.ExitStack) -> tuple[str, BinaryIO]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>", io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        name = one_line(path)
        return name, stack.enter_context(_open_path(path, name))
    if hasattr(source, "read"):
        return _use_file_object(source)
    raise TypeError(f"not an audio source: {type(source).__name__}; pass a path, bytes, file or array")


def _open_path(path: str, name: str) -> BinaryIO:
    if not path:
        raise AudioError("'': no such file; the name is empty")
    try:
        # Asked before opening, because opening a pipe that nobody writes to waits for ever.
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{name}: is a directory; name one recording in it")
        if not stat.S_ISREG(mode):
            raise AudioError(f"{name}: is not a regular file; save the sound to a file first")
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise AudioError(f"{name}: no permission to read it; ask for it, e.g. chmod +r") from error
    except (OSError, ValueError) as error:
        reason = one_line(getattr(error, "strerror", None) or str(error))
        raise AudioError(f"{name}: cannot be opened ({reason}); check the path and the disk") from error


def _use_file_object(source: Any) -> tuple[str, BinaryIO]:
    given = getattr(source, "name", None)
    name = one_line(given) if isinstance(given, str) and given else "<file object>"
    if isinstance(source, io.TextIOBase):
        raise AudioError(f"{name}: was opened as text; open it with mode 'rb'")
    try:
        seekable = source.seekable()
        return name, source if seekable else io.BytesIO(source.read())
    except (OSError, ValueError) as error:
        raise AudioError(_not_readable(name, error)) from error


def _size_and_head(name: str, file: BinaryIO) -> tuple[int, bytes]:
    """Bytes in all, and the first of them; leaves the file at its beginning."""
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(512)
        file.seek(0)
    except (OSError, ValueError) as error:
        raise AudioError(_not_readable(name, error)) from error
    return size, head


def _states_mp3_length(file: BinaryIO, head: bytes) -> bool:
    """Whether the first MP3 frame, after any ID3v2 tag, is one that states the length."""
    first_frame = 0
    if head.startswith(b"ID3") and len(head) >= 10:
        # Four bytes of seven bits, not counting the tag's own ten.
        first_frame = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(first_frame)
    beginning = file.read(2048)
    file.seek(0)
    return any(tag in beginning for tag in _MP3_LENGTH_TAGS)


def _not_readable(name: str, error: Exception) -> str:
    return f"{name}: cannot be read ({one_line(str(error))}); pass an open, readable file"


def _no_samples(name: str, size: int) -> str:
    message = f"{name}: holds no samples, only a header"
    if size > 4096:
        return f"{message} that was never completed; rebuild it, e.g. sox --ignore-length in.wav out.wav"
    return f"{message}; record or copy it again"


def _why_unreadable(name: str, head: bytes) -> str:
    convert = f"convert it to WAV or FLAC, e.g. ffmpeg -i {_quoted(name)} converted.wav"
    for offset, magic, kind in _CONTAINERS:
        if head[offset:].startswith(magic):
            return f"{name}: is {kind}, which cannot be read here; {convert}"
    if head.startswith(_SOUND_MAGIC):
        return f"{name}: is damaged or cut off in its header; copy it again from the original, or {convert}"
    if _looks_like_text(head):
        return f"{name}: holds text, not sound, whatever its name says; name a recording"
    return f"{name}: is not in a sound format that can be read here; {convert}"


def _looks_like_text(head: bytes) -> bool:
    text = head.decode("utf-8", errors="ignore")
    # A character cut in half at the end of `head` costs up to three bytes.
    whole = len(text.encode("utf-8")) >= len(head) - 3
    return whole and all(letter.isprintable() or letter in "\r\n\t\f\ufeff" for letter in text)


def _quoted(name: str) -> str:
    return "input" if name.startswith("<") else shlex.quote(name)


def one_line(text: str) -> str:
    """`text` without line breaks, for error messages."""
    return " ".join(text.splitlines())
