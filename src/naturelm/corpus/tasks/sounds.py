"""Everyday sounds, speech and music."""

from dataclasses import dataclass

import numpy as np

from naturelm.corpus import prompts
from naturelm.corpus.augment import ALL_CHANGES, COLOURING, active_level_db
from naturelm.corpus.library import Entry
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.scene import read_part
from naturelm.corpus.tasks.base import Draft, Studio, SubjectsTakeTurns, UnusablePair, shuffled
from naturelm.corpus.tasks.facts import stated_sex

NOTE_NAMES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")
_LOW_HZ, _HIGH_HZ = 140.0, 210.0


def note_name(midi: int) -> str:
    """Name of a MIDI note with its octave: 60 is `C 4`."""
    return f"{NOTE_NAMES[midi % 12]} {midi // 12 - 1}"


@dataclass(frozen=True)
class Environment(SubjectsTakeTurns):
    """What sound is this?"""

    name: str = "environment"
    options_share: float = 0.4

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return entry.recording.kind in {"environment", "noise"} and len(entry.recording.labels) == 1

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        answer = entry.recording.labels[0]
        # Less often than behind animals: the background is a sound of its own that could be asked for.
        share = min(0.4, studio.options.augment.noise_probability)
        background = entry.recording.kind != "noise" and rng.random() < share
        scene = studio.scene([entry], rng, allowed=ALL_CHANGES, noise=background)
        heard = {label for other in scene.entries for label in other.recording.labels}
        wrong = shuffled([label for label in studio.cast.sound_labels if label not in heard], rng)
        if studio.first_wording or not wrong or rng.random() >= self.options_share:
            return Draft(scene, studio.ask(prompts.ENVIRONMENT, rng), answer, (answer,))
        options = shuffled([answer, *wrong[: int(rng.integers(1, 6))]], rng)
        question = studio.ask_with_options(prompts.ENVIRONMENT, options, rng)
        return Draft(scene, question, answer, (answer,), options)


def _one_speaker(entry: Entry) -> bool:
    return entry.recording.kind == "speech" and entry.recording.count in {None, 1}


@dataclass(frozen=True)
class SpeakerCount(SubjectsTakeTurns):
    """How many speakers?"""

    name: str = "speaker-count"
    most: int = 3

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return _one_speaker(entry) and bool(entry.recording.recordist)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        wanted = int(rng.integers(1, self.most + 1))
        others = studio.cast.speakers(entry, wanted - 1, rng)
        if len(others) < wanted - 1:
            raise UnusablePair(f"{entry.key}: fewer than {wanted} speakers were recorded")
        scene = studio.scene([entry, *others], rng, apart=True)
        answer = str(wanted)
        return Draft(scene, studio.ask(prompts.SPEAKER_COUNT, rng), answer, (answer,))


@dataclass(frozen=True)
class SpeakerSex:
    """Male or female?"""

    name: str = "speaker-sex"

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return _one_speaker(entry) and bool(stated_sex(entry.recording))

    def turn(self, entry: Entry) -> str:
        """See `Task`. So that no answer is the usual one."""
        return stated_sex(entry.recording)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        answer = stated_sex(entry.recording)
        return Draft(studio.scene([entry], rng), studio.ask(prompts.SPEAKER_SEX, rng), answer, (answer,))


@dataclass(frozen=True)
class SpeakerPitch(SubjectsTakeTurns):
    """Is the voice low, medium or high? Answered by measuring it, for archives do not say."""

    name: str = "speaker-pitch"

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return _one_speaker(entry)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        seconds = min(entry.duration, studio.options.seconds)
        measured = voice_pitch_hz(read_part(entry, 0.0, seconds))
        # A voice within a semitone of a boundary is neither.
        if measured is None or any(abs(np.log2(measured / edge)) < 1 / 12 for edge in (_LOW_HZ, _HIGH_HZ)):
            raise UnusablePair(f"{entry.key}: the pitch of the voice is not clear")
        answer = "low" if measured < _LOW_HZ else "high" if measured > _HIGH_HZ else "medium"
        scene = studio.scene([entry], rng)
        question = studio.ask(prompts.SPEAKER_PITCH, rng)
        return Draft(scene, question, answer, (answer,), details={"pitch_hz": round(measured, 1)})


def voice_pitch_hz(sound: FloatArray) -> float | None:
    """Median pitch of a voice by autocorrelation, None where less than 0.3 s of it is voiced.

    sound: (samples,) float32 at 16 kHz. Frames of 40 ms every 20 ms, 70 to 400 Hz.
    """
    frame, hop, rate = 640, 320, 16000
    if len(sound) < frame:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(sound, frame)[::hop]
    loud = np.square(frames).mean(axis=1) > 10 ** ((active_level_db(sound) - 15) / 10)
    frames = frames[loud] * np.hanning(frame)
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(frame), 2048)) ** 2)
    spectra = np.abs(np.fft.rfft(frames, 2048, axis=1)) ** 2
    correlation = np.fft.irfft(spectra, axis=1)
    lags = np.arange(rate // 400, rate // 70)
    strength = correlation[:, lags] / window[lags] / np.maximum(correlation[:, :1] / window[0], 1e-12)
    voiced = strength.max(axis=1) > 0.6
    if voiced.sum() * hop / rate < 0.3:
        return None
    # The first peak that is nearly as strong as the strongest: an octave below is as strong in a steady voice.
    inner, lags = strength[voiced][:, 1:-1], lags[1:-1]
    peaks = (inner >= strength[voiced][:, :-2]) & (inner >= strength[voiced][:, 2:])
    near = peaks & (inner > 0.9 * inner.max(axis=1, keepdims=True))
    first = near.argmax(axis=1)[near.any(axis=1)]
    return float(rate / np.median(lags[first])) if len(first) else None


@dataclass(frozen=True)
class Transcript(SubjectsTakeTurns):
    """What is said?"""

    name: str = "transcript"
    longest: float = 10.0
    """Seconds of speech: a clip that is cut would say less than the transcript."""

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return (
            entry.recording.kind == "speech"
            and bool(entry.recording.transcript)
            and entry.duration <= self.longest
        )

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        if entry.duration > studio.options.seconds:
            raise UnusablePair(f"{entry.key}: longer than a clip of {studio.options.seconds} s")
        text = entry.recording.transcript
        return Draft(studio.scene([entry], rng), studio.ask(prompts.TRANSCRIPT, rng), text, (text,))


@dataclass(frozen=True)
class Instrument:
    """Which family of instruments?"""

    name: str = "instrument-family"
    options_share: float = 0.4

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return entry.recording.kind == "music" and bool(entry.recording.instrument)

    def turn(self, entry: Entry) -> str:
        """See `Task`. So that no answer is the usual one."""
        return entry.recording.instrument

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        answer = entry.recording.instrument
        scene = studio.scene([entry], rng, allowed=COLOURING)
        wrong = shuffled([name for name in studio.cast.instruments if name != answer], rng)
        if studio.first_wording or not wrong or rng.random() >= self.options_share:
            return Draft(scene, studio.ask(prompts.INSTRUMENT, rng), answer, (answer,))
        options = shuffled([answer, *wrong[: int(rng.integers(1, 5))]], rng)
        question = studio.ask_with_options(prompts.INSTRUMENT, options, rng)
        return Draft(scene, question, answer, (answer,), options)


@dataclass(frozen=True)
class NotePitch:
    """Which note is played?"""

    name: str = "note-pitch"

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return entry.recording.kind == "music" and entry.recording.pitch is not None

    def turn(self, entry: Entry) -> str:
        """See `Task`. So that no answer is the usual one."""
        return note_name(entry.recording.pitch or 0)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        answer = note_name(entry.recording.pitch or 0)
        return Draft(studio.scene([entry], rng), studio.ask(prompts.NOTE_PITCH, rng), answer, (answer,))
