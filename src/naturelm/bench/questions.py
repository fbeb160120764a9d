"""The four research questions of the NatureLM-audio paper, answered by what trained arms got right.

What the numbers say is written from the numbers alone, and stands beside what the paper (arXiv:2411.07186) found.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from naturelm.bench.comparing import (
    Comparison,
    Evidence,
    Level,
    against_chance,
    level,
    paired,
    sentence,
    unpaired,
)
from naturelm.train.markdown import escaped, table

FULL = "full"
WITHOUT_SPEECH_MUSIC = "without-speech-music"
WITHOUT_COUNTING = "without-counting"
WITHOUT_BOTH = "without-counting-speech-music"
SPEECH_AND_MUSIC = (
    "speaker-count", "speaker-sex", "speaker-pitch", "transcript", "instrument-family", "note-pitch",
)  # fmt: skip
COUNTING = ("count", "one-or-more")
_NO_ANIMALS = (*SPEECH_AND_MUSIC, "environment")
_SEEN = ("seen species", "mini-seen-cmn")
_UNSEEN = (
    ("unseen species", "mini-unseen-species-cmn"),
    ("unseen genera", "mini-unseen-genus-cmn"),
    ("unseen families", "mini-unseen-family-cmn"),
)
_UNSEEN_LATIN = (
    ("scientific names of unseen species", "mini-unseen-species-sci"),
    ("full taxonomic names of unseen species", "mini-unseen-species-tax"),
)
_CAPTIONS = ("captions", "mini-captioning")
_COUNTS = (("counting", "mini-count"), ("one or more", "mini-indiv"))
_SPEAKERS = ("counting speakers", "mini-speaker-count")
_METRICS = ("exact", "f1", "word_f1", "choice")
NEEDED = tuple(name for _, name in (_SEEN, *_UNSEEN, *_UNSEEN_LATIN, _CAPTIONS, *_COUNTS))
"""Components without which the questions cannot be answered."""
_NOTHING = "Nothing: no arm that would tell has been trained and scored."
_LEGEND = """\
Values are shares between 0 and 1, means over rows and seeds, with 95% bootstrap intervals for which individuals or
recordings (`groups`) are drawn whole, with their answers of all seeds; the values of the single seeds follow. The
intervals are about which sounds were asked, not about training again: for that, look at the seeds. Differences of two
arms are taken row by row. `chance` is the better of the most frequent answer and a uniform guess. `choice` is the
likeliest of a closed set, the other metrics are of what was written freely. All arms have the same number of steps, so
one without some tasks sees more pairs of the others. Where nothing differs, one of 20 comparisons is still
expected to say higher or lower."""


@dataclass(frozen=True)
class Line:
    """One metric of one component, of the arms that a question asks for."""

    about: str
    component: str
    metric: str
    levels: tuple[Level, ...]
    chance: float
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Finding:
    """A question, what was measured, and what that says."""

    number: int
    question: str
    lines: tuple[Line, ...]
    paper: str
    """What the paper found."""

    @property
    def says(self) -> str:
        """What the numbers say."""
        told = [(f"{line.about} ({line.metric})", c) for line in self.lines for c in line.comparisons]
        return sentence(told) or _NOTHING

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lines = [
            {
                **asdict(line),
                "comparisons": [{**asdict(c), "verdict": c.verdict} for c in line.comparisons],
            }
            for line in self.lines
        ]
        return {"number": self.number, "question": self.question, "lines": lines, "says": self.says,
                "paper": self.paper}  # fmt: skip


def is_asked_for(task: str) -> bool:
    """Whether a question needs the components of a task: all of animals, and counting speakers."""
    return task not in _NO_ANIMALS or task == "speaker-count"


def answer_questions(evidence: Evidence) -> list[Finding]:
    """All four, by number; a line that no arm was scored for is left out."""
    return [
        Finding(
            1,
            "Are taxa and tasks answered that were never trained on?",
            tuple(_unseen(evidence)),
            "The paper reports that its model generalises to unseen taxa and tasks, and names unseen species "
            "without examples better than earlier models did.",
        ),
        Finding(
            2,
            "Does what is learnt from speech and music carry over to animals?",
            tuple(_transfer(evidence)),
            "The paper reports that it does: without having been trained to count animals, its model told one zebra "
            "finch from several better with speech and music in training.",
        ),
        Finding(
            3,
            "Does one model caption and count as well?",
            tuple(_against_chance(evidence, (_CAPTIONS, *_COUNTS))),
            "The paper reports that one model captions animal sounds and counts zebra finches, beside naming "
            "species.",
        ),
        Finding(
            4,
            "What happens without speech and music in the second stage?",
            tuple(_without(evidence)),
            "The paper holds that what is learnt from speech and music is of use for animals, counting "
            "among it.",
        ),
    ]


def _unseen(evidence: Evidence) -> Iterable[Line]:
    yield from _against_chance(evidence, (_SEEN,))
    for about, component in (*_UNSEEN, *_UNSEEN_LATIN):
        for line in _against_chance(evidence, ((about, component),)):
            seen = evidence.marks(FULL, _SEEN[1], line.metric) if (about, component) in _UNSEEN else {}
            marks = evidence.marks(FULL, component, line.metric)
            yield _with(line, unpaired(FULL, marks, "seen species", seen))
    for about, component in _COUNTS:
        for metric in _METRICS:
            for line in _lines(evidence, about, component, metric, (WITHOUT_COUNTING, FULL)):
                yield _with(line, _chance(line, WITHOUT_COUNTING))


def _transfer(evidence: Evidence) -> Iterable[Line]:
    return _paired_lines(evidence, (*_COUNTS, _SPEAKERS), _METRICS, WITHOUT_COUNTING, WITHOUT_BOTH)


def _without(evidence: Evidence) -> Iterable[Line]:
    # One metric of each: with more, more would seem to differ by chance.
    tasks = {score.component: score.task for run in evidence.runs for score in run.scores}
    for component in sorted(name for name, task in tasks.items() if task not in _NO_ANIMALS):
        main = next((m for m in ("f1", "exact", "word_f1") if evidence.score(component, m)), "choice")
        topic = ((component, component),)
        yield from _paired_lines(evidence, topic, (main,), FULL, WITHOUT_SPEECH_MUSIC)


def _against_chance(evidence: Evidence, topics: Sequence[tuple[str, str]]) -> Iterable[Line]:
    for about, component in topics:
        for metric in _METRICS:
            for line in _lines(evidence, about, component, metric, (FULL,)):
                yield _with(line, _chance(line, FULL))


def _paired_lines(
    evidence: Evidence, topics: Sequence[tuple[str, str]], metrics: Sequence[str], arm: str, other: str
) -> Iterable[Line]:
    for about, component in topics:
        for metric in metrics:
            marks, others = (evidence.marks(name, component, metric) for name in (arm, other))
            for line in _lines(evidence, about, component, metric, (arm, other)):
                yield _with(line, paired(arm, marks, other, others))


def _lines(evidence: Evidence, about: str, component: str, metric: str, arms: Sequence[str]) -> list[Line]:
    """One line, if an arm has it."""
    score = evidence.score(component, metric)
    marks = {arm: evidence.marks(arm, component, metric) for arm in arms}
    levels = tuple(level(arm, of) for arm, of in marks.items() if of)
    return [Line(about, component, metric, levels, score.chance, ())] if score and levels else []


def _chance(line: Line, arm: str) -> Comparison | None:
    return next((against_chance(of, line.chance) for of in line.levels if of.arm == arm), None)


def _with(line: Line, comparison: Comparison | None) -> Line:
    return replace(line, comparisons=(*line.comparisons, comparison)) if comparison else line


def findings_to_markdown(findings: Sequence[Finding], *, title: str, circumstances: Sequence[str]) -> str:
    """A page: all questions as one table, then each with its numbers. circumstances: one line each."""
    overview = [(f"{of.number}. {of.question}", of.says, of.paper) for of in findings]
    parts = [
        f"# {escaped(title)}",
        "\n".join(f"- {escaped(line)}" for line in circumstances),
        _wide_table(("question", "what the numbers say", "what the paper found"), overview),
        _LEGEND,
    ]
    for of in findings:
        parts += [
            f"## {of.number}. {of.question}",
            *_numbers(of),
            f"{_text(of.says)}\n\n{of.paper}",
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def findings_to_json(findings: Sequence[Finding], circumstances: dict[str, Any]) -> str:
    """The same as JSON."""
    values = {**circumstances, "questions": [of.to_dict() for of in findings]}
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _numbers(finding: Finding) -> list[str]:
    arms = list(dict.fromkeys(of.arm for line in finding.lines for of in line.levels))
    rows = []
    for line in finding.lines:
        levels = {of.arm: _level_text(of) for of in line.levels}
        rows.append(
            (
                line.about,
                line.metric,
                *(levels.get(arm, "") for arm in arms),
                f"{line.chance:.3f}",
                "; ".join(_difference_text(c) for c in line.comparisons),
                max(of.rows for of in line.levels),
                max(of.groups for of in line.levels),
            )
        )
    if not rows:
        return []
    return [table(("of what", "metric", *arms, "chance", "difference", "rows", "groups"), rows)]


def _level_text(of: Level) -> str:
    return f"{of.value:.3f} ({of.low:.3f} to {of.high:.3f}){_seeds_text(of.by_seed, '.3f')}"


def _difference_text(of: Comparison) -> str:
    return (
        f"{of.of} less {of.against}: {of.value:+.3f} ({of.low:+.3f} to {of.high:+.3f})"
        f"{_seeds_text(of.by_seed, '+.3f')}: {of.verdict}"
    )


def _seeds_text(by_seed: dict[int, float], form: str) -> str:
    if len(by_seed) < 2:
        return ""
    return f", seeds {', '.join(format(value, form) for value in by_seed.values())}"


def _wide_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As `table`, which cuts long cells short; these are of a length that is known."""
    lines = [headings, ["---"] * len(headings), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _text(value: str) -> str:
    """Escaped word by word, and so whole."""
    return " ".join(map(escaped, value.split()))
