"""Options of a command: bounds that are checked when they are made, and the YAML files that hold them.

Used by every part that has options of its own. An error names the key and what it may be; the part says which
file it is in, and raises its own class of error.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from naturelm.errors import NatureLMError


class SettingError(NatureLMError, ValueError):
    """A key, or a file of keys, that is not as it must be.

    A ValueError too, because pydantic, which reads options from files, puts the place of the key to those.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key, why)
        self.key = key
        self.why = why

    def __str__(self) -> str:
        return f"{self.key}: {self.why}"


@dataclass(frozen=True)
class Limits:
    """Checks for `__post_init__`, which raise one part's own class of error."""

    error: type[SettingError]

    def require(self, met: bool, key: str, allowed: str) -> None:
        """The error unless `met`; allowed: what the key may be, such as `must be 1 or more`."""
        if not met:
            raise self.error(key, allowed)

    def require_share(self, key: str, value: float) -> None:
        """The error unless `value` is between 0 and 1."""
        self.require(0 <= value <= 1, key, f"must be between 0 and 1, not {value:g}")

    def require_positive(self, key: str, value: float) -> None:
        """The error unless `value` is a finite number above 0."""
        self.require(0 < value < math.inf, key, f"must be a number above 0, not {value:g}")

    def require_least(self, key: str, value: float, least: float) -> None:
        """The error unless `value` is a finite number, and `least` or more."""
        self.require(least <= value < math.inf, key, f"must be {least:g} or more, not {value:g}")

    def require_range(self, key: str, values: tuple[float, float], least: float, most: float) -> None:
        """The error unless `values` are two numbers, the smaller one first, between `least` and `most`."""
        first, last = values
        self.require(
            least <= first <= last <= most,
            key,
            f"must be two numbers from {least:g} to {most:g}, the smaller one first, not {first:g} and {last:g}",
        )

    def require_name(self, key: str, name: str) -> None:
        """The error unless `name` can be part of a file's name."""
        fit = name.isprintable() and not set("/\\") & set(name) and not name.startswith(".")
        self.require(fit, key, f"must be a plain name without slashes, not {name!r}")


def read_yaml(path: Path, cure: str) -> Any:
    """What a YAML file of plain values holds. SettingError names the file; cure: what to do if there is none."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingError(str(path), f"no such file; {cure}") from error
    except (OSError, ValueError) as error:  # ValueError: bad UTF-8 as well
        raise SettingError(str(path), f"not readable as YAML: {' '.join(str(error).split())}") from error


def parse_yaml(text: str) -> Any:
    """The value that is written as YAML, such as `3`, `1e-4`, `[a, b]` or `{a: 1}`. Raises ValueError."""
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def write_yaml(values: Any) -> str:
    """YAML that `parse_yaml` reads back equal. values: dicts, lists, texts, numbers and None."""
    return yaml.dump(values, Dumper=_PlainDumper, sort_keys=False, width=100)


def validated(kind: type, values: object, where: str = "") -> Any:
    """An instance of the dataclass `kind` from values as YAML has them.

    where: the key under which they stand. SettingError names the key that is wrong, and what is expected there.
    """
    for key, why in _misplaced(where, kind, values):
        raise SettingError(key, why)
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = where
        for part in problem["loc"]:
            key = f"{key}[{part}]" if isinstance(part, int) else _below(key, part)
        bound = problem.get("ctx", {}).get("error")
        if isinstance(bound, SettingError):
            raise SettingError(_below(key, bound.key), bound.why) from error
        raise SettingError(key, problem["msg"]) from error


class _PlainLoader(yaml.SafeLoader):
    """YAML of plain values, in which no key is given twice: of two, the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        given: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in given:
                    cause = f"the key {key.value!r} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, cause, key.start_mark)
                given.add(key.value)
        return super().construct_mapping(node, deep)


class _PlainDumper(yaml.SafeDumper):
    """The other way round."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# PyYAML follows YAML 1.1, to which `1e-4` is a text. Both sides must know it, so that the text "1e-4" gets quotes.
for _side in (_PlainLoader, _PlainDumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
    )


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _misplaced(where: str, hint: Any, value: object) -> Iterator[tuple[str, str]]:
    """Keys that are unknown, and `true` where a number belongs: pydantic would let both pass."""
    if get_origin(hint) in {Union, UnionType}:
        inner = [kind for kind in get_args(hint) if kind is not type(None)]
        if len(inner) == 1:
            yield from _misplaced(where, inner[0], value)
    elif dataclasses.is_dataclass(hint) and isinstance(value, dict):
        hints = get_type_hints(hint)
        known = [entry.name for entry in dataclasses.fields(hint) if entry.init]
        for name, given in value.items():
            if name not in known:
                yield _below(where, str(name)), f"there is no such key; there are: {', '.join(known)}"
            else:
                yield from _misplaced(_below(where, name), hints[name], given)
    elif get_origin(hint) is tuple and isinstance(value, list):
        for number, given in enumerate(value):
            yield from _misplaced(f"{where}[{number}]", get_args(hint)[0], given)
    elif get_origin(hint) is dict and isinstance(value, dict):
        for name, given in value.items():
            yield from _misplaced(_below(where, str(name)), get_args(hint)[1], given)
    elif isinstance(value, bool) and hint in {int, float}:
        yield where, f"must be a number, not {str(value).lower()}"
