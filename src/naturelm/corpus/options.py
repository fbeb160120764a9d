"""What a corpus is built from and how: the options, and the YAML file that holds them."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from naturelm.corpus.library import Novelty
from naturelm.corpus.limits import CorpusError, require, require_name, require_positive, require_share
from naturelm.corpus.scene import SceneOptions
from naturelm.corpus.sources import ArchiveSource, SourceError, source_type
from naturelm.settings import SettingError, read_yaml, validated

__all__ = ["BuildOptions", "Copies", "CorpusError", "Realm", "Share", "Split", "SplitOptions", "load_options"]

Realm = Literal["any", "real", "invented"]
Split = Literal["train", "validation", "test"]
Copies = Literal["sound", "samples"]


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
    seconds: float | None = None
    """No clip of the share is longer; as the split's scenes have it if None."""
    plain: bool = False
    """Whether clips are left as they were recorded: no noise is laid under them, nothing is changed."""

    def __post_init__(self) -> None:
        """Raises OptionError for a value that makes no sense."""
        require(bool(self.task), "task", "must not be empty")
        require(self.pairs is None or self.pairs >= 0, "pairs", f"must be 0 or more, not {self.pairs}")
        if self.seconds is not None:
            require_positive("seconds", self.seconds)
        require_name("dataset_name", self.dataset_name)

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

    def __post_init__(self) -> None:
        """Raises OptionError for a value that makes no sense."""
        for key in ("species_share", "genera_share", "families_share", "test_share", "validation_share"):
            require_share(key, getattr(self, key))
        both = self.test_share + self.validation_share
        require(both <= 1, "validation_share", f"must be 1 or less with `test_share`, not {both:g}")


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
    copies: Copies = "sound"
    """How copies of a recording are found. By `sound`: re-encoded, louder, noisier or in part; takes 7 MB of memory
    for each hour of recordings. By `samples`: only what is equal sample for sample, of any amount of recordings."""
    pairs_per_shard: int = 512
    created_at: str = ""
    """The `created_at` column. Not the clock's time: the same input gives the same bytes."""

    def __post_init__(self) -> None:
        """Raises OptionError for a value that makes no sense."""
        require(bool(self.name), "name", "must not be empty")
        require_name("name", self.name)
        require(bool(self.shares), "shares", "must list what pairs to make, such as `- task: species-common`")
        require(self.seed >= 0, "seed", f"must be 0 or more, not {self.seed}")
        require_positive("most_seconds", self.most_seconds)
        require_positive("event_window", self.event_window)
        require(
            self.pairs_per_shard >= 1, "pairs_per_shard", f"must be 1 or more, not {self.pairs_per_shard}"
        )

    def scenes(self, split: str) -> SceneOptions:
        """Options for the clips of a split."""
        return self.train_scenes if split == "train" else self.test_scenes


def load_options(path: Path) -> BuildOptions:
    """Read a build's YAML file. CorpusError names the key that is wrong, and what is expected there."""
    try:
        values = read_yaml(path, "give a YAML file (see docs/corpus.md), or `starter`")
    except SettingError as error:
        raise CorpusError(str(error)) from error
    if not isinstance(values, dict):
        raise CorpusError(f"{path}: expected keys such as `name:`, `sources:` and `shares:`")
    sources = values.pop("sources", None)
    if not isinstance(sources, list) or not sources:
        raise CorpusError(f"{path}: `sources` lists the archives, each with `source:` and `folder:`")
    try:
        made = tuple(_source(path, number, given) for number, given in enumerate(sources))
        read: _BuildFile = validated(_BuildFile, values)
    except SettingError as error:
        raise CorpusError(f"{path}: {error}") from error
    fields = {field.name: getattr(read, field.name) for field in dataclasses.fields(BuildOptions)}
    return BuildOptions(**{**fields, "sources": made})


@dataclass(frozen=True)
class _BuildFile(BuildOptions):
    """The file's own fields: sources are read apart, each by its type."""

    sources: tuple[Any, ...] = ()


def _source(path: Path, number: int, given: object) -> ArchiveSource:
    where = f"sources[{number}]"
    if not isinstance(given, dict) or not isinstance(given.get("source"), str):
        raise CorpusError(f"{path}: {where} needs a key `source` with the archive's name")
    fields = {name: value for name, value in given.items() if name != "source"}
    try:
        kind = source_type(given["source"])
    except SourceError as error:
        raise SettingError(f"{where}.source", str(error)) from error
    source: ArchiveSource = validated(kind, fields, where)
    return source
