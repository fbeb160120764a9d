"""What a corpus is built from and how: the options, and the YAML file that holds them."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from naturelm.corpus.library import Novelty
from naturelm.corpus.scene import SceneOptions
from naturelm.corpus.sources import ArchiveSource, source_type
from naturelm.errors import NatureLMError

Realm = Literal["any", "real", "invented"]
Split = Literal["train", "validation", "test"]


class CorpusError(NatureLMError):
    """A corpus that cannot be built, opened or used as asked; names the file or key, and the cure."""


@dataclass(frozen=True)
class Share:
    """Some pairs of one task."""

    task: str
    pairs: int | None = None
    """How many; None for one of every recording that fits."""
    split: Split = "train"
    dataset_name: str = ""
    """The component that held-out rows are scored under; the task's name if empty."""
    realm: Realm = "any"
    novelty: tuple[Novelty, ...] = ()
    """Only recordings so far from the training split's taxa; any if empty."""
    sources: tuple[str, ...] = ()
    """Only recordings of these sources; any if empty."""
    plain: bool = False
    """Whether clips are left as they were recorded: no noise is laid under them, nothing is changed."""

    @property
    def name(self) -> str:
        """Unique in a build: the seed of its pairs comes from it."""
        return "/".join(
            (self.split, self.dataset_name or self.task, self.task, self.realm, *self.novelty, *self.sources)
        )


@dataclass(frozen=True)
class SplitOptions:
    """What is kept out of training, and how."""

    species: tuple[str, ...] = ()
    """Held-out species by any name that the taxonomy knows."""
    genera: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    species_share: float = 0.0
    """Share of the species that is held out by chance, besides those named."""
    genera_share: float = 0.0
    families_share: float = 0.0
    chance_sources: tuple[str, ...] = ()
    """Taxa are held out by chance only among those of these sources; any if empty."""
    test_share: float = 0.1
    """Share of the remaining recordings, taken by whole groups."""
    validation_share: float = 0.02
    recordists_apart: bool = True
    """Whether all recordings by one person are in one split."""
    archive_splits: bool = True
    """Whether an archive's own split is kept to."""


@dataclass(frozen=True)
class BuildOptions:
    """A whole corpus."""

    name: str
    shares: tuple[Share, ...]
    sources: tuple[ArchiveSource, ...] = ()
    seed: int = 0
    taxonomy: tuple[Path, ...] = ()
    """GBIF backbone, eBird/Clements list or table in our own format, the first that knows a name wins; the
    built-in table is asked last."""
    splits: SplitOptions = field(default_factory=SplitOptions)
    train_scenes: SceneOptions = field(default_factory=SceneOptions)
    test_scenes: SceneOptions = field(default_factory=SceneOptions)
    """Of validation and test."""
    most_seconds: float = 120.0
    """Of each recording only so much is used, from its beginning."""
    event_window: float = 10.0
    """Longer recordings with annotated events are cut into windows of so many seconds."""
    pairs_per_shard: int = 512
    created_at: str = ""
    """The `created_at` column. Not the clock's time: the same input gives the same bytes."""

    def scenes(self, split: str) -> SceneOptions:
        """Options for the clips of a split."""
        return self.train_scenes if split == "train" else self.test_scenes


def load_options(path: Path) -> BuildOptions:
    """Read a build's YAML file. CorpusError names the key that is wrong, and what is expected there."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorpusError(
            f"{path}: no such file; give a YAML file (see docs/corpus.md), or `starter`"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CorpusError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise CorpusError(f"{path}: expected keys such as `name:`, `sources:` and `shares:`")
    sources = values.pop("sources", None)
    if not isinstance(sources, list) or not sources:
        raise CorpusError(f"{path}: `sources` lists the archives, each with `source:` and `folder:`")
    made = tuple(_source(path, number, given) for number, given in enumerate(sources))
    options: BuildOptions = _validated(path, "", _BuildFile, values)
    return dataclasses.replace(options, sources=made)


@dataclass(frozen=True)
class _BuildFile(BuildOptions):
    """The file's own fields: sources are read apart, each by its type."""

    sources: tuple[Any, ...] = ()


def _source(path: Path, number: int, given: object) -> ArchiveSource:
    where = f"sources[{number}]"
    if not isinstance(given, dict) or not isinstance(given.get("source"), str):
        raise CorpusError(f"{path}: {where} needs a key `source` with the archive's name")
    fields = {name: value for name, value in given.items() if name != "source"}
    source: ArchiveSource = _validated(path, where, source_type(given["source"]), fields)
    return source


def _validated(path: Path, where: str, kind: type, values: dict[str, object]) -> Any:
    known = {entry.name for entry in dataclasses.fields(kind)}
    unknown = sorted(str(name) for name in set(values) - known)
    if unknown:
        raise CorpusError(
            f"{path}: {where or 'the file'} has no key {', '.join(unknown)}; it has: {', '.join(sorted(known))}"
        )
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in (where, *problem["loc"]) if part != "")
        raise CorpusError(f"{path}: {key}: {problem['msg']}") from error
