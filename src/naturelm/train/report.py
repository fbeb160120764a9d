"""A page about a training run: how it went, what it was fed, what it can do, in one HTML file.

The page needs nothing from elsewhere and runs no code. Names, questions and answers come from corpora and from a
model, so they are escaped wherever they stand.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import cycle
from pathlib import Path

import numpy as np

from naturelm.corpus.show import printable
from naturelm.corpus.storage import write_text
from naturelm.train.options import TrainError
from naturelm.train.report_data import (
    Confusion,
    Line,
    PhaseLog,
    Sample,
    confusion_of,
    curve,
    names_under,
    number,
    pairs_drawn,
    phase_logs,
    samples_of,
)
from naturelm.train.report_plots import (
    EVALUATION_COLOUR,
    PART_STYLES,
    TRAINING_COLOUR,
    WHOLE_ANSWERS_COLOUR,
    Curve,
    Panel,
    draw_confusion,
    draw_panels,
)
from naturelm.train.runlog import LOG, Hardware, RunFacts, read_facts, read_log

_OPTIONS = "options.yaml"
_EVALUATIONS_WITH_SAMPLES = 3
_SAMPLES = 40
"""Shown of one evaluation."""
_LONGEST_TEXT = 600
"""Characters of a question or an answer that are shown."""
_CONFUSED_PAIRS = 15
_MOST_LABELS = 40
"""Of a confusion matrix that is drawn."""
_MOST_TASKS = 24
"""Of a phase, of which curves are drawn."""
_GB = 1e9

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1060px; margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.6em; margin-bottom: 0.2em; } h2 { font-size: 1.2em; margin: 2.2em 0 0.2em; }
h3 { font-size: 1em; margin: 1.4em 0 0.2em; } p { margin: 0.3em 0 0.8em; }
.note { color: #555; } .state { padding: 0.1em 0.6em; border-radius: 0.8em; background: #e6eef5; }
.failed, .wrong { color: #a3260b; } .right, .finished { color: #2d6a2e; }
table { border-collapse: collapse; font-size: 0.9em; margin: 0.6em 0 1.2em; }
th, td { text-align: left; vertical-align: top; padding: 0.25em 0.9em 0.25em 0; border-bottom: 1px solid #e4e4e4; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; } th { white-space: nowrap; }
.bar { background: #1b6ca8; height: 0.7em; margin-top: 0.35em; }
img { max-width: 100%; display: block; } pre { background: #f5f5f5; padding: 0.8em; overflow-x: auto; }
"""


def write_report(run: Path, out: Path) -> Path:
    """Write a page about the training run in the folder `run` to the HTML file `out`; returns its path.

    A run that is still going on is shown as far as it is. The file is written whole or not at all. Raises
    TrainError if `run` is no run, its log cannot be read, or `out` cannot be written.
    """
    facts = read_facts(run)
    page = "\n".join(_page(run, facts, phase_logs(read_log(run))))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
    except OSError as error:
        raise TrainError(f"{out}: cannot be written ({error.strerror}); give another name") from error
    return out


def _page(run: Path, facts: RunFacts, phases: Sequence[PhaseLog]) -> Iterator[str]:
    title = f"Training run {_text(facts.name)}"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    yield "style-src 'unsafe-inline'\">"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f'<h1>{title} <span class="state {facts.state}">{facts.state}</span></h1>'
    yield from _facts(run, facts, phases)
    yield from _troubles(facts, phases)
    if any(phase.steps for phase in phases):
        yield from _loss(phases)
        yield from _tasks(phases)
        yield from _mixture(facts, phases)
        yield from _machinery(phases)
    else:
        yield from _heading("Loss", "No step has been logged yet, so there is nothing to draw.")
    evaluations = [line for phase in phases for line in phase.evaluations]
    yield from _confusion(evaluations)
    yield from _samples(evaluations)
    yield from _options(run)
    yield "</body>\n</html>\n"


def _facts(run: Path, facts: RunFacts, phases: Sequence[PhaseLog]) -> Iterator[str]:
    yield '<p class="note">What was trained, on what, and how far it has come.</p>'
    reached = {phase.name: phase for phase in phases}
    names = list(dict.fromkeys([*facts.planned_steps, *reached]))
    rows: list[tuple[str, str]] = [("Started", _text(facts.started))]
    if facts.finished:
        rows.append(("Ended", _text(facts.finished)))
    elif (run / LOG).exists():
        when = datetime.fromtimestamp((run / LOG).stat().st_mtime, UTC).isoformat(timespec="seconds")
        rows.append(("Last logged", f"{when} (a run that was killed shows as running, too)"))
    rows += [(f"Steps, {_text(name)}", _progress(facts, reached.get(name), name)) for name in names]
    rows += [
        ("Hardware", _text(_hardware_text(facts.hardware))),
        ("Processes", f"{facts.processes:,}"),
        ("Software", _text(", ".join(f"{name} {number}" for name, number in facts.versions.items()))),
    ]
    rows += [
        (
            "Corpus",
            f"{_text(corpus.name)}: {corpus.rows:,} training pairs, {_text(corpus.manifest_hash[:12])}",
        )
        for corpus in facts.corpora
    ]
    rows.append(("Command", f"<code>{_text(' '.join(facts.command))}</code>"))
    yield "<table>"
    yield from (f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    yield "</table>"


def _progress(facts: RunFacts, phase: PhaseLog | None, name: str) -> str:
    planned = facts.planned_steps.get(name)
    of = f" of {planned:,}" if planned is not None else ""
    if phase is None or not phase.steps:
        return f"0{of}"
    last = phase.steps[-1]
    text = f"{last['step']:,}{of}"
    examples, seconds = number(last, "examples"), number(last, "seconds")
    text += f", {examples:,.0f} examples" if math.isfinite(examples) else ""
    return text + (f", in {_duration(seconds)}" if math.isfinite(seconds) else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _hardware_text(hardware: Hardware) -> str:
    memory = f", {hardware.memory / _GB:.0f} GB of memory" if hardware.memory else ""
    gpus = "".join(f"; {gpu.name} with {gpu.memory / _GB:.0f} GB" for gpu in hardware.gpus)
    return f"{hardware.cpu}, {hardware.cores} cores{memory}{gpus}"


def _troubles(facts: RunFacts, phases: Sequence[PhaseLog]) -> Iterator[str]:
    told = (
        [f'<span class="failed">The run {facts.state}: {_text(facts.reason)}</span>'] if facts.reason else []
    )
    told += [
        f"Resumed {_text(part.time)}, after step {part.step:,} of the phase {_text(part.phase)}."
        for part in facts.resumed
    ]
    for phase in phases:
        lost = [line["step"] for line in phase.steps if math.isnan(number(line, "loss"))]
        if lost:
            told.append(
                f"{len(lost):,} of {len(phase.steps):,} log lines of the phase {_text(phase.name)} have no "
                f"finite loss, the first at step {lost[0]:,}."
            )
    if told:
        yield from _heading(
            "Interruptions and faults", "When the run was stopped or resumed, and what went wrong."
        )
        yield "<ul>"
        yield from (f"<li>{line}</li>" for line in told)
        yield "</ul>"


def _loss(phases: Sequence[PhaseLog]) -> Iterator[str]:
    yield from _heading(
        "Loss",
        "Cross entropy of the answers' tokens by step: the lower, the better the answers are foretold. "
        "Evaluation is on pairs that are not trained on. "
        "Where points are means of several log lines, a pale band shows their range.",
    )
    if not any(phase.evaluations for phase in phases):
        yield "<p>There has been no evaluation yet.</p>"
    yield from _panels(
        "Loss by step",
        [Panel(f"{phase.name}: loss", _both(phase, "loss")) for phase in phases],
        columns=2,
        height=2.6,
    )


def _both(phase: PhaseLog, key: str, task: str | None = None) -> tuple[Curve, Curve]:
    """Training and evaluation, of a task or, if that is None, of all pairs."""
    within, weight = (("tasks", task), "pairs") if task is not None else ((), None)
    return (
        curve(phase.steps, key, "training", TRAINING_COLOUR, within=within, weight=weight),
        curve(phase.evaluations, key, "evaluation", EVALUATION_COLOUR, within=within, weight=weight),
    )


def _tasks(phases: Sequence[PhaseLog]) -> Iterator[str]:
    yield from _heading(
        "Tasks",
        "Each task by itself: loss, and accuracy, the share of answer tokens that are right if all tokens before "
        "them are given. For whole answers, all tokens of an answer must be right.",
    )
    for phase in phases:
        names = names_under([*phase.steps, *phase.evaluations], "tasks")
        if not names:
            continue
        yield f"<h3>{_text(phase.name)}</h3>"
        yield from _last_evaluation(phase)
        if len(names) > _MOST_TASKS:
            yield f"<p>Of {len(names)} tasks, the curves of the {_MOST_TASKS} with most pairs are drawn.</p>"
            pairs = pairs_drawn(phase, "tasks")
            names = sorted(sorted(names, key=lambda name: -pairs[name])[:_MOST_TASKS])
        accuracies = [
            Panel(
                f"{name}: accuracy",
                (*_both(phase, "accuracy", name), _whole_answers(phase, name)),
                share=True,
            )
            for name in names
        ]
        yield from _panels(f"Accuracy by task, {phase.name}", accuracies, columns=4, height=1.2)
        losses = [Panel(f"{name}: loss", _both(phase, "loss", name)) for name in names]
        yield from _panels(f"Loss by task, {phase.name}", losses, columns=4, height=1.2)


def _whole_answers(phase: PhaseLog, task: str) -> Curve:
    label = "evaluation, whole answers"
    return curve(
        phase.evaluations, "exact", label, WHOLE_ANSWERS_COLOUR, within=("tasks", task), weight="pairs"
    )


def _last_evaluation(phase: PhaseLog) -> Iterator[str]:
    if not phase.evaluations:
        yield "<p>There has been no evaluation in this phase yet.</p>"
        return
    last = phase.evaluations[-1]
    yield f"<p>The last evaluation, after step {last['step']:,}:</p>"
    fields = ("pairs", "loss", "accuracy", "exact")
    rows = [
        [_text(name), *(_value(field, number(last, "tasks", name, field)) for field in fields)]
        for name in names_under([last], "tasks")
    ]
    yield from _table(["task", "#pairs", "#loss", "#accuracy", "#whole answers right"], rows)


def _value(field: str, value: float) -> str:
    if math.isnan(value):
        return ""
    if field == "pairs":
        return f"{value:,.0f}"
    return f"{value:.3f}" if field == "loss" else f"{value:.1%}"


def _mixture(facts: RunFacts, phases: Sequence[PhaseLog]) -> Iterator[str]:
    yield from _heading(
        "Mixture drawn",
        "How many pairs of each task and source the model was shown, and what share of all pairs that is. "
        "Pairs that were shown several times count each time.",
    )
    last = phases[-1].name
    for phase in phases:
        for key, what, asked in (
            ("tasks", "task", facts.task_shares),
            ("sources", "source", facts.source_shares),
        ):
            drawn = pairs_drawn(phase, key)
            total = drawn.total()
            if not total:
                continue
            yield f"<h3>{_text(phase.name)}: {total:,} pairs by {what}</h3>"
            # What the options ask for is asked of the last phase; a warm-up has a choice of tasks of its own.
            shares = asked if phase.name == last else {}
            yield from _mixture_table(what, drawn, shares)


def _mixture_table(what: str, drawn: Mapping[str, int], asked: Mapping[str, float]) -> Iterator[str]:
    total = sum(drawn.values())
    names = sorted({*drawn, *asked}, key=lambda name: (-drawn.get(name, 0), name))
    largest = max(drawn.values())
    rows = []
    for name in names:
        count = drawn.get(name, 0)
        row = [_text(name), f"{count:,}", f"{count / total:.1%}"]
        if asked:
            row.append(f"{asked.get(name, 0.0):.1%}")
        rows.append([*row, f'<div class="bar" style="width:{count / largest * 240:.0f}px"></div>'])
    yield from _table([what, "#pairs", "#share", *(["#asked for"] if asked else []), ""], rows)


def _machinery(phases: Sequence[PhaseLog]) -> Iterator[str]:
    yield from _heading(
        "Learning rates", "The step size of each part of the model by step; a part at zero is frozen."
    )
    rates = []
    for phase in phases:
        parts = names_under(phase.steps, "learning_rate")
        curves = [
            curve(phase.steps, part, part, colour, within=("learning_rate",), style=style)
            for part, (colour, style) in zip(parts, cycle(PART_STYLES), strict=False)
        ]
        rates.append(Panel(f"{phase.name}: learning rate", tuple(curves)))
    yield from _panels("Learning rates by step", rates, columns=2, height=1.8)

    yield from _heading(
        "Speed and memory",
        "Examples and answer tokens that were trained on each second, and the most memory that was in use, "
        "in GB: of the GPU where there is one, else of the process.",
    )
    speeds = [
        panel
        for phase in phases
        for panel in (
            _single(phase, "examples_per_second", "examples a second"),
            _single(phase, "tokens_per_second", "tokens a second"),
            _single(phase, "peak_memory", "peak memory, GB", scale=1 / _GB),
        )
    ]
    yield from _panels("Speed and memory by step", speeds, columns=3, height=1.5)

    yield from _heading(
        "Gradient norm",
        "Length of the gradient before it is clipped: peaks that come often, or a steady rise, are a sign of a "
        "learning rate that is too high.",
    )
    norms = [_single(phase, "grad_norm", "gradient norm") for phase in phases]
    yield from _panels("Gradient norm by step", norms, columns=2, height=1.8)


def _single(phase: PhaseLog, key: str, title: str, *, scale: float = 1.0) -> Panel:
    found = curve(phase.steps, key, "training", TRAINING_COLOUR, scale=scale)
    return Panel(f"{phase.name}: {title}", (found,))


def _confusion(evaluations: Sequence[Line]) -> Iterator[str]:
    yield from _heading(
        "Confusion of species",
        "Of species that were trained on: what the model wrote (columns) for what is heard (rows). "
        "Right answers lie on the diagonal; the colour is the share of the row.",
    )
    found = [(line, matrix) for line in evaluations if (matrix := confusion_of(line)) is not None]
    if not found:
        yield "<p>No evaluation with questions for species has been logged yet.</p>"
        return
    line, matrix = found[-1]
    right, total = int(np.trace(matrix.counts)), int(matrix.counts.sum())
    yield (
        f"<p>Evaluation after step {line['step']:,} of the phase {_text(line['phase'])}: "
        f"{right:,} of {total:,} right ({right / total:.1%}).</p>"
    )
    shown = _most_frequent(matrix)
    if len(shown.labels) < len(matrix.labels):
        yield f"<p>Drawn are the {len(shown.labels)} most frequent of {len(matrix.labels)} names.</p>"
    yield _image(draw_confusion(shown.labels, shown.counts), "Confusion matrix")
    wrong = matrix.counts - np.diag(np.diag(matrix.counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSED_PAIRS]
    places = [divmod(int(place), len(matrix.labels)) for place in order]
    rows = [
        [_text(matrix.labels[heard]), _text(matrix.labels[written]), f"{wrong[heard, written]:,}"]
        for heard, written in places
        if wrong[heard, written]
    ]
    if rows:
        yield "<h3>Most frequent confusions</h3>"
        yield from _table(["heard", "written", "#times"], rows)


def _most_frequent(matrix: Confusion) -> Confusion:
    """The rows and columns of the labels that are heard or written most, in their order."""
    counts = matrix.counts
    frequency = counts.sum(axis=0) + counts.sum(axis=1)
    kept = np.sort(np.argsort(-frequency, kind="stable")[:_MOST_LABELS])
    return Confusion(tuple(matrix.labels[place] for place in kept), counts[np.ix_(kept, kept)])


def _samples(evaluations: Sequence[Line]) -> Iterator[str]:
    yield from _heading(
        "Sample answers",
        "Questions of the last evaluations, the answer that is right, and what the model wrote. An answer is "
        "marked right if it says the same word for word, whatever the case; others may be right in other words.",
    )
    with_samples = [(line, samples) for line in evaluations if (samples := samples_of(line))]
    if not with_samples:
        yield "<p>No answers have been written out yet.</p>"
    for line, samples in reversed(with_samples[-_EVALUATIONS_WITH_SAMPLES:]):
        yield f"<h3>{_text(line['phase'])}, after step {line['step']:,}</h3>"
        rows = [_sample_row(sample) for sample in samples[:_SAMPLES]]
        yield from _table(["task", "question", "answer", "written", ""], rows)


def _sample_row(sample: Sample) -> list[str]:
    mark = '<span class="right">right</span>' if sample.right else '<span class="wrong">wrong</span>'
    return [_text(sample.task), *map(_text, (sample.question, sample.answer, sample.written)), mark]


def _options(run: Path) -> Iterator[str]:
    try:
        text = (run / _OPTIONS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # the page says what it can without them
    yield from _heading("Options", "All options of the run, as they were used.")
    yield "<details><summary>Show</summary><pre>"
    yield "\n".join(escape(printable(line)) for line in text.splitlines())
    yield "</pre></details>"


def _panels(name: str, panels: Sequence[Panel], *, columns: int, height: float) -> Iterator[str]:
    """A picture of the panels that have something in them."""
    filled = [panel for panel in panels if any(len(curve.steps) for curve in panel.curves)]
    if filled:
        yield _image(draw_panels(filled, columns=columns, height=height), name)
    else:
        yield "<p>Nothing has been logged of this yet.</p>"


def _image(source: str, name: str) -> str:
    return f'<img src="{source}" alt="{_text(name)}">'


def _heading(title: str, sentence: str) -> Iterator[str]:
    yield f'<h2>{title}</h2>\n<p class="note">{sentence}</p>'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of HTML cells. columns: names; those of numbers begin with `#`."""
    styles = [' class="number"' if name.startswith("#") else "" for name in columns]
    heads = "".join(
        f"<th{style}>{name.lstrip('#')}</th>" for name, style in zip(columns, styles, strict=True)
    )
    yield f"<table>\n<tr>{heads}</tr>"
    for row in rows:
        cells = "".join(f"<td{style}>{cell}</td>" for cell, style in zip(row, styles, strict=True))
        yield f"<tr>{cells}</tr>"
    yield "</table>"


def _text(text: str) -> str:
    """A text from outside as HTML: escaped, on one line, without control characters, and not endless."""
    line = " ".join(text.split())
    return escape(printable(line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"))
