"""VCTK: about 400 sentences by each of 110 speakers of English (Yamagishi et al. 2019).

Layout of 0.92, CC BY: `wav48_silence_trimmed/p225/p225_001_mic1.flac` (two microphones),
`txt/p225/p225_001.txt`, `speaker-info.txt`. Layout of 0.80, ODC-By: `wav48/p225/p225_001.wav`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.files import sound_file, sound_names, without_suffix
from naturelm.corpus.sources.tables import existing_folder

NAME = "vctk"
_LICENSES = {"wav48_silence_trimmed": "CC-BY-4.0", "wav48": "ODC-By-1.0"}
_PLACES = ("", "VCTK-Corpus-0.92", "VCTK-Corpus")
_MICROPHONE = re.compile(r"_mic[12]$")
_SEX = {"F": "female", "M": "male"}


@dataclass(frozen=True)
class Source:
    """VCTK as it unpacks, of the newer release where both lie in `folder`."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`.

        One recording an utterance: by the first microphone, and by the second only where the first is
        missing. All that a speaker reads is one group: it is one session in one room. Where the
        archive has no text (p315), the transcript is empty.
        """
        given = existing_folder(self.folder, "VCTK")
        places = [(given / place, part) for part in _LICENSES for place in _PLACES]
        found = [(folder, part) for folder, part in places if (folder / part).is_dir()]
        if not found:
            raise SourceError(f"{given}: neither wav48_silence_trimmed nor wav48; unpack VCTK there")
        folder, part = found[0]
        sexes, failure = _read_sexes(folder)
        if failure:
            yield failure
        # mic1 sorts before mic2, and a plain name before both.
        taken: dict[str, str] = {}
        for name in sound_names(folder / part):
            taken.setdefault(_MICROPHONE.sub("", without_suffix(name)), name)
        for utterance, name in taken.items():
            yield _recording(folder, part, utterance, name, sexes)


def _recording(
    folder: Path, part: str, utterance: str, name: str, sexes: dict[str, str]
) -> Recording | Failure:
    file_name = f"{part}/{name}"
    if utterance.count("/") != 1:
        return Failure(NAME, file_name, "not in a speaker's folder; move it there or away")
    speaker, id = utterance.split("/")
    path = sound_file(NAME, folder, file_name, file_name)
    if isinstance(path, Failure):
        return path
    if not id.startswith(f"{speaker}_"):
        return Failure(NAME, file_name, f"its name is not that of an utterance by {speaker}; move it away")
    text = folder / "txt" / f"{utterance}.txt"
    try:
        transcript = " ".join(text.read_text(encoding="utf-8-sig").split()) if text.is_file() else ""
    except UnicodeDecodeError:
        return Failure(NAME, f"txt/{utterance}.txt", "not UTF-8 text; download it again")
    return Recording(
        id=id,
        source=NAME,
        sound=FileSound(path),
        file_name=file_name,
        license=_LICENSES[part],
        kind="speech",
        sex=sexes.get(speaker.removeprefix("p"), ""),
        count=1,
        transcript=transcript,
        recordist=speaker,
        group=speaker,
    )


def _read_sexes(folder: Path) -> tuple[dict[str, str], Failure | None]:
    """Sex by speaker number. Columns are blanks wide; the older release writes `225` for p225."""
    path = folder / "speaker-info.txt"
    if not path.is_file():
        return {}, Failure(NAME, path.name, "not found: no speaker's sex is known; copy it there")
    sexes = {}
    # latin-1 reads any file; numbers and sexes are ASCII, and accents and places are not taken.
    for line in path.read_text(encoding="latin-1").splitlines():
        speaker, _age, sex = [*line.split()[:3], "", "", ""][:3]
        if sex in _SEX:
            sexes[speaker.removeprefix("p")] = _SEX[sex]
    if not sexes:
        return {}, Failure(NAME, path.name, "names the sex (F, M) of no speaker; download it again")
    return sexes, None
