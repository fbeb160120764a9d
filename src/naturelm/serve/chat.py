"""OpenAI's chat completions over the model, so that programs written for those can ask about sound.

    POST /v1/chat/completions
    {"model": "mini",
     "messages": [{"role": "user", "content": [
         {"type": "input_audio", "input_audio": {"data": "UklGR...", "format": "wav"}},
         {"type": "text", "text": "What is the common name for the focal species in the audio?"}]}]}

The model answers one question at a time: messages of system, developer and user are joined into it, and those of an
assistant are refused. What is known of OpenAI's API and not done here is refused in words and not passed over.
"""

import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from naturelm.answer.results import Choice
from naturelm.serve.asking import Asker, Reply, Ticket
from naturelm.serve.chat_question import Chat, read_chat
from naturelm.serve.chat_schema import (
    AnswerChoice,
    AnswerMessage,
    ChatCompletion,
    ChatRequest,
    ChoiceScore,
    Logprobs,
    Model,
    ModelList,
    PromptDetails,
    TokenLogprob,
    Usage,
)
from naturelm.serve.connection import while_connected
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import Limits
from naturelm.serve.responses import REFUSALS, ErrorBody, refusal
from naturelm.serve.sound import SoundReader
from naturelm.serve.writing import Delta, Token, Writing, written_tokens

log = logging.getLogger("naturelm.serve")

_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorBody, "description": "No such model is served"}
}
_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def chat_router(asker: Asker, reader: SoundReader, limits: Limits) -> APIRouter:
    """The addresses of OpenAI's API."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    served = Model(id=asker.model.name, created=int(time.time()))

    def check_model(name: str) -> None:
        if name != served.id:
            raise RequestFault(
                Fault.NOT_FOUND,
                f"the model {name[:100]!r} is not served here; {served.id!r} is",
                param="model",
            )

    @router.get("/models", responses={401: REFUSALS[401]})
    async def models() -> ModelList:
        """What is served."""
        return ModelList(data=[served])

    @router.get("/models/{model:path}", responses={401: REFUSALS[401], **_UNKNOWN})
    async def model(model: str) -> Model:
        """Whether a model is served."""
        check_model(model)
        return served

    @router.post(
        "/chat/completions",
        response_model=None,
        responses={
            **REFUSALS,
            **_UNKNOWN,
            200: {"model": ChatCompletion, "content": {"text/event-stream": {}}},
        },
    )
    async def chat_completions(request: Request, asked: ChatRequest) -> Response:
        """Answer a question, as a whole or as a stream of server-sent events."""
        check_model(asked.model)
        chat = read_chat(asked, limits)
        asker.check_room()
        answering = _Answering(asker, reader, chat)
        if chat.stream:
            return await while_connected(request, answering.begun())
        completion = await while_connected(request, answering.whole())
        return JSONResponse(completion)

    return router


@dataclass(frozen=True)
class _Answering:
    """One chat on its way to its answer."""

    asker: Asker
    reader: SoundReader
    chat: Chat

    async def whole(self) -> dict[str, Any]:
        """The answer, complete. Raises RequestFault; a cancelled wait withdraws the question."""
        ticket = await self._submitted()
        try:
            written: tuple[str, Sequence[Token]] | None = None
            stopped = False
            if self.chat.stops:
                writing = Writing(ticket, self.chat.stops, self.chat.with_logprobs)
                deltas = [delta async for delta in writing.deltas()]
                stopped = writing.stopped
                written = (
                    "".join(delta.text for delta in deltas),
                    [token for delta in deltas for token in delta.tokens],
                )
            reply = await ticket.reply()
        finally:
            ticket.withdraw()
        text, tokens = written or (reply.answer.text, written_tokens(reply))
        choice = AnswerChoice(
            index=0,
            message=AnswerMessage(role="assistant", content=text, refusal=None),
            finish_reason=_finish(reply, stopped),
            logprobs=_logprobs(tokens) if self.chat.with_logprobs else None,
        )
        if self.chat.choices:
            choice.choice_scores = _scores(reply.answer.choices)
        return ChatCompletion(
            **self._head("chat.completion"), choices=[choice], usage=self._usage(ticket, reply)
        ).model_dump(exclude_unset=True)

    async def begun(self) -> Response:
        """A stream, once the first of the answer is there: until then a refusal has a status of its own."""
        ticket = await self._submitted()
        writing = Writing(ticket, self.chat.stops, self.chat.with_logprobs)
        deltas = writing.deltas()
        try:
            first = await anext(deltas, None)
        except BaseException:
            ticket.withdraw()
            raise
        return _TicketStream(ticket, self._events(ticket, writing, first, deltas))

    async def _submitted(self) -> Ticket:
        return self.asker.submit([await self.chat.asked(self.reader)])[0]

    async def _events(
        self, ticket: Ticket, writing: Writing, first: Delta | None, others: AsyncIterator[Delta]
    ) -> AsyncIterator[bytes]:
        head = self._head("chat.completion.chunk")
        if self.chat.with_usage:
            head["usage"] = None
        try:
            yield _event(head, _piece({"role": "assistant", "content": ""}))
            if first is not None:
                yield self._delta_event(head, first)
                async for delta in others:
                    yield self._delta_event(head, delta)
            if writing.stopped and not self.chat.with_usage:  # others of its batch may go on for long
                yield _event(head, _piece({}, "stop"))
            else:
                reply = await ticket.reply()
                last = _piece({}, _finish(reply, writing.stopped))
                if self.chat.choices:
                    last["choice_scores"] = [score.model_dump() for score in _scores(reply.answer.choices)]
                yield _event(head, last)
                if self.chat.with_usage:
                    yield _event({**head, "usage": self._usage(ticket, reply).model_dump()})
        except RequestFault as fault:
            yield _fault_event(fault)
            return
        except Exception:
            log.exception("a stream broke off")
            yield _fault_event(
                RequestFault(Fault.INTERNAL, "the server failed at this answer; its log says how")
            )
            return
        yield b"data: [DONE]\n\n"

    def _delta_event(self, head: dict[str, Any], delta: Delta) -> bytes:
        piece = _piece({"content": delta.text})
        if self.chat.with_logprobs:
            piece["logprobs"] = _logprobs(delta.tokens).model_dump()
        return _event(head, piece)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self.asker.model.name,
            "system_fingerprint": self.asker.model.revision or None,
        }

    def _usage(self, ticket: Ticket, reply: Reply) -> Usage:
        prompt, written = reply.answer.prompt_tokens, len(reply.answer.token_ids)
        heard = self.asker.model.sound_tokens(ticket.asked.query)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=written,
            total_tokens=prompt + written,
            prompt_tokens_details=PromptDetails(audio_tokens=heard),
        )


class _TicketStream(StreamingResponse):
    """A stream whose question is withdrawn when it ends, be it because the client has gone."""

    def __init__(self, ticket: Ticket, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_STREAM_HEADERS)
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Not left to the generator, which does not even begin where the client has gone before.
            self._ticket.withdraw()


def _event(head: dict[str, Any], *pieces: dict[str, Any]) -> bytes:
    content = json.dumps({**head, "choices": list(pieces)}, allow_nan=False, separators=(",", ":"))
    return f"data: {content}\n\n".encode()


def _piece(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}


def _fault_event(fault: RequestFault) -> bytes:
    return b"data: " + bytes(refusal(fault).body) + b"\n\n"


def _finish(reply: Reply, stopped: bool) -> Any:
    return "stop" if stopped or reply.answer.finished else "length"


def _logprobs(tokens: Sequence[Token]) -> Logprobs:
    return Logprobs(
        content=[
            TokenLogprob(
                token=token.text,
                logprob=token.log_prob,
                bytes=None if "\ufffd" in token.text else list(token.text.encode()),
                top_logprobs=[],
            )
            for token in tokens
        ],
        refusal=None,
    )


def _scores(choices: Sequence[Choice]) -> list[ChoiceScore]:
    return [
        ChoiceScore(label=choice.label, probability=choice.probability, log_likelihood=choice.log_likelihood)
        for choice in choices
    ]
