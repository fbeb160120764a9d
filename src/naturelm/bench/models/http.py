"""A system behind HTTP that keeps the contract `predictions_v1`, which is that of the public BEANS-Next benchmark.

Three addresses below one base URL. `GET /health` gives status 200 once the system is ready, with any body.

`GET /info` gives an object:

    {"name": "my model", "model": "me/my-model", "model_revision": "1.2", "audio_payload_types": ["base64_wav"],
     "max_batch_size": 8, "supports_batching": true, "schema_versions": ["predictions_v1"]}

`audio_payload_types` has `base64_wav` and `schema_versions` has `predictions_v1`, or the system is refused. Where
`supports_batching` is not true, one item is sent at a time, and otherwise `max_batch_size` items at most.

`POST /predict` takes

    {"schema_version": "predictions_v1",
     "requests": [{"sample_id": "0",
                   "messages": [{"role": "user", "content": "<Audio><AudioHere></Audio> What is heard?"}],
                   "audio_inputs": [{"payload_type": "base64_wav", "data": "UklGR...", "sample_rate": 16000}],
                   "generation_config": {}}]}

and gives

    {"schema_version": "predictions_v1",
     "responses": [{"sample_id": "0", "predictions": ["An owl"], "error": null, "finish_reason": "stop",
                    "usage": {}, "latency_sec": 0.2}]}

A clip is a mono WAV file in base64 at its own rate, of 16 bits where that loses nothing and of 32-bit floats
otherwise; its place in the messages is before the text. `generation_config` is empty: the system answers as it
would by itself. Every item has one response, in any order; the first of its `predictions` is its answer. An `error`
is a text that says why an item has none. Only `sample_id`, and `predictions` or `error`, have to be there; keys that
the contract does not have are refused in a response and not sent in a request. There are no scores of labels.

What the other side sends is not trusted: its size, its time and its form are bounded and checked, and nothing but
the URL that was given is asked, whatever it redirects to.
"""

import base64
import io
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.deciding import SystemFault, one_line
from naturelm.bench.models.sounds import heard
from naturelm.corpus.recordings import FloatArray
from naturelm.transfer import TooMuchSent, read_limited, time_limit

CONTRACT = "predictions_v1"
PAYLOAD_TYPE = "base64_wav"
"""How clips are sent."""
AUDIO_PLACE = "<Audio><AudioHere></Audio>"
"""Where the clip goes in a message."""
_TEXTS = ("name", "model", "model_revision")
_ENVELOPE = frozenset({"schema_version", "responses"})
_RESPONSE = frozenset({"sample_id", "predictions", "error", "finish_reason", "usage", "latency_sec"})
_FULL_SCALE = 1 << 15
_CURES = {
    400: f"see that it keeps {CONTRACT}",
    404: "see that the URL is the base of /health, /info and /predict",
    413: "lower max_batch, or raise what the server accepts",
    422: f"see that it keeps {CONTRACT}",
    429: "see that nobody else asks it, and try again later",
    503: "wait until it is ready",
}
"""Of a status."""


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
        self._fetch("GET", "/health")
        self._about = _about(self._ask("GET", "/info"), f"{self._url}/info")

    @cached_property
    def info(self) -> ModelInfo:
        """What `/info` says; its name is the URL's host where it says none."""
        name, model, revision = (
            one_line(text, 500) if (text := str(self._about.get(key) or "").strip()) else "" for key in _TEXTS
        )
        name = name or model or self._host
        note = f"{model} at {self._url}" if model not in ("", name) else self._url
        return ModelInfo(name, revision, note=note)

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """One answer to each item, without scores.

        Raises SystemFault, naming the address, for a response that is late, too large or not as agreed, and for an
        item that came back with an error. Of such a batch the other items are answered when asked by themselves.
        """
        answers: list[BenchAnswer] = []
        for start in range(0, len(batch), self._at_once):
            items = batch[start : start + self._at_once]
            # Numbers, since one clip may be asked about twice, in two wordings.
            content = {
                "schema_version": CONTRACT,
                "requests": [_request(str(number), item) for number, item in enumerate(items)],
            }
            answers += _read_responses(self._ask("POST", "/predict", content), items, f"{self._url}/predict")
        return answers

    @property
    def _at_once(self) -> int:
        if self._about.get("supports_batching") is not True:
            return 1
        return min(self._options.max_batch, self._about.get("max_batch_size") or self._options.max_batch)

    def _ask(self, method: str, address: str, content: Mapping[str, Any] | None = None) -> Any:
        """The JSON that an address gives."""
        return _json(self._fetch(method, address, content), f"{self._url}{address}")

    def _fetch(self, method: str, address: str, content: Mapping[str, Any] | None = None) -> bytes:
        """The body that an address gives with status 200."""
        where = f"{self._url}{address}"
        body = None if content is None else json.dumps(content, allow_nan=False).encode()
        # http.client follows no redirect, and uses no proxy and no credentials of the environment.
        connect = HTTPSConnection if self._secure else HTTPConnection
        connection = connect(self._host, self._port, timeout=self._options.timeout_seconds)
        late = threading.Event()
        try:
            connection.connect()
            with time_limit(connection.sock, self._options.timeout_seconds, late):
                headers = {"Accept": "application/json", "User-Agent": "naturelm-bench"}
                if body is not None:
                    headers["Content-Type"] = "application/json"
                connection.request(method, f"{self._path}{address}", body, headers)
                response = connection.getresponse()
                text = read_limited(response, self._options.most_bytes)
        except TooMuchSent:
            raise SystemFault(
                f"{where} sent more than {self._options.most_bytes} bytes; raise most_bytes if that is right"
            ) from None
        except (OSError, HTTPException, ValueError) as error:
            waited = late.is_set() or isinstance(error, TimeoutError)
            reason = f"no answer in {self._options.timeout_seconds:g} s" if waited else one_line(error)
            raise SystemFault(
                f"{where}: {reason}; see that the server runs there and is quick enough"
            ) from error
        finally:
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
            said = f": {one_line(text.decode(errors='replace'))}" if text.strip() else ""
            cure = _CURES.get(response.status, "see what the server's own log says")
            raise SystemFault(f"{where} gave status {response.status}{said}; {cure}")
        return text


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


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _json(text: bytes, where: str) -> Any:
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise SystemFault(f"{where} gave no JSON ({one_line(error)}); the contract is {CONTRACT}") from error


def _about(about: Any, where: str) -> dict[str, Any]:
    if not isinstance(about, dict):
        raise SystemFault(f"{where} gave no JSON object; the contract is {CONTRACT}")
    for key, wanted in (("schema_versions", CONTRACT), ("audio_payload_types", PAYLOAD_TYPE)):
        offered = about.get(key)
        if not isinstance(offered, list) or not all(isinstance(each, str) for each in offered):
            raise SystemFault(
                f"{where}: {key} is a list of texts, one of them {wanted}; the server has to say so"
            )
        if wanted not in offered:
            others = one_line(", ".join(offered) or "nothing")
            raise SystemFault(f"{where}: {key} offers {others}; ask a server that takes {wanted}")
    for key in _TEXTS:
        if not isinstance(about.get(key), str | None):
            raise SystemFault(f"{where}: {key} is a text; the contract is {CONTRACT}")
    most, batching = about.get("max_batch_size"), about.get("supports_batching")
    if most is not None and not (isinstance(most, int) and not isinstance(most, bool) and most > 0):
        raise SystemFault(f"{where}: max_batch_size is a whole number above 0; the contract is {CONTRACT}")
    if not isinstance(batching, bool | None):
        raise SystemFault(f"{where}: supports_batching is true or false; the contract is {CONTRACT}")
    return about


def _request(identifier: str, item: BenchItem) -> dict[str, Any]:
    text = item.prompt if AUDIO_PLACE in item.prompt else f"{AUDIO_PLACE} {item.prompt}"
    data = base64.b64encode(_wav(heard(item, item.sample_rate), int(item.sample_rate))).decode()
    return {
        "sample_id": identifier,
        "messages": [{"role": "user", "content": text}],
        "audio_inputs": [{"payload_type": PAYLOAD_TYPE, "data": data, "sample_rate": int(item.sample_rate)}],
        "generation_config": {},
    }


def _wav(samples: FloatArray, rate: int) -> bytes:
    """A mono file with exactly these samples."""
    steps = samples.astype(np.float64) * _FULL_SCALE
    fits = bool(np.all((steps == np.round(steps)) & (steps >= -_FULL_SCALE) & (steps < _FULL_SCALE)))
    file = io.BytesIO()
    if fits:
        soundfile.write(file, steps.astype(np.int16), rate, format="WAV", subtype="PCM_16")
    else:
        soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def _read_responses(content: Any, items: Sequence[BenchItem], where: str) -> list[BenchAnswer]:
    rows = content.get("responses") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SystemFault(f"{where} gave no list of responses; the contract is {CONTRACT}")
    if content.get("schema_version") != CONTRACT:
        said = one_line(content.get("schema_version"))
        raise SystemFault(f"{where} gave schema_version {said}; the contract is {CONTRACT}")
    unknown = sorted(set(content) - _ENVELOPE) or sorted(
        {key for row in rows for key in set(row) - _RESPONSE}
    )
    if unknown:
        raise SystemFault(
            f"{where} gave {one_line(unknown[0])!r}, a key that {CONTRACT} does not have; the server has to leave it out"
        )
    by_id = {row.get("sample_id"): row for row in rows if isinstance(row.get("sample_id"), str)}
    wanted = [str(number) for number in range(len(items))]
    if len(rows) != len(items) or set(by_id) != set(wanted):
        raise SystemFault(
            f"{where} gave {len(rows)} responses, {len(set(by_id) & set(wanted))} of them with a sample_id that was "
            f"asked, for {len(items)} items; it has to give one to each"
        )
    return [_read(by_id[number], item, where) for number, item in zip(wanted, items, strict=True)]


def _read(row: Mapping[str, Any], item: BenchItem, where: str) -> BenchAnswer:
    fault, predictions, seconds = (row.get(key) for key in ("error", "predictions", "latency_sec"))
    if not isinstance(fault, str | None):
        raise SystemFault(f"{where} gave {item.id} an error that is no text; the contract is {CONTRACT}")
    if fault:
        raise SystemFault(f"{where} has no answer to {item.id}: {one_line(fault)}; see the server's own log")
    if not isinstance(predictions, list) or not all(isinstance(each, str) for each in predictions):
        raise SystemFault(
            f"{where} gave {item.id} predictions that are no list of texts; the contract is {CONTRACT}"
        )
    if not predictions:
        raise SystemFault(
            f"{where} gave {item.id} neither a prediction nor an error; it has to give one of them"
        )
    if not isinstance(row.get("finish_reason"), str | None):
        raise SystemFault(
            f"{where} gave {item.id} a finish_reason that is no text; the contract is {CONTRACT}"
        )
    if not isinstance(row.get("usage"), dict | None):
        raise SystemFault(f"{where} gave {item.id} a usage that is no object; the contract is {CONTRACT}")
    if not (seconds is None or (_is_number(seconds) and seconds >= 0)):
        raise SystemFault(
            f"{where} gave {item.id} a latency_sec that is no finite number of seconds; the contract is {CONTRACT}"
        )
    return BenchAnswer(predictions[0])


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False
