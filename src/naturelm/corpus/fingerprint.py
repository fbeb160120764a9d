"""Near-duplicate recordings, found by audio fingerprint.

The fingerprint is that of Haitsma & Kalker 2002, "A Highly Robust Audio Fingerprinting System": per
frame, the sign of the change over time of the difference between neighbouring bands. Three things
are other than in the paper, since sounds of nature are often a few tones over near silence. A
sign is trusted only where the change is large, so noise below a call decides nothing. A large change
that the other recording lacks counts as an error, so two renditions of one song differ. Candidates
are looked up by min-hashes of trusted signs (Broder 1997; for sound, Baluja & Covell 2008) instead of
by frames that agree in all 32 bits, which added noise leaves few of.

Written here because no self-contained library does it: chromaprint needs its C library or `fpcalc`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from naturelm.audio import SAMPLE_RATE
from naturelm.errors import AudioError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BitArray = npt.NDArray[np.uint32]

HOP = 1 / 64
"""Seconds between frames."""

_WINDOW = 2048  # 0.128 s: shorter than the paper's 0.37 s, to tell apart renditions that differ by ~10 ms
_HOP_SAMPLES = round(HOP * SAMPLE_RATE)
_LAG = 4  # frames over which a change is taken: half a window, so that it is not mostly overlap
_BANDS = 33
_LOWEST, _HIGHEST = 250.0, 7000.0  # Hz; lossy codecs and 16 kHz archives keep little above

# Levels in dB. What lies this far below the loudest band of the surrounding half seconds may be noise
# that only one of two copies has; the clip's own and the absolute limit are against digital silence.
_BELOW_SURROUNDINGS = 27.0
_BELOW_CLIP = 50.0
_SILENCE = -90.0
_SURROUNDINGS = 32  # frames to either side
_CLEAR = 1.5  # dB of change from which a sign is trusted
_STRONG = 5.0  # dB of change that a copy must show as well

_MIN_BITS = 2  # trusted bits from which a frame counts as audible
_MIN_FRAMES = 52  # which, with the length of a frame, span 1.0 s
_LONG_FRAMES = 256  # 4 s: enough to count alone, though the recordings go on to differ
# Copies that were cut half a frame off and have noise at 20 dB differ in up to 0.08 of the trusted bits,
# the worst case met; so do some stretches of renditions of a song whose notes are displaced by 5 ms and
# 1 % in pitch, and by chance a short end of ones displaced by 15 ms and 3 %.
_MAX_ERROR = 0.09
_MAX_ERROR_ENDS = 0.03  # where only a short end of each is shared, of which there are many to fit by chance
_BREAK_EVEN = 0.15  # error rate from which a stretch is better left out of the match

_CONTEXT = (0, 12, 24)  # frames back whose bits go into one sketch key
_CELLS = 64 * len(_CONTEXT)
_MIN_CELLS = 6
_ABSENT = 255
_MIX = np.uint32(2654435761)  # odd, about 2^32 / golden ratio: spreads small numbers over all bits
_RANKS = np.stack([np.random.default_rng(seed).permutation(_CELLS) for seed in range(5)]).astype(np.uint8)
_PARTNERS = 24  # occurrences of a key that one occurrence is compared with
_MANY = 1000  # the same for just two recordings, where even a sound of many equal notes is affordable
_MIN_VOTES = 5  # different sounds reach 2 to 5, noisy copies that share 2 s reach 8 and more
_ROWS_PER_BLOCK = 512
_FRAMES_PER_BLOCK = 1024
_SHIFT_BITS = 26  # room for recordings of 145 hours
_NO_SHIFT = 2 ** (_SHIFT_BITS - 1)


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Signs of change in 32 pairs of neighbouring bands, one row per frame of `HOP` seconds."""

    bits: BitArray
    """(frames,): 1 where the lower band gains on the higher one."""
    clear: BitArray
    """(frames,): 1 where the change is large enough for its sign to be trusted."""
    strong: BitArray
    """(frames,): 1 where the change is so large that every copy must show it; a subset of `clear`."""

    @property
    def audible(self) -> BoolArray:
        """(frames,): frames that hold information: neither silent nor steady."""
        return _count(self.clear) >= _MIN_BITS

    @property
    def comparable(self) -> bool:
        """Whether enough is heard to be compared. Silence, a steady tone or hum, and less than a second
        of sound are not: nothing tells one such recording from another."""
        return int(self.audible.sum()) >= _MIN_FRAMES


@dataclass(frozen=True)
class Overlap:
    """The stretch that two recordings share."""

    offset: float
    """Seconds into the first recording at which the second begins; negative if it begins before."""
    start: float
    """Seconds into the first recording at which the shared stretch begins."""
    length: float
    """Seconds."""
    error_rate: float
    """Share of the trusted bits that differ."""


@dataclass(frozen=True)
class Duplicate:
    """Two recordings that hold the same sound, by the keys they were added with."""

    first: str
    second: str
    overlap: Overlap


def fingerprint(waveform: FloatArray) -> Fingerprint:
    """The fingerprint of (samples,) float32 mono at 16 kHz, of any length.

    Raises AudioError if the samples are not one channel of finite numbers.
    """
    if waveform.ndim != 1:
        raise AudioError(f"waveform of shape {waveform.shape}: mix it to one channel, (samples,)")
    if not np.isfinite(waveform).all():
        raise AudioError("waveform holds NaN or infinite samples; read the recording again or leave it out")
    power = _band_powers(waveform.astype(np.float32, copy=False))
    frames = len(power) - _LAG
    if frames <= 0:
        empty = np.zeros(0, np.uint32)
        return Fingerprint(empty, empty, empty)
    floor = _floor(power)
    floor = np.maximum(floor[_LAG:], floor[:frames])
    change = _slope(power[_LAG:], floor) - _slope(power[:frames], floor)
    size = np.abs(change)
    return Fingerprint(_pack(change > 0), _pack(size > _CLEAR), _pack(size > _STRONG))


def overlap(first: Fingerprint, second: Fingerprint) -> Overlap | None:
    """What two recordings share, or None if it is less than about a second of audible sound."""
    for _, _, shift in _candidates(_Index.of([first]), _Index.of([second]), partners=_MANY):
        return _verify(first, second, shift)
    return None


class DuplicateFinder:
    """Recordings among which, or between two sets of which, duplicates are looked for.

    Holds about 3 MB per hour of sound, and while it searches 4 MB more per hour. The time grows in
    proportion to the sound, not to the number of pairs: a sketch key that is found very often, as in
    sounds that are all alike, is followed to a fixed number of its occurrences. So of a sound that
    is held dozens of times not every pair is given, but the pairs that are given join all its copies.

    Told apart are two recordings by what is loud in them. So one sample, or an electronic beep of fixed
    period, over two different backgrounds is a duplicate; so may be renditions alike within 5 ms.
    """

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._fingerprints: list[Fingerprint] = []
        self._copies: list[list[str]] = []
        self._rows: dict[bytes, int] = {}

    def add(self, key: str, fingerprint: Fingerprint) -> bool:
        """Take up a recording under a key of the caller's. False if it is not `comparable`: it is then
        never reported, and the caller may want to compare such files byte by byte."""
        if not fingerprint.comparable:
            return False
        digest = blake2b(digest_size=16)
        for bits in (fingerprint.bits, fingerprint.clear):
            digest.update(bits.tobytes())
        row = self._rows.setdefault(digest.digest(), len(self._keys))
        if row < len(self._keys):
            self._copies[row].append(key)
        else:
            self._keys.append(key)
            self._copies.append([key])
            self._fingerprints.append(fingerprint)
        return True

    def duplicates(self) -> Iterator[Duplicate]:
        """Pairs of recordings that share sound; `first` is the one that was added earlier.

        Recordings with equal fingerprints are each paired with the earliest of them, which stands for
        all of them in other pairs.
        """
        for row, keys in enumerate(self._copies):
            for copy in keys[1:]:
                length = len(self._fingerprints[row].bits) * HOP
                yield Duplicate(keys[0], copy, Overlap(0.0, 0.0, length, 0.0))
        index = _Index.of(self._fingerprints)
        for first, second, shift in _candidates(index, index, within=True):
            shared = _verify(self._fingerprints[first], self._fingerprints[second], shift)
            if shared is not None:
                yield Duplicate(self._keys[first], self._keys[second], shared)

    def duplicates_with(self, other: "DuplicateFinder") -> Iterator[Duplicate]:
        """Pairs of a recording of this set, `first`, and one of another set, `second`: train and test."""
        index, probes = _Index.of(self._fingerprints), _Index.of(other._fingerprints)
        for first, second, shift in _candidates(index, probes):
            shared = _verify(self._fingerprints[first], other._fingerprints[second], shift)
            if shared is not None:
                for key in self._copies[first]:
                    for other_key in other._copies[second]:
                        yield Duplicate(key, other_key, shared)


def _band_powers(waveform: FloatArray) -> FloatArray:
    """(frames, bands): mean power of each band, relative to that of a sine of amplitude 1."""
    if len(waveform) < _WINDOW:
        return np.zeros((0, _BANDS), np.float32)
    frames = sliding_window_view(waveform, _WINDOW)[::_HOP_SAMPLES]
    window = np.hanning(_WINDOW).astype(np.float32)
    edges = np.rint(np.geomspace(_LOWEST, _HIGHEST, _BANDS + 1) * _WINDOW / SAMPLE_RATE).astype(int)
    scale = (np.diff(edges) * (window.sum() / 2) ** 2).astype(np.float32)
    powers = []
    for start in range(0, len(frames), _FRAMES_PER_BLOCK):
        spectrum = scipy.fft.rfft(frames[start : start + _FRAMES_PER_BLOCK] * window, axis=1)
        heard = spectrum[:, : edges[-1]]
        # Not a product with a matrix of bands: its threads wait for each other on a busy machine.
        powers.append(np.add.reduceat(heard.real**2 + heard.imag**2, edges[:-1], axis=1) / scale)
    return np.concatenate(powers)


def _floor(power: FloatArray) -> FloatArray:
    """(frames, 1): power below which a band is taken to hold nothing of the recording's own."""
    level = power.max(axis=1)
    padded = np.pad(level, _SURROUNDINGS)
    surroundings = sliding_window_view(padded, 2 * _SURROUNDINGS + 1).max(axis=1)
    least = max(10 ** (_SILENCE / 10), float(level.max()) * 10 ** (-_BELOW_CLIP / 10))
    return np.maximum(surroundings * 10 ** (-_BELOW_SURROUNDINGS / 10), least).astype(np.float32)[:, None]


def _slope(power: FloatArray, floor: FloatArray) -> FloatArray:
    """(frames, 32): dB by which each band is above the next; 0 where both are below the floor."""
    level = 10 * np.log10(power + floor)
    slope: FloatArray = level[:, :-1] - level[:, 1:]
    return slope


def _pack(flags: BoolArray) -> BitArray:
    return np.packbits(flags, axis=1).view(np.uint32).ravel()


def _unpack(bits: BitArray) -> BoolArray:
    return np.unpackbits(bits.view(np.uint8).reshape(-1, 4), axis=1).view(bool)


def _bits_set() -> npt.NDArray[np.uint8]:
    return np.unpackbits(np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
        axis=1, dtype=np.uint8
    )


_BITS_SET = _bits_set()  # numpy.bitwise_count is there from NumPy 2 on only


def _count(bits: BitArray) -> IntArray:
    """Number of ones in each."""
    halves = np.ascontiguousarray(bits).view(np.uint16)
    return _BITS_SET[halves].reshape(-1, 2).sum(axis=1, dtype=np.int64)


def _sketch(fingerprint: Fingerprint) -> tuple[BitArray, IntArray]:
    """Keys by which shared sound is looked up, and the frame of each.

    A key is five min-hashes of the trusted signs of a frame and of those before it: two copies have it
    in common with a probability of the fifth power of their signs' Jaccard similarity. Half of the
    keys are kept, chosen by their value, so that copies and excerpts keep the same ones.
    """
    clear, rising = _unpack(fingerprint.clear), _unpack(fingerprint.bits)
    signs = np.concatenate([clear & rising, clear & ~rising], axis=1)
    frames = len(signs) - _CONTEXT[-1]
    if frames <= 0:
        return np.zeros(0, np.uint32), np.zeros(0, np.int64)
    cells = np.concatenate([signs[_CONTEXT[-1] - back :][:frames] for back in _CONTEXT], axis=1)
    cells = cells[(told := cells.sum(axis=1) >= _MIN_CELLS)]
    absent = np.where(cells, np.uint8(0), np.uint8(_ABSENT))
    keys = np.zeros(len(cells), np.uint32)
    for ranks in _RANKS:
        keys = keys * _MIX + (absent | ranks).min(axis=1) + 1
    kept = keys * _MIX < 2**31
    return keys[kept], np.flatnonzero(told)[kept]


class _Index(NamedTuple):
    """Sketch keys of many recordings, sorted by key and, where equal, by row."""

    keys: BitArray
    rows: npt.NDArray[np.int32]
    frames: npt.NDArray[np.int32]

    @classmethod
    def of(cls, fingerprints: Sequence[Fingerprint]) -> "_Index":
        sketches = [_sketch(fingerprint) for fingerprint in fingerprints]
        keys = np.concatenate([np.zeros(0, np.uint32), *(keys for keys, _ in sketches)])
        rows = np.repeat(np.arange(len(sketches), dtype=np.int32), [len(keys) for keys, _ in sketches])
        frames = np.concatenate([np.zeros(0, np.int64), *(frames for _, frames in sketches)])
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], rows[order], frames[order].astype(np.int32))


def _candidates(
    first: _Index, second: _Index, *, within: bool = False, partners: int = _PARTNERS
) -> Iterator[tuple[int, int, int]]:
    """Rows that may share sound, as (row of first, row of second, frames into first at which it begins).

    within: both are one index, of which each pair is given once, the smaller row first.
    """
    place = np.arange(len(first.keys)) + 1 if within else np.searchsorted(second.keys, first.keys)
    by_row = np.argsort(first.rows, kind="stable")
    begins = np.arange(0, int(first.rows.max(initial=-1)) + 1, _ROWS_PER_BLOCK)
    for asked in np.split(by_row, np.searchsorted(first.rows[by_row], begins[1:])):
        rows, other_rows, shifts = _shared_keys(first, second, asked, place[asked], partners)
        if within:
            apart = rows != other_rows
            rows, other_rows, shifts = rows[apart], other_rows[apart], shifts[apart]
        yield from _most_voted(rows, other_rows, shifts)


def _shared_keys(
    first: _Index, second: _Index, asked: IntArray, place: IntArray, partners: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of first and second that share a key, and the shift in frames between its two places.

    asked: (keys,) places in first; place: (keys,) where in second their partners begin.
    """
    found: list[tuple[IntArray, IntArray]] = []
    for _ in range(partners):
        if not len(asked):
            break
        inside = place < len(second.keys)
        asked, place = asked[inside], place[inside]
        same = second.keys[place] == first.keys[asked]
        asked, place = asked[same], place[same]
        found.append((asked, place))
        place = place + 1
    ours = np.concatenate([np.zeros(0, np.int64), *(asked for asked, _ in found)])
    theirs = np.concatenate([np.zeros(0, np.int64), *(place for _, place in found)])
    shifts = first.frames[ours].astype(np.int64) - second.frames[theirs]
    return first.rows[ours].astype(np.int64), second.rows[theirs].astype(np.int64), shifts


def _most_voted(rows: IntArray, other_rows: IntArray, shifts: IntArray) -> Iterator[tuple[int, int, int]]:
    """Each pair of rows at the shift that most of their keys agree on, if enough do."""
    if not len(rows):
        return
    # One integer per match, so that one sort brings equal matches, and neighbouring shifts, together.
    lowest = int(rows.min())
    width = int(other_rows.max()) + 1
    pairs = (rows - lowest) * width + other_rows
    matches, votes = np.unique((pairs << _SHIFT_BITS) + shifts + _NO_SHIFT, return_counts=True)
    # Copies whose frames lie half a hop apart spread their votes over two shifts.
    adjacent = np.flatnonzero(np.diff(matches) == 1)
    with_next = votes.copy()
    with_next[adjacent] += votes[adjacent + 1]
    pairs = matches >> _SHIFT_BITS
    order = np.lexsort((with_next, pairs))
    best = order[np.append(np.diff(pairs[order]) > 0, True)]
    for match in best[with_next[best] >= _MIN_VOTES]:
        row, other_row = divmod(int(pairs[match]), width)
        yield row + lowest, other_row, int(matches[match] & (2**_SHIFT_BITS - 1)) - _NO_SHIFT


def _verify(first: Fingerprint, second: Fingerprint, shift: int) -> Overlap | None:
    """The stretch that two recordings share near a shift in frames, if there is enough of it."""
    found = [shared for near in (-1, 0, 1) if (shared := _compare(first, second, shift + near))]
    return min(found, key=lambda shared: shared.error_rate, default=None)


def _compare(first: Fingerprint, second: Fingerprint, shift: int) -> Overlap | None:
    """The stretch that two recordings share when the second begins `shift` frames into the first."""
    begin, end = max(0, shift), min(len(first.bits), len(second.bits) + shift)
    if end - begin < _MIN_FRAMES:
        return None
    ours, theirs = slice(begin, end), slice(begin - shift, end - shift)
    both = first.clear[ours] & second.clear[theirs]
    told = both | first.strong[ours] | second.strong[theirs]
    errors = _count(told & ~(both & ~(first.bits[ours] ^ second.bits[theirs])))
    told_bits = _count(told)
    # The stretch with the most agreement beyond the tolerated errors: a maximum-sum subarray.
    gain = np.concatenate([[0.0], np.cumsum(told_bits * _BREAK_EVEN - errors)])
    stop = int((gain - np.minimum.accumulate(gain)).argmax())
    start = int(gain[: stop + 1].argmin())
    audible = told_bits >= _MIN_BITS
    heard = int(audible[start:stop].sum())
    # One note out of many may fit by chance where a different rendition goes on to differ.
    if heard < _MIN_FRAMES or (heard < _LONG_FRAMES and heard < audible.sum() / 2):
        return None
    error_rate = float(errors[start:stop].sum() / told_bits[start:stop].sum())
    shorter = min(int(first.audible.sum()), int(second.audible.sum()))
    ends_only = heard < _LONG_FRAMES and heard < shorter / 2
    if error_rate > (_MAX_ERROR_ENDS if ends_only else _MAX_ERROR):
        return None
    return Overlap(shift * HOP, (begin + start) * HOP, (stop - start) * HOP, error_rate)
