"""Single notes of General MIDI instruments, rendered by FluidSynth: other instruments in held-out clips."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import soundfile as sf

from naturelm.audio import SAMPLE_RATE, read_audio
from naturelm.corpus.options import CorpusError
from naturelm.corpus.recordings import Failure, FileSound, Recording

NAME = "general-midi"
_LICENSE = "MIT"  # of the soundfont, FluidR3 GM by Frank Wen
_NOTES = 12
_HELD, _APART = 1.8, 2.5
"""Seconds for which a note is held, and from one note to the next."""
_LOWEST, _HIGHEST = 40, 84
# Families as NSynth names them, and General MIDI programs (counted from 0) of each; of each family the
# last but one is kept for testing, the last for validation.
_FAMILIES: dict[str, tuple[int, ...]] = {
    "keyboard": (0, 1, 2, 3, 6, 4, 7),
    "mallet": (8, 9, 11, 12, 14, 10, 13),
    "organ": (16, 18, 20, 21, 22, 17, 19),
    "guitar": (24, 26, 27, 29, 30, 25, 28),
    "bass": (32, 34, 35, 36, 38, 33, 39),
    "string": (40, 42, 44, 48, 49, 41, 45),
    "vocal": (52, 53, 54),
    "brass": (56, 63, 59, 60, 61, 57, 62),
    "reed": (64, 66, 69, 68, 70, 65, 71),
    "flute": (72, 74, 75, 77, 79, 73, 78),
    "synth lead": (80, 82, 83, 84, 87, 81, 86),
}


@dataclass(frozen=True)
class MusicSource:
    """Notes of seventy instruments, rendered once and kept as sound files in a folder."""

    soundfont: Path
    folder: Path
    seed: int

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `sources.ArchiveSource`. Raises CorpusError if FluidSynth cannot be run."""
        for family, programs in _FAMILIES.items():
            for place, program in enumerate(programs):
                rng = np.random.default_rng([self.seed, 0x71D1, program])
                notes = np.sort(rng.choice(np.arange(_LOWEST, _HIGHEST + 1), size=_NOTES, replace=False))
                path = self.folder / f"program-{program:03d}-{self.seed}.flac"
                if not path.is_file():
                    self._render(program, [int(note) for note in notes], path)
                last = len(programs) - 1 - place
                for number, note in enumerate(notes):
                    start = number * _APART
                    yield Recording(
                        id=f"{program:03d}-{note}",
                        source=NAME,
                        sound=FileSound(path, start, start + _APART),
                        file_name=path.name,
                        license=_LICENSE,
                        kind="music",
                        instrument=family,
                        pitch=int(note),
                        duration=_APART,
                        group=f"program-{program:03d}",
                        split=("validation", "test")[last] if last < 2 else "train",
                    )

    def _render(self, program: int, notes: list[int], path: Path) -> None:
        track = mido.MidiTrack([mido.Message("program_change", program=program)])
        pause = 0.0
        for note in notes:
            track.append(mido.Message("note_on", note=note, velocity=100, time=round(960 * pause)))
            track.append(mido.Message("note_off", note=note, time=round(960 * _HELD)))
            pause = _APART - _HELD
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            song, wave = Path(folder) / "notes.mid", Path(folder) / "notes.wav"
            # 480 ticks a beat at 120 beats a minute: 960 ticks a second.
            mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(song)
            command = ["fluidsynth", "-n", "-i", "-q", "-R", "0", "-C", "0", "-r", "44100", "-F", str(wave)]
            command += [str(self.soundfont), str(song)]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode or not wave.is_file():
                raise CorpusError(
                    f"fluidsynth failed ({done.stderr.strip()[-200:]}); try by hand: {' '.join(command)}"
                )
            sound = read_audio(wave)
            length = round(len(notes) * _APART * SAMPLE_RATE)
            padded = np.zeros(length, np.float32)
            padded[: min(length, len(sound))] = sound[:length]
            temporary = Path(folder) / "notes.flac"
            sf.write(temporary, padded, SAMPLE_RATE, "PCM_16")
            temporary.replace(path)
