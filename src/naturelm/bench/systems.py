"""A system by what `--model` says: one that is registered, a server, a function, or a NatureLM-audio."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from naturelm.bench.models.base import BenchModel
from naturelm.bench.models.registry import Surroundings, UnknownSystemError, open_registered
from naturelm.bench.suites.suite import Suite
from naturelm.errors import NatureLMError

FEW_CHOICES = 50
"""Labels of the largest closed set that is scored of a corpus's own components: a larger one takes a CPU a second a row."""
MANY_ROWS = 256
"""Of a corpus's own components, asked together: their clips are short, and a CPU computes more of them faster."""


class Ways(StrEnum):
    """How NatureLM-audio answers where there is a closed set."""

    BOTH = "both"
    GENERATE = "generate"
    CHOOSE = "choose"


@dataclass(frozen=True)
class SystemOptions:
    """What a system can be told. Those that have no use for an option leave it alone."""

    ways: Ways = Ways.BOTH
    most_choices: int = 300
    """Labels of the largest closed set that is scored."""
    merging_alpha: float = 1.0
    llm: str | None = None
    corpus: Path | None = None
    """Whose training rows a floor learns from."""
    seed: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of a registered system's own, as they are typed."""
    device: str | None = None
    batch_size: int = 32

    def to_dict(self) -> dict[str, Any]:
        """Plain values of what changes answers."""
        values = {
            **asdict(self),
            "ways": self.ways.value,
            "corpus": None if self.corpus is None else str(self.corpus),
        }
        return {key: value for key, value in values.items() if key not in {"device", "batch_size"}}


def read_settings(texts: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` texts. Raises UnknownSystemError for one without a key or `=`."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UnknownSystemError(f"--set {text!r}: write it as KEY=VALUE")
        settings[key] = value
    return settings


def open_system(name: str, suite: Suite, options: SystemOptions) -> BenchModel:
    """A system, loaded. Raises NatureLMError where it cannot be opened or has no such setting."""
    around = Surroundings(
        corpus=options.corpus,
        answers=lambda: ((row.dataset_name, row.output) for row in suite.rows),
        seed=options.seed,
        device=options.device,
        settings=options.settings,
    )
    registered = open_registered(name, around)
    return registered or _naturelm(name, options)


def _naturelm(name: str, options: SystemOptions) -> BenchModel:
    if options.settings:
        raise UnknownSystemError(
            f"{name} is a NatureLM-audio, which has options and no --set {next(iter(options.settings))}"
        )
    from naturelm.answer.engine import NatureLM
    from naturelm.bench.models.naturelm import NatureLMOptions, NatureLMSystem

    how = NatureLMOptions(
        generate=options.ways is not Ways.CHOOSE,
        choose=options.ways is not Ways.GENERATE,
        most_choices=options.most_choices,
        merging_alpha=options.merging_alpha,
    )
    try:
        model = NatureLM.from_pretrained(
            name, llm=options.llm, device=options.device, batch_size=options.batch_size
        )
    except NatureLMError as error:
        raise UnknownSystemError(
            f"--model {name}: {error} (`naturelm bench systems` lists what else there is)"
        ) from error
    return NatureLMSystem(model, how)
