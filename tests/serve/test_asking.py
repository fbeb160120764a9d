"""The queue before the model: shared batches, equal answers, room, time limits, those who go, and the end."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from serving import SlowModel

from naturelm.answer.results import Clip, GenerationOptions, Query
from naturelm.serve.asking import Asked, Asker, Piece, Reply
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import Limits, QueueOptions
from tiny import noise, tiny_naturelm

SHORT = GenerationOptions(max_new_tokens=6)


class Counts:
    """A meter that keeps what it is told."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.batches: list[int] = []

    def waiting(self, questions: int) -> None:
        self.lengths.append(questions)

    def answered(self, replies: Sequence[Reply], seconds: float) -> None:
        self.batches.append(len(replies))


@contextmanager
def asking(model: SlowModel, limits: Limits | None = None, **options: float) -> Iterator[Asker]:
    asker = Asker(model, QueueOptions(**options), limits or Limits(), Counts())
    asker.start()
    try:
        yield asker
    finally:
        model.go.set()
        assert asker.close(30)


def asked(question: str, seed: int = 0, stream: bool = False, **options: float) -> Asked:
    clip = Clip(noise(0.5, seed), "audio 1", 0.0, 0.5)
    return Asked(Query((clip,), question), GenerationOptions(**{"max_new_tokens": 6, **options}), stream)


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds() and time.monotonic() < until:
        time.sleep(0.005)
    assert holds()


async def in_thread(holds: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, holds)


def test_questions_that_wait_share_a_batch_and_are_answered_as_alone() -> None:
    model = SlowModel()
    questions = [
        asked(f"What is it? {i}", seed=i % 3, max_new_tokens=3 + i % 4, temperature=i % 2) for i in range(12)
    ]

    async def all_at_once(asker: Asker) -> list[Reply]:
        model.go.clear()
        first = asyncio.ensure_future(asker.ask(asked("First?")))
        await in_thread(lambda: asker._answering == 1)
        rest = [asyncio.ensure_future(asker.ask(each)) for each in questions]
        await in_thread(lambda: len(asker._queue) == len(questions))
        model.go.set()
        await first
        return list(await asyncio.gather(*rest))

    with asking(model) as asker:
        replies = asyncio.run(all_at_once(asker))
    assert [len(batch) for batch in model.batches] == [1, 12]
    alone = tiny_naturelm()
    for each, reply in zip(questions, replies, strict=True):
        expected = alone.answer([each.query], each.options)[0]
        assert (reply.answer.text, reply.answer.token_ids) == (expected.text, expected.token_ids)
        assert len(reply.token_texts) == len(expected.token_ids)


def test_a_clip_that_many_ask_about_is_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SlowModel()
    heard: list[int] = []
    hear = model.model.get_audio_features
    monkeypatch.setattr(
        model.model,
        "get_audio_features",
        lambda values, *rest, **named: heard.append(len(values)) or hear(values, *rest, **named),
    )

    async def many(asker: Asker) -> None:
        await asyncio.gather(*(asker.ask(asked(f"Question {i}?", seed=i % 2)) for i in range(10)))
        await asker.ask(asked("Another?", seed=1))

    with asking(model) as asker:
        asyncio.run(many(asker))
    assert sum(heard) == 2


def test_what_finds_no_room_is_refused_with_a_time_to_wait() -> None:
    model = SlowModel()

    async def crowd(asker: Asker) -> None:
        model.go.clear()
        tickets = asker.submit([asked("First?")])
        await in_thread(lambda: asker._answering == 1)
        tickets += asker.submit([asked(f"{i}?") for i in range(3)])
        with pytest.raises(RequestFault, match="3 questions wait already") as caught:
            asker.submit([asked("a?"), asked("b?")])  # one would fit: both or none
        assert caught.value.kind is Fault.BUSY and 1 <= caught.value.retry_after <= 60
        with pytest.raises(RequestFault) as caught:
            asker.check_room(2)
        assert caught.value.kind is Fault.BUSY
        with pytest.raises(RequestFault) as caught:
            asker.check_room(5)
        assert caught.value.kind is Fault.TOO_LARGE
        tickets += asker.submit([asked("c?")])
        model.go.set()
        assert len([await ticket.reply() for ticket in tickets]) == 5

    with asking(model, queue_size=4) as asker:
        asyncio.run(crowd(asker))


def test_a_question_whose_time_is_up_is_refused_and_not_answered() -> None:
    model = SlowModel()

    async def late(asker: Asker) -> None:
        model.go.clear()
        waiting = [asyncio.ensure_future(asker.ask(asked(f"{i}?"))) for i in range(2)]
        for each in waiting:
            with pytest.raises(RequestFault, match=r"no answer within 0\.3 s") as caught:
                await each
            assert caught.value.kind is Fault.TIMED_OUT
        model.go.set()

    with asking(model, request_seconds=0.3, batch_size=1) as asker:
        asyncio.run(late(asker))
        eventually(lambda: not asker._queue)
    assert sum(map(len, model.batches)) == 1  # the second never came to its turn


def test_a_question_whose_asker_goes_is_withdrawn() -> None:
    model = SlowModel()

    async def leave(asker: Asker) -> None:
        model.go.clear()
        first = asyncio.ensure_future(asker.ask(asked("First?")))
        await in_thread(lambda: asker._answering == 1)
        second = asyncio.ensure_future(asker.ask(asked("Second?")))
        third = asyncio.ensure_future(asker.ask(asked("Third?")))
        await in_thread(lambda: len(asker._queue) == 2)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        model.go.set()
        await first
        await third

    with asking(model, batch_size=1) as asker:
        asyncio.run(leave(asker))
    assert model.batches == [["First?"], ["Third?"]]


def test_an_answer_that_nobody_waits_for_is_cut_off() -> None:
    model = SlowModel()
    long = asked("Tell me all?", stream=True, max_new_tokens=400, temperature=2.0)
    whole = tiny_naturelm().answer([long.query], long.options)[0].token_ids
    assert len(whole) > 30

    async def read_some(asker: Asker) -> None:
        ticket = asker.submit([long])[0]
        async for _ in ticket.pieces():
            ticket.withdraw()
            break

    steps: list[int] = []
    forward = model.model.language_model.forward
    with asking(model) as asker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            model.model.language_model, "forward", lambda *a, **k: steps.append(1) or forward(*a, **k)
        )
        asyncio.run(read_some(asker))
        eventually(lambda: asker._answering == 0)
    assert 0 < len(steps) < len(whole)


def test_pieces_join_to_the_answer() -> None:
    model = SlowModel()
    each = asked("Say on?", stream=True, max_new_tokens=40, temperature=1.5)

    async def read(asker: Asker) -> tuple[list[Piece], Reply]:
        ticket = asker.submit([each])[0]
        return [piece async for piece in ticket.pieces()], await ticket.reply()

    with asking(model) as asker:
        pieces, reply = asyncio.run(read(asker))
    assert "".join(piece.text for piece in pieces) == reply.answer.text
    told = [piece for piece in pieces if piece.token_text]
    assert tuple(piece.token_text for piece in told) == reply.token_texts
    assert tuple(piece.log_prob for piece in told) == reply.answer.token_log_probs
    assert len(told) > 5


def test_a_fault_at_one_question_is_not_the_others(caplog: pytest.LogCaptureFixture) -> None:
    model = SlowModel()
    model.broken = "POISON"

    async def several(asker: Asker) -> list[Reply | BaseException]:
        model.go.clear()
        first = asyncio.ensure_future(asker.ask(asked("First?")))
        await in_thread(lambda: asker._answering == 1)
        rest = [
            asyncio.ensure_future(asker.ask(asked(question)))
            for question in ("Good?", "POISON?", " ", "Also good?")
        ]
        await in_thread(lambda: len(asker._queue) == 4)
        model.go.set()
        return list(await asyncio.gather(first, *rest, return_exceptions=True))

    with asking(model) as asker:
        first, good, poison, empty, also = asyncio.run(several(asker))
    assert all(isinstance(each, Reply) for each in (first, good, also))
    assert isinstance(poison, RequestFault) and poison.kind is Fault.INTERNAL
    assert "secret" not in str(poison) and "secret" in caplog.text
    assert isinstance(empty, RequestFault) and empty.kind is Fault.INVALID and "empty" in str(empty)


def test_a_question_of_too_many_tokens_is_refused() -> None:
    model = SlowModel()
    with asking(model, Limits(question_tokens=50)) as asker:
        with pytest.raises(RequestFault, match=r"make \d+ tokens; at most") as caught:
            asyncio.run(asker.ask(asked("word " * 100)))
        assert caught.value.kind is Fault.TOO_LARGE
        # What the language model has room for, counts too: 512 here.
        with pytest.raises(RequestFault, match="tokens; at most"):
            asyncio.run(asker.ask(asked("Short?", max_new_tokens=511)))
        assert asyncio.run(asker.ask(asked("Short?"))).answer.text is not None


def test_closing_answers_what_was_let_in_and_lets_nobody_in() -> None:
    model = SlowModel()

    async def close(asker: Asker) -> None:
        model.go.clear()
        tickets = asker.submit([asked(f"{i}?") for i in range(5)])
        closing = threading.Thread(target=asker.close)
        closing.start()
        await in_thread(lambda: not asker.ready)
        with pytest.raises(RequestFault) as caught:
            asker.submit([asked("Late?")])
        assert caught.value.kind is Fault.STOPPING
        model.go.set()
        assert len([await ticket.reply() for ticket in tickets]) == 5
        await asyncio.to_thread(closing.join)

    with asking(model, batch_size=2) as asker:
        asyncio.run(close(asker))


def test_questions_and_answers_are_logged_only_if_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for log_content in (False, True):
        asker = Asker(SlowModel(), QueueOptions(), Limits(), Counts(), log_content=log_content)
        asker.start()
        asyncio.run(asker.ask(asked("A secret place?")))
        asker.close()
        assert ("A secret place?" in caplog.text) is log_content
