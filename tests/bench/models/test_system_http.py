"""A system behind HTTP, played by a small server that may also lie, drip, redirect and flood."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import soundfile

from bench.models.bench_items import an_item, same_in_any_order_and_batch
from naturelm.bench.models.deciding import SystemFault
from naturelm.bench.models.http import CONTRACT, HttpOptions, HttpSystem

Reply = Callable[[dict[str, Any]], Any]


def samples_of(audio: dict[str, Any]) -> np.ndarray:
    if audio["encoding"] == "floats":
        return np.array(audio["data"], dtype=np.float32)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(audio["data"])), dtype="float32")
    assert rate == audio["sample_rate"]
    return samples


def by_loudness(request: dict[str, Any]) -> dict[str, Any]:
    """Scores that can be computed from the clip alone; the predictions in another order."""
    rows = []
    for item in request["items"]:
        share = float(np.abs(samples_of(item["audio"])).mean())
        scores = dict(zip(item["labels"], (share, 0.1, 0.0), strict=False))
        rows.append({"id": item["id"], "prediction": max(scores, key=scores.get), "scores": scores})
    return {"predictions": rows[::-1]}


@dataclass
class Server:
    """What it says, and what it was asked."""

    predict: Reply = by_loudness
    about: Any = field(default_factory=lambda: {"contract": CONTRACT, "name": "loudness", "revision": "7"})
    health: int = 200
    raw: bytes | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)
    location: str = ""
    drip: float = 0.0
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            state.asked.append((self.path, None))
            if self.path == "/base/health":
                self.reply(b"{}", state.health)
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
    yield state
    service.shutdown()
    service.server_close()


@pytest.mark.parametrize("encoding", [None, "wav", "flac", "floats"])
def test_clip_and_question_arrive_and_answers_come_back(server: Server, encoding: str | None) -> None:
    server.about |= {"audio": encoding} if encoding else {}
    loud = np.full(400, 0.5, np.float32)
    items = [an_item(0, loud), an_item(1, loud / 100), an_item(2, loud, labels=("Bat",))]
    system = HttpSystem(f"{server.url}/")
    answers = same_in_any_order_and_batch(system, items, tolerance=1e-4)
    assert [answer.prediction for answer in answers] == ["Owl", "Dog", "Bat"]
    assert answers[0].scores == pytest.approx({"Owl": 0.5, "Dog": 0.1, "Cat": 0.0}, abs=1e-4)
    sent = next(content for path, content in server.asked if path == "/base/predict")
    assert sent["contract"] == CONTRACT
    first = sent["items"][0]
    assert (first["dataset_name"], first["task"], first["labels"]) == (
        "calls",
        "classification",
        ["Owl", "Dog", "Cat"],
    )
    assert first["prompt"] == items[0].prompt
    assert (system.info.name, system.info.revision) == ("loudness", "7") and server.url in system.info.note


def test_rate_and_batch_are_what_the_server_asks_for(server: Server) -> None:
    server.about |= {"sample_rate": 32_000, "max_batch": 2}
    HttpSystem(server.url).answer([an_item(number) for number in range(5)])
    batches = [content["items"] for path, content in server.asked if path.endswith("predict")]
    assert [len(items) for items in batches] == [2, 2, 1]
    audio = batches[0][0]["audio"]
    assert audio["sample_rate"] == 32_000 and len(samples_of(audio)) == 32_000


def test_captions_need_no_labels_and_no_scores(server: Server) -> None:
    server.predict = lambda request: {
        "predictions": [{"id": "0", "prediction": "A bird sings.", "error": None}]
    }
    (answer,) = HttpSystem(server.url).answer([an_item(labels=(), task="captioning")])
    assert (answer.prediction, answer.scores) == ("A bird sings.", None)


ROW = {"id": "0", "prediction": "Owl"}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"predictions": []}, "gave 0 predictions"),
        ({"predictions": [ROW, ROW]}, "gave 2 predictions"),
        ({"predictions": [{**ROW, "id": "1"}]}, "0 of them with an id"),
        ({"predictions": [{**ROW, "id": 0}]}, "0 of them with an id"),
        ({"predictions": [{**ROW, "id": ["0"]}]}, "0 of them with an id"),
        ({"predictions": ["Owl"]}, "no list of predictions"),
        ({"answers": []}, "no list of predictions"),
        ([], "no list of predictions"),
        ({"predictions": [{**ROW, "prediction": 3}]}, "row-0 a prediction that is no text"),
        ({"predictions": [{**ROW, "scores": [1]}]}, "row-0 scores"),
        ({"predictions": [{**ROW, "scores": {"Owl": "high"}}]}, "row-0 scores"),
        ({"predictions": [{**ROW, "scores": {"Owl": True}}]}, "row-0 scores"),
        ({"predictions": [{**ROW, "scores": {"Owl": 10**400}}]}, "row-0 scores"),
        ({"predictions": [{**ROW, "error": "out of\n\x1b[31mmemory"}]}, "no answer to row-0: out of"),
    ],
)
def test_false_predictions_are_named(server: Server, reply: Any, message: str) -> None:
    server.predict = lambda request: reply
    with pytest.raises(SystemFault, match=f"/base/predict .*{message}") as raised:
        HttpSystem(server.url).answer([an_item()])
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("raw", [b"<html>", b"\xff\xfe", b"[" * 100_000, b'{"predictions": NaN}', b""])
def test_what_is_no_json_is_named(server: Server, raw: bytes) -> None:
    server.raw = raw
    with pytest.raises(SystemFault, match="/base/predict gave no JSON"):
        HttpSystem(server.url).answer([an_item()])


def test_scores_of_unknown_labels_are_left_out(server: Server) -> None:
    server.predict = lambda request: {"predictions": [{**ROW, "scores": {"Owl": 1, "Ghost": 2}}]}
    assert HttpSystem(server.url).answer([an_item()])[0].scores == {"Owl": 1.0}


def test_flood_is_cut_off(server: Server) -> None:
    server.raw = b" " * 200_000
    system = HttpSystem(server.url, HttpOptions(most_bytes=100_000))
    with pytest.raises(SystemFault, match="more than 100000 bytes"):
        system.answer([an_item()])


def test_dripping_and_silent_servers_end_at_the_time_limit(server: Server) -> None:
    system = HttpSystem(server.url, HttpOptions(timeout_seconds=0.4))
    server.drip = 0.05
    start = time.monotonic()
    with pytest.raises(SystemFault, match=r"no answer in 0\.4 s"):
        system.answer([an_item()])
    server.drip, server.predict = 0.0, lambda request: time.sleep(1.0)
    with pytest.raises(SystemFault, match=r"no answer in 0\.4 s"):
        system.answer([an_item()])
    assert time.monotonic() - start < 2.0


def test_redirect_is_not_followed(server: Server) -> None:
    server.location = f"{server.url}/elsewhere"
    with pytest.raises(SystemFault, match=r"redirects to .*/elsewhere; it is not followed"):
        HttpSystem(server.url).answer([an_item()])
    assert not any(path.endswith("elsewhere") for path, _ in server.asked)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"contract": "predictions_v2"}, "contract is predictions_v2"),
        ({"sample_rate": 5}, "sample_rate"),
        ({"sample_rate": "16000"}, "sample_rate"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_batch": True}, "max_batch"),
        ({"audio": "mp3"}, "wav, flac, floats"),
        (["info"], "no JSON object"),
    ],
)
def test_false_info_is_refused(server: Server, about: Any, message: str) -> None:
    server.about = about
    with pytest.raises(SystemFault, match=message):
        HttpSystem(server.url)


def test_not_ready_or_not_there(server: Server) -> None:
    server.health = 503
    with pytest.raises(SystemFault, match="/base/health gave status 503"):
        HttpSystem(server.url)
    with pytest.raises(SystemFault, match="see that the server runs"):
        HttpSystem("http://127.0.0.1:9")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a",
        "localhost:8000",
        "http://",
        "http://a?b=c",
        "http://a#b",
        "http://me:secret@a",
        "file:///etc",
        "http://a:b",
        "http://a:99999",
        "http://a\n/",
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(SystemFault, match="give a URL such as"):
        HttpSystem(url)
