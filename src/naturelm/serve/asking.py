"""Questions of many requests, answered in shared batches by one model.

One thread works for the model. It takes what has waited longest, at most a batch of it, whatever the prompts; each
query keeps its own options. A query whose asker has gone, or whose time is up, leaves the queue, and an answer that is
being written for it is cut off at the next token.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer, GenerationOptions, Query
from naturelm.errors import NatureLMError
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import Limits, QueueOptions

log = logging.getLogger("naturelm.serve")

_LONGEST_WAIT_TOLD = 60


@dataclass(frozen=True)
class Asked:
    """One question of a request. stream: whether its text is wanted while it is written."""

    query: Query
    options: GenerationOptions = field(default_factory=GenerationOptions)
    stream: bool = False


@dataclass(frozen=True)
class Piece:
    """Text that has come to an answer, with the token that brought it.

    text: "" while a character is not whole yet. token_text: the token alone, however broken. log_prob: natural.
    """

    text: str
    token_text: str
    log_prob: float


@dataclass(frozen=True)
class Reply:
    """An answer, and its tokens one by one as text."""

    answer: Answer
    token_texts: tuple[str, ...]


class Meter(Protocol):
    """Is told what happens."""

    def waiting(self, questions: int) -> None:
        """So many questions wait now."""

    def answered(self, replies: Sequence[Reply], seconds: float) -> None:
        """A batch was answered."""


class Ticket:
    """A question that was let in. Belongs to the event loop that it was made in."""

    def __init__(self, asked: Asked, model: NatureLM, seconds: float) -> None:
        self.asked = asked
        self.gone = False
        self.deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._reply: asyncio.Future[Reply] = self._loop.create_future()
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        self._written: list[int] = []
        self._tokens_told = 0
        self._told = ""

    async def reply(self) -> Reply:
        """The answer. Raises RequestFault; a cancelled wait withdraws the question."""
        try:
            async with asyncio.timeout(max(self.deadline - time.monotonic(), 0)):
                return await self._reply
        except TimeoutError:
            raise RequestFault(
                Fault.TIMED_OUT,
                f"no answer within {self._seconds:g} s; ask for less at once, or try again when fewer ask",
            ) from None
        finally:
            self.gone = True

    async def pieces(self) -> AsyncIterator[Piece]:
        """What is written, as it comes; ends with the answer or its fault, which `reply` has.

        Raises TimeoutError once its time is up.
        """
        while not self._reply.done() or not self._pieces.empty():
            async with asyncio.timeout_at(self._loop.time() + max(self.deadline - time.monotonic(), 0.01)):
                piece = await self._pieces.get()
            if piece is None:
                return
            yield piece

    def withdraw(self) -> None:
        """Nobody waits for it any more."""
        self.gone = True

    @property
    def unwanted(self) -> bool:
        """Whether its asker has gone, or its time is up."""
        return self.gone or time.monotonic() > self.deadline

    # --- from the model's thread ---

    def wrote(self, token: int, log_prob: float) -> None:
        """The answer goes on."""
        if not self.asked.stream or self.unwanted:
            return
        self._written.append(token)
        if len(self._written) <= self._tokens_told:
            return
        self._tokens_told += 1
        text = self._model.processor.decode_answer(self._written)
        # A character of several tokens is told once it is whole.
        new = text[len(self._told) :] if text.startswith(self._told) and not text.endswith("\ufffd") else ""
        self._told += new
        self._tell(Piece(new, self._model.processor.decode_token(token), log_prob))

    def begin_again(self) -> None:
        """It is asked once more; what has been told already is not told again."""
        self._written.clear()

    def finish(self, reply: Reply) -> None:
        """It is answered."""
        rest = reply.answer.text[len(self._told) :]
        if self.asked.stream and rest:
            self._tell(Piece(rest, "", 0.0))
        self._settle(lambda: self._reply.set_result(reply))

    def fail(self, fault: RequestFault) -> None:
        """It is not answered."""
        self._settle(lambda: self._reply.set_exception(fault))

    def _tell(self, piece: Piece | None) -> None:
        self._in_loop(lambda: self._pieces.put_nowait(piece))

    def _settle(self, settle: Callable[[], None]) -> None:
        def in_loop() -> None:
            if not self._reply.done():
                settle()
                self._reply.exception()  # looked at, so that Python does not complain where nobody waits any more
            self._pieces.put_nowait(None)

        self._in_loop(in_loop)

    def _in_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed: nobody is there to be told
            self.gone = True


class _Watch:
    """Tells the tickets of a batch what is written for them."""

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self._tickets = tickets

    def wrote(self, query: int, token: int, log_prob: float) -> None:
        self._tickets[query].wrote(token, log_prob)

    def unwanted(self, query: int) -> bool:
        return self._tickets[query].unwanted


class Asker:
    """The queue before one model, and the thread that empties it.

    Between `start` and `close` all of it may be used from any event loop; the model belongs to its thread.
    """

    def __init__(
        self,
        model: NatureLM,
        options: QueueOptions,
        limits: Limits,
        meter: Meter,
        *,
        log_content: bool = False,
    ) -> None:
        self.model = model
        self._log_content = log_content
        self.options = options
        self._limits = limits
        self._meter = meter
        self._queue: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="naturelm-asker", daemon=True)
        self._seconds_each = 0.5  # of late, an answer; a first guess
        self._answering = 0

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self, seconds: float | None = None) -> bool:
        """Let nobody in any more, answer all that wait, and stop. Whether that took no longer than `seconds`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether questions are let in."""
        return self._thread.is_alive() and not self._closing

    @property
    def busy(self) -> bool:
        """Whether questions wait or are being answered."""
        return bool(self._queue) or self._answering > 0

    def check_room(self, questions: int = 1) -> None:
        """RequestFault where so many questions could not be let in now: before any work is done for them."""
        with self._changed:
            self._check_room(questions)

    def submit(self, asked: Sequence[Asked]) -> list[Ticket]:
        """Let questions in, all or none; in the running event loop. Raises RequestFault."""
        tickets = [Ticket(each, self.model, self.options.request_seconds) for each in asked]
        with self._changed:
            self._check_room(len(asked))
            self._queue.extend(tickets)
            self._meter.waiting(len(self._queue))
            self._changed.notify_all()
        return tickets

    async def ask(self, asked: Asked) -> Reply:
        """The answer to one question. Raises RequestFault."""
        return await self.submit([asked])[0].reply()

    def _check_room(self, questions: int) -> None:
        if self._closing or not self._thread.is_alive():
            raise RequestFault(Fault.STOPPING, "the server is stopping; ask again once it is back")
        if questions > self.options.queue_size:
            raise RequestFault(
                Fault.TOO_LARGE, f"{questions} questions at once; at most {self.options.queue_size} can wait"
            )
        if len(self._queue) + questions > self.options.queue_size:
            before = len(self._queue) + self._answering
            wait = min(max(math.ceil(before * self._seconds_each), 1), _LONGEST_WAIT_TOLD)
            raise RequestFault(
                Fault.BUSY, f"{len(self._queue)} questions wait already; try again later", retry_after=wait
            )

    # --- the model's thread ---

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            began = time.monotonic()
            self._answer([ticket for ticket in batch if self._is_askable(ticket)])
            if batch:
                each = (time.monotonic() - began) / len(batch)
                self._seconds_each = 0.8 * self._seconds_each + 0.2 * each
            self._answering = 0

    def _next_batch(self) -> list[Ticket] | None:
        """What is to be answered next; None once all is done and nobody is let in any more."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            until = time.monotonic() + self.options.gather_seconds
            while len(self._queue) < self.options.batch_size and not self._closing:
                if not self._changed.wait(until - time.monotonic()):
                    break
            batch: list[Ticket] = []
            while self._queue and len(batch) < self.options.batch_size:
                ticket = self._queue.popleft()
                if ticket.unwanted:
                    ticket.fail(RequestFault(Fault.TIMED_OUT, "its time was up before its turn came"))
                else:
                    batch.append(ticket)
            self._answering = len(batch)
            self._meter.waiting(len(self._queue))
            return batch

    def _is_askable(self, ticket: Ticket) -> bool:
        """Whether the model can take it; where not, its asker is told."""
        asked = ticket.asked
        try:
            _check_text((asked.query.question, *asked.query.choices))
            tokens = self.model.prompt_tokens(asked.query)
            most = min(
                self._limits.question_tokens + self.model.sound_tokens(asked.query),
                self.model.longest_prompt - asked.options.max_new_tokens,
            )
            if tokens > most:
                raise RequestFault(
                    Fault.TOO_LARGE, f"question and sound make {tokens} tokens; at most {most} are answered"
                )
        except RequestFault as fault:
            ticket.fail(fault)
            return False
        except NatureLMError as error:
            ticket.fail(RequestFault(Fault.INVALID, str(error)))
            return False
        except Exception:  # others must not suffer from it
            log.exception("a question could not be read")
            ticket.fail(RequestFault(Fault.INTERNAL, "the model failed at this question"))
            return False
        return True

    def _answer(self, tickets: Sequence[Ticket]) -> None:
        if not tickets:
            return
        began = time.monotonic()
        try:
            answers = self.model.answer(
                [ticket.asked.query for ticket in tickets],
                [ticket.asked.options for ticket in tickets],
                _Watch(tickets),
            )
            replies = [self._reply(answer) for answer in answers]
        except Exception as error:  # of the model, out of memory too: others must not suffer from it
            if len(tickets) > 1:
                for ticket in tickets:
                    ticket.begin_again()
                    self._answer([ticket])
                return
            log.exception("a question could not be answered")
            known = isinstance(error, NatureLMError)
            tickets[0].fail(
                RequestFault(Fault.INVALID, str(error))
                if known
                else RequestFault(
                    Fault.INTERNAL, "the model failed at this question; the server's log says how"
                )
            )
            return
        for ticket, reply in zip(tickets, replies, strict=True):
            ticket.finish(reply)
            if self._log_content:
                log.info("asked %r, answered %r", ticket.asked.query.question, reply.answer.text)
        self._meter.answered(replies, time.monotonic() - began)

    def _reply(self, answer: Answer) -> Reply:
        return Reply(answer, tuple(self.model.processor.decode_token(token) for token in answer.token_ids))


def _check_text(texts: Sequence[str]) -> None:
    """RequestFault for half a character, which JSON can spell and no tokenizer takes."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        raise RequestFault(Fault.INVALID, "the text is not proper Unicode; send whole characters") from None
