"""What scoring found, as files: scores as JSON and Markdown, answers as Parquet, confusion tables as CSV."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa

from naturelm.bench.held_out import AnswerRecord, Confusion, HeldOutReport, Score
from naturelm.corpus.storage import write_table, write_text
from naturelm.errors import NatureLMError
from naturelm.train.markdown import escaped, table

SCORES = "scores.json"
ANSWERS = "answers.parquet"
TABLE = "scores.md"
_HEADINGS = (
    "component", "metric", "value", "95% interval", "chance", "baseline", "clearly above", "rows", "groups",
)  # fmt: skip
_LEGEND = """\
Values are shares between 0 and 1, with 95% bootstrap intervals, for which individuals or recordings (`groups`) are
drawn whole. `chance` is the better of the most frequent answer and a uniform guess; `baseline` is logistic regression
on log-mel statistics. `clearly above` names what lies below the interval: chance below that of the value, the
baseline where the interval of the difference, row by row, is above 0."""


def write_report(report: HeldOutReport, out: Path, *, title: str) -> list[Path]:
    """Write `scores.json`, `answers.parquet`, `scores.md`, and two `confusion-COMPONENT-....csv` for real animals.

    title: of the Markdown table. Returns the files. Raises NatureLMError where they cannot be written.
    """
    written = [out / SCORES, out / ANSWERS, out / TABLE]
    try:
        out.mkdir(parents=True, exist_ok=True)
        rows = [score.to_dict() for score in report.scores]
        write_text(out / SCORES, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        write_table(_answers_table(report.answers), out / ANSWERS)
        write_text(out / TABLE, scores_to_markdown(report.scores, title=title))
        for confusion in report.confusions:
            path = out / f"confusion-{_file_name(confusion.component)}-{confusion.how}.csv"
            write_text(path, _confusion_csv(confusion))
            written.append(path)
    except OSError as error:
        raise NatureLMError(f"{out}: cannot be written to ({error}); name another folder") from error
    return written


def scores_to_markdown(scores: Sequence[Score], *, title: str) -> str:
    """A page with a table of the scores, and what its numbers mean."""
    return f"# {escaped(title)}\n\n{_LEGEND}\n\n{table(_HEADINGS, [_cells(score) for score in scores])}\n"


def _cells(score: Score) -> tuple[str, ...]:
    above = [("chance", score.low > score.chance), ("baseline", (score.gain_low or 0.0) > 0)]
    return (
        score.component,
        score.metric,
        f"{score.value:.3f}",
        f"{score.low:.3f} to {score.high:.3f}",
        f"{score.chance:.3f}",
        "" if score.baseline is None else f"{score.baseline:.3f}",
        ", ".join(name for name, clear in above if clear),
        f"{score.n:,}",
        f"{score.groups:,}",
    )


def _answers_table(answers: Sequence[AnswerRecord]) -> pa.Table:
    numbers = {"exact", "f1", "word_f1", "choice_probability", "choice_right"}
    schema = pa.schema(
        [
            (field.name, pa.float64() if field.name in numbers else pa.string())
            for field in fields(AnswerRecord)
        ]
    )
    return pa.Table.from_pylist([asdict(record) for record in answers], schema=schema)


def _confusion_csv(confusion: Confusion) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["answer", *confusion.given])
    writer.writerows([answer, *row] for answer, row in zip(confusion.answers, confusion.counts, strict=True))
    return text.getvalue()


def _file_name(component: str) -> str:
    """A component's name, with what no file's name should hold as `_`: the corpus may be anyone's."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in component)
