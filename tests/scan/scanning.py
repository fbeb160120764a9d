"""What the tests of this folder share: engines that need no weights, and recordings with known events."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from naturelm.scan.export import ExportOptions, export, rows_of
from naturelm.scan.finding import find_recordings
from naturelm.scan.journal import Journal
from naturelm.scan.listening import Kind, OutOfMemory, Said
from naturelm.scan.options import CutOptions, Label
from naturelm.scan.run import ScanReport, scan_recordings

RATE = 16_000
PAIR_BYTES = 2_100_000
"""A group holds two recordings of half a minute."""
TONES = {"low owl": 600.0, "high bat": 4_800.0}


class ToneListener:
    """Finds pure tones; the score is the share of the loudest 50 ms that lies at the tone.

    alike False: scores hang, in their sixth digit, on the place in the batch and on its size, as those of a real
    model may. most: windows that fit into memory.
    """

    name = "tones"
    sample_rate = RATE
    default_window = 3.0
    longest_window = 60.0

    def __init__(self, *, alike: bool = True, batch_size: int = 4, most: int | None = None) -> None:
        self.labels = tuple(Label(name, f"Species {name}", name) for name in TONES)
        self.alike = alike
        self.batch_size = batch_size
        self.most = most
        self.batches: list[int] = []

    @property
    def identity(self) -> Mapping[str, object]:
        return {"model": "tones"}

    def prepare(self, windows: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return windows

    def listen(self, windows: Sequence[np.ndarray]) -> list[tuple[Said, ...]]:
        if self.most is not None and len(windows) > self.most:
            raise OutOfMemory("full")
        self.batches.append(len(windows))
        return [
            tuple(
                Said(Kind.LABEL, "", label.text, score)
                for label, score in zip(self.labels, scores, strict=True)
            )
            for scores in (self._scores(window, place, len(windows)) for place, window in enumerate(windows))
        ]

    def _scores(self, window: np.ndarray, place: int, size: int) -> list[float]:
        short = RATE // 20
        frames = np.pad(window, (0, -len(window) % short)).reshape(-1, short)
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
        loudest = power[power.sum(1).argmax()]
        noise = 0.0 if self.alike else 1e-6 * (place + 10 * size)
        bins = [round(tone * short / RATE) for tone in TONES.values()]
        return [float(loudest[b - 1 : b + 2].sum() / loudest.sum()) * 0.99 + noise for b in bins]


class MortalListener(ToneListener):
    """Dies with its process, once, as long as a file is there."""

    def __init__(self, fatal: str) -> None:
        super().__init__(alike=False)
        self._fatal = Path(fatal)

    def listen(self, windows: Sequence[np.ndarray]) -> list[tuple[Said, ...]]:
        if self._fatal.exists():
            self._fatal.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().listen(windows)


@dataclass(frozen=True)
class ToneEngine:
    """Opens a `MortalListener`, here or in another process."""

    fatal: str
    device: str | None = None

    def open(self) -> ToneListener:
        return MortalListener(self.fatal)


class ClickListener(ToneListener):
    """Says where in a window its loudest sample is, as a share of a minute."""

    def listen(self, windows: Sequence[np.ndarray]) -> list[tuple[Said, ...]]:
        return [
            (Said(Kind.ANSWER, "Where?", "click", float(np.abs(window).argmax()) / RATE / 60),)
            for window in windows
        ]


def tone(label: str, seconds: float = 0.4, rate: int = RATE) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * TONES[label] * times)).astype(np.float32)


def write_recording(
    path: Path, seconds: float, events: Sequence[tuple[float, str]] = (), *, rate: int = RATE, seed: int = 0
) -> Path:
    """Quiet noise with tones that begin at the given seconds, written minute by minute."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    total, block = round(seconds * rate), 60 * rate
    with sf.SoundFile(path, "w", rate, 1, subtype="PCM_16") as file:
        for first in range(0, total, block):
            size = min(block, total - first)
            sound = (rng.standard_normal(size) * 0.003).astype(np.float32)
            for begin, label in events:
                sample, call = round(begin * rate) - first, tone(label, rate=rate)
                low, high = max(0, sample), min(size, sample + len(call))
                if low < high:
                    sound[low:high] += call[low - sample : high - sample]
            file.write(sound)
    return path


def scan(
    out: Path,
    *paths: Path,
    listener: ToneListener | None = None,
    cut: CutOptions | None = None,
    **options: object,
) -> ScanReport:
    """Scan with tones, windows of 3 s."""
    found = find_recordings(list(paths), without=out)
    return scan_recordings(found, listener or ToneListener(), cut or CutOptions(3.0), out, **options)  # type: ignore[arg-type]


def exported(out: Path, **options: object) -> None:
    export(out, ExportOptions(**options))  # type: ignore[arg-type]


def rows(out: Path) -> list[dict]:
    """All rows of a scan, in the order of recordings and times."""
    return [row for _, path in Journal(out).finished() for row in rows_of(path)]


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a scan but the locks."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def broken_files(folder: Path, number: int) -> None:
    """Files that are broken in ten ways."""
    good = write_recording(folder.parent / "good.wav", 2).read_bytes()
    sf.write(folder.parent / "good.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), 16_000)
    flac = (folder.parent / "good.flac").read_bytes()
    kinds = {
        "empty.wav": b"",
        "text.wav": b"this is no sound\n" * 100,
        "header.wav": good[:44],
        "cut.flac": flac[:20_000],
        "cut.wav": good[:30_000],
        "zeros.flac": b"\0" * 5_000,
        "head.flac": flac[:30],
        "video.mp3": b"\0\0\0\x20ftypisom" + b"\0" * 500,
        "riff.wav": b"RIFF\xff\xff\xff\x7fWAVE" + b"\xff" * 200,
    }
    for index in range(number):
        kind = index % 10
        if kind == 9:
            sf.write(folder / f"{index}nan.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
        else:
            name, content = list(kinds.items())[kind]
            (folder / f"{index}{name}").write_bytes(content)
