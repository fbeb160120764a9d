"""Clips made from recordings: crops around the call, changed, placed, mixed, over noise."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.activity import STEP_SECONDS, Activity
from naturelm.corpus.audibility import STANDS_OUT_DB, headroom_db
from naturelm.corpus.augment import AugmentOptions, Change, active_level_db, change, faded, gained
from naturelm.corpus.library import Entry
from naturelm.corpus.limits import require, require_positive
from naturelm.corpus.recordings import FloatArray
from naturelm.errors import AudioError, NatureLMError

_COMMON_LEVEL_DB = -24.0


class UnusablePair(NatureLMError):
    """A pair that cannot be made from the recordings that were drawn for it; another is drawn."""


class UnreadableRecording(AudioError):
    """A recording that was readable when the build began and is no longer, or not in this part."""

    def __init__(self, entry: Entry, cause: AudioError) -> None:
        super().__init__(str(cause))
        self.entry = entry


@dataclass(frozen=True)
class SceneOptions:
    """Shape of the clips of one split."""

    seconds: float = 10.0
    """No clip is longer."""
    shortest: float = 1.0
    """Sounds shorter than this are given quiet (or noise) on both sides."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    padding: float = 0.5
    """Most seconds of quiet (or noise) around a sound that leaves room for it; twice that around several."""

    def __post_init__(self) -> None:
        """Raises OptionError for a value that makes no sense."""
        require_positive("seconds", self.seconds)
        require(0 <= self.padding <= 60, "padding", f"must be between 0 and 60, not {self.padding:g}")
        require(
            0 <= self.shortest <= self.seconds,
            "shortest",
            f"must be between 0 and `seconds`, which is {self.seconds:g}, not {self.shortest:g}",
        )


@dataclass(frozen=True)
class Placed:
    """One recording within a clip."""

    entry: Entry
    start: float
    """Seconds into the clip."""
    end: float
    onset: float
    """Seconds into the clip at which its call is first heard."""
    crop: float
    """Seconds into the recording at which the crop begins."""
    level_db: float
    """Of its active parts, relative to the other recordings of the clip."""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A finished clip and what is in it."""

    samples: FloatArray
    """(samples,) float32 at 16 kHz, peak below 1."""
    placed: tuple[Placed, ...] = ()
    noise: Entry | None = None
    snr_db: float | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every recording that was put in, noise last."""
        focal = tuple(placed.entry for placed in self.placed)
        return focal if self.noise is None else (*focal, self.noise)


@dataclass(frozen=True)
class _Cut:
    entry: Entry
    samples: FloatArray
    onset: float
    crop: float
    changes: tuple[str, ...]


def compose(
    focal: Sequence[Entry],
    noise: Entry | None,
    options: SceneOptions,
    rng: np.random.Generator,
    *,
    allowed: frozenset[Change] = frozenset(),
    apart: bool = False,
) -> Scene:
    """Put recordings into one clip.

    focal: what is to be heard, each cropped to hold its call; none of them for noise or silence alone.
    noise: background, mixed in at a signal-to-noise ratio drawn from the options, raised where a sound
        would not stand out from it in its loudest band; None for none.
    allowed: changes under which the label stays true.
    apart: give each its own time, one after another, as far as the clip is long enough; otherwise
        they are placed at random and may overlap.
    Raises UnreadableRecording for a recording that cannot be read, UnusablePair for one without a call.
    """
    # One after another, each may last a little longer than its part of the clip: some overlap is natural.
    longest_cut = options.seconds * min(1.0, 1.25 / len(focal)) if apart and focal else options.seconds
    cuts = [_cut(entry, longest_cut, options, allowed, rng) for entry in focal]
    if not cuts:
        samples = round(
            rng.uniform(max(options.shortest, options.seconds / 3), options.seconds) * SAMPLE_RATE
        )
        return _finished(np.zeros(samples, np.float32), (), noise, options, rng)
    longest = max(len(cut.samples) for cut in cuts)
    spread = sum(len(cut.samples) for cut in cuts) if apart else longest
    padding = round(rng.uniform(0, options.padding * (1 + (len(cuts) > 1))) * SAMPLE_RATE)
    most = round(options.seconds * SAMPLE_RATE)
    total = min(most, max(spread + padding, round(options.shortest * SAMPLE_RATE)))
    mixed = np.zeros(total, np.float32)
    placed, sounds = [], []
    starts = _starts([len(cut.samples) for cut in cuts], total, rng, apart=apart)
    for cut, start in zip(cuts, starts, strict=True):
        sound = cut.samples
        level = float(rng.uniform(-6, 0)) if len(cuts) > 1 else 0.0
        sounds.append(gained(sound, _COMMON_LEVEL_DB + level - active_level_db(sound)))
        mixed[start : start + len(sound)] += sounds[-1]
        begin, end = start / SAMPLE_RATE, (start + len(sound)) / SAMPLE_RATE
        placed.append(Placed(cut.entry, begin, end, begin + cut.onset, cut.crop, level, cut.changes))
    return _finished(mixed, tuple(placed), noise, options, rng, sounds)


def _starts(lengths: Sequence[int], total: int, rng: np.random.Generator, *, apart: bool) -> list[int]:
    """Where sounds of these lengths begin in a clip of `total` samples, none of which is longer than it."""
    if not apart:
        return [round(rng.uniform(0, total - length)) for length in lengths]
    before = np.cumsum([0, *lengths[:-1]])
    rest = total - sum(lengths)
    if rest >= 0:
        pauses = np.sort(rng.uniform(0, rest, len(lengths)))
        return [int(start) for start in before + pauses.astype(np.int64)]
    # Too long together: moved into each other evenly, from the first at the beginning to the last at the end.
    return [
        round((total - length) * sooner / (sum(lengths) - length))
        for length, sooner in zip(lengths, before.tolist(), strict=True)
    ]


def _cut(
    entry: Entry, longest: float, options: SceneOptions, allowed: frozenset[Change], rng: np.random.Generator
) -> _Cut:
    seconds = min(longest, entry.duration)
    starts = entry.activity.crops(seconds)
    if not len(starts):
        raise UnusablePair(f"{entry.key}: no sound in it stands out")
    # Among the louder half, so that training hears more than each recording's one loudest moment.
    start = min(float(rng.choice(starts[: max(1, len(starts) // 2)])), entry.duration - seconds)
    sound = read_part(entry, start, start + seconds)
    sound, changes = change(sound, allowed, options.augment, rng)
    most = round(options.seconds * SAMPLE_RATE)
    offset = 0
    if len(sound) > most:
        offset = _where_heard(sound, options.seconds)
        start += offset / len(sound) * seconds
        sound = sound[offset : offset + most]
    if active_level_db(sound) < -80:
        raise UnusablePair(f"{entry.key}: silent from {start:.2f} s on")
    onset = float(Activity.of(sound).active.argmax()) * STEP_SECONDS
    return _Cut(entry, faded(sound), onset, start, changes)


def _where_heard(sound: FloatArray, seconds: float) -> int:
    """First sample to keep of a sound that a slower tempo or an echo made too long.

    The beginning is kept, unless the call would be lost with the end.
    """
    heard = Activity.of(sound)
    crops = heard.crops(seconds)
    if not len(crops) or heard.share_within(0.0, seconds) > 0.9:
        return 0
    return round(float(crops[0]) * SAMPLE_RATE)


def read_part(entry: Entry, start: float, end: float) -> FloatArray:
    """Samples of a recording from start to end (s), or to its end; UnreadableRecording if they cannot be had."""
    try:
        return entry.recording.sound.read(start, min(end, entry.duration))
    except AudioError as error:
        raise UnreadableRecording(entry, error) from error


def _finished(
    mixed: FloatArray,
    placed: tuple[Placed, ...],
    noise: Entry | None,
    options: SceneOptions,
    rng: np.random.Generator,
    sounds: Sequence[FloatArray] = (),
) -> Scene:
    """sounds: of each of `placed`, as they were mixed; noise is never so loud that one of them is lost in it."""
    ratio = None
    if noise is not None:
        bed = _bed(noise, len(mixed), rng)
        level = active_level_db(bed)
        if level > -90:
            wanted = _COMMON_LEVEL_DB
            if placed:
                ratio = float(rng.uniform(*options.augment.snr_db))
                wanted = active_level_db(mixed) - ratio
                heard = min(headroom_db(sound, gained(bed, wanted - level)) for sound in sounds)
                raised = max(0.0, STANDS_OUT_DB - heard)
                ratio, wanted = ratio + raised, wanted - raised
            mixed = mixed + gained(bed, wanted - level)
        else:
            noise = None
    peak = float(np.abs(mixed).max(initial=0.0))
    if peak > 0:
        target = float(rng.uniform(*options.augment.level_db))
        mixed = gained(mixed, target - 20 * np.log10(peak))
    return Scene(mixed.astype(np.float32), placed, noise, ratio)


def _bed(noise: Entry, samples: int, rng: np.random.Generator) -> FloatArray:
    """A stretch of background of the wanted length; a shorter recording is repeated with its ends blended."""
    seconds = samples / SAMPLE_RATE
    # A little more than is needed: where a part begins and ends is rounded to samples.
    start = float(rng.uniform(0, max(0.0, noise.duration - seconds - 0.01)))
    sound = read_part(noise, start, start + seconds + 0.01)
    if len(sound) >= samples:
        return sound[:samples]
    blend = min(len(sound) // 4, SAMPLE_RATE // 4)
    piece = faded(sound, blend / SAMPLE_RATE)
    step = max(1, len(sound) - blend)
    bed = np.zeros(samples + len(sound), np.float32)
    for begin in range(0, samples, step):
        bed[begin : begin + len(piece)] += piece
    return bed[:samples]
