"""A page about a run: scores, who is taken for whom, and the hardest rows to listen to, in one HTML file.

The page needs nothing from elsewhere and runs no code. Names, questions and answers come from data and from systems, so
they are escaped wherever they stand.
"""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import soundfile as sf

from naturelm.bench.comparing_runs import compare_runs, draw_comparison
from naturelm.bench.literature import published_figures
from naturelm.bench.published import (
    CAPTIONING,
    CLASSIFICATION,
    DETECTION,
    cider_by_row,
    detected_classes,
    matched_rows,
    presence,
)
from naturelm.bench.running.journal import RunError, RunRow
from naturelm.bench.running.runs import Run
from naturelm.bench.scoring.run_scores import RunScores, by_component, predictions_of
from naturelm.bench.scoring.tables import figure_cells, system_text
from naturelm.bench.suites.suite import Suite
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.show import printable
from naturelm.corpus.storage import write_text
from naturelm.errors import AudioError, NatureLMError
from naturelm.train.report_plots import draw_confusion

_MOST_LABELS = 30
"""Of a confusion matrix that is drawn."""
_MOST_CLASSES = 60
_LONGEST_TEXT = 600
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1060px; margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2.2em; } h3 { font-size: 1em; margin: 1.4em 0 0.2em; }
.note { color: #555; } .wrong { color: #a3260b; } .right { color: #2d6a2e; }
table { border-collapse: collapse; font-size: 0.9em; margin: 0.6em 0 1.2em; }
th, td { text-align: left; vertical-align: top; padding: 0.25em 0.9em 0.25em 0; border-bottom: 1px solid #e4e4e4; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; } td { overflow-wrap: anywhere; }
img { max-width: 100%; display: block; } audio { display: block; margin: 0.4em 0; }
.row { border-left: 3px solid #ddd; padding-left: 1em; margin: 1.4em 0; }
"""


@dataclass(frozen=True)
class HardRow:
    """A row that was answered wrongly, and how surely."""

    row: RunRow
    taken_for: str
    """The label that its answer was matched to."""
    hardness: float
    """The higher the worse; comparable within a component."""


def write_run_report(
    run: Run, scores: RunScores, out: Path, *, suite: Suite | None = None, hardest: int = 3
) -> Path:
    """Write a page about a run to the HTML file `out`; returns its path.

    suite: has the sound of the rows; without it the hardest rows are there without players. hardest: rows of each
    component. Raises RunError where the file cannot be written.
    """
    page = "\n".join(_page(run, scores, suite, hardest))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); give another name") from error
    return out


def _page(run: Run, scores: RunScores, suite: Suite | None, hardest: int) -> Iterator[str]:
    title = f"BEANS-Zero: {_text(scores.name)}"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; media-src data:; '
    yield "style-src 'unsafe-inline'\">"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>"
    yield from _facts(run, scores)
    yield from _scores(run, scores)
    rows = by_component(run.rows)
    for of in scores.components:
        yield f"<h2>{_text(of.dataset_name)}</h2>"
        own = rows[of.dataset_name]
        matched = matched_rows(of.dataset_name, of.task, predictions_of(own))
        if of.task == CLASSIFICATION:
            yield from _confusion(own, matched)
        elif of.task == DETECTION:
            yield from _classes(own, matched)
        yield from _hardest(hard_rows(of.task, own, matched)[:hardest], suite)
    yield "</body>\n</html>\n"


def _facts(run: Run, scores: RunScores) -> Iterator[str]:
    about = run.about
    request = about.get("request", {})
    rows = [
        ("System", system_text(scores)),
        ("Asked as", str(request.get("model", ""))),
        ("Suite", f"{request.get('suite', '')}, {about.get('rows', 0):,} rows of {request.get('data', '')}"),
        ("Data", f"sha256 of questions and answers {str(about.get('data_sha256', ''))[:16]}"),
        ("Seed", str(request.get("seed", ""))),
        ("Settings", ", ".join(f"{key} {value}" for key, value in request.get("settings", {}).items())),
        ("Began, ended", f"{about.get('started', '')}, {about.get('finished') or 'not finished'}"),
        ("Gone on with", ", ".join(about.get("resumed", [])) or "never"),
        ("Software", ", ".join(f"{name} {value}" for name, value in about.get("versions", {}).items())),
    ]
    yield "<table>"
    yield from (f"<tr><th>{name}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    yield "</table>"
    yield from (f'<p class="note">{_text(note)}</p>' for note in scores.notes)


def _scores(run: Run, scores: RunScores) -> Iterator[str]:
    yield "<h2>Scores</h2>"
    yield (
        '<p class="note">First BEANS-Zero\'s published metrics, of answers after they are matched to the nearest label. '
        "Exact Match: right to the letter before that. (chosen), (scores): of the labels' scores. 95% intervals, for which "
        "recordings are drawn whole. Rows without an answer count as wrong.</p>"
    )
    if scores.components:
        plot = base64.b64encode(draw_comparison(compare_runs([run]))).decode()
        yield f'<img src="data:image/svg+xml;base64,{plot}" alt="Main scores with intervals">'
    told = {(of.dataset_name, of.metric): of for of in published_figures()}
    rows = []
    for of in scores.components:
        for figure in of.figures:
            published = told.get((of.dataset_name, figure.name))
            beside = f"{published.value:.3f} ({published.system}, {published.setting})" if published else ""
            rows.append(
                [
                    of.dataset_name,
                    f"{of.rows:,}",
                    f"{of.groups:,}",
                    f"{of.failed:,}",
                    figure.name,
                    *figure_cells(figure),
                    beside,
                ]
            )
    yield from _table(
        ["component", "#rows", "#recordings", "#failed", "metric", "#value", "#95% interval", "published"],
        rows,
    )
    spreads = [of for of in scores.components if of.spread]
    if spreads:
        yield "<h3>By wording of the question and order of the options</h3>"
        names = list(dict.fromkeys(name for of in spreads for name in of.spread))
        yield from _table(
            ["component", "metric", *(f"#{name}" for name in names)],
            [[of.dataset_name, of.main.name, *(f"{of.spread[name]:.3f}" if name in of.spread else "" for name in names)]
             for of in spreads],
        )  # fmt: skip


def _confusion(rows: Sequence[RunRow], matched: Sequence[str]) -> Iterator[str]:
    pairs = Counter((row.label, answer) for row, answer in zip(rows, matched, strict=True) if not row.error)
    if not pairs:
        return
    seen: Counter[str] = Counter()
    for (label, answer), count in pairs.items():
        seen[label] += count
        seen[answer] += count
    labels = [label for label, _ in seen.most_common(_MOST_LABELS)]
    counts = np.array([[pairs[label, answer] for answer in labels] for label in labels])
    shown = f" of the {len(labels)} most frequent of {len(seen)} labels" if len(labels) < len(seen) else ""
    yield f'<p class="note">Who is taken for whom{shown}: rows are right, columns were answered.</p>'
    yield f'<img src="{draw_confusion(labels, counts)}" alt="Confusion matrix">'


def _classes(rows: Sequence[RunRow], matched: Sequence[str]) -> Iterator[str]:
    labels = [row.label for row in rows]
    classes = detected_classes(labels)[:_MOST_CLASSES]
    if not classes:
        return
    truth, said = presence(labels, classes), presence(matched, classes)
    yield '<p class="note">By class: rows that hold it, rows that were said to, and those of which both is so.</p>'
    numbers = zip(classes, truth.sum(0), said.sum(0), (truth & said).sum(0), strict=True)
    yield from _table(
        ["class", "#there", "#said", "#both"],
        [[name, *(f"{n:,}" for n in counts)] for name, *counts in numbers],
    )


def hard_rows(task: str, rows: Sequence[RunRow], matched: Sequence[str]) -> list[HardRow]:
    """Rows that were answered wrongly, the hardest first.

    Where there are scores, by how much likelier another label was than the right one; of captions by CIDEr; rows without
    an answer come last, since what failed there is not hearing.
    """
    if task == CAPTIONING:
        similar = cider_by_row(matched, [row.label for row in rows])
        found = [
            HardRow(row, answer, -1e9 if row.error else -value)
            for row, answer, value in zip(rows, matched, similar, strict=True)
        ]
    else:
        found = [
            HardRow(row, answer, -1e9 if row.error else _surely(row))
            for row, answer in zip(rows, matched, strict=True)
            if {part.strip() for part in answer.split(",")} != {part.strip() for part in row.label.split(",")}
        ]
    return sorted(found, key=lambda of: -of.hardness)


def _surely(row: RunRow) -> float:
    if not row.scores:
        return 0.0
    right = [part.strip() for part in row.label.split(",")] + [row.label]
    own = max((row.scores[label] for label in right if label in row.scores), default=min(row.scores.values()))
    return max(row.scores.values()) - own


def _hardest(hard: Sequence[HardRow], suite: Suite | None) -> Iterator[str]:
    if not hard:
        return
    yield "<h3>Hardest rows</h3>"
    sounds = _sounds(suite, [of.row for of in hard])
    for of in hard:
        yield '<div class="row">'
        yield f'<p class="note">{_text(of.row.dataset_name)} {_text(of.row.id)}, recording {_text(of.row.group)}</p>'
        yield f"<p>{_text(of.row.prompt)}</p>"
        yield f'<p>Right: <span class="right">{_text(of.row.label)}</span></p>'
        answer = f"nothing: {of.row.error}" if of.row.error else of.row.prediction
        yield f'<p>Answered: <span class="wrong">{_text(answer)}</span>{_taken(of)}</p>'
        likely = sorted((of.row.scores or {}).items(), key=lambda item: -item[1])[:5]
        if likely:
            yield f'<p class="note">{_text(", ".join(f"{label} {score:.3g}" for label, score in likely))}</p>'
        sound = sounds.get((of.row.dataset_name, of.row.id))
        if sound is not None:
            yield from _player(*sound)
        yield "</div>"


def _taken(of: HardRow) -> str:
    if of.row.error or of.taken_for == of.row.prediction:
        return ""
    return f", taken for {_text(of.taken_for)}"


def _sounds(suite: Suite | None, rows: Sequence[RunRow]) -> Mapping[tuple[str, str], tuple[FloatArray, int]]:
    if suite is None:
        return {}
    wanted = {(row.dataset_name, row.id) for row in rows}
    found = [row for row in suite.rows if (row.dataset_name, row.id) in wanted]
    try:
        return {
            (row.dataset_name, row.id): sound
            for row, sound in suite.sounds(found)
            if not isinstance(sound, AudioError)
        }
    except NatureLMError:
        return {}  # the page says what it can without sound


def _player(samples: FloatArray, rate: int) -> Iterator[str]:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    yield f'<audio controls src="data:audio/flac;base64,{base64.b64encode(buffer.getvalue()).decode()}"></audio>'
    yield f'<img src="data:image/png;base64,{_spectrogram(samples, rate)}" alt="Spectrogram">'


def _spectrogram(samples: FloatArray, rate: int) -> str:
    from matplotlib.figure import Figure as Drawing

    from naturelm.corpus.spectrogram import draw_spectrogram, spectrogram

    drawing = Drawing(figsize=(6.4, 1.9))
    axes = drawing.add_axes((0.09, 0.24, 0.89, 0.72))
    draw_spectrogram(axes, spectrogram(samples, rate))
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=100)
    return base64.b64encode(buffer.getvalue()).decode()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table of texts, which are escaped here. columns: names; those of numbers begin with `#`."""
    styles = [' class="number"' if name.startswith("#") else "" for name in columns]
    heads = "".join(
        f"<th{style}>{_text(name.removeprefix('#'))}</th>"
        for name, style in zip(columns, styles, strict=True)
    )
    yield f"<table>\n<tr>{heads}</tr>"
    for row in rows:
        cells = "".join(f"<td{style}>{_text(cell)}</td>" for cell, style in zip(row, styles, strict=True))
        yield f"<tr>{cells}</tr>"
    yield "</table>"


def _text(text: str) -> str:
    """A text from outside as HTML: escaped, on one line, without control characters, and not endless."""
    line = " ".join(str(text).split())
    return escape(printable(line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"))
