"""The components that were made from archives: recordings by species, life stage, call type and caption.

The published rows were chosen by a draw that is not published. Here as many are drawn, with a seed, of all that fit.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from naturelm.audio import audio_info
from naturelm.bench.beans_zero import ComponentFacts
from naturelm.bench.building.planned import BuildError, Planned, PlannedRow, windows
from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError, source_type
from naturelm.errors import AudioError

XENO_CANTO, INATURALIST, ANIMAL_SOUND_ARCHIVE = "xeno-canto", "inaturalist", "animal-sound-archive"
_CAPTION_COLUMNS = ("id", "caption")
_STAGES = ("adult", "juvenile", "nestling")
_CALLS = ("call", "song")


@dataclass(frozen=True)
class Archives:
    """Recordings of archives on disk."""

    recordings: Mapping[str, Sequence[Recording]] = field(default_factory=dict)
    """By the archive's name."""
    faults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    """Of iNaturalist sounds, by their id."""


def read_archives(folders: Mapping[str, Path], captions: Path | None = None) -> Archives:
    """All animal recordings of archives, by name. Raises SourceError and BuildError for what cannot be used at all."""
    recordings: dict[str, list[Recording]] = {}
    faults: dict[str, list[str]] = {}
    for name, folder in folders.items():
        own, wrong = recordings.setdefault(name, []), faults.setdefault(name, [])
        for found in source_type(name)(folder).recordings():  # type: ignore[call-arg]
            if isinstance(found, Failure):
                wrong.append(f"{name} {found.file_name}: {found.cause}")
            else:
                own.append(found)
    return Archives(recordings, faults, _read_captions(captions) if captions else {})


def _read_captions(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = [name for name in _CAPTION_COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise BuildError(
                    f"{path}: no column {', '.join(missing)}; it needs {', '.join(_CAPTION_COLUMNS)}"
                )
            return {
                row["id"].strip(): row["caption"].strip() for row in table if row["id"] and row["caption"]
            }
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BuildError(f"{path}: cannot be read ({error}); give a CSV file in UTF-8") from error


def plan_archives(archives: Archives, facts: ComponentFacts, seed: int) -> Planned:
    """Rows of one component, at most as many as are published."""
    sources, label_of = _rule(facts, archives)
    there = [name for name in sources if name in archives.recordings]
    missing = [name for name in sources if name not in archives.recordings]
    note = f"without {', '.join(missing)}" if missing else ""
    if facts.name == "captioning" and not archives.captions:
        note = "; ".join(filter(None, (note, "captions are in no archive: give --captions")))
    faults = [fault for name in there for fault in archives.faults.get(name, ())]
    labelled = [
        (recording, label)
        for name in there
        for recording in archives.recordings[name]
        if (label := label_of(recording)) is not None
    ]
    rows = list(_candidates(facts, labelled, faults))
    if len(rows) > facts.rows:
        # A component's ranks (common, scientific, taxonomic) are drawn alike, so that they are of the same sounds.
        stem = facts.name.rpartition("-")[0] if facts.name.startswith("unseen-") else facts.name
        drawn = np.random.default_rng([seed, *stem.encode()]).permutation(len(rows))[: facts.rows]
        note = "; ".join(filter(None, (note, f"drawn of {len(rows):,} that fit")))
        rows = [rows[place] for place in sorted(drawn.tolist())]
    return Planned(tuple(rows), tuple(faults), note)


def _rule(
    facts: ComponentFacts, archives: Archives
) -> tuple[Sequence[str], Callable[[Recording], str | None]]:
    """The archives of a component, and what a recording is labelled; None where it does not belong."""
    if facts.name == "lifestage":
        return (XENO_CANTO,), lambda recording: _only(_words(recording.life_stage), _STAGES)
    if facts.name == "call-type":
        return (XENO_CANTO,), lambda recording: _only(
            [each.casefold() for each in recording.call_types], _CALLS
        )
    if facts.name == "captioning":
        return (
            INATURALIST,
        ), lambda recording: recording.caption or archives.captions.get(recording.id) or None
    kind = facts.name.rpartition("-")[2]
    labels = _labels_by_species(facts, kind)
    return (XENO_CANTO, INATURALIST, ANIMAL_SOUND_ARCHIVE), lambda recording: _species_label(
        recording, labels, kind
    )


def _words(text: str) -> list[str]:
    return [word.strip().casefold() for word in text.replace(";", ",").split(",")]


def _only(given: Sequence[str], known: Sequence[str]) -> str | None:
    """The one of the known that is given; None for none and for several."""
    found = [label for label in known if label in given]
    return found[0] if len(found) == 1 else None


def _labels_by_species(facts: ComponentFacts, kind: str) -> dict[str, str]:
    """Label by scientific name, or by common name; both in lower case."""
    if kind == "tax":
        return {" ".join(label.split()[-2:]).casefold(): label for label in facts.labels}
    return {label.casefold(): label for label in facts.labels}


def _species_label(recording: Recording, labels: Mapping[str, str], kind: str) -> str | None:
    if len(recording.species) != 1:
        return None
    names = recording.common_names if kind == "cmn" else recording.species
    return labels.get(names[0].casefold()) if names else None


def _candidates(
    facts: ComponentFacts, labelled: Sequence[tuple[Recording, str]], faults: list[str]
) -> Iterator[PlannedRow]:
    """Windows where the component has them, else the beginning of each recording."""
    for recording, label in labelled:
        whole = f"{recording.source}:{recording.id}"
        starts = [0.0]
        if facts.window is not None and facts.hop is not None:
            duration = _duration(recording, faults)
            # A recording that is shorter than a window is one, as it is.
            starts = windows(duration, facts.window, facts.hop) or [0.0] if duration else []
        for start in starts:
            yield PlannedRow(
                id=f"{facts.name}-{whole}-{start:g}",
                sound=recording.sound,
                start=start,
                end=start + (facts.longest or facts.window or 10.0),
                output=label,
                recording=f"{recording.source}:{recording.group or recording.id}",
                file_name=recording.file_name,
                license=recording.license,
                created_at=recording.date,
            )


def _duration(recording: Recording, faults: list[str]) -> float | None:
    """Seconds; None where the sound cannot be opened, which is a fault."""
    if not isinstance(recording.sound, FileSound):
        return recording.duration
    try:
        return audio_info(recording.sound.path).duration
    except AudioError as error:
        faults.append(f"{recording.source} {recording.file_name}: {error}")
        return None


def archive_names() -> tuple[str, ...]:
    """The archives that BEANS-Zero was made from."""
    return (XENO_CANTO, INATURALIST, ANIMAL_SOUND_ARCHIVE)


__all__ = ["Archives", "SourceError", "archive_names", "plan_archives", "read_archives"]
