"""Anyone's own system: a Python function of the user's, named as `module:function`.

The function takes a list of `BenchItem` and gives as many answers in their order, each a text or a `BenchAnswer`:

    def shortest(batch):
        return [min(item.labels, key=len) for item in batch]

A dotted name after the colon finds an attribute of a class or an object. An object with a method `answer` is asked by
it, and a class is made without arguments first: what keeps the contract of `BenchModel` fits as it is. What has an
attribute `info` of type `ModelInfo` is named by it.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.deciding import SystemFault, one_each, one_line
from naturelm.errors import NatureLMError

Answerer = Callable[[list[BenchItem]], Iterable[BenchAnswer | str]]
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class CallableSystem:
    """A function as a system."""

    def __init__(self, function: Answerer, name: str) -> None:
        """name: what errors and, unless the function has an `info`, results call it."""
        # Of an object that keeps the whole contract, the method is asked and the object is named.
        self._owner: Any = function
        self._function = getattr(function, "answer", function)
        self._name = name

    @classmethod
    def named(cls, name: str) -> "CallableSystem":
        """name: `module:function`, of a module that is installed or in the current folder. Raises SystemFault."""
        return cls(_imported(name), name)

    @property
    def info(self) -> ModelInfo:
        """The function's own `info`, or its name."""
        own = getattr(self._owner, "info", None)
        return own if isinstance(own, ModelInfo) else ModelInfo(self._name)

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """Raises SystemFault where the function raises, gives too few or too many answers, or other things."""
        try:
            given = list(self._function(list(batch)))
        except NatureLMError:
            raise
        except Exception as error:
            raise SystemFault(f"{self._name} raised {type(error).__name__}: {one_line(error)}") from error
        return one_each([self._read(answer) for answer in given], batch, self._name)

    def _read(self, answer: Any) -> BenchAnswer:
        if isinstance(answer, str):
            return BenchAnswer(answer)
        if isinstance(answer, BenchAnswer) and isinstance(answer.prediction, str):
            return answer
        raise SystemFault(
            f"{self._name} gave a {type(answer).__name__}; an answer is a text or a BenchAnswer"
        )


def _imported(name: str) -> Answerer:
    if not _NAME.fullmatch(name):
        raise SystemFault(f"{name!r} names no function; write it as module:function")
    module_name, _, path = name.partition(":")
    here = os.getcwd()  # noqa: PTH109  # as it stands in sys.path
    if here not in sys.path:
        # Last, so that a file here that is called like an installed package does not take its place.
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SystemFault(
            f"{name}: no module {error.name!r} here or installed; go to its folder, or put that into PYTHONPATH"
        ) from error
    except Exception as error:  # whatever the module does when it is imported
        raise SystemFault(f"{name}: {module_name} cannot be imported ({one_line(error)})") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise SystemFault(f"{name}: {module_name} has no {path!r}") from error
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise SystemFault(f"{name} cannot be made without arguments ({one_line(error)})") from error
    if not callable(getattr(found, "answer", found)):
        raise SystemFault(
            f"{name} is a {type(found).__name__}, neither a function nor an object with `answer`"
        )
    return found
