"""Systems by name: what `--model` may say, and how it becomes something that can be asked."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from naturelm.bench.models.base import BenchAnswer, BenchItem, BenchModel, ModelInfo
from naturelm.bench.suites.suite import Suite
from naturelm.errors import NatureLMError


class SystemChoiceError(NatureLMError):
    """A system that cannot be found or opened; the text names the cure."""


class Ways(StrEnum):
    """How a closed set is answered."""

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
    device: str | None = None
    batch_size: int = 8
    corpus: Path | None = None
    """Whose training rows a floor learns from."""
    seed: int = 0
    time_limit: float = 600.0

    def settings(self) -> dict[str, Any]:
        """Plain values of what changes answers."""
        left_out = ("device", "batch_size", "time_limit")
        return {key: value if isinstance(value, int | float | None) else str(value)
                for key, value in asdict(self).items() if key not in left_out}  # fmt: skip


Opener = Callable[[str, Suite, SystemOptions], BenchModel]
"""From the path after `=` (empty for none), the suite that will be asked, and the options."""


def open_system(name: str, suite: Suite, options: SystemOptions) -> BenchModel:
    """A system by what `--model` says.

    `http://...` and `https://...` are servers; `NAME` and `NAME=PATH` the systems of `SYSTEMS`; `module:name` a Python
    class, factory, object or function of the operator's own; all else is a NatureLM-audio by built-in name, folder or
    hub id. Raises NatureLMError where it cannot be opened.
    """
    if name.startswith(("http://", "https://")):
        return _server(name, suite, options)
    own, _, path = name.partition("=")
    if own in SYSTEMS:
        return SYSTEMS[own](path, suite, options)
    if "=" in name and not Path(name).exists():
        raise SystemChoiceError(f"no system is called {own!r}; there are: {', '.join(sorted(SYSTEMS))}")
    module, colon, member = name.partition(":")
    if colon and not Path(name).exists() and module.replace(".", "_").isidentifier():
        return python_system(module, member)
    return _naturelm(name, suite, options)


def _naturelm(name: str, suite: Suite, options: SystemOptions) -> BenchModel:
    from naturelm.answer.engine import NatureLM
    from naturelm.bench.models.naturelm import NatureLMOptions, NatureLMSystem

    how = NatureLMOptions(
        generate=options.ways is not Ways.CHOOSE,
        choose=options.ways is not Ways.GENERATE,
        most_choices=options.most_choices,
        merging_alpha=options.merging_alpha,
    )
    model = NatureLM.from_pretrained(
        name, llm=options.llm, device=options.device, batch_size=options.batch_size
    )
    return NatureLMSystem(model, how)


def _server(name: str, suite: Suite, options: SystemOptions) -> BenchModel:
    raise SystemChoiceError(f"{name}: asking a server is not in this version")


SYSTEMS: Mapping[str, Opener] = {}
"""Systems that have a name of their own, beside NatureLM-audio."""


def python_system(module: str, member: str) -> BenchModel:
    """`module:member` of the operator's own, imported from the current folder or what is installed.

    A class or factory is called without arguments; a function of a batch is asked as it is, and may answer in plain
    texts. Raises SystemChoiceError where it cannot be imported or is none of these.
    """
    where = f"{module}:{member}"
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
        for part in member.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SystemChoiceError(
            f"{where}: cannot be imported ({error}); run in its folder or install it"
        ) from error
    if isinstance(found, type):
        found = found()
    if hasattr(found, "answer"):
        return found if hasattr(found, "info") else _Callable(where, found.answer)
    if not callable(found):
        raise SystemChoiceError(
            f"{where}: neither callable nor an object with `answer`; see bench/models/base.py"
        )
    return _Callable(where, found)


class _Callable:
    """A function of a batch as a system."""

    def __init__(self, name: str, call: Callable[[Sequence[BenchItem]], Sequence[Any]]) -> None:
        self._call = call
        self.info = ModelInfo(name, note="a Python callable")

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """As the function answers; texts are answers without scores."""
        return [BenchAnswer(one) if isinstance(one, str) else one for one in self._call(batch)]
