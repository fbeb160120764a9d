"""A system behind HTTP, played by a small server that may also lie, drip, redirect and flood."""

import base64
import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile

from bench.models.bench_items import an_item, same_in_any_order_and_batch, tone
from bench.models.http_server import (
    ABOUT,
    PLACE,
    Refused,
    Server,
    check_request,
    response,
    responses,
    samples_of,
    serving,
)
from naturelm.bench.models.deciding import SystemFault
from naturelm.bench.models.http import CONTRACT, HttpOptions, HttpSystem
from naturelm.bench.running.asking import PatientAsker


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as state:
        yield state


def test_clip_and_question_arrive_and_answers_come_back(server: Server) -> None:
    loud = np.full(400, 0.5, np.float32)
    items = [an_item(0, loud), an_item(1, loud / 100, sample_rate=44_100), an_item(2, loud, labels=())]
    system = HttpSystem(f"{server.url}/")
    answers = same_in_any_order_and_batch(system, items)
    assert [(answer.prediction, answer.scores) for answer in answers] == [
        ("loud", None),
        ("soft", None),
        ("loud", None),
    ]
    first, second, _ = server.batches[0]
    assert first["messages"] == [{"role": "user", "content": f"{PLACE} {items[0].prompt}"}]
    assert first["generation_config"] == {}
    assert [each["audio_inputs"][0]["sample_rate"] for each in (first, second)] == [16_000, 44_100]
    info = system.info
    assert (info.name, info.revision) == ("loudness", "7")
    assert info.note == f"lab/loudness at {server.url}"


@pytest.mark.parametrize(
    ("samples", "subtype"),
    [
        (np.array([-1.0, 0.0, 0.5, 1 - 2**-15]), "PCM_16"),
        (np.zeros(5), "PCM_16"),
        (np.array([0.0, 1.0]), "FLOAT"),
        (np.array([0.0, 2**-16]), "FLOAT"),
        (np.array([-1.5, 3.0]), "FLOAT"),
        (tone(), "FLOAT"),
    ],
)
def test_samples_arrive_to_the_bit(server: Server, samples: np.ndarray, subtype: str) -> None:
    server.predict = lambda content: responses(response(content["requests"][0], "heard"))
    HttpSystem(server.url).answer([an_item(0, samples.astype(np.float32))])
    ((sent,),) = server.batches
    assert np.array_equal(samples_of(sent), samples.astype(np.float32))
    data = base64.b64decode(sent["audio_inputs"][0]["data"])
    assert soundfile.info(io.BytesIO(data)).subtype == subtype


def test_place_of_the_clip_is_there_once(server: Server) -> None:
    prompt = f"Listen. {PLACE} What is it?"
    HttpSystem(server.url).answer([an_item(prompt=prompt)])
    assert server.batches[0][0]["messages"] == [{"role": "user", "content": prompt}]


def test_two_wordings_of_one_row_have_each_an_id(server: Server) -> None:
    items = [an_item(), an_item(prompt="Who calls?")]
    assert len(HttpSystem(server.url).answer(items)) == 2
    assert len({each["sample_id"] for each in server.batches[0]}) == 2


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({"max_batch_size": 2}, [2, 2, 1]),
        ({"max_batch_size": 4}, [3, 2]),
        ({"max_batch_size": None}, [3, 2]),
        ({"supports_batching": False}, [1] * 5),
        ({"supports_batching": None, "max_batch_size": 4}, [1] * 5),
    ],
)
def test_batches_are_what_both_sides_take(server: Server, changes: dict[str, Any], sizes: list[int]) -> None:
    server.about |= changes
    HttpSystem(server.url, HttpOptions(max_batch=3)).answer([an_item(number) for number in range(5)])
    assert [len(items) for items in server.batches] == sizes


def test_info_may_be_short(server: Server) -> None:
    server.about = {key: ABOUT[key] for key in ("audio_payload_types", "schema_versions")} | {"more": 1}
    system = HttpSystem(server.url)
    assert system.answer([an_item(), an_item(1)])[1].prediction == "loud"
    assert (system.info.name, system.info.revision, system.info.note) == ("127.0.0.1", "", server.url)


def test_item_with_an_error_fails_alone(server: Server) -> None:
    items = [an_item(0), an_item(1, np.zeros(100, np.float32)), an_item(2)]
    system = HttpSystem(server.url)
    with pytest.raises(SystemFault, match="no answer to row-1: silent"):
        system.answer(items)
    first, silent, last = PatientAsker(system, time_limit=30).ask(items)
    assert first.answer is not None and last.answer is not None
    assert silent.answer is None and "/base/predict has no answer to row-1: silent" in silent.error


def test_too_many_items_fail_as_a_batch_only(server: Server) -> None:
    system = HttpSystem(server.url)
    server.about |= {"max_batch_size": 1}  # less than it said
    with pytest.raises(SystemFault, match=r"gave status 413: .*not 1 to 1 items.*; lower max_batch"):
        system.answer([an_item(), an_item(1)])
    outcomes = PatientAsker(system, time_limit=30).ask([an_item(), an_item(1)])
    assert all(outcome.answer for outcome in outcomes)


@pytest.mark.parametrize(
    "content",
    [
        {"schema_version": CONTRACT, "requests": [], "more": 1},
        {"schema_version": CONTRACT, "requests": [{"sample_id": "0"}]},
        {"schema_version": CONTRACT, "requests": []},
        {"contract": CONTRACT, "items": []},
    ],
)
def test_server_of_these_tests_is_strict(content: Any) -> None:
    with pytest.raises(Refused):
        check_request(content, ABOUT)


ROW = {"sample_id": "0", "predictions": ["Owl"]}


def test_response_may_be_short(server: Server) -> None:
    server.predict = lambda content: responses(ROW)
    assert HttpSystem(server.url).answer([an_item()])[0].prediction == "Owl"
    server.predict = lambda content: responses({**ROW, "predictions": [""], "usage": {"any": [None]}})
    assert HttpSystem(server.url).answer([an_item()])[0].prediction == ""


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (responses(), "gave 0 responses"),
        (responses(ROW, ROW), "gave 2 responses"),
        (responses(ROW, {**ROW, "sample_id": "1"}), "gave 2 responses"),
        (responses({**ROW, "sample_id": "1"}), "0 of them with a sample_id"),
        (responses({**ROW, "sample_id": 0}), "0 of them with a sample_id"),
        (responses({**ROW, "sample_id": ["0"]}), "0 of them with a sample_id"),
        (responses({"predictions": ["Owl"]}), "0 of them with a sample_id"),
        (responses("Owl"), "no list of responses"),
        ({"schema_version": CONTRACT, "responses": {"0": ROW}}, "no list of responses"),
        ({"predictions": [{"id": "0", "prediction": "Owl"}]}, "no list of responses"),
        ([], "no list of responses"),
        ({"responses": [ROW]}, "gave schema_version None"),
        ({**responses(ROW), "schema_version": "v\x1b9"}, "gave schema_version v 9"),
        ({**responses(ROW), "took": 1}, "gave 'took', a key that"),
        (responses({**ROW, "scores": {"Owl": 1}}), "gave 'scores', a key that"),
        (responses({**ROW, "sc\x1bores\n": 1}), "gave 'sc ores', a key that"),
        (responses({"sample_id": "0"}), "row-0 predictions that are no list of texts"),
        (responses({**ROW, "predictions": "Owl"}), "row-0 predictions that are no list of texts"),
        (responses({**ROW, "predictions": [3]}), "row-0 predictions that are no list of texts"),
        (responses({**ROW, "predictions": ["Owl", None]}), "row-0 predictions that are no list of texts"),
        (responses({**ROW, "predictions": []}), "row-0 neither a prediction nor an error"),
        (responses({**ROW, "predictions": [], "error": ""}), "row-0 neither a prediction nor an error"),
        (responses({**ROW, "finish_reason": 1}), "row-0 a finish_reason"),
        (responses({**ROW, "usage": [1]}), "row-0 a usage"),
        (responses({**ROW, "latency_sec": "1"}), "row-0 a latency_sec"),
        (responses({**ROW, "latency_sec": True}), "row-0 a latency_sec"),
        (responses({**ROW, "latency_sec": -1}), "row-0 a latency_sec"),
        (responses({**ROW, "latency_sec": 10**400}), "row-0 a latency_sec"),
        (responses({**ROW, "error": True}), "row-0 an error that is no text"),
        (responses({**ROW, "error": {"code": 1}}), "row-0 an error that is no text"),
        (responses({**ROW, "error": "out of\n\x1b[31mmemory"}), "no answer to row-0: out of"),
        (responses({"sample_id": "0", "predictions": None, "error": "deaf"}), "no answer to row-0: deaf"),
    ],
)
def test_false_responses_are_named(server: Server, reply: Any, message: str) -> None:
    server.predict = lambda content: reply
    with pytest.raises(SystemFault, match=f"/base/predict .*{message}") as raised:
        HttpSystem(server.url).answer([an_item()])
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"responses": NaN}',
        b'{"responses": -Infinity}',
        b'{"responses": 1e999}',
        b'{"responses": ' + b"9" * 5_000 + b"}",
        b"",
    ],
)
def test_what_is_no_json_is_named(server: Server, raw: bytes) -> None:
    server.raw = raw
    with pytest.raises(SystemFault, match="/base/predict gave no JSON"):
        HttpSystem(server.url).answer([an_item()])


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
    server.drip, server.predict = 0.0, lambda content: time.sleep(1.0)
    with pytest.raises(SystemFault, match=r"no answer in 0\.4 s"):
        system.answer([an_item()])
    assert time.monotonic() - start < 2.0


def test_redirect_is_not_followed(server: Server) -> None:
    server.location = f"{server.url}/elsewhere"
    with pytest.raises(SystemFault, match=r"redirects to .*/elsewhere; it is not followed"):
        HttpSystem(server.url).answer([an_item()])
    assert not any(path.endswith("elsewhere") for path, _ in server.asked)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schema_versions": ["predictions_v2"]},
            f"schema_versions offers predictions_v2; .* takes {CONTRACT}",
        ),
        ({"schema_versions": CONTRACT}, "schema_versions is a list of texts"),
        ({"schema_versions": None}, "schema_versions is a list of texts"),
        (
            {"audio_payload_types": ["file_path", "file_\nurl"]},
            "audio_payload_types offers file_path, file_ url; .* takes base64_wav",
        ),
        ({"audio_payload_types": []}, "audio_payload_types offers nothing; .* takes base64_wav"),
        ({"audio_payload_types": None}, "audio_payload_types is a list of texts, one of them base64_wav"),
        ({"audio_payload_types": "base64_wav"}, "audio_payload_types is a list of texts"),
        ({"audio_payload_types": [["base64_wav"]]}, "audio_payload_types is a list of texts"),
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"max_batch_size": True}, "max_batch_size"),
        ({"max_batch_size": 2.5}, "max_batch_size"),
        ({"max_batch_size": "8"}, "max_batch_size"),
        ({"supports_batching": "yes"}, "supports_batching"),
        ({"supports_batching": 1}, "supports_batching"),
        ({"name": 3}, "name is a text"),
        ({"model": ["a"]}, "model is a text"),
        ({"model_revision": 7}, "model_revision is a text"),
    ],
)
def test_false_info_is_refused(server: Server, changes: dict[str, Any], message: str) -> None:
    server.about |= changes
    with pytest.raises(SystemFault, match=f"/base/info: {message}") as raised:
        HttpSystem(server.url)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("about", [["info"], None, "info"])
def test_info_that_is_no_object_is_refused(server: Server, about: Any) -> None:
    server.about = about
    with pytest.raises(SystemFault, match="/base/info gave no JSON object"):
        HttpSystem(server.url)


@pytest.mark.parametrize("missing", ["audio_payload_types", "schema_versions"])
def test_info_without_what_decides_is_refused(server: Server, missing: str) -> None:
    del server.about[missing]
    with pytest.raises(SystemFault, match=f"/base/info: {missing} is a list of texts"):
        HttpSystem(server.url)


def test_not_ready_or_not_there(server: Server) -> None:
    server.health = 503
    with pytest.raises(SystemFault, match="/base/health gave status 503: loading; wait until it is ready"):
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
