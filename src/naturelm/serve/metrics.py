"""What happens, in numbers for Prometheus. Each server has a registry of its own."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from naturelm.serve.asking import Reply

Made = TypeVar("Made", Counter, Gauge, Histogram)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts of one server; its `Meter`."""

    def __init__(self, model: str, revision: str) -> None:
        self.registry = CollectorRegistry()
        made = partial(_made, self.registry)
        self.requests = made(
            Counter, "requests", "Requests by address and status", labelnames=("path", "status")
        )
        self.in_progress = made(
            Gauge, "requests_in_progress", "Requests accepted and not answered to the end, this one too"
        )
        self.seconds = made(
            Histogram,
            "request_seconds",
            "From a request's head to its answer's end",
            labelnames=("path",),
            buckets=_SECONDS,
        )
        self._waiting = made(Gauge, "questions_waiting", "Questions in the queue")
        self._questions = made(Counter, "questions", "Questions answered")
        self._tokens = made(Counter, "tokens", "Tokens read and written", labelnames=("kind",))
        self._sound = made(Counter, "sound_seconds", "Sound in the questions answered")
        self._heard = made(
            Counter, "clips", "Questions by whether their sound had been heard before", labelnames=("heard",)
        )
        self._batches = made(Histogram, "batch_questions", "Questions answered together", buckets=_SIZES)
        self._batch_seconds = made(Histogram, "batch_seconds", "Time that a batch took", buckets=_SECONDS)
        about = made(Gauge, "model_info", "The model that is served", labelnames=("model", "revision"))
        about.labels(model, revision).set(1)

    def waiting(self, questions: int) -> None:
        """So many questions wait now."""
        self._waiting.set(questions)

    def answered(self, replies: Sequence[Reply], seconds: float) -> None:
        """A batch was answered."""
        self._batches.observe(len(replies))
        self._batch_seconds.observe(seconds)
        self._questions.inc(len(replies))
        for reply in replies:
            answer = reply.answer
            self._tokens.labels("read").inc(answer.prompt_tokens)
            self._tokens.labels("written").inc(len(answer.token_ids))
            self._sound.inc(answer.end - answer.start)
            self._heard.labels("now" if answer.seconds.prefill else "before").inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


def _made(registry: CollectorRegistry, kind: type[Made], name: str, about: str, **options: Any) -> Made:
    return kind(name, about, namespace="naturelm", registry=registry, **options)


class CountRequests:
    """Counts requests, in progress and by the address found for them; those that lead nowhere count together."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_progress.inc()
        try:
            await self.app(scope, receive, noting)
        finally:
            self._metrics.in_progress.dec()
            # Of the router, once it has found one: what clients make up must not become names of series.
            route = scope.get("route")
            path = getattr(route, "path", "") or "other"
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - began)
