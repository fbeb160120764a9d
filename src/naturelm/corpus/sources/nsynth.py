"""NSynth: 305,979 notes of 4 s by 1,006 instruments (Engel et al. 2017), CC BY.

Layout: `nsynth-train/examples.json` and `nsynth-train/audio/guitar_acoustic_001-082-050.wav`, the same
with `-valid` and `-test`, as the archives unpack beside each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.files import Ids, as_text, read_json, sound_file
from naturelm.corpus.sources.tables import existing_folder

NAME = "nsynth"
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_HIGHEST_PITCH = 127


@dataclass(frozen=True)
class Source:
    """The parts of NSynth that lie in `folder`, one or more of the three."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`.

        The label is the instrument as NSynth tells it apart, by how it was made and its family:
        `acoustic guitar`. Velocity and the qualities of a note (`bright`, `percussive`) are not taken.
        """
        folder = existing_folder(self.folder, "NSynth")
        parts = [part for part in _SPLITS if (folder / f"nsynth-{part}").is_dir()]
        if not parts:
            raise SourceError(f"{folder}: no nsynth-train, nsynth-valid or nsynth-test; unpack one there")
        ids = Ids(NAME)
        for part in parts:
            table = f"nsynth-{part}/examples.json"
            notes = read_json(folder / table, "NSynth")
            if not isinstance(notes, dict):
                raise SourceError(f"{folder / table}: holds no notes by name; download it again")
            for name, note in notes.items():
                yield _recording(folder, part, as_text(name), note, ids)


def _recording(folder: Path, part: str, name: str, note: object, ids: Ids) -> Recording | Failure:
    where = f"nsynth-{part}/examples.json {name}"
    if not isinstance(note, dict):
        return Failure(NAME, where, "is not the description of a note; correct the entry")
    texts = {key: as_text(note.get(key)) for key in ("instrument_str", "instrument_family_str")}
    empty = [key for key, text in texts.items() if not text]
    if empty:
        return Failure(NAME, where, f"has no {', '.join(empty)}; correct the entry")
    pitch = note.get("pitch")
    if not isinstance(pitch, int) or isinstance(pitch, bool) or not 0 <= pitch <= _HIGHEST_PITCH:
        return Failure(
            NAME, where, f"pitch {as_text(pitch)!r} is no MIDI note number (0 to 127); correct the entry"
        )
    file_name = f"nsynth-{part}/audio/{name}.wav"
    path = sound_file(NAME, folder, file_name, where)
    if isinstance(path, Failure):
        return path
    family = texts["instrument_family_str"].replace("_", " ")
    return ids.given_before(name, where) or Recording(
        id=name,
        source=NAME,
        sound=FileSound(path),
        file_name=file_name,
        license="CC-BY-4.0",
        kind="music",
        labels=(f"{as_text(note.get('instrument_source_str'))} {family}".strip(),),
        instrument=family,
        pitch=pitch,
        duration=4.0,
        group=texts["instrument_str"],
        split=_SPLITS[part],
    )
