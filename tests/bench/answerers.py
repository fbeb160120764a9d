"""Answerers for the tests that need no model: always right, always wrong, or guessing."""

from collections.abc import Callable, Sequence

import numpy as np

from naturelm.answer.results import Answer, Choice, Clip, GenerationOptions, Query
from naturelm.errors import QuestionError

Reply = Callable[[Query], str]


class FakeAnswerer:
    """Writes `reply(query)`; chooses it as well where it is in the closed set, else the first label."""

    sampling_rate = 16_000

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.calls: list[int] = []
        self.clips: list[Clip] = []

    def read_clip(self, source: np.ndarray, *, source_rate: int) -> Clip:
        assert source_rate == self.sampling_rate
        return Clip(source, end=len(source) / source_rate)

    def answer(self, queries: Sequence[Query], options: GenerationOptions | None = None) -> list[Answer]:
        self.calls.append(len(queries))
        self.clips += [query.clips[0] for query in queries]
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Answer:
        text = self.reply(query)
        if text == "refuse":
            raise QuestionError("the question is too long; ask a shorter one")
        if not query.choices:
            return Answer("", 0.0, 1.0, query.question, text, 1.0)
        chosen = text if text in query.choices else query.choices[0]
        choices = (Choice(chosen, 0.75, -0.3),)
        return Answer("", 0.0, 1.0, query.question, chosen, 0.75, choices=choices)


def by_question(answers: dict[str, str]) -> Reply:
    """The answer that a question has in a table."""
    return lambda query: answers[query.question]
