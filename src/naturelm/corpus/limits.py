"""Bounds of options, checked as soon as an option is given: the error names the key and what it may be."""

import math

from naturelm.errors import NatureLMError


class CorpusError(NatureLMError):
    """A corpus that cannot be built, opened or used as asked; names the file or key, and the cure."""


class OptionError(CorpusError, ValueError):
    """An option out of its bounds.

    A ValueError too, because pydantic, which reads options from files, puts the place of the key to those.
    """


def require(met: bool, key: str, allowed: str) -> None:
    """OptionError unless `met`; allowed: what the key may be, such as `must be 1 or more`."""
    if not met:
        raise OptionError(f"{key}: {allowed}")


def require_share(key: str, value: float) -> None:
    """OptionError unless `value` is between 0 and 1."""
    require(0 <= value <= 1, key, f"must be between 0 and 1, not {value:g}")


def require_positive(key: str, value: float) -> None:
    """OptionError unless `value` is a finite number above 0."""
    require(0 < value < math.inf, key, f"must be a number above 0, not {value:g}")


def require_range(key: str, values: tuple[float, float], least: float, most: float) -> None:
    """OptionError unless `values` are two numbers, the smaller one first, between `least` and `most`."""
    first, last = values
    require(
        least <= first <= last <= most,
        key,
        f"must be two numbers from {least:g} to {most:g}, the smaller one first, not {first:g} and {last:g}",
    )
