"""Pictures of what is in a corpus. Figures are made without pyplot, which keeps state of its own."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from naturelm.corpus.options import CorpusError
from naturelm.corpus.schema import SPLITS
from naturelm.corpus.stats import CorpusStatistics, Group, hours_text

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
_SPLIT_COLOURS = {"train": "#1b6ca8", "validation": "#8d6a9f", "test": "#e07a2f"}
_PLAIN_COLOUR = "#3d7a6d"
_LARGEST_TAXA = 30


def plot_statistics(statistics: CorpusStatistics, path: Path) -> None:
    """Draw pairs and hours by source, by task and of the 30 largest taxa, as PNG, SVG or PDF by the suffix."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise CorpusError(
            f"{path}: no picture is written as {path.suffix!r}; end the name with {', '.join(PLOT_SUFFIXES)}"
        )
    taxa = statistics.taxa.groups
    of_sources: dict[str, dict[str, Group]] = {}
    for group in statistics.sources.groups:
        of_sources.setdefault(group.key[1], {})[group.key[0]] = group
    panels = [
        ("by source", of_sources),
        ("by task", {group.key[0]: {"": group} for group in statistics.tasks.groups}),
        (
            f"by taxon, the {_LARGEST_TAXA} largest of {len(taxa):,}"
            if len(taxa) > _LARGEST_TAXA
            else "by taxon",
            {_taxon_name(*group.key): {"": group} for group in taxa[:_LARGEST_TAXA]},
        ),
    ]
    panels = [(title, bars) for title, bars in panels if bars]
    if not panels:
        raise CorpusError(f"{statistics.name}: an empty corpus; there is nothing to draw")
    heights = [0.24 * len(bars) + 0.9 for _, bars in panels]
    figure = Figure(figsize=(12, sum(heights) + 0.9), dpi=120, layout="constrained")
    total = statistics.total
    figure.suptitle(
        f"{statistics.name}: {total.pairs:,} pairs, {hours_text(total.hours)} hours",
        fontsize=13,
        parse_math=False,
    )
    grid = figure.add_gridspec(len(panels), 2, height_ratios=heights)
    for row, (title, bars) in enumerate(panels):
        for column, unit in enumerate(("pairs", "hours")):
            axes = figure.add_subplot(grid[row, column])
            _draw_bars(axes, bars, unit)
            axes.set_title(f"{unit} {title}", fontsize=10, loc="left")
            if column:
                axes.tick_params(labelleft=False)  # the names stand at the left
    try:
        figure.savefig(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror}); give another name") from error


def _draw_bars(axes: Axes, bars: Mapping[str, Mapping[str, Group]], unit: str) -> None:
    """Horizontal bars with their values; a bar is stacked of its splits, where it has some."""
    names = list(bars)
    heights = np.arange(len(names))
    ends = np.zeros(len(names))
    for split in ("", *SPLITS):
        sizes = np.array(
            [getattr(bars[name][split], unit) if split in bars[name] else 0 for name in names], float
        )
        if sizes.any():
            colour = _SPLIT_COLOURS.get(split, _PLAIN_COLOUR)
            axes.barh(heights, sizes, left=ends, height=0.72, color=colour, label=split or None)
            ends += sizes
    for height, end in zip(heights, ends, strict=True):
        text = f"{end:,.0f}" if unit == "pairs" else hours_text(end)
        axes.annotate(text, (end, height), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(heights, [_shortened(name, 60) for name in names], fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, max(float(ends.max()), 1e-9) * 1.14)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    if any(split in of for of in bars.values() for split in SPLITS):
        axes.legend(fontsize=8, frameon=False, loc="lower right")


def _taxon_name(scientific: str, common: str) -> str:
    return f"{common} ({scientific})" if common else scientific


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
