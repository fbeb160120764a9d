"""The runner: journals that survive kills, systems that misbehave, variants of the prompt."""

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.suite_folders import a_row, mixed_rows, write_parquet
from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.running.asking import HangingError, PatientAsker
from naturelm.bench.running.journal import RunError, RunRow, read_journal
from naturelm.bench.running.prompts import OWN, Variant, variants_of
from naturelm.bench.running.runner import RunCount, RunOptions
from naturelm.bench.running.runs import RunRequest, read_run, run_suite
from naturelm.bench.suites.files import LocalFiles
from naturelm.bench.suites.suite import Choice, Suite, open_suite
from naturelm.errors import QuestionError

OPTIONS = RunOptions(batch_size=3, time_limit=5.0)


class Replies:
    """Answers with its own view of the item; does what `trouble` says first."""

    def __init__(self, trouble: object = None, revision: str = "1") -> None:
        self.info = ModelInfo("replies", revision)
        self.trouble = trouble
        self.batches: list[list[BenchItem]] = []

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        self.batches.append(list(batch))
        if callable(self.trouble):
            given = self.trouble(batch, len(self.batches))
            if given is not None:
                return given
        # Depends on what shares the batch, so that a resumed run that makes other batches is found out.
        return [
            BenchAnswer(f"{len(batch)} {item.id} {item.prompt}", dict.fromkeys(item.labels, 1 / 3) or None)
            for item in batch
        ]


def a_suite(folder: Path, count: int = 40, choice: Choice | None = None) -> Suite:
    rows = mixed_rows(count)
    return open_suite(LocalFiles(write_parquet(folder / "data" / "test.parquet", rows)), choice)


def request(**changes: object) -> RunRequest:
    fields = {
        "model": "replies", "suite": "beans-zero", "data": "here", "components": (), "limit": None, "sample": None, "seed": 0,
        "wordings": (), "orders": 0, "batch_size": 3,
    }  # fmt: skip
    return RunRequest(**{**fields, **changes})  # type: ignore[arg-type]


def run(
    model: Replies, suite: Suite, out: Path, variants: Sequence[Variant] = (Variant(),), options: RunOptions = OPTIONS,
    **changes: object,
) -> RunCount:  # fmt: skip
    return run_suite(model, suite, out, request(**changes), variants, options)


def killed(model: Replies, suite: Suite, out: Path) -> None:
    """Run in a process of its own, which must die by SIGKILL."""
    child = os.fork()
    if child == 0:
        try:
            run(model, suite, out)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def kill_at(call: int):  # type: ignore[no-untyped-def]
    def trouble(batch: Sequence[BenchItem], number: int) -> None:
        if number == call:
            os.kill(os.getpid(), signal.SIGKILL)

    return trouble


def test_killed_at_three_points_and_resumed_it_is_the_unbroken_run(tmp_path: Path) -> None:
    suite = a_suite(tmp_path)
    run(Replies(), suite, tmp_path / "whole")
    for call in (1, 5, 4):  # of each process: before the first batch, and then on
        killed(Replies(kill_at(call)), suite, tmp_path / "broken")
    count = run(Replies(), suite, tmp_path / "broken")
    whole, broken = ((tmp_path / name / "predictions.jsonl").read_bytes() for name in ("whole", "broken"))
    assert whole == broken
    assert count.rows == 40 and count.asked == 40 - 3 * (4 + 3)
    rows = read_run(tmp_path / "broken").rows
    assert len({(row.dataset_name, row.id) for row in rows}) == len(rows) == 40
    about = json.loads((tmp_path / "broken" / "run.json").read_text())
    assert len(about["resumed"]) == 3 and about["finished"]
    assert about["system"]["revision"] == "1" and about["versions"]["numpy"] and about["request"]["seed"] == 0


def test_cut_at_any_byte_it_goes_on_as_if_unbroken(tmp_path: Path) -> None:
    suite = a_suite(tmp_path, 16)
    run(Replies(), suite, tmp_path / "whole")
    whole = (tmp_path / "whole" / "predictions.jsonl").read_bytes()
    for size in range(0, len(whole), 397):
        (tmp_path / "whole" / "predictions.jsonl").write_bytes(whole[:size])
        run(Replies(), suite, tmp_path / "whole")
        assert (tmp_path / "whole" / "predictions.jsonl").read_bytes() == whole, size


def test_a_finished_run_is_not_asked_again(tmp_path: Path) -> None:
    suite = a_suite(tmp_path)
    run(Replies(), suite, tmp_path / "run")
    again = Replies()
    assert run(again, suite, tmp_path / "run").asked == 0 and not again.batches


def test_another_run_is_not_mixed_in(tmp_path: Path) -> None:
    suite = a_suite(tmp_path)
    run(Replies(), suite, tmp_path / "run")
    with pytest.raises(RunError, match=r"another run, whose request differs \(seed: 0 there, 1 here\)"):
        run(Replies(), suite, tmp_path / "run", seed=1)
    with pytest.raises(RunError, match="revision: 1 there, 2 here"):
        run(Replies(revision="2"), suite, tmp_path / "run")
    with pytest.raises(RunError, match="rows"):
        run(Replies(), a_suite(tmp_path, 20), tmp_path / "run")
    other = a_suite(tmp_path / "other", choice=Choice(("esc50",)))
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / "predictions.jsonl").write_text('{"id": "x", "dataset_name": "esc50"}\n')
    with pytest.raises(RunError, match=r"no run\.json"):
        run(Replies(), other, tmp_path / "stray")


def test_batches_are_of_like_rate_and_length(tmp_path: Path) -> None:
    model = Replies()
    run(model, a_suite(tmp_path, 48), tmp_path / "run", options=RunOptions(4))
    # As they stand, rows of all lengths follow one another, and no batch would be of one.
    spans = [len({len(item.waveform) for item in batch}) for batch in model.batches]
    assert sum(span == 1 for span in spans) >= len(spans) / 3
    assert all(len(batch) == 4 for batch in model.batches)


def raises(batch: Sequence[BenchItem], number: int) -> None:
    if any("row-004" in item.id for item in batch):
        raise ValueError("four is\ntoo much")
    if any("row-008" in item.id for item in batch):
        raise QuestionError("eight is refused")


def too_few(batch: Sequence[BenchItem], number: int) -> list[BenchAnswer] | None:
    if any("row-004" in item.id for item in batch):
        return [BenchAnswer("x")] * (len(batch) - 1)
    return None


def no_text(batch: Sequence[BenchItem], number: int) -> list[BenchAnswer] | None:
    if any("row-004" in item.id for item in batch):
        return [BenchAnswer(["x"]) for _ in batch]  # type: ignore[arg-type]
    return None


def nan_score(batch: Sequence[BenchItem], number: int) -> list[BenchAnswer] | None:
    if any("row-004" in item.id for item in batch):
        return [BenchAnswer("x", {"dog": float("nan")}) for _ in batch]
    return None


def no_answers(batch: Sequence[BenchItem], number: int) -> list[BenchAnswer] | None:
    if any("row-004" in item.id for item in batch):
        return ["plain text" for _ in batch]  # type: ignore[misc]
    return None


def hangs(batch: Sequence[BenchItem], number: int) -> None:
    if any("row-004" in item.id for item in batch):
        time.sleep(0.6)


@pytest.mark.parametrize(
    ("trouble", "message", "alone"),
    [
        (raises, "ValueError: four is too much", True),
        (too_few, "0 answers to 1 question", True),
        (no_text, "its prediction is no text but list", False),
        (nan_score, "its score of 'dog' is nan", False),
        (no_answers, "the answer is no BenchAnswer but str", False),
        (hangs, "no answer in 0.2 s", True),
    ],
)
def test_a_row_that_fails_is_recorded_and_the_rest_is_answered(
    tmp_path: Path, trouble: object, message: str, alone: bool
) -> None:
    suite = a_suite(tmp_path, 16)
    count = run(Replies(trouble), suite, tmp_path / "run", options=RunOptions(3, 0.2))
    errors = {row.id: row.error for row in read_run(tmp_path / "run").rows if row.error}
    assert errors["row-004"] == message
    assert count.rows == 16 and count.failed == len(errors)
    # Where the batch failed as a whole, the others are asked once more, alone.
    assert not alone or set(errors) <= {"row-004", "row-008"}


def test_a_system_that_hangs_for_good_stops_the_run_which_goes_on_later(tmp_path: Path) -> None:
    suite = a_suite(tmp_path, 16)
    free = threading.Event()

    def stuck(batch: Sequence[BenchItem], number: int) -> None:
        if number > 1:
            free.wait(20)

    with pytest.raises(HangingError, match="the same command goes on"):
        run(Replies(stuck), suite, tmp_path / "run", options=RunOptions(3, 0.05))
    free.set()
    lost = [row for row in read_run(tmp_path / "run").rows if row.error]
    assert [row.error for row in lost] == ["no answer in 0.05 s"] * 2 + [
        "not asked, since the system hung on the rows before"
    ]
    count = run(Replies(), suite, tmp_path / "run", options=RunOptions(3, 5.0))
    assert count.rows == 16 and count.asked == 10
    assert sum(bool(row.error) for row in read_run(tmp_path / "run").rows) == 3


def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    model = Replies(lambda batch, number: time.sleep(0.3) if number == 1 else None)
    asker = PatientAsker(model, time_limit=0.15)
    items = [BenchItem(str(n), "esc50", "classification", "?", None, 1) for n in range(2)]  # type: ignore[arg-type]
    assert asker.ask(items[:1])[0].error
    time.sleep(0.3)
    (second,) = asker.ask(items[1:])
    assert second.answer is not None and second.answer.prediction == "1 1 ?"


def test_sound_that_cannot_be_read_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = [a_row(0), a_row(1, metadata="{}"), a_row(2)]
    suite = open_suite(LocalFiles(write_parquet(tmp_path / "test.parquet", rows)))
    run(Replies(), suite, tmp_path / "run")
    errors = {row.id: row.error for row in read_run(tmp_path / "run").rows}
    assert "sample rate is None" in errors["row-001"] and not errors["row-000"] and not errors["row-002"]


def test_a_damaged_file_stops_the_run_with_its_name(tmp_path: Path) -> None:
    suite = a_suite(tmp_path)
    (tmp_path / "data" / "test.parquet").write_bytes(b"gone")
    with pytest.raises(Exception, match=r"test\.parquet: cannot be read"):
        run(Replies(), suite, tmp_path / "run")


def test_variants_put_questions_otherwise_and_only_where_they_differ(tmp_path: Path) -> None:
    options = ["one", "two", "three", "four"]
    rows = [a_row(n, options=[], output="one") for n in range(4)]
    rows += [
        a_row(n, options=options, output="one", instruction_text="Which of these? one, two, three, four")
        for n in range(4, 8)
    ]
    suite = open_suite(LocalFiles(write_parquet(tmp_path / "test.parquet", rows)))
    variants = variants_of(["Name it: {options}. {prompt}"], 2, seed=1)
    assert [of.name for of in variants] == [
        OWN, "wording1", "own-order1", "wording1-order1", "own-order2", "wording1-order2",
    ]  # fmt: skip
    model = Replies()
    run(model, suite, tmp_path / "run", variants)
    found = read_run(tmp_path / "run")
    assert set(found.variants) == {of.name for of in variants} - {OWN}
    assert all({row.id for row in of} == {row.id for row in found.rows} for of in found.variants.values())
    by_id = {name: {row.id: row for row in of} for name, of in {**found.variants, OWN: found.rows}.items()}
    assert by_id["wording1"]["row-000"].prompt == "Name it: one. What sound is heard?"
    assert "{" not in by_id["wording1"]["row-005"].prompt
    # An open question has no order to shuffle: it is not asked again.
    assert by_id["own-order1"]["row-000"] == by_id[OWN]["row-000"]
    shuffled = by_id["own-order1"]["row-005"].prompt.removeprefix("Which of these? ").split(", ")
    assert shuffled != options and sorted(shuffled) == sorted(options)
    orders = {by_id[f"own-order{n}"][id].prompt for n in (1, 2) for id in ("row-004", "row-005", "row-006")}
    assert len(orders) > 2
    asked = sum(len(batch) for batch in model.batches)
    assert asked == 8 + 8 + 2 * (4 + 4)


def test_wordings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RunError, match="empty"):
        variants_of([" "], 0, 0)
    with pytest.raises(RunError, match="twice"):
        variants_of(["{prompt}"], 0, 0)
    with pytest.raises(RunError, match="1 row or more"):
        RunOptions(batch_size=0)
    with pytest.raises(RunError, match="above 0"):
        RunOptions(time_limit=float("nan"))


@pytest.mark.parametrize(("rows", "seconds"), [(1, 600), (30, 600), (256, 5120)])
def test_a_large_batch_gets_the_time_that_it_needs(rows: int, seconds: float) -> None:
    assert RunOptions(rows).seconds == seconds
    assert RunOptions(rows, 5.0).seconds == 5.0


@pytest.mark.parametrize(
    "line",
    ["[]", '{"id": 1, "dataset_name": "a", "prediction": "b", "label": "c"}', '{"id": "x"}', "[" * 5000,
     '{"id": "1", "dataset_name": "a", "prediction": "b", "label": "c", "scores": [1]}',
     '{"id": "1", "dataset_name": "a", "prediction": "b", "label": "c", "scores": {"a": "x"}}'],
)  # fmt: skip
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str) -> None:
    good = RunRow("1", "a", "b", "c", "?", "g")
    path = tmp_path / "predictions.jsonl"
    path.write_text(
        json.dumps(
            {"id": "1", "dataset_name": "a", "prediction": "b", "label": "c", "prompt": "?", "group": "g"}
        )
        + "\n"
    )
    assert read_journal(path) == [good]
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RunError, match="line 2: no row of a run"):
        read_journal(path)
