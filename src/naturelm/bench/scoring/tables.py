"""Scores of a run as Markdown and JSON."""

import json
from pathlib import Path

from naturelm.bench.running.journal import RunError
from naturelm.bench.scoring.run_scores import ComponentScores, RunScores
from naturelm.bench.scoring.statistics import Figure
from naturelm.corpus.storage import write_text
from naturelm.train.markdown import escaped, table

SCORES, TABLE = "scores.json", "scores.md"
_LEGEND = """\
The first scores of a component are BEANS-Zero's published metrics, of answers after they are matched to the nearest
label. `Exact Match` is the share right to the letter before that. `(chosen)` and `(scores)` are of the labels' scores:
the likeliest label, and how they rank. Intervals are 95%, for which recordings (`groups`) are drawn whole. Rows without
an answer (`failed`) count as wrong."""


def write_scores(scores: RunScores, out: Path) -> list[Path]:
    """Write `scores.json` and `scores.md`. Raises RunError where that fails."""
    files = [out / SCORES, out / TABLE]
    try:
        write_text(files[0], json.dumps(scores.to_dict(), indent=1, ensure_ascii=False) + "\n")
        write_text(files[1], scores_to_markdown(scores))
    except OSError as error:
        raise RunError(f"{out}: cannot be written to ({error}); free some space and go on") from error
    return files


def scores_to_markdown(scores: RunScores) -> str:
    """A page with a table of all scores."""
    rows = [
        (of.dataset_name, of.rows, of.groups, of.failed, figure.name, *figure_cells(figure))
        for of in scores.components
        for figure in of.figures
    ]
    headings = ("component", "rows", "groups", "failed", "metric", "value", "95% interval")
    parts = [f"# {escaped(scores.name)}: {escaped(system_text(scores))}", _LEGEND]
    parts += ["\n".join(f"- {escaped(note)}" for note in scores.notes)] if scores.notes else []
    parts.append(table(headings, rows))
    spreads = [_spread_cells(of) for of in scores.components if of.spread]
    if spreads:
        parts.append("The main score by wording of the question and order of the options:")
        parts.append(table(("component", "metric", "ways", "lowest", "highest", "each"), spreads))
    return "\n\n".join(parts) + "\n"


def system_text(scores: RunScores) -> str:
    """A system's name, revision, licence and note in one line."""
    values = [scores.system.get(key, "") for key in ("name", "revision", "license", "note")]
    return ", ".join(value for value in values if value)


def figure_cells(figure: Figure) -> tuple[str, str]:
    """Value and interval as text."""
    interval = "" if figure.low is None else f"{figure.low:.3f} to {figure.high:.3f}"
    return f"{figure.value:.3f}", interval


def _spread_cells(of: ComponentScores) -> tuple[str, ...]:
    values = of.spread.values()
    each = ", ".join(f"{name} {value:.3f}" for name, value in of.spread.items())
    return (
        of.dataset_name,
        of.main.name,
        str(len(of.spread)),
        f"{min(values):.3f}",
        f"{max(values):.3f}",
        each,
    )
