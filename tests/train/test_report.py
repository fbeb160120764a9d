"""The page about a run: what it says, that nothing from outside acts on it, and that it copes with any run."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from test_runlog import SOME_FACTS, step

from naturelm.train.options import TrainError
from naturelm.train.report import write_report
from naturelm.train.runlog import LOG, RunFacts, RunLog, write_facts

SCRIPT = "<script>alert('owl')</script>"
_VOID = {"meta", "img"}


class Page(HTMLParser):
    """The text of a page, its tags and pictures; fails if a tag is left open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: set[str] = set()
        self.images: dict[str, str] = {}
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(self.source)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "img":
            values = {name: value or "" for name, value in attrs}
            kind, _, data = values["src"].partition(",")
            assert kind == "data:image/svg+xml;base64"
            root = ElementTree.fromstring(base64.b64decode(data))
            self.images[values["alt"]] = "\n".join(root.itertext())

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def training_line(number: int, *, phase: str = "answers", task: str = "species-common") -> dict[str, object]:
    return step(
        number,
        phase=phase,
        seconds=number * 0.5,
        loss=3 / number,
        learning_rate={"ear": 1e-4, "lora": 0.0},
        grad_norm=0.5,
        examples=number * 8,
        examples_per_second=16.0,
        tokens_per_second=100.0,
        peak_memory=1.5e9,
        tasks={
            task: {"loss": 3 / number, "accuracy": 0.5, "exact": 0.25, "pairs": 60},
            "caption": {"pairs": 20},
        },
        sources={"esc-50": 80},
    )


def evaluation_line(number: int, *, task: str = "species-common", **samples: str) -> dict[str, object]:
    sample = {"id": "1", "task": task, "question": "Which animal?", "answer": "Wood frog", "written": "owl"}
    return {
        **step(number, loss=0.5),
        "kind": "evaluation",
        "tasks": {task: {"loss": 0.5, "accuracy": 0.875, "exact": 0.625, "pairs": 16}},
        "samples": [{**sample, **samples}],
        "confusion": {
            "labels": ["Wood frog", "Tawny owl", "Wolf"],
            "counts": [[7, 4, 0], [0, 5, 1], [0, 0, 3]],
        },
    }


def a_run(folder: Path, *lines: dict[str, object], facts: RunFacts = SOME_FACTS) -> Path:
    folder.mkdir(exist_ok=True)
    write_facts(folder, facts)
    for line in lines:
        RunLog(folder).append(line)
    return folder


def report(run: Path) -> Page:
    return Page(write_report(run, run / "report.html"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return a_run(tmp_path / "run", *map(training_line, (10, 20, 30)), evaluation_line(20))


@pytest.fixture
def new_run(tmp_path: Path) -> Path:
    """One that has done nothing yet, of which a page is made in no time."""
    return a_run(tmp_path / "new")


def test_a_run_of_two_phases_is_told_in_full(tmp_path: Path) -> None:
    steps = [training_line(5, phase="warm-up"), *map(training_line, (10, 20, 30))]
    page = report(a_run(tmp_path / "run", *steps, evaluation_line(20)))
    for fact in (
        "mini-stage2",
        "running",
        "A processor",
        "A card with 80 GB",
        "starter: 24,000",
        "30 of 2,000",
    ):
        assert fact in page.text
    assert "Resumed 2025-03-01T13:00:00+00:00, after step 500 of the phase answers" in page.text
    for name in (
        "Loss by step",
        "Accuracy by task, answers",
        "Loss by task, warm-up",
        "Learning rates by step",
    ):
        assert name in page.images
    assert {"warm-up: loss", "answers: loss", "training", "evaluation"} <= set(
        page.images["Loss by step"].split("\n")
    )
    assert "species-common: accuracy" in page.images["Accuracy by task, answers"]
    assert "species-common 16 0.500 87.5% 62.5%" in page.text
    assert "warm-up: 80 pairs by task task pairs share species-common 60 75.0%" in page.text


def test_the_mixture_is_that_of_all_steps_beside_what_was_asked_for(run: Path) -> None:
    facts = replace(SOME_FACTS, task_shares={"species-common": 0.7, "caption": 0.2, "count": 0.1})
    page = report(a_run(run, facts=facts))
    assert "answers: 240 pairs by task" in page.text
    assert "species-common 180 75.0% 70.0% caption 60 25.0% 20.0% count 0 0.0% 10.0%" in page.text
    assert "esc-50 240 100.0%" in page.text


def test_steps_that_were_taken_twice_are_counted_once(run: Path) -> None:
    assert "240 pairs by task" in report(a_run(run, training_line(20), training_line(30))).text


def test_confusions_are_counted(run: Path) -> None:
    page = report(run)
    assert "15 of 20 right (75.0%)" in page.text
    assert "heard written times Wood frog Tawny owl 4 Tawny owl Wolf 1 Sample" in page.text
    assert "Tawny owl" in page.images["Confusion matrix"]


def test_a_matrix_of_many_names_is_drawn_of_the_most_frequent(tmp_path: Path) -> None:
    labels = [f"Species {number}" for number in range(60)]
    counts = np.diag(np.arange(60)).tolist()
    line = {**evaluation_line(10), "confusion": {"labels": labels, "counts": counts}}
    page = report(a_run(tmp_path / "run", line))
    drawn = page.images["Confusion matrix"].split("\n")
    assert "Species 59" in drawn and "Species 3" not in drawn
    assert "the 40 most frequent of 60 names" in page.text


@pytest.mark.parametrize(
    ("written", "mark"), [("wood  FROG ", "right"), ("Wood frogs", "wrong"), ("", "wrong")]
)
def test_sample_answers_are_marked(tmp_path: Path, written: str, mark: str) -> None:
    page = report(a_run(tmp_path / "run", evaluation_line(10, written=written)))
    assert f"Wood frog {' '.join(written.split())} {mark}".replace("  ", " ") in page.text


def test_the_last_evaluations_come_first_in_the_samples(tmp_path: Path) -> None:
    lines = [evaluation_line(number, written=f"answer {number}") for number in (1, 2, 3, 4)]
    text = report(a_run(tmp_path / "run", *lines)).text
    assert re.findall(r"answer \d", text) == ["answer 4", "answer 3", "answer 2"]


@pytest.mark.parametrize(
    "outside", [SCRIPT, '"><img src=x onerror=alert(1)>', "$x_{$ </svg>", "\x00\x1b[2J", "_"]
)
def test_text_from_outside_does_nothing(tmp_path: Path, outside: str) -> None:
    facts = replace(SOME_FACTS, name=outside, command=(outside,), reason=outside, task_shares={outside: 1.0})
    evaluation = evaluation_line(10, task=outside, question=outside, answer=outside, written=outside)
    confusion = {"labels": [outside, "b"], "counts": [[1, 2], [3, 4]]}
    run = a_run(
        tmp_path / "run",
        {**training_line(10, task=outside, phase=outside), "learning_rate": {outside: 1.0}},
        {**evaluation, "confusion": confusion, "phase": outside},
        facts=facts,
    )
    (run / "options.yaml").write_text(f"name: {outside!r}\n{outside}")
    page = report(run)
    assert page.tags == report_tags(tmp_path)
    assert "\x00" not in page.source and "\x1b" not in page.source
    shown = outside.encode("unicode_escape").decode()
    assert f"Training run {shown}" in page.text


def report_tags(folder: Path) -> set[str]:
    """Tags of a page on which everything occurs and nothing is odd."""
    facts = replace(SOME_FACTS, reason="a fault")
    run = a_run(folder / "plain", training_line(10), evaluation_line(10, written="Wood frog"), facts=facts)
    (run / "options.yaml").write_text("name: plain")
    return report(run).tags


def test_nothing_is_fetched_from_elsewhere(run: Path) -> None:
    page = report(run)
    assert "script" not in page.tags and "link" not in page.tags
    assert "default-src 'none'" in page.source
    assert not re.search(r"https?://", page.source)


def test_a_run_without_steps_says_so(new_run: Path) -> None:
    page = report(new_run)
    assert "No step has been logged yet" in page.text
    assert "No answers have been written out yet" in page.text
    assert "0 of 2,000" in page.text
    assert not page.images


def test_a_run_without_evaluation_says_so(tmp_path: Path) -> None:
    page = report(a_run(tmp_path / "run", training_line(10)))
    assert "There has been no evaluation yet" in page.text
    assert "No evaluation with questions for species" in page.text
    assert "Loss by step" in page.images and "Confusion matrix" not in page.images


def test_a_line_that_is_being_written_does_not_matter(run: Path) -> None:
    with (run / LOG).open("a") as file:
        file.write('{"kind": "step", "phase": "answ')
    assert "240 pairs by task" in report(run).text


def test_faults_are_told(tmp_path: Path) -> None:
    facts = replace(
        SOME_FACTS, state="failed", finished="2025-03-02T01:00:00+00:00", reason="loss is not a number"
    )
    lost = {**training_line(20), "loss": float("nan")}
    page = report(a_run(tmp_path / "run", training_line(10), lost, facts=facts))
    assert "The run failed: loss is not a number" in page.text
    assert "1 of 2 log lines of the phase answers have no finite loss, the first at step 20" in page.text
    assert "Ended 2025-03-02T01:00:00+00:00" in page.text


@pytest.mark.parametrize(
    "odd",
    [
        {"loss": "high", "tasks": [1], "sources": None, "learning_rate": 3, "examples": {}},
        {"loss": 10**400, "grad_norm": True, "tasks": {"caption": 4}, "sources": {"a": "b"}, "seconds": None},
        {"samples": "none", "confusion": {"labels": ["a"], "counts": [[1, 2]]}, "kind": "evaluation"},
        {"samples": [3], "confusion": {"labels": ["a"], "counts": [[-1]]}, "kind": "evaluation"},
        {"confusion": {"labels": ["a", "b"], "counts": [[1], [2, 3]]}, "kind": "evaluation"},
    ],
)
def test_odd_values_are_left_out(run: Path, odd: dict[str, object]) -> None:
    line = {**step(40), **odd}
    page = report(a_run(run, line))
    assert "240 pairs by task" in page.text
    assert "15 of 20 right" in page.text


def test_a_long_run_makes_a_small_page(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", training_line(1))
    line = (run / LOG).read_text()
    lines = [line.replace('"step": 1,', f'"step": {number},') for number in range(1, 3000)]
    (run / LOG).write_text("".join(lines))
    page = report(run)
    assert "2,999 of 2,000" in page.text
    assert len(page.source) < 500_000


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(TrainError, match="give the folder of a training run"):
        write_report(tmp_path, out)
    assert not out.exists()


def test_a_page_that_cannot_be_written_is_told(new_run: Path) -> None:
    (new_run / "file").write_text("")
    for out in (new_run, new_run / "file" / "report.html"):
        with pytest.raises(TrainError, match="cannot be written"):
            write_report(new_run, out)
    assert not [path for path in new_run.parent.iterdir() if path != new_run]  # nothing half-written


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    assert report(run).source == report(run).source
