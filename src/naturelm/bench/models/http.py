"""A system behind HTTP that keeps the contract `predictions_v1`: three addresses below one base URL.

`GET /health` gives any JSON with status 200 once the system is ready.

`GET /info` gives an object; every field may be left out:

    {"contract": "predictions_v1", "name": "my model", "revision": "1.2", "license": "MIT", "note": "",
     "sample_rate": 32000, "max_batch": 8, "audio": "wav"}

`sample_rate` (Hz): clips are sent at it, else at their own. `max_batch`: items of one request at most.
`audio`: how clips are sent, see below.

`POST /predict` takes

    {"contract": "predictions_v1",
     "items": [{"id": "0", "dataset_name": "cbi", "task": "classification", "prompt": "...", "labels": ["..."],
                "audio": {"encoding": "wav", "sample_rate": 16000, "data": "UklGR..."}}]}

and gives

    {"predictions": [{"id": "0", "prediction": "...", "scores": {"label": 0.9}, "error": null}]}

`id` is the item's own in its request; predictions may come in any order. `labels` is empty where there is no closed
set. `encoding`: `wav` (32-bit float) or `flac` (16-bit), a mono file in base64, or `floats`, a list of numbers in
[-1, 1] as `data`. `scores`, of labels of the closed set, and `error`, a text where an item has no prediction, may be
left out.

What the other side sends is not trusted: its size, its time and its form are bounded and checked, and nothing but
the URL that was given is asked, whatever it redirects to.
"""

import base64
import contextlib
import io
import json
import math
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import soundfile

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.deciding import SystemFault, one_line
from naturelm.bench.models.sounds import heard
from naturelm.corpus.recordings import FloatArray

CONTRACT = "predictions_v1"
_ENCODINGS = ("wav", "flac", "floats")
_RATES = (1_000, 400_000)  # Hz that a server may ask for
_PIECE = 1 << 16


@dataclass(frozen=True)
class HttpOptions:
    """How long and how much is waited for."""

    timeout_seconds: float = 120.0
    """For a whole request, from its first byte to the last of its response; as long again for the connection."""
    most_bytes: int = 16 * 2**20
    """Of one response."""
    max_batch: int = 32
    """Items of one request, unless `/info` says fewer."""

    def __post_init__(self) -> None:
        if not (0 < self.timeout_seconds < math.inf and self.most_bytes > 0 and self.max_batch > 0):
            raise ValueError("timeout_seconds, most_bytes and max_batch are above 0")


class HttpSystem:
    """A system behind a URL, asked for its health and its info when it is opened."""

    def __init__(self, url: str, options: HttpOptions | None = None) -> None:
        """url: base of the three addresses, http or https. Raises SystemFault where nothing answers as it should."""
        parts = _checked(url)
        self._url = url.rstrip("/")
        self._host, self._port, self._secure = str(parts.hostname), parts.port, parts.scheme == "https"
        self._path = parts.path.rstrip("/")
        self._options = options or HttpOptions()
        self._ask("GET", "/health")
        self._about = _about(self._ask("GET", "/info"), f"{self._url}/info")

    @cached_property
    def info(self) -> ModelInfo:
        """What `/info` says; its name is the URL's host where it says none."""
        texts = [
            one_line(self._about.get(key) or "-", 500) for key in ("name", "revision", "license", "note")
        ]
        name, revision, licence, note = ("" if text == "-" else text for text in texts)
        return ModelInfo(name or self._host, revision, licence, "; ".join(filter(None, (note, self._url))))

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """Raises SystemFault, naming the address, for an answer that is late, too large or not as agreed."""
        most = min(self._options.max_batch, int(self._about.get("max_batch") or self._options.max_batch))
        answers: list[BenchAnswer] = []
        for start in range(0, len(batch), most):
            items = batch[start : start + most]
            content = {
                "contract": CONTRACT,
                "items": [self._sent(str(n), item) for n, item in enumerate(items)],
            }
            answers += _read_predictions(
                self._ask("POST", "/predict", content), items, f"{self._url}/predict"
            )
        return answers

    def _sent(self, identifier: str, item: BenchItem) -> dict[str, Any]:
        rate = int(self._about.get("sample_rate") or item.sample_rate)
        encoding = str(self._about.get("audio") or "wav")
        data = _encoded(heard(item, rate), rate, encoding)
        return {
            "id": identifier,
            "dataset_name": item.dataset_name,
            "task": item.task,
            "prompt": item.prompt,
            "labels": list(item.labels),
            "audio": {"encoding": encoding, "sample_rate": rate, "data": data},
        }

    def _ask(self, method: str, address: str, content: Mapping[str, Any] | None = None) -> Any:
        """The JSON that an address gives."""
        where = f"{self._url}{address}"
        body = None if content is None else json.dumps(content, allow_nan=False).encode()
        # http.client follows no redirect, and uses no proxy and no credentials of the environment.
        connect = HTTPSConnection if self._secure else HTTPConnection
        connection = connect(self._host, self._port, timeout=self._options.timeout_seconds)
        late = threading.Event()
        alarm: threading.Timer | None = None
        try:
            connection.connect()
            # The socket's own time limit starts anew with every byte that drips in: this one does not.
            alarm = threading.Timer(self._options.timeout_seconds, _give_up, (connection.sock, late))
            alarm.daemon = True
            alarm.start()
            headers = {"Accept": "application/json", "User-Agent": "naturelm-bench"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, f"{self._path}{address}", body, headers)
            response = connection.getresponse()
            text = _limited(response, self._options.most_bytes, where)
        except (OSError, HTTPException, ValueError) as error:
            waited = late.is_set() or isinstance(error, TimeoutError)
            reason = f"no answer in {self._options.timeout_seconds:g} s" if waited else one_line(error)
            raise SystemFault(
                f"{where}: {reason}; see that the server runs there and is quick enough"
            ) from error
        finally:
            if alarm is not None:
                alarm.cancel()
            connection.close()
        if late.is_set():
            raise SystemFault(
                f"{where}: no answer in {self._options.timeout_seconds:g} s; raise timeout_seconds"
            )
        if 300 <= response.status < 400:
            target = one_line(response.getheader("Location") or "nowhere")
            raise SystemFault(
                f"{where} redirects to {target}; it is not followed, give that URL if it is meant"
            )
        if response.status != 200:
            raise SystemFault(
                f"{where} gave status {response.status}: {one_line(text.decode(errors='replace'))}"
            )
        return _json(text, where)


def _checked(url: str) -> Any:
    try:
        parts = urlsplit(url)
        fit = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        fit = False
    if not fit or parts.query or parts.fragment or parts.username or parts.password or not url.isprintable():
        raise SystemFault(
            f"{one_line(url)!r}: give a URL such as http://localhost:8000, with nothing after its path"
        )
    return parts


def _give_up(link: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        # Whoever waits for it wakes up. Not its own method: a TLS socket would part with its state.
        socket.socket.shutdown(link, socket.SHUT_RDWR)


def _limited(response: HTTPResponse, most: int, where: str) -> bytes:
    pieces, size = [], 0
    while piece := response.read1(_PIECE):
        size += len(piece)
        if size > most:
            raise SystemFault(f"{where} sent more than {most} bytes; raise most_bytes if that is right")
        pieces.append(piece)
    return b"".join(pieces)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _json(text: bytes, where: str) -> Any:
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise SystemFault(f"{where} gave no JSON ({one_line(error)}); the contract is {CONTRACT}") from error


def _about(about: Any, where: str) -> dict[str, Any]:
    if not isinstance(about, dict):
        raise SystemFault(f"{where} gave no JSON object; the contract is {CONTRACT}")
    if about.get("contract", CONTRACT) != CONTRACT:
        raise SystemFault(f"{where}: its contract is {one_line(about['contract'])}, not {CONTRACT}")
    rate, most, encoding = (about.get(key) for key in ("sample_rate", "max_batch", "audio"))
    if rate is not None and not (_is_whole(rate) and _RATES[0] <= rate <= _RATES[1]):
        raise SystemFault(f"{where}: sample_rate is a whole number of Hz from {_RATES[0]} to {_RATES[1]}")
    if most is not None and not (_is_whole(most) and most > 0):
        raise SystemFault(f"{where}: max_batch is a whole number above 0")
    if encoding is not None and encoding not in _ENCODINGS:
        raise SystemFault(f"{where}: audio is one of {', '.join(_ENCODINGS)}")
    return about


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _encoded(samples: FloatArray, rate: int, encoding: str) -> str | list[float]:
    if encoding == "floats":
        return [float(sample) for sample in samples]
    file = io.BytesIO()
    kinds = {"wav": "FLOAT", "flac": "PCM_16"}
    soundfile.write(file, samples, rate, format=encoding.upper(), subtype=kinds[encoding])
    return base64.b64encode(file.getvalue()).decode()


def _read_predictions(content: Any, items: Sequence[BenchItem], where: str) -> list[BenchAnswer]:
    rows = content.get("predictions") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SystemFault(f"{where} gave no list of predictions; the contract is {CONTRACT}")
    by_id = {row.get("id"): row for row in rows if isinstance(row.get("id"), str)}
    wanted = [str(number) for number in range(len(items))]
    if len(rows) != len(items) or set(by_id) != set(wanted):
        raise SystemFault(
            f"{where} gave {len(rows)} predictions, {len(set(by_id) & set(wanted))} of them with an id that was asked, "
            f"for {len(items)} items; it has to give one to each"
        )
    return [_read(by_id[number], item, where) for number, item in zip(wanted, items, strict=True)]


def _read(row: Mapping[str, Any], item: BenchItem, where: str) -> BenchAnswer:
    if row.get("error"):
        raise SystemFault(f"{where} has no answer to {item.id}: {one_line(row['error'])}")
    prediction, scores = row.get("prediction"), row.get("scores")
    if not isinstance(prediction, str):
        raise SystemFault(f"{where} gave {item.id} a prediction that is no text")
    if scores is None:
        return BenchAnswer(prediction)
    if not isinstance(scores, dict) or not all(map(_is_number, scores.values())):
        raise SystemFault(f"{where} gave {item.id} scores that are no object of finite numbers")
    known = {label: float(scores[label]) for label in item.labels if label in scores}
    return BenchAnswer(prediction, known or None)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False
