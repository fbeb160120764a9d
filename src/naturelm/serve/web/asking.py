"""What the page asks about clips: one, one with a closed set, or many with the same question."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from naturelm.answer.results import Answer, Clip, GenerationOptions, Query, check_choices
from naturelm.errors import NatureLMError
from naturelm.serve.asking import Asked, Asker
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import Limits
from naturelm.serve.web.uploads import Upload, read_clip, split_labels

_LONGEST_LABEL = 200
_CLIPS_AT_ONCE = 8
_LONGEST_WAIT = 60.0  # s in all for room in the queue, for one clip of many
COLUMNS = ("File", "Answer", "Probability", "Seconds of sound", "Error")


@dataclass(frozen=True)
class Wanted:
    """A question, and the closed set if there is one."""

    question: str
    choices: tuple[str, ...] = ()

    @classmethod
    def checked(cls, question: object, labels: object, none: object, limits: Limits) -> "Wanted":
        """From what the browser sends. labels: None for a free answer. RequestFault."""
        question = checked_text(question, "the question", limits.question_chars)
        if not question:
            raise RequestFault(Fault.INVALID, "the question is empty; ask something")
        if labels is None:
            return cls(question)
        names = checked_labels(labels, limits)
        try:
            return cls(question, check_choices(names, none is True))
        except NatureLMError as error:
            raise RequestFault(Fault.INVALID, str(error)) from error


@dataclass(frozen=True)
class Row:
    """What came of one file of many. error: "" where it was answered."""

    name: str
    answer: Answer | None
    error: str = ""

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of `COLUMNS`."""
        if self.answer is None:
            return (self.name, "", "", "", self.error)
        seconds = self.answer.end - self.answer.start
        return (self.name, self.answer.text, f"{self.answer.probability:.6f}", f"{seconds:.3f}", "")


class Clips:
    """Asks about uploads, through the queue."""

    def __init__(self, asker: Asker, limits: Limits) -> None:
        self._asker = asker
        self._limits = limits

    async def ask(self, upload: Upload, wanted: Wanted) -> Answer:
        """The answer to one upload. RequestFault."""
        self._asker.check_room()
        return await self._answer(await self._read(upload), wanted)

    async def ask_each(self, uploads: Sequence[Upload], wanted: Wanted) -> AsyncIterator[list[Row]]:
        """The rows of many uploads, in their order, as they come, a few at once."""
        for first in range(0, len(uploads), _CLIPS_AT_ONCE):
            part = uploads[first : first + _CLIPS_AT_ONCE]
            yield list(await asyncio.gather(*(self._row(upload, wanted) for upload in part)))

    async def _row(self, upload: Upload, wanted: Wanted) -> Row:
        waited = 0.0
        while True:
            try:
                return Row(upload.name, await self._answer(await self._read(upload), wanted))
            except RequestFault as fault:
                if fault.kind is not Fault.BUSY or waited >= _LONGEST_WAIT:
                    return Row(upload.name, None, str(fault))
                # Others fill the queue. The rest of a batch need not fail for it.
                wait = float(fault.retry_after or 1)
                await asyncio.sleep(wait)
                waited += wait

    async def _read(self, upload: Upload) -> Clip:
        return await asyncio.to_thread(read_clip, upload, self._asker.model, self._limits.clip_seconds)

    async def _answer(self, clip: Clip, wanted: Wanted) -> Answer:
        options = GenerationOptions(max_new_tokens=min(64, self._limits.new_tokens))
        query = Query((clip,), wanted.question, wanted.choices)
        return (await self._asker.ask(Asked(query, options))).answer


def checked_text(text: object, what: str, most: int) -> str:
    """A text of the page, stripped. RequestFault."""
    if text is None:
        return ""
    if not isinstance(text, str):
        raise RequestFault(Fault.INVALID, f"{what} is not a text")
    if len(text) > most:
        raise RequestFault(Fault.TOO_LARGE, f"{what} has {len(text)} characters; at most {most} are taken")
    return text.strip()


def checked_labels(labels: object, limits: Limits) -> tuple[str, ...]:
    """The labels of a closed set. RequestFault."""
    names = split_labels(checked_text(labels, "the list of labels", limits.choices * _LONGEST_LABEL))
    if not names:
        raise RequestFault(Fault.INVALID, "there are no labels; write them down, one a line")
    if len(names) > limits.choices:
        raise RequestFault(Fault.TOO_LARGE, f"{len(names)} labels; at most {limits.choices} are taken")
    for name in names:
        if len(name) > _LONGEST_LABEL:
            raise RequestFault(
                Fault.TOO_LARGE, f"the label {name[:40]}… is longer than {_LONGEST_LABEL} characters"
            )
    return names


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """The rows as CSV, UTF-8."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row.cells() for row in rows)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
