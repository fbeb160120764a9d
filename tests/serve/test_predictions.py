"""`predictions_v1`, clause by clause."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import SlowModel, base64_of, item, predict, served, wav
from test_asking import eventually

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import GenerationOptions, Query
from naturelm.bench.models.base import BenchItem
from naturelm.bench.models.http import HttpSystem
from naturelm.serve.options import Access, Limits, QueueOptions, ServeOptions
from tiny import noise

RESPONSE = {"sample_id", "predictions", "error", "finish_reason", "usage", "latency_sec"}


@pytest.fixture(scope="module")
def model() -> SlowModel:
    return SlowModel()


@pytest.fixture(scope="module")
def address(model: SlowModel) -> Iterator[str]:
    with served(model, ServeOptions(limits=Limits(items=5, question_chars=2_000, new_tokens=64))) as address:
        yield address


def only(response: httpx.Response) -> dict[str, Any]:
    """The one response of a request that was answered."""
    assert response.status_code == 200, response.text
    body = response.json()
    assert set(body) == {"schema_version", "responses"} and body["schema_version"] == "predictions_v1"
    (row,) = body["responses"]
    assert set(row) == RESPONSE
    return dict(row)


def error_of(response: httpx.Response) -> str:
    row = only(response)
    assert row["predictions"] == [] and row["finish_reason"] is None
    return str(row["error"])


def test_health_and_info(address: str) -> None:
    assert httpx.get(f"{address}/health").status_code == 200
    assert httpx.get(f"{address}/info").json() == {
        "name": "naturelm",
        "model": "tiny",
        "model_revision": "r1",
        "audio_payload_types": ["base64_wav"],
        "max_batch_size": 5,
        "supports_batching": True,
        "schema_versions": ["predictions_v1"],
    }


def test_answers_equal_those_of_ask(address: str, model: NatureLM) -> None:
    clips = [wav(0.5 + i / 4, i) for i in range(4)]
    rows = predict(address, *(item(str(i), f"What? {i}", clip) for i, clip in enumerate(clips))).json()[
        "responses"
    ]
    assert [row["sample_id"] for row in rows] == ["0", "1", "2", "3"]
    for i, (row, clip) in enumerate(zip(rows, clips, strict=True)):
        question = f"<Audio><AudioHere></Audio> What? {i}"
        expected = model.ask(clip, question, options=GenerationOptions(max_new_tokens=6))
        assert row["predictions"] == [expected.text] and row["error"] is None
        assert row["finish_reason"] == ("stop" if expected.finished else "length")
        assert row["usage"]["prompt_tokens"] == expected.prompt_tokens
        assert row["usage"]["completion_tokens"] == len(expected.token_ids)
        assert row["latency_sec"] > 0


def test_clips_stand_where_the_messages_have_them_and_before_the_text_otherwise(
    address: str, model: NatureLM
) -> None:
    clips = [wav(0.5, i) for i in range(2)]
    two = item(audio=clips[0])
    two["audio_inputs"] += item(audio=clips[1])["audio_inputs"]
    texts = [
        ["First <Audio><AudioHere></Audio> then", "<Audio><AudioHere></Audio> which is louder?"],
        ["Which is louder?"],
    ]
    answers = []
    for own in texts:
        two["messages"] = [
            {"role": role, "content": text} for role, text in zip(("system", "user"), own, strict=False)
        ]
        row = only(predict(address, two))
        read = [model.read_clip(clip) for clip in clips]
        expected = model.answer([Query(tuple(read), "\n".join(own))], GenerationOptions(max_new_tokens=6))[0]
        assert row["predictions"] == [expected.text]
        assert row["usage"]["prompt_tokens"] == expected.prompt_tokens
        answers.append(row["usage"]["prompt_tokens"])
    assert answers[0] != answers[1]
    two["messages"] = [{"role": "user", "content": "<Audio><AudioHere></Audio> one place for two"}]
    assert "1 <AudioHere> for 2 recordings" in error_of(predict(address, two))


def test_a_question_without_sound_is_answered(address: str) -> None:
    row = only(
        predict(address, item() | {"audio_inputs": [], "messages": [{"role": "user", "content": "Hm?"}]})
    )
    assert row["error"] is None


def test_generation_config_is_followed_and_what_it_does_not_know_passed_over(
    address: str, model: NatureLM
) -> None:
    clip = wav()
    question = "<Audio><AudioHere></Audio> What is it?"

    def text(**config: Any) -> str:
        return str(only(predict(address, item(audio=clip, **config)))["predictions"][0])

    greedy = model.ask(clip, question, options=GenerationOptions(max_new_tokens=6)).text
    assert text(repetition_penalty=1.2, pad_token_id=None, whatever={"deep": []}) == greedy
    assert text(do_sample=False, temperature=0.9, top_p=0.5, top_k=50) == greedy
    drawn = GenerationOptions(max_new_tokens=6, temperature=1.3, seed=5)
    assert text(temperature=1.3, seed=5) == model.ask(clip, question, options=drawn).text
    assert text(do_sample=True, temperature=1.3, seed=5) == model.ask(clip, question, options=drawn).text
    beams = GenerationOptions(max_new_tokens=6, num_beams=3)
    assert text(num_beams=3) == model.ask(clip, question, options=beams).text


def test_a_closed_set_comes_with_its_probabilities(address: str, model: NatureLM) -> None:
    clip = wav()
    row = only(predict(address, item(audio=clip, choices=["Dog", "Cat"], none_of_these=True)))
    expected = model.ask(
        clip, "<Audio><AudioHere></Audio> What is it?", choices=["Dog", "Cat"], none_of_these=True
    )
    assert row["predictions"] == [expected.text] and row["finish_reason"] == "stop"
    assert [each["label"] for each in row["usage"]["choices"]] == [c.label for c in expected.choices]
    for each, choice in zip(row["usage"]["choices"], expected.choices, strict=True):
        assert each["probability"] == pytest.approx(choice.probability, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"extra": 1}, "body.extra"),
        ({"requests": [item() | {"extra": 1}]}, "body.requests.0.extra"),
        (
            {"requests": [item() | {"messages": [{"role": "user", "content": "?", "name": "x"}]}]},
            "messages.0.name",
        ),
        (
            {
                "requests": [
                    item() | {"audio_inputs": [{"payload_type": "base64_wav", "data": "", "url": "x"}]}
                ]
            },
            "audio_inputs.0.url",
        ),
        ({"requests": [{"sample_id": "1"}]}, "messages"),
        ({"requests": "all"}, "body.requests"),
        ({"requests": [item() | {"sample_id": 7}]}, "sample_id"),
        ({"schema_version": None}, "schema_version"),
    ],
)
def test_unknown_missing_and_mistyped_keys_are_refused_by_name(
    address: str, change: dict[str, Any], place: str
) -> None:
    response = predict(address, item(), **change)
    assert response.status_code == 422
    error = response.json()["error"]
    assert place in error["message"] and place in error["param"]


def test_another_schema_version_is_refused(address: str) -> None:
    response = predict(address, item(), schema_version="predictions_v2")
    assert response.status_code == 400 and "predictions_v1" in response.json()["error"]["message"]


def test_too_many_items_and_equal_ids_are_refused(address: str) -> None:
    assert predict(address, *(item(str(i)) for i in range(6))).status_code == 413
    response = predict(address, item("a"), item("b"), item("a"))
    assert response.status_code == 400 and "'a'" in response.json()["error"]["message"]


def test_no_items_are_no_fault(address: str) -> None:
    assert predict(address).json() == {"schema_version": "predictions_v1", "responses": []}


def test_a_bad_item_has_an_error_and_the_others_their_answers(address: str) -> None:
    broken = {
        "base64": item("base64") | {"audio_inputs": [{"payload_type": "base64_wav", "data": "no!base64"}]},
        "no sound": item("no sound", audio=b"not a wave file"),
        "silence": item("silence", audio=wav(rate=16_000)[:44] + bytes(32_000)),
        "empty": item("empty") | {"messages": [{"role": "user", "content": " "}]},
    }
    rows = predict(address, item("good"), *broken.values()).json()["responses"]
    assert [row["sample_id"] for row in rows] == ["good", *broken]
    assert rows[0]["error"] is None and rows[0]["predictions"]
    for row in rows[1:]:
        assert row["predictions"] == [] and row["error"]
        assert "<file" not in row["error"] and "<bytes" not in row["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"messages": []}, "messages is empty"),
        ({"messages": [{"role": "assistant", "content": "A dog."}]}, "one question at a time"),
        ({"messages": [{"role": "user", "content": "word " * 10_000}]}, "at most 2000"),
        ({"audio_inputs": [{"payload_type": "base64_mp3", "data": ""}]}, "base64_mp3"),
        (
            {"audio_inputs": [{"payload_type": "file_path", "data": "/etc/passwd"}]},
            "this server takes base64_wav",
        ),
        (
            {"audio_inputs": [{"payload_type": "file_url", "data": "https://x.example/a.wav"}]},
            "takes base64_wav",
        ),
        ({"audio_inputs": item()["audio_inputs"] * 9}, "at most 8"),
        ({"generation_config": {"max_new_tokens": 65}}, "at most 64"),
        ({"generation_config": {"max_new_tokens": "many"}}, "generation_config.max_new_tokens"),
        ({"generation_config": {"max_new_tokens": 0}}, "at least 1"),
        ({"generation_config": {"num_beams": 100}}, "at most 8"),
        ({"generation_config": {"temperature": -1}}, "temperature"),
        ({"generation_config": {"top_p": 2, "do_sample": True}}, "top_p"),
        ({"generation_config": {"choices": ["Dog", "Dog"]}}, "twice"),
        ({"generation_config": {"choices": []}}, "choices are empty"),
        ({"generation_config": {"choices": [str(i) for i in range(1001)]}}, "at most 1000"),
        ({"generation_config": {"merging_alpha": 1e300}}, "merging_alpha"),
        ({"generation_config": {"seed": -1}}, "seed"),
    ],
)
def test_what_an_item_must_not_ask(address: str, change: dict[str, Any], said: str) -> None:
    assert said in error_of(predict(address, item() | change))


def test_another_rate_than_the_files_is_an_error(address: str) -> None:
    wrong = item()
    wrong["audio_inputs"][0]["sample_rate"] = 44_100
    assert "44100" in error_of(predict(address, wrong))


def test_what_is_no_json_is_refused(address: str) -> None:
    def post(content: bytes, kind: str = "application/json") -> httpx.Response:
        return httpx.post(f"{address}/predict", content=content, headers={"content-type": kind})

    for content in (
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b"[" * 5_000,
        b'{"schema_version": 1' + b"0" * 5_000 + b"}",
    ):
        response = post(content)
        assert response.status_code in (400, 422), response.text
        assert response.json()["error"]["message"]
    # A form on another page can send this without asking; JSON it cannot.
    assert post(b'{"schema_version": "predictions_v1", "requests": []}', "text/plain").status_code == 422


def test_other_addresses_and_methods(address: str) -> None:
    assert httpx.get(f"{address}/nothing").json()["error"]["type"] == "not_found"
    response = httpx.get(f"{address}/predict")
    assert response.status_code == 405 and "allow" in response.headers


def test_files_under_an_allowed_folder_and_no_others(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.wav").write_bytes(wav())
    (inside / "link.wav").symlink_to(outside / "a.wav")
    with served(options=ServeOptions(access=Access(folders=(inside,)))) as address:
        assert httpx.get(f"{address}/info").json()["audio_payload_types"] == ["base64_wav", "file_path"]

        def ask(path: object) -> dict[str, Any]:
            given = [{"payload_type": "file_path", "data": str(path), "sample_rate": 16_000}]
            return only(predict(address, item() | {"audio_inputs": given}))

        by_path, by_bytes = ask(inside / "a.wav"), only(predict(address, item()))
        assert by_path["predictions"] == by_bytes["predictions"]
        for path in (
            outside / "a.wav",
            inside / "link.wav",
            inside / ".." / "outside" / "a.wav",
            inside / "none.wav",
            "/etc/passwd",
            f"file://{inside}/a.wav",
            inside,
        ):
            row = ask(path)
            assert row["predictions"] == [] and str(tmp_path) not in row["error"]


def test_the_benchmark_of_this_project_drives_it(address: str, model: NatureLM) -> None:
    system = HttpSystem(address)
    assert (system.info.name, system.info.revision) == ("naturelm", "r1")
    items = [
        BenchItem(
            id=str(i),
            dataset_name="d",
            task="classification",
            prompt=f"What is number {i}?",
            waveform=noise(0.5, i),
            sample_rate=16_000,
            labels=(),
        )
        for i in range(7)
    ]
    answers = system.answer(items)
    for i, answer in enumerate(answers):
        clip = (noise(0.5, i) * 1).astype("float32")
        expected = model.ask(clip, f"<Audio><AudioHere></Audio> What is number {i}?", source_rate=16_000)
        assert answer.prediction == expected.text


def test_a_full_queue_is_told_with_a_time_to_wait() -> None:
    model = SlowModel()
    with served(model, ServeOptions(queue=QueueOptions(queue_size=2, batch_size=1))) as address:
        model.go.clear()
        threads = [
            threading.Thread(target=predict, args=(address, item(f"{i}", f"Wait {i}"))) for i in range(3)
        ]
        threads[0].start()
        metric = "naturelm_questions_waiting 0.0"
        time.sleep(0.3)
        for thread in threads[1:]:
            thread.start()
        eventually(lambda: "naturelm_questions_waiting 2.0" in httpx.get(f"{address}/metrics").text)
        response = predict(address, item())
        assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
        model.go.set()
        for thread in threads:
            thread.join(20)
        assert metric in httpx.get(f"{address}/metrics").text


def test_a_client_that_goes_is_not_answered() -> None:
    model = SlowModel()
    with served(model, ServeOptions(queue=QueueOptions(batch_size=1))) as address:
        model.go.clear()
        first = threading.Thread(target=predict, args=(address, item("1", "First?")))
        first.start()
        time.sleep(0.3)
        with pytest.raises(httpx.ReadTimeout):
            content = {"schema_version": "predictions_v1", "requests": [item("2", "Gone?")]}
            httpx.post(f"{address}/predict", json=content, timeout=0.5)
        time.sleep(0.2)
        model.go.set()
        first.join(20)
        predict(address, item("3", "Third?"))
        asked = [question for batch in model.batches for question in batch]
        assert [question.split("> ")[-1] for question in asked] == ["First?", "Third?"]


def test_metrics_count_what_happens() -> None:
    with served() as address:
        predict(address, item(), item("2"))
        httpx.get(f"{address}/made/up/{'x' * 50}")
        text = httpx.get(f"{address}/metrics").text
    for line in (
        'naturelm_requests_total{path="/predict",status="200"} 1.0',
        'naturelm_requests_total{path="other",status="404"} 1.0',
        "naturelm_questions_total 2.0",
        "naturelm_sound_seconds_total 2.0",
        'naturelm_model_info{model="tiny",revision="0"} 1.0',
    ):
        assert line in text, line


def test_the_documentation_asks_for_nothing_outside(address: str) -> None:
    page = httpx.get(f"{address}/docs").text
    assert "http://" not in page and "https://" not in page
    for place in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert httpx.get(f"{address}{place}").status_code == 200
    schema = httpx.get(f"{address}/openapi.json").json()
    assert {"/health", "/info", "/predict"} <= set(schema["paths"])


def test_base64_of_other_containers_than_wav_is_an_error(address: str) -> None:
    flac = wav(format="FLAC")
    assert "WAV" in error_of(predict(address, item(audio=flac))).upper()
    assert base64_of(flac)


def test_servers_of_one_process_are_apart() -> None:
    async def both() -> None:
        with served() as first, served() as second:
            predict(first, item())
            assert "naturelm_questions_total 1.0" in httpx.get(f"{first}/metrics").text
            assert "naturelm_questions_total 0.0" in httpx.get(f"{second}/metrics").text

    asyncio.run(both())


def test_a_broken_request_line_is_survived(address: str) -> None:
    link = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=10)
    link.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert b"400" in link.recv(100)
    link.close()
    assert httpx.get(f"{address}/health").status_code == 200
