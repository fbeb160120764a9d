"""Pictures of a training run, as SVG. Figures are made without pyplot, which keeps state of its own."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from naturelm.corpus.show import printable

Floats = npt.NDArray[np.float64]

TRAINING_COLOUR = "#1b6ca8"
EVALUATION_COLOUR = "#e07a2f"
WHOLE_ANSWERS_COLOUR = "#5b8c3a"
PART_STYLES = (("#1b6ca8", "-"), ("#e07a2f", "--"), ("#3d7a6d", ":"), ("#8d6a9f", "-."))
"""Colours and lines that can be told apart where they lie on each other."""
_WIDTH = 10.8
_LEFT, _RIGHT, _ABOVE, _BELOW, _LEGEND = 0.62, 0.12, 0.3, 0.42, 0.32
"""Inches around a panel, and those that the legend takes."""
_POINTS_OF_A_FIGURE = 4500
_LEAST_POINTS, _MOST_POINTS = 50, 200
_MARKED_POINTS = 30
"""Curves of no more points have them marked."""
_WIDE_RANGE = 20
"""If the largest value of a panel is so many times its smallest, the figure's scales are logarithmic."""
_PATH = re.compile(rb' d="[^"]*"')
_DECIMALS = re.compile(rb"(\.\d)\d+")
"""More than one digit after the point is less than can be seen, and most of a page's size."""
_CELL = 0.27
"""Inches of a confusion matrix's cell."""
_LETTER = 0.072
"""Inches of a letter at size 8, about."""


@dataclass(frozen=True)
class Curve:
    """Values by step."""

    label: str
    colour: str
    steps: Floats
    """(points,) increasing."""
    values: Floats
    """(points,) finite."""
    weights: Floats
    """(points,) what each counts in a mean, above 0."""
    style: str = "-"
    """Of the line, as matplotlib has it."""


@dataclass(frozen=True)
class Panel:
    """Some curves over one another."""

    title: str
    curves: tuple[Curve, ...]
    share: bool = False
    """Whether the values are shares, 0 to 1."""


def draw_panels(panels: Sequence[Panel], *, columns: int, height: float) -> str:
    """Panels in rows of `columns`, each `height` inches, as a data URI of an SVG image.

    A long curve is thinned out: a point is then the weighted mean of a stretch of steps, and the stretch's
    smallest and largest value bound a pale band.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    labels = {printable(curve.label) for panel in panels for curve in panel.curves}
    head = _LEGEND if len(labels) > 1 else 0.0
    total = head + rows * (height + _ABOVE + _BELOW)
    width = _WIDTH / columns
    figure = Figure(figsize=(_WIDTH, total))
    most = _POINTS_OF_A_FIGURE // sum(len(panel.curves) for panel in panels)
    most = min(max(most, _LEAST_POINTS), _MOST_POINTS)
    logarithmic = any(map(_is_wide, panels)) and not any(map(_has_no_logarithm, panels))
    drawn: dict[str, Line2D] = {}
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left = column * width + _LEFT
        bottom = total - head - (row + 1) * (height + _ABOVE + _BELOW) + _BELOW
        axes = figure.add_axes(
            (left / _WIDTH, bottom / total, (width - _LEFT - _RIGHT) / _WIDTH, height / total)
        )
        for curve in panel.curves:
            drawn.setdefault(printable(curve.label), _draw_curve(axes, curve, most))
        _style(axes, panel, letters=round((width - _LEFT) / _LETTER), logarithmic=logarithmic)
    if head:
        legend = figure.legend(
            list(drawn.values()), list(drawn), loc="upper left", ncols=6, fontsize=8, frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return _svg(figure)


def _is_wide(panel: Panel) -> bool:
    values = _values(panel)
    return not panel.share and len(values) > 0 and values.max() > _WIDE_RANGE * values.min()


def _has_no_logarithm(panel: Panel) -> bool:
    return panel.share or bool((_values(panel) <= 0).any())


def _values(panel: Panel) -> Floats:
    return np.concatenate([np.empty(0), *(curve.values for curve in panel.curves)])


def _draw_curve(axes: Axes, curve: Curve, most: int) -> Line2D:
    steps, means, lows, highs = _thinned(curve, most)
    if len(steps) < len(curve.steps):
        axes.fill_between(steps, lows, highs, color=curve.colour, alpha=0.16, linewidth=0)
    marker = "o" if len(steps) <= _MARKED_POINTS else None
    return axes.plot(
        steps, means, curve.style, color=curve.colour, linewidth=1.2, marker=marker, markersize=2.5
    )[0]


def _thinned(curve: Curve, most: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Steps, means, smallest and largest values of at most `most` stretches."""
    count = len(curve.steps)
    if count <= most:
        return curve.steps, curve.values, curve.values, curve.values
    starts = np.linspace(0, count, most, endpoint=False).astype(np.int64)
    weights = np.add.reduceat(curve.weights, starts)
    return (
        np.add.reduceat(curve.steps * curve.weights, starts) / weights,
        np.add.reduceat(curve.values * curve.weights, starts) / weights,
        np.minimum.reduceat(curve.values, starts),
        np.maximum.reduceat(curve.values, starts),
    )


def _style(axes: Axes, panel: Panel, *, letters: int, logarithmic: bool) -> None:
    axes.set_title(_shortened(panel.title, letters), fontsize=8.5, loc="left", y=1.0, parse_math=False)
    axes.tick_params(labelsize=7.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(max(3, letters // 12), integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if panel.share:
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.5, 1], ["0", "50%", "100%"])
    elif logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter("{x:g}")


def draw_confusion(labels: Sequence[str], counts: npt.NDArray[np.int64]) -> str:
    """A heat map of counts, (labels, labels): rows are what is heard, columns what was written; as a data URI.

    Colour is the share of the row, so that species with few pairs are seen as well as those with many.
    """
    names = [_shortened(label, 40) for label in labels]
    room = max(map(len, names)) * _LETTER + 0.3
    side = len(names) * _CELL
    width, height = room + side + 0.2, room + side + 0.2
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((room / width, 0.2 / height, side / width, side / height))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(counts), strict=True):
        axes.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if shares[row, column] > 0.55 else "#333333",
        )
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_color("#cccccc")
    return _svg(figure)


def _shortened(text: str, most: int) -> str:
    """A text from outside that fits; control characters, which have no place in SVG, are escaped."""
    line = printable(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _svg(figure: Figure) -> str:
    """An image apart from the page: nothing in it can act on the page, or be mistaken for a part of it."""
    buffer = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "naturelm"}):  # the same run, the same page
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    image = _PATH.sub(lambda path: _DECIMALS.sub(rb"\1", path[0]), buffer.getvalue())
    return f"data:image/svg+xml;base64,{base64.b64encode(image).decode()}"
