"""LibriTTS: 585 hours of audio books, sentence by sentence, 2,456 readers (Zen et al. 2019), CC BY.

Layout: `LibriTTS/<subset>/<speaker>/<chapter>/<utterance>.wav` with `<utterance>.normalized.txt` beside it,
and `LibriTTS/speakers.tsv` (or `SPEAKERS.txt`), as the archives unpack into each other. LibriTTS-R has
the same layout.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.files import Ids, sound_file, sound_names
from naturelm.corpus.sources.tables import existing_folder

NAME = "libritts"
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_SPEAKERS = ("speakers.tsv", "SPEAKERS.txt", "SPEAKERS.TXT", "speakers.txt")
_TRANSCRIPTS = (".normalized.txt", ".original.txt")
_SEX = {"f": "female", "m": "male"}


@dataclass(frozen=True)
class Source:
    """The subsets of LibriTTS that lie in `folder` (`LibriTTS`, or the folder that holds it)."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. An utterance without a transcript is given with an empty one."""
        folder = existing_folder(self.folder, "LibriTTS")
        folder = folder / "LibriTTS" if (folder / "LibriTTS").is_dir() else folder
        subsets = sorted(
            part.name for part in folder.iterdir() if part.is_dir() and part.name.split("-")[0] in _SPLITS
        )
        if not subsets:
            raise SourceError(f"{folder}: no subset such as train-clean-100; unpack one of LibriTTS there")
        sexes, failure = _read_sexes(folder)
        if failure:
            yield failure
        ids = Ids(NAME)
        for subset in subsets:
            for name in sound_names(folder / subset):
                yield _recording(folder, f"{subset}/{name}", sexes, ids)


def _recording(folder: Path, file_name: str, sexes: dict[str, str], ids: Ids) -> Recording | Failure:
    parts = file_name.split("/")
    if len(parts) != 4:
        return Failure(
            NAME, file_name, "not in <subset>/<speaker>/<chapter>/ like an utterance; move it there or away"
        )
    subset, speaker, chapter, _ = parts
    path = sound_file(NAME, folder, file_name, file_name)
    if isinstance(path, Failure):
        return path
    transcript = _transcript(path)
    if transcript is None:
        return Failure(NAME, file_name, "its transcript is not UTF-8 text; download it again")
    return ids.given_before(path.stem, file_name) or Recording(
        id=path.stem,
        source=NAME,
        sound=FileSound(path),
        file_name=file_name,
        license="CC-BY-4.0",
        kind="speech",
        sex=sexes.get(speaker, ""),
        count=1,
        transcript=transcript,
        recordist=speaker,
        group=f"{speaker}/{chapter}",
        split=_SPLITS[subset.split("-")[0]],
    )


def _transcript(sound: Path) -> str | None:
    """What is said, `""` where no transcript lies beside the sound, None where it cannot be read."""
    for suffix in _TRANSCRIPTS:
        path = sound.with_name(sound.stem + suffix)
        if path.is_file():
            try:
                return " ".join(path.read_text(encoding="utf-8-sig").split())
            except UnicodeDecodeError:
                return None
    return ""


def _read_sexes(folder: Path) -> tuple[dict[str, str], Failure | None]:
    """Sex by speaker id. The columns stand by their place: some copies' headers have lost their tabs."""
    path = next((folder / name for name in _SPEAKERS if (folder / name).is_file()), None)
    if path is None:
        return {}, Failure(NAME, "speakers.tsv", "not found: no speaker's sex is known; copy it there")
    sexes = {}
    # latin-1 reads any file; ids and sexes are ASCII, and the names of the speakers are not taken.
    for line in path.read_text(encoding="latin-1").splitlines():
        fields = [field.strip() for field in line.split("|" if "|" in line else "\t")]
        if len(fields) > 1 and fields[0].isdecimal() and fields[1].lower() in _SEX:
            sexes[fields[0]] = _SEX[fields[1].lower()]
    if not sexes:
        return {}, Failure(NAME, path.name, "names the sex (F, M) of no speaker; download it again")
    return sexes, None
