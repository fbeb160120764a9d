"""`predictions_v1`, the contract by which the BEANS-Next benchmark asks models: /health, /info, /predict.

    POST /predict
    {"schema_version": "predictions_v1",
     "requests": [{"sample_id": "7", "messages": [{"role": "user", "content": "<Audio><AudioHere></Audio> ..."}],
                   "audio_inputs": [{"payload_type": "base64_wav", "data": "...", "sample_rate": 16000}],
                   "generation_config": {"max_new_tokens": 64}}]}

The i-th clip belongs to the i-th `<Audio><AudioHere></Audio>` of the messages; where there is none, the clips come
before the text. Every item has one response, by its id: an answer, or an `error` in words. Keys that the contract does
not have are refused, except inside `generation_config`, where those that mean nothing here are passed over.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from naturelm.answer.results import Clip, GenerationOptions, Query, check_choices
from naturelm.errors import QuestionError
from naturelm.serve.asking import Asked, Asker, Reply, Ticket
from naturelm.serve.connection import while_connected
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import Access, Limits, check_options
from naturelm.serve.responses import REFUSALS
from naturelm.serve.sound import SoundReader

CONTRACT = "predictions_v1"
_ROLES = ("system", "user")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Message(_Strict):
    """A part of the question."""

    role: str = Field(description="`system` or `user`: their texts are joined in order into one question.")
    content: str


class AudioInput(_Strict):
    """A clip."""

    payload_type: str = Field(description="One of `audio_payload_types` in /info.")
    data: str = Field(description="The file in base64, its path on the server, or its address.")
    sample_rate: int | None = Field(default=None, description="Hz; must be that of the file.")


class Item(_Strict):
    """A question about clips."""

    sample_id: str
    messages: list[Message]
    audio_inputs: list[AudioInput] = []
    generation_config: dict[str, Any] = Field(
        default={},
        description="`max_new_tokens`, `do_sample`, `temperature`, `top_k`, `top_p`, `num_beams`, `seed`, "
        "`merging_alpha`; and `choices` (a list of labels, one of which is the answer) with `none_of_these`. "
        "Others are passed over.",
    )


class PredictRequest(_Strict):
    """Items to be answered."""

    schema_version: str
    requests: list[Item]


class ItemResponse(_Strict):
    """The answer to one item, or why there is none."""

    sample_id: str
    predictions: list[str]
    error: str | None = None
    finish_reason: Literal["stop", "length"] | None = None
    usage: dict[str, Any] = {}
    latency_sec: float


class PredictResponse(_Strict):
    """One response an item, in the order of the items."""

    schema_version: str = CONTRACT
    responses: list[ItemResponse]


class Health(_Strict):
    """It answers."""

    status: Literal["ok"] = "ok"


class Info(_Strict):
    """What is served, and how it may be asked."""

    name: str
    model: str
    model_revision: str
    audio_payload_types: list[str]
    max_batch_size: int
    supports_batching: bool = True
    schema_versions: list[str] = [CONTRACT]


def predictions_router(asker: Asker, reader: SoundReader, limits: Limits, access: Access) -> APIRouter:
    """The three addresses of the contract."""
    router = APIRouter(tags=["predictions_v1"])
    kinds = ["base64_wav"]
    kinds += ["file_path"] if access.folders else []
    kinds += ["file_url"] if access.url_hosts else []
    most = min(limits.items, asker.options.queue_size)

    @router.get("/health", responses={503: REFUSALS[503]})
    async def health() -> Health:
        """200 when questions are answered."""
        asker.check_room(0)
        return Health()

    @router.get("/info", responses={401: REFUSALS[401]})
    async def info() -> Info:
        """What is served."""
        return Info(
            name="naturelm",
            model=asker.model.name,
            model_revision=asker.model.revision,
            audio_payload_types=kinds,
            max_batch_size=most,
        )

    @router.post("/predict", responses=REFUSALS)
    async def predict(request: Request, asked: PredictRequest) -> PredictResponse:
        """Answer the items. One that cannot be answered has an `error`, and the others their answers."""
        if asked.schema_version != CONTRACT:
            raise RequestFault(
                Fault.INVALID,
                f"schema_version is {asked.schema_version[:100]!r}; this server speaks {CONTRACT}",
                param="schema_version",
            )
        if len(asked.requests) > most:
            raise RequestFault(
                Fault.TOO_LARGE,
                f"{len(asked.requests)} items; send at most {most} at once",
                param="requests",
            )
        twice = [
            name for name, count in Counter(each.sample_id for each in asked.requests).items() if count > 1
        ]
        if twice:
            raise RequestFault(
                Fault.INVALID,
                f"sample_id {twice[0][:100]!r} is given twice; each item has its own",
                param="requests",
            )
        asker.check_room(len(asked.requests))
        responses = await while_connected(request, _answer(asked.requests, asker, reader, limits, kinds))
        return PredictResponse(responses=responses)

    return router


async def _answer(
    items: list[Item], asker: Asker, reader: SoundReader, limits: Limits, kinds: list[str]
) -> list[ItemResponse]:
    began = time.monotonic()
    prepared = await asyncio.gather(*(_prepared_or_not(item, reader, limits, kinds) for item in items))
    tickets = asker.submit([each for each in prepared if isinstance(each, Asked)])
    try:
        waiting = iter(tickets)
        responses = []
        for item, each in zip(items, prepared, strict=True):
            outcome = each if isinstance(each, RequestFault) else await _outcome(next(waiting))
            responses.append(_response(item.sample_id, outcome, time.monotonic() - began))
        return responses
    finally:
        for ticket in tickets:
            ticket.withdraw()


async def _outcome(ticket: Ticket) -> Reply | RequestFault:
    try:
        return await ticket.reply()
    except RequestFault as fault:
        return fault


def _response(sample_id: str, outcome: Reply | RequestFault, seconds: float) -> ItemResponse:
    latency = round(seconds, 6)
    if isinstance(outcome, RequestFault):
        return ItemResponse(sample_id=sample_id, predictions=[], error=str(outcome), latency_sec=latency)
    answer = outcome.answer
    usage: dict[str, Any] = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": len(answer.token_ids),
    }
    if answer.choices:
        usage["choices"] = [{"label": c.label, "probability": c.probability} for c in answer.choices]
    return ItemResponse(
        sample_id=sample_id,
        predictions=[answer.text],
        finish_reason="stop" if answer.finished else "length",
        usage=usage,
        latency_sec=latency,
    )


async def _prepared_or_not(
    item: Item, reader: SoundReader, limits: Limits, kinds: list[str]
) -> Asked | RequestFault:
    try:
        return await _prepared(item, reader, limits, kinds)
    except RequestFault as fault:
        return fault


async def _prepared(item: Item, reader: SoundReader, limits: Limits, kinds: list[str]) -> Asked:
    """What an item asks, with its clips decoded. Raises RequestFault."""
    if not item.messages:
        raise RequestFault(Fault.INVALID, "messages is empty; ask something")
    for message in item.messages:
        if message.role not in _ROLES:
            raise RequestFault(
                Fault.INVALID,
                f"a message of role {message.role[:40]!r}; this model answers one question at a time, so send "
                f"{' and '.join(_ROLES)} alone",
            )
    question = "\n".join(message.content for message in item.messages)
    if len(question) > limits.question_chars:
        raise RequestFault(
            Fault.TOO_LARGE, f"the question has {len(question)} characters; at most {limits.question_chars}"
        )
    if len(item.audio_inputs) > limits.audios:
        raise RequestFault(
            Fault.TOO_LARGE, f"{len(item.audio_inputs)} clips for one question; at most {limits.audios}"
        )
    options, choices = _read_generation(item.generation_config, limits)
    clips = [await _clip(given, f"audio {i}", reader, kinds) for i, given in enumerate(item.audio_inputs, 1)]
    return Asked(Query(tuple(clips), question, choices), options)


async def _clip(given: AudioInput, name: str, reader: SoundReader, kinds: list[str]) -> Clip:
    if given.payload_type not in kinds:
        raise RequestFault(
            Fault.NOT_ALLOWED,
            f"{name}: payload_type {given.payload_type[:40]!r}; this server takes {', '.join(kinds)}",
        )
    if given.payload_type == "file_path":
        return await reader.from_file(given.data, name, source_rate=given.sample_rate)
    if given.payload_type == "file_url":
        return await reader.from_url(given.data, name, source_rate=given.sample_rate)
    return await reader.from_base64(given.data, name, formats=("wav",), source_rate=given.sample_rate)


class _Generation(BaseModel):
    """What is understood of `generation_config`; null is as if it were not there."""

    model_config = ConfigDict(extra="ignore", strict=True)
    max_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int | None = None
    seed: int | None = None
    merging_alpha: float | None = None
    choices: list[str] | None = None
    none_of_these: bool = False


def _read_generation(given: Mapping[str, Any], limits: Limits) -> tuple[GenerationOptions, tuple[str, ...]]:
    """The options and the closed set of an item, () for a free answer. Raises RequestFault."""
    try:
        read = _Generation.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestFault(
            Fault.INVALID, f"generation_config.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
    # Configurations of Hugging Face state a temperature that counts only where `do_sample` is true.
    sampling = read.do_sample if read.do_sample is not None else bool(read.temperature)
    stated: dict[str, Any] = {
        "max_new_tokens": read.max_new_tokens,
        "num_beams": read.num_beams,
        "seed": read.seed,
        "merging_alpha": read.merging_alpha,
        "temperature": (1.0 if read.temperature is None else read.temperature) if sampling else None,
        "top_k": read.top_k if sampling else None,
        "top_p": read.top_p if sampling else None,
    }
    try:
        options = GenerationOptions(**{key: value for key, value in stated.items() if value is not None})
        choices = () if read.choices is None else check_choices(read.choices, read.none_of_these)
    except QuestionError as error:
        raise RequestFault(Fault.INVALID, f"generation_config: {error}") from error
    check_options(options, len(choices), limits)
    return options, choices
