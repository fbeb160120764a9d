"""A server with the page, and its controls used as a browser does, without one."""

import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from naturelm.answer.engine import NatureLM
from naturelm.serve.asking import Asker, Reply
from naturelm.serve.options import MIB, Limits, ServeOptions
from naturelm.serve.web import mount_web

RECORDINGS = Path(__file__).parents[2] / "examples" / "recordings"
OWL = (RECORDINGS / "owl.flac").read_bytes()
OPTIONS = ServeOptions(limits=Limits(body_bytes=4 * MIB, recording_seconds=120, items=8))


class NoMeter:
    """Counts nothing."""

    def waiting(self, questions: int) -> None:
        return

    def answered(self, replies: Sequence[Reply], seconds: float) -> None:
        return


@dataclass(frozen=True)
class Running:
    """A server that runs. url: without a slash at its end."""

    url: str
    app: FastAPI
    asker: Asker
    model: NatureLM


@contextmanager
def running(model: NatureLM, options: ServeOptions | None = None) -> Iterator[Running]:
    """The page over a model, with one address beside it, on a port of its own."""
    options = options or ServeOptions()
    asker = Asker(model, options.queue, options.limits, NoMeter())
    asker.start()
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ready": asker.ready}

    @app.post("/predict")
    def predict() -> dict[str, str]:
        return {"schema_version": "predictions_v1"}

    mount_web(app, asker, options)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(f"http://127.0.0.1:{port}", app, asker, model)
    finally:
        app.state.close_web()
        server.should_exit = True
        thread.join(30)
        asker.close(30)
        assert not thread.is_alive(), "the server did not stop"


class Controls:
    """Uses the page's controls by the names of their elements. session: as a browser's page has one."""

    def __init__(self, url: str, session: str = "session") -> None:
        self.http = httpx.Client(base_url=url, timeout=120)
        self.session = session
        config = self.http.get("/config").json()
        self._ids = {
            each["props"]["elem_id"]: each["id"]
            for each in config["components"]
            if each["props"].get("elem_id")
        }
        self._calls = {
            (target[0], target[1]): call["id"]
            for call in config["dependencies"]
            for target in call["targets"]
        }

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a file; what the browser says of it from then on."""
        response = self.http.post("/gradio_api/upload", files={"files": (name, content)})
        assert response.status_code == 200, response.text
        return file_data(response.json()[0], name)

    def join(self, element: str, data: list[Any], event: str = "click") -> httpx.Response:
        """Begin what a control does."""
        call = self._calls[self._ids[element], event]
        body = {
            "data": data,
            "fn_index": call,
            "trigger_id": self._ids[element],
            "session_hash": self.session,
        }
        return self.http.post("/gradio_api/queue/join", json=body)

    def results(self) -> Iterator[dict[str, Any]]:
        """Messages of all that runs in this session, until it ends."""
        with self.http.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": self.session}
        ) as response:
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    def use(self, element: str, *data: Any, event: str = "click") -> list[Any]:
        """Use a control, and wait: its last outputs."""
        joined = self.join(element, list(data), event)
        assert joined.status_code == 200, joined.text
        own = [message for message in self.results() if message.get("event_id") == joined.json()["event_id"]]
        assert own[-1]["msg"] == "process_completed" and own[-1]["success"], own[-1]
        # A generator's last message is empty where nothing changed since: then the one before counts.
        outputs = next((m["output"]["data"] for m in own if m["msg"] == "process_generating"), [])
        for message in own:
            if message["msg"] == "process_generating":
                outputs = _patched(outputs, message["output"]["data"])
        return outputs or own[-1]["output"]["data"]

    def fetch(self, button: dict[str, Any]) -> tuple[str, bytes]:
        """Name and content of the file that a download button has."""
        value = button["value"]
        response = self.http.get(f"/gradio_api/file={value['path']}")
        assert response.status_code == 200, response.text
        return Path(value["path"]).name, response.content


def file_data(path: str, name: str) -> dict[str, Any]:
    """What a browser says of a file."""
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def _patched(before: list[Any], now: list[Any]) -> list[Any]:
    """Outputs after a message of a generator, which says what has changed: after the first one, in steps."""
    if not before or not any(_is_steps(each) for each in now):
        return now
    return [_apply(old, new) if _is_steps(new) else old for old, new in zip(before, now, strict=True)]


def _is_steps(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(step, list) and len(step) == 3 and step[0] in ("replace", "append", "add", "delete")
        for step in value
    )


def _apply(value: Any, steps: list[Any]) -> Any:
    for action, path, new in steps:
        if not path:
            value = value + new if action == "append" else new
            continue
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        if action == "append":
            inner[path[-1]] += new
        elif action == "delete":
            del inner[path[-1]]
        elif action == "add" and isinstance(inner, list):
            inner.insert(path[-1], new)
        else:
            inner[path[-1]] = new
    return value


def text_of(html: str) -> str:
    """What is to be read on a page."""
    return unescape(re.sub(r"<[^>]*>", " ", html))
