"""The application: all addresses over one model, behind the gates."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from naturelm import __version__
from naturelm.answer.engine import NatureLM
from naturelm.serve.asking import Asker
from naturelm.serve.chat import chat_router
from naturelm.serve.connection import ClientGone
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.gates import BodyGate, HostGate, KeyGate, RequestIds
from naturelm.serve.metrics import CountRequests, Metrics
from naturelm.serve.options import ServeOptions
from naturelm.serve.predictions import predictions_router
from naturelm.serve.responses import refusal
from naturelm.serve.sound import SoundReader

_ABOUT = (
    "Questions about recordings of animals, answered by NatureLM-audio. `/predict` keeps `predictions_v1`, the contract of "
    "BEANS-Next; `/v1/chat/completions` that of OpenAI's chat completions, with `input_audio` parts."
)
_CLIENT_GONE = 499  # nginx's number; nobody reads it


def create_app(model: NatureLM, options: ServeOptions) -> FastAPI:
    """An ASGI application that answers with `model`, which is its own from now on."""
    model.batch_size = options.queue.batch_size
    metrics = Metrics(model.name, model.revision)
    asker = Asker(model, options.queue, options.limits, metrics, log_content=options.log_content)
    longest = min(model.model.config.max_clip_seconds, options.limits.clip_seconds)
    reader = SoundReader(model.sampling_rate, longest, options.limits, options.access)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        asker.start()
        yield
        # The server calls this once all requests have had their answers.
        await asyncio.to_thread(asker.close, options.queue.request_seconds)
        reader.close()

    app = FastAPIOffline(
        title="naturelm", description=_ABOUT, version=__version__, redoc_url=None, lifespan=lifespan
    )
    app.add_exception_handler(RequestFault, _on_fault)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientGone, _on_gone)
    app.include_router(predictions_router(asker, reader, options.limits, options.access))
    app.include_router(chat_router(asker, reader, options.limits))

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    if options.web:
        # Here, not above: it loads gradio.
        from naturelm.serve.web import mount_web

        mount_web(app, asker, options)
    # The last one added is the first to see a request.
    app.add_middleware(BodyGate, limits=options.limits)
    app.add_middleware(KeyGate, options=options)
    app.add_middleware(HostGate, options=options)
    app.add_middleware(CountRequests, metrics=metrics)
    app.add_middleware(RequestIds)
    return app


async def _on_fault(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestFault)
    return refusal(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    """A body that is not as the schema says: where, and what is wrong; not what was sent, which may be long."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part)[:60] for part in first["loc"][:8])
    fault = RequestFault(Fault.INVALID, f"{place}: {first['msg'][:200]}", param=place)
    return refusal(fault, status=422)


async def _on_http(_request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: no such address, no such method."""
    assert isinstance(error, HTTPException)
    kind = Fault.NOT_FOUND if error.status_code == 404 else Fault.INVALID
    response = refusal(RequestFault(kind, str(error.detail)), status=error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _on_gone(_request: Request, _error: Exception) -> Response:
    return JSONResponse(None, status_code=_CLIENT_GONE)
