"""A small server that keeps `predictions_v1`, or lies, drips, redirects and floods."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import soundfile

from naturelm.bench.models.http import CONTRACT

PLACE = "<Audio><AudioHere></Audio>"
ABOUT = {
    "name": "loudness",
    "model": "lab/loudness",
    "model_revision": "7",
    "audio_payload_types": ["file_path", "base64_wav"],
    "max_batch_size": 8,
    "supports_batching": True,
    "schema_versions": ["predictions_v0", CONTRACT],
}

Reply = Callable[[dict[str, Any]], Any]


class Refused(Exception):
    """What a server that keeps the contract does not take, with its status."""


def has_keys(value: Any, keys: str) -> None:
    if not isinstance(value, dict) or set(value) != set(keys.split()):
        raise Refused(422, f"not the keys {keys}: {list(value)}")


def check_request(content: Any, about: Any) -> None:
    """Refuses what the contract does not have, key by key."""
    has_keys(content, "schema_version requests")
    if content["schema_version"] != CONTRACT:
        raise Refused(400, "schema_version")
    for each in content["requests"]:
        has_keys(each, "sample_id messages audio_inputs generation_config")
        if not isinstance(each["sample_id"], str) or not isinstance(each["generation_config"], dict):
            raise Refused(422, "sample_id or generation_config")
        for message in each["messages"]:
            has_keys(message, "role content")
            if message["role"] not in ("system", "user") or not isinstance(message["content"], str):
                raise Refused(422, "role or content")
        for audio in each["audio_inputs"]:
            has_keys(audio, "payload_type data sample_rate")
            if (
                audio["payload_type"] not in about["audio_payload_types"]
                or type(audio["sample_rate"]) is not int
            ):
                raise Refused(422, "payload_type or sample_rate")
    if len({each["sample_id"] for each in content["requests"]}) < len(content["requests"]):
        raise Refused(400, "duplicate sample_id")
    most = (about.get("max_batch_size") or 100) if about.get("supports_batching") else 1
    if not 1 <= len(content["requests"]) <= most:
        raise Refused(413, f"not 1 to {most} items")


def samples_of(each: dict[str, Any]) -> np.ndarray:
    """The one clip of a request, which has one place in its messages."""
    (audio,) = each["audio_inputs"]
    assert sum(message["content"].count(PLACE) for message in each["messages"]) == 1
    file = io.BytesIO(base64.b64decode(audio["data"], validate=True))
    about = soundfile.info(file)
    assert (about.format, about.channels, about.samplerate) == ("WAV", 1, audio["sample_rate"])
    assert about.subtype in ("PCM_16", "FLOAT")
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def response(each: dict[str, Any], *predictions: str, error: str | None = None) -> dict[str, Any]:
    return {
        "sample_id": each["sample_id"],
        "predictions": list(predictions),
        "error": error,
        "finish_reason": None if error else "stop",
        "usage": {"seconds_heard": 1.5},
        "latency_sec": 0.01,
    }


def responses(*rows: Any) -> dict[str, Any]:
    return {"schema_version": CONTRACT, "responses": list(rows)}


def by_loudness(content: dict[str, Any]) -> dict[str, Any]:
    """Answers that can be computed from the clip alone, in another order; silence is an item's own error."""
    rows = []
    for each in content["requests"]:
        share = float(np.abs(samples_of(each)).mean())
        rows.append(
            response(each, "loud" if share > 0.1 else "soft", "perhaps")
            if share
            else response(each, error="silent")
        )
    return responses(*rows[::-1])


@dataclass
class Server:
    """What it says, and what it was asked."""

    predict: Reply = by_loudness
    about: Any = field(default_factory=lambda: dict(ABOUT))
    health: int = 200
    raw: bytes | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)
    location: str = ""
    drip: float = 0.0
    url: str = ""

    @property
    def batches(self) -> list[list[dict[str, Any]]]:
        return [content["requests"] for path, content in self.asked if path == "/base/predict"]


@contextmanager
def serving(state: Server) -> Iterator[Server]:
    """Answers as `state` says, under its `url`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            state.asked.append((self.path, None))
            if self.path == "/base/health":
                self.reply(b"ready" if state.health == 200 else b"loading", state.health)
            else:
                self.reply(json.dumps(state.about).encode())

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, content))
            if state.location:
                self.send_response(307)
                self.send_header("Location", state.location)
                self.end_headers()
                return
            try:
                check_request(content, state.about)
            except Refused as refusal:
                status, reason = refusal.args
                self.reply(json.dumps({"detail": reason}).encode(), status)
                return
            self.reply(json.dumps(state.predict(content)).encode() if state.raw is None else state.raw)

        def reply(self, text: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.end_headers()
            pieces = (
                [text]
                if not state.drip or self.command == "GET"
                else [text[n : n + 1] for n in range(len(text))]
            )
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    if len(pieces) > 1:
                        time.sleep(state.drip)
            except OSError:
                pass

    service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.daemon_threads = True
    threading.Thread(target=service.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{service.server_port}/base"
    try:
        yield state
    finally:
        service.shutdown()
        service.server_close()
