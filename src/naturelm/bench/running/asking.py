"""One batch to a system under test, whatever it does: raise, answer too little, or not answer at all."""

import math
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from naturelm.bench.models.base import BenchAnswer, BenchItem, BenchModel
from naturelm.errors import NatureLMError

_MOST_HANGING = 3
"""Rows in a row that are not answered in time, after which the system is taken to hang for good."""
_LONGEST_REASON = 300


class HangingError(NatureLMError):
    """A system that has stopped answering; the run can go on later with the same command."""


@dataclass(frozen=True)
class Outcome:
    """What came of one row."""

    answer: BenchAnswer | None = None
    error: str = ""
    """Why there is no answer."""


class PatientAsker:
    """Asks a system, waits no longer than the limit, and asks row by row where a batch fails.

    A call that is not back in time is left to itself, since no call can be stopped from outside: its thread ends
    with the process.
    """

    def __init__(self, model: BenchModel, *, time_limit: float) -> None:
        """time_limit: seconds for a batch."""
        self._model = model
        self._limit = time_limit
        self._hanging = 0
        self._worker: _Worker | None = None

    def ask(self, batch: Sequence[BenchItem]) -> list[Outcome]:
        """One outcome to each item. Raises HangingError after a batch in which three calls in a row were not back in time."""
        if self._hanging >= _MOST_HANGING:
            raise HangingError(
                f"{self._hanging} calls in a row were not back in time ({self._limit:g} s each): the system hangs; what it "
                "has answered is kept, and the same command goes on after the rows that it hung on"
            )
        if len(batch) > 1:
            try:
                answers = self._called(batch)
                if len(answers) == len(batch):
                    return [_outcome(answer) for answer in answers]
            except _NotAnswered:
                pass
        return [self._alone(item) for item in batch]

    def _alone(self, item: BenchItem) -> Outcome:
        try:
            answers = self._called([item])
        except _NotAnswered as error:
            return Outcome(error=str(error))
        if len(answers) != 1:
            return Outcome(error=f"{len(answers)} answers to 1 question")
        return _outcome(answers[0])

    def _called(self, batch: Sequence[BenchItem]) -> Sequence[BenchAnswer]:
        if self._hanging >= _MOST_HANGING:
            # The rest of the batch is recorded as well, so that a run that goes on begins after it.
            raise _NotAnswered("not asked, since the system hung on the rows before")
        self._worker = self._worker or _Worker(self._model)
        self._worker.batches.put(batch)
        try:
            given = self._worker.answers.get(timeout=self._limit)
        except queue.Empty:
            self._worker.batches.put(None)  # to end, should it ever come back
            self._worker = None
            self._hanging += 1
            raise _NotAnswered(f"no answer in {self._limit:g} s") from None
        self._hanging = 0
        if isinstance(given, BaseException):
            kind = "" if isinstance(given, NatureLMError) else f"{type(given).__name__}: "
            reason = " ".join(f"{kind}{given}".split()).removesuffix(":")
            raise _NotAnswered(reason[:_LONGEST_REASON] or type(given).__name__)
        return given


class _NotAnswered(Exception):
    """A call that raised, or is not back in time."""


class _Worker:
    """A thread that asks. One for all batches, since each thread that uses torch has a pool of its own."""

    def __init__(self, model: BenchModel) -> None:
        self.batches: queue.Queue[Sequence[BenchItem] | None] = queue.Queue()
        self.answers: queue.Queue[Sequence[BenchAnswer] | BaseException] = queue.Queue()
        self._model = model
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while (batch := self.batches.get()) is not None:
            # Everything, since an exception that ends this thread would pass for a call that never comes back.
            try:
                self.answers.put(list(self._model.answer(batch)))
            except BaseException as error:
                self.answers.put(error)


def _outcome(answer: object) -> Outcome:
    if not isinstance(answer, BenchAnswer):
        return Outcome(error=f"the answer is no BenchAnswer but {type(answer).__name__}")
    if not isinstance(answer.prediction, str):
        return Outcome(error=f"its prediction is no text but {type(answer.prediction).__name__}")
    if answer.scores is None:
        return Outcome(answer)
    try:
        scores = {str(label): float(score) for label, score in answer.scores.items()}
    except (TypeError, ValueError, AttributeError):
        return Outcome(error="its scores are no mapping of labels to numbers")
    wrong = next((label for label, score in scores.items() if not math.isfinite(score)), None)
    if wrong is not None:
        return Outcome(error=f"its score of {wrong!r} is {scores[wrong]}")
    return Outcome(BenchAnswer(answer.prediction, scores))
