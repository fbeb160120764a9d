"""Servers on loopback, in a thread of this process, for tests."""

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import soundfile
import uvicorn

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer
from naturelm.serve.app import create_app
from naturelm.serve.options import ServeOptions
from tiny import noise, tiny_naturelm


def wav(seconds: float = 1.0, seed: int = 0, rate: int = 16_000, **kwargs: Any) -> bytes:
    """A file of noise, the same for one seed."""
    file = io.BytesIO()
    soundfile.write(file, noise(seconds, seed, rate), rate, **{"format": "WAV", **kwargs})
    return file.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


class SlowModel(NatureLM):
    """A tiny model that takes a while, waits where it is told to, and counts what it is asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        made = tiny_naturelm()
        super().__init__(made.model, made.processor, name="tiny", revision="r1")
        self.seconds = seconds
        self.go = threading.Event()
        self.go.set()
        self.batches: list[list[str]] = []
        self.broken = ""

    def answer(self, queries: Any, options: Any = None, watcher: Any = None) -> list[Answer]:
        self.go.wait(30)
        time.sleep(self.seconds)
        self.batches.append([query.question for query in queries])
        if self.broken and any(self.broken in query.question for query in queries):
            raise RuntimeError(f"out of memory at /secret/place while asked {self.broken}")
        return super().answer(queries, options, watcher)


@contextmanager
def served(model: NatureLM | None = None, options: ServeOptions | None = None) -> Iterator[str]:
    """The address of a running server."""
    app = create_app(model or tiny_naturelm(), options or ServeOptions())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=20))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def item(
    sample_id: str = "1", question: str = "What is it?", audio: bytes | None = None, **config: Any
) -> dict[str, Any]:
    """A question of `predictions_v1` about a clip."""
    return {
        "sample_id": sample_id,
        "messages": [{"role": "user", "content": f"<Audio><AudioHere></Audio> {question}"}],
        "audio_inputs": [
            {
                "payload_type": "base64_wav",
                "data": base64_of(wav() if audio is None else audio),
                "sample_rate": 16_000,
            }
        ],
        "generation_config": {"max_new_tokens": 6, **config},
    }


def predict(address: str, *items: dict[str, Any], **changes: Any) -> httpx.Response:
    """Ask /predict."""
    content = {"schema_version": "predictions_v1", "requests": list(items), **changes}
    return httpx.post(f"{address}/predict", json=content, timeout=60)
