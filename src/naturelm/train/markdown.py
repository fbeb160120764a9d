"""Markdown out of text from outside, which can neither break a page nor pass for a part of it."""

import html
import math
import re
from collections.abc import Iterable, Sequence

Rows = Iterable[Sequence[object]]
_MARKUP = re.compile(r"([\\`*_{}\[\]|~#])")
_LONGEST_TEXT = 300


def table(headings: Sequence[str], rows: Rows) -> str:
    """A table whose cells are escaped."""
    lines = [headings, ["---"] * len(headings), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(value: object) -> str:
    """A text as one line without markup, and not endless; nothing for None."""
    return _MARKUP.sub(
        r"\\\1", html.escape(_one_line(str("" if value is None else value))[:_LONGEST_TEXT], quote=False)
    )


def code_block(line: str) -> str:
    """A block of one line, whose fence is longer than any that it holds."""
    shown = _one_line(line)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}\n{shown}\n{fence}"


def figure(value: object) -> str:
    """A number to read; nothing for what is no finite number."""
    known = finite(value)
    if known is None:
        return ""
    return f"{known:,.0f}" if known.is_integer() and abs(known) >= 1 else f"{known:.3g}"


def finite(value: object) -> float | None:
    """The value if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        known = float(value)
    except OverflowError:
        return None
    return known if math.isfinite(known) else None


def _one_line(value: str) -> str:
    return "".join(c for c in " ".join(value.split()) if c.isprintable())
