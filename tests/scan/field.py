"""Long recordings with real calls at known times over real background, put together with the corpus' tools."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from entries import entry

from naturelm.audio import SAMPLE_RATE, read_audio
from naturelm.corpus.audibility import STANDS_OUT_DB, headroom_db
from naturelm.corpus.augment import AugmentOptions, active_level_db, faded, gained
from naturelm.corpus.recordings import FileSound
from naturelm.corpus.scene import SceneOptions, compose

RECORDINGS = Path(__file__).parents[2] / "examples" / "recordings"
CALLS = {"Tawny Owl": "owl.flac", "Dog": "dog.flac"}
"""Labels of BirdNET, and the shipped recording of each."""
_BLEND = 0.5  # s
_BLOCK = 60  # s
_PERIOD = 4  # blocks
_CALL = SceneOptions(seconds=3.0, padding=0.0, augment=AugmentOptions(probability=0.0))


@dataclass(frozen=True)
class Call:
    """What was put in. start, end: s in the recording."""

    start: float
    end: float
    label: str


def places(number: int, seconds: float, rng: np.random.Generator) -> list[float]:
    """So many times in so many seconds, uneven, 8 s apart at least and clear of both ends."""
    room = seconds / number
    assert room > 10
    return [i * room + float(rng.uniform(2.0, room - 6.0)) for i in range(number)]


def write_field(
    path: Path, seconds: int, number: int, background: list[Path], *, repeat: bool = False, seed: int = 0
) -> list[Call]:
    """Write so many seconds as FLAC, in bounded memory, and say what calls are in it.

    background: field recordings; stretches of them follow each other in random order and at random levels, blended.
    Each call lies 6 to 20 dB above the background around it, more where it would not stand out otherwise. At 16 kHz; with
    repeat at 48 kHz, and the background comes again every 240 s, to the bit: BirdNET remembers windows that it heard.
    """
    rng = np.random.default_rng(seed)
    labels = list(CALLS)
    wanted = [(start, labels[int(rng.integers(len(labels)))]) for start in places(number, seconds, rng)]
    bed = _minutes(background, rng)
    again = [next(bed) for _ in range(_PERIOD)] if repeat else []
    rate = 48_000 if repeat else SAMPLE_RATE
    finer = _upsampled_ring(again, rate) if repeat else []
    carried: np.ndarray | None = None  # the end of a call that goes on in the next block
    calls = []
    with sf.SoundFile(path, "w", rate, 1, subtype="PCM_16", format="FLAC") as file:
        for minute in range(-(-seconds // _BLOCK)):
            first = minute * _BLOCK
            around = again[minute % _PERIOD] if repeat else next(bed)
            sound = (finer[minute % _PERIOD] if repeat else around).copy()
            if carried is not None:
                sound[: len(carried)] += carried
                carried = None
            for start, label in [w for w in wanted if first <= w[0] < first + _BLOCK]:
                place = round((start - first) * SAMPLE_RATE)
                call = _call(label, around[max(0, place - SAMPLE_RATE) : place + 3 * SAMPLE_RATE], rng)
                calls.append(Call(start, start + len(call) / SAMPLE_RATE, label))
                call, offset = soxr.resample(call, SAMPLE_RATE, rate), round((start - first) * rate)
                inside = call[: len(sound) - offset]
                sound[offset : offset + len(inside)] += inside
                carried = call[len(inside) :] if len(inside) < len(call) else carried
            file.write(sound[: (seconds - first) * rate].clip(-1, 1))
    return calls


def _call(label: str, around: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One call, as the corpus composes it, loud enough for the background around it."""
    scene = compose([entry(label, FileSound(RECORDINGS / CALLS[label]))], None, _CALL, rng)
    ratio = float(rng.uniform(6, 20))
    sound = gained(scene.samples, active_level_db(around) + ratio - active_level_db(scene.samples))
    missing = max(0.0, STANDS_OUT_DB - headroom_db(sound, around))
    return faded(gained(sound, missing))


def _minutes(background: list[Path], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Background without end, a minute at a time, at 16 kHz."""
    known = [read_audio(path, sample_rate=SAMPLE_RATE) for path in background]
    blend, size = round(_BLEND * SAMPLE_RATE), _BLOCK * SAMPLE_RATE
    ramp = np.sin(np.linspace(0, np.pi / 2, blend)).astype(np.float32)
    waiting = np.zeros(blend, np.float32)
    while True:
        sound = known[int(rng.integers(len(known)))]
        length = min(len(sound), round(rng.uniform(5, 30) * SAMPLE_RATE))
        begin = int(rng.integers(len(sound) - length + 1))
        piece = gained(sound[begin : begin + length], float(rng.uniform(-4, 4)))
        waiting[-blend:] = waiting[-blend:] * ramp[::-1] + piece[:blend] * ramp
        waiting = np.concatenate([waiting, piece[blend:]])
        while len(waiting) >= size + blend:
            yield waiting[:size].copy()
            waiting = waiting[size:]


def _upsampled_ring(minutes: list[np.ndarray], rate: int) -> list[np.ndarray]:
    """Minutes that follow each other round and round, at another rate; PCM-16 as the file keeps them."""
    ring = np.concatenate(minutes)
    fine = soxr.resample(np.concatenate([ring, ring, ring]), SAMPLE_RATE, rate)
    fine = (
        np.round(fine[len(ring) * rate // SAMPLE_RATE :][: len(ring) * rate // SAMPLE_RATE] * 2**15) / 2**15
    )
    return np.split(fine.astype(np.float32), len(minutes))
