"""Runs side by side: a table and a plot with intervals, paired tests, and what others published."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from naturelm.bench.literature import PublishedFigure, published_figures
from naturelm.bench.running.journal import RunError
from naturelm.bench.running.runs import Run
from naturelm.bench.scoring.pairing import PairedTest, paired_tests
from naturelm.bench.scoring.run_scores import MAIN, ComponentScores, RunScores, score_run
from naturelm.bench.scoring.statistics import Figure
from naturelm.train.markdown import escaped, table

_COLOURS = ("#1b6ca8", "#e07a2f", "#3d7a6d", "#8d6a9f", "#b0413e", "#6b7a8f")
_BESIDE = ("Exact Match", "Accuracy (chosen)", "F1 (chosen)")
"""Shown below the main score where a run has them."""


@dataclass(frozen=True)
class Line:
    """One score of one component, of all runs."""

    dataset_name: str
    metric: str
    figures: tuple[Figure | None, ...]
    """In the order of the runs; None where a run has no such score."""
    published: tuple[PublishedFigure, ...]


@dataclass(frozen=True)
class RunComparison:
    """Some runs side by side."""

    names: tuple[str, ...]
    scores: tuple[RunScores, ...]
    lines: tuple[Line, ...]
    tests: tuple[PairedTest, ...]
    """Of each run after the first against the first."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "runs": [{"name": name, "system": of.system, "finished": of.finished, "notes": of.notes}
                     for name, of in zip(self.names, self.scores, strict=True)],
            "lines": [asdict(line) for line in self.lines],
            "tests": [test.to_dict() for test in self.tests],
        }  # fmt: skip


def compare_runs(runs: Sequence[Run], *, seed: int = 0) -> RunComparison:
    """Compare runs by what they share. seed: of bootstrap and swaps. Raises RunError for none."""
    if not runs:
        raise RunError("no run to compare; give the folders of one or more")
    names = _distinct([run.name for run in runs])
    scores = [score_run(run, seed=seed) for run in runs]
    tests = [
        test
        for run, name in zip(runs[1:], names[1:], strict=True)
        for test in paired_tests(run, runs[0], names=(name, names[0]), seed=seed)
    ]
    return RunComparison(tuple(names), tuple(scores), tuple(_lines(scores)), tuple(tests))


def _distinct(names: Sequence[str]) -> list[str]:
    """Folders of one name are told apart by a number."""
    return [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, 1)]


def _lines(scores: Sequence[RunScores]) -> list[Line]:
    tasks = {of.dataset_name: of.task for run in scores for of in run.components}
    found = []
    for name, task in tasks.items():
        own = [next((of for of in run.components if of.dataset_name == name), None) for run in scores]
        for metric in (MAIN[task], *_BESIDE):
            figures = tuple(None if of is None else _figure(of, metric) for of in own)
            told = tuple(of for of in published_figures() if (of.dataset_name, of.metric) == (name, metric))
            if any(figures):
                found.append(Line(name, metric, figures, told))
    return found


def _figure(of: ComponentScores, metric: str) -> Figure | None:
    """A score, with a note where rows have no answer: a 0 of a system that cannot be asked is another than one of errors."""
    figure = of.figure(metric)
    if figure is None or not of.failed:
        return figure
    return replace(figure, note="no answer" if of.failed == of.rows else f"{of.failed:,} without an answer")


def comparison_to_markdown(compared: RunComparison) -> str:
    """A page: the scores, the tests, where published figures come from."""
    parts = ["# Systems side by side", "\n".join(_about(compared))]
    headings = ("component", "metric", *compared.names, "published")
    parts.append(table(headings, [_cells(line) for line in compared.lines]))
    parts.append("Values with 95% intervals, for which recordings are drawn whole.")
    if compared.tests:
        rows = [
            (test.dataset_name, test.metric, f"{test.first} less {test.second}", f"{test.difference:+.3f}",
             f"{test.low:+.3f} to {test.high:+.3f}", f"{test.p:.4f}", f"{test.adjusted:.4f}", test.rows, test.verdict)
            for test in compared.tests
        ]  # fmt: skip
        parts += [
            "## Pairwise, on the rows that both answered",
            table(
                (
                    "component",
                    "metric",
                    "what",
                    "difference",
                    "95% interval",
                    "p",
                    "p (Holm)",
                    "rows",
                    "verdict",
                ),
                rows,
            ),
            "p: how often a difference as large comes when the two swap their answers to recordings at random.",
        ]
    sources = dict.fromkeys((of.source, of.url) for line in compared.lines for of in line.published)
    if sources:
        parts.append("Published: " + "; ".join(f"{escaped(source)} ({url})" for source, url in sources))
    return "\n\n".join(parts) + "\n"


def _about(compared: RunComparison) -> list[str]:
    lines = []
    for name, of in zip(compared.names, compared.scores, strict=True):
        told = [of.system.get(key, "") for key in ("name", "revision", "note")]
        notes = "".join(f"; {note}" for note in of.notes)
        lines.append(
            f"- **{escaped(name)}**: {escaped(', '.join(text for text in told if text))}{escaped(notes)}"
        )
    return lines


def _cells(line: Line) -> tuple[str, ...]:
    published = "; ".join(f"{of.value:.3f} ({of.system}, {of.setting})" for of in line.published)
    return line.dataset_name, line.metric, *(map(_cell, line.figures)), published


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    told = "" if figure.low is None else f"{figure.low:.3f} to {figure.high:.3f}"
    beside = "; ".join(text for text in (told, figure.note) if text)
    return f"{figure.value:.3f}" + (f" ({beside})" if beside else "")


def plot_comparison(compared: RunComparison, path: Path) -> None:
    """Draw the main score of each component, one mark a run with its interval, diamonds for published figures.

    path: PNG, SVG or PDF by its ending. Raises RunError where it cannot be written.
    """
    content = draw_comparison(compared, path.suffix.removeprefix(".").lower() or "png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error}); give another name") from error


def draw_comparison(compared: RunComparison, kind: str = "svg") -> bytes:
    """The plot as a file of a kind that matplotlib knows. Raises RunError for another."""
    from matplotlib.figure import Figure as Drawing  # here: comparing as text needs no matplotlib

    lines = [line for line in compared.lines if line.metric in MAIN.values()]
    drawing = Drawing(figsize=(9.0, 1.4 + 0.22 * len(lines) * (len(compared.names) + 1.0)))
    axes = drawing.add_subplot()
    step = 0.8 / max(1, len(compared.names))
    for number, name in enumerate(compared.names):
        colour = _COLOURS[number % len(_COLOURS)]
        shown = [(place, line.figures[number]) for place, line in enumerate(lines)]
        for place, figure in shown:
            if figure is None:
                continue
            height = place - 0.4 + step * (number + 0.5)
            scale = 10.0 if figure.name == "CIDEr" else 1.0
            if figure.low is not None and figure.high is not None:
                axes.plot(
                    [figure.low / scale, figure.high / scale], [height, height], color=colour, linewidth=1.4
                )
            axes.plot([figure.value / scale], [height], "o", color=colour, markersize=4)
        axes.plot([], [], "o-", color=colour, markersize=4, label=_plain(name))
    for place, line in enumerate(lines):
        for published in line.published:
            axes.plot([published.value], [place], "D", color="#222222", markersize=4, fillstyle="none")
    axes.set_yticks(
        range(len(lines)),
        [_plain(f"{line.dataset_name}: {_on_axis(line.metric)}") for line in lines],
        fontsize=8,
        parse_math=False,
    )
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if any(line.published for line in lines):
        axes.plot([], [], "D", color="#222222", markersize=4, fillstyle="none", label="published")
    legend = axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    buffer = BytesIO()
    try:
        metadata = {"Date": None} if kind == "svg" else None
        drawing.savefig(buffer, format=kind, bbox_inches="tight", dpi=150, metadata=metadata)
    except ValueError as error:
        raise RunError(
            f"a plot cannot be written as {kind!r}; give a name that ends in .png, .svg or .pdf"
        ) from error
    return buffer.getvalue()


def _on_axis(metric: str) -> str:
    return "CIDEr / 10" if metric == "CIDEr" else metric


def _plain(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:60]
