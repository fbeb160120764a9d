"""How chat completions end: stop texts, faults, clients that go, and many at once."""

import json
import socket
import threading
import time
from itertools import pairwise
from typing import Any

import numpy as np
import openai
import pytest
from chatting import (
    QUESTION,
    PacedModel,
    ask,
    audio,
    client_of,
    finish_of,
    post,
    streamed,
    text,
    text_of,
    user,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI
from serving import SlowModel, served, wav

from naturelm import NatureLM
from naturelm.answer.results import GenerationOptions
from naturelm.serve.options import QueueOptions, ServeOptions
from naturelm.serve.writing import StopFinder
from tiny import tiny_naturelm


class TestStop:
    def test_the_answer_ends_before_the_text(self, client: OpenAI, model: NatureLM) -> None:
        for seed in range(2):
            sound = wav(1.0, seed)
            full = model.ask(sound, QUESTION).text
            for stop in (full[4:5], full[5:8], full[9:16], full[-1:]):
                expected = full[: full.find(stop)]
                whole = ask(client, user(audio(sound), text()), stop=stop)
                assert whole.choices[0].message.content == expected
                assert whole.choices[0].finish_reason == "stop"
                chunks = streamed(
                    client, user(audio(sound), text()), stop=[stop], stream_options={"include_usage": True}
                )
                assert (text_of(chunks), finish_of(chunks)) == (expected, "stop")
                assert 0 < chunks[-1].usage.completion_tokens <= 64
                assert text_of(streamed(client, user(audio(sound), text()), stop=[stop])) == expected

    def test_one_that_does_not_come(self, client: OpenAI, model: NatureLM) -> None:
        expected = model.ask(wav(), QUESTION)
        for stop in ("zzzzzz", [expected.text[-2:] + "zz", "q" * 50]):
            whole = ask(client, stop=stop, logprobs=True)
            assert whole.choices[0].message.content == expected.text
            assert whole.choices[0].finish_reason == ("stop" if expected.finished else "length")
            assert text_of(streamed(client, stop=stop)) == expected.text
            scores = expected.token_log_probs[: -1 if expected.finished else None]
            assert [t.logprob for t in whole.choices[0].logprobs.content] == list(scores)

    def test_tokens_after_it_are_not_told(self, client: OpenAI, model: NatureLM) -> None:
        expected = model.ask(wav(), QUESTION)
        stop = expected.text[10:13]
        whole = ask(client, stop=stop, logprobs=True).choices[0]
        scores = [token.logprob for token in whole.logprobs.content]
        assert 0 < len(scores) < len(expected.token_ids)
        assert scores == list(expected.token_log_probs[: len(scores)])

    def test_writing_ends_there(self) -> None:
        paced = PacedModel(0.02)
        full = tiny_naturelm().ask(wav(), QUESTION, options=GenerationOptions(max_new_tokens=150))
        assert len(full.token_ids) > 60
        with served(paced) as address:
            ask(client_of(address), stop=full.text[2:5], max_tokens=150)
        assert paced.written < 40

    @pytest.mark.parametrize("stop", ["", ["a", ""], list("abcde"), "x" * 201])
    def test_refused(self, client: OpenAI, stop: Any) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, stop=stop)
        assert caught.value.param == "stop"

    @given(
        words=st.text("ab ", max_size=30),
        stops=st.lists(st.text("ab ", min_size=1, max_size=4), max_size=4),
        cuts=st.lists(st.integers(0, 30), max_size=8),
    )
    @settings(deadline=None)
    def test_however_the_text_comes_in(self, words: str, stops: list[str], cuts: list[int]) -> None:
        def told(pieces: list[str]) -> tuple[str, bool]:
            finder = StopFinder(stops)
            out = "".join(finder.push(piece) for piece in pieces)
            return out + finder.rest(), finder.found

        edges = [0, *sorted(min(cut, len(words)) for cut in cuts), len(words)]
        pieces = [words[a:b] for a, b in pairwise(edges)]
        out, found = told(pieces)
        assert (out, found) == told([words]) == told(list(words))
        assert words.startswith(out)
        assert found == any(stop in words for stop in stops)
        if not found:
            assert out == words
        else:
            assert any(words[len(out) :].startswith(stop) for stop in stops)


class TestBroken:
    def test_a_failure_of_the_model(self) -> None:
        slow = SlowModel()
        slow.broken = "explode"
        with served(slow) as address:
            for stream in (False, True):
                with pytest.raises(openai.InternalServerError) as caught:
                    ask(client_of(address), user(audio(), text("explode")), stream=stream)
                assert "/secret" not in caught.value.message
            assert ask(client_of(address), max_tokens=2).choices

    def test_time_is_up(self) -> None:
        with served(PacedModel(0.05), ServeOptions(queue=QueueOptions(request_seconds=0.6))) as address:
            with pytest.raises(openai.APIStatusError) as caught:
                ask(client_of(address), max_tokens=300)
            assert caught.value.status_code == 504
            stream = ask(client_of(address), max_tokens=300, stream=True)
            seen = []
            with pytest.raises(openai.APIError, match="no answer within"):
                for chunk in stream:
                    seen.append(chunk)
            assert text_of(seen)

    def test_a_fault_in_mid_stream_is_an_event_and_the_end(self) -> None:
        with served(PacedModel(0.05), ServeOptions(queue=QueueOptions(request_seconds=3.0))) as address:
            content = {"model": "tiny", "messages": user(audio(), text()), "max_tokens": 300, "stream": True}
            response = post(address, content)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
        assert json.loads(events[-1])["error"]["code"] == "timed_out"
        assert "[DONE]" not in events and 'finish_reason":"' not in response.text

    def test_a_batch_that_is_asked_again_tells_nothing_twice(self) -> None:
        paced = PacedModel(0.005)
        paced.breaks_after = 15
        expected = tiny_naturelm().ask(wav(), QUESTION)
        results: list[list[Any]] = []
        with served(paced) as address:
            paced.go.clear()
            first = threading.Thread(
                target=lambda: ask(client_of(address), user(text("First?")), max_tokens=1)
            )
            first.start()
            time.sleep(0.3)
            both = [
                threading.Thread(target=lambda: results.append(streamed(client_of(address), logprobs=True)))
                for _ in range(2)
            ]
            for thread in both:
                thread.start()
            time.sleep(1)
            paced.go.set()
            for thread in [first, *both]:
                thread.join()
        assert [len(batch) for batch in paced.batches] == [1, 2, 1, 1]
        scores = expected.token_log_probs[: -1 if expected.finished else None]
        for chunks in results:
            assert text_of(chunks) == expected.text
            logprobs = [c.choices[0].logprobs.content for c in chunks if c.choices[0].logprobs]
            assert np.allclose([t.logprob for piece in logprobs for t in piece], scores, atol=1e-5)


class TestClientsThatGo:
    """A client closes the connection: nothing more is written for it, and others are served."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_in_the_midst(self, stream: bool) -> None:
        paced = PacedModel(0.03)
        with served(paced) as address:
            content = {
                "model": "tiny",
                "messages": user(audio(), text()),
                "max_tokens": 300,
                "stream": stream,
            }
            body = json.dumps(content).encode()
            host, port = address.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as link:
                link.sendall(
                    f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                until = time.monotonic() + 10
                while paced.written < 10 and time.monotonic() < until:
                    time.sleep(0.01)
                if stream:
                    assert b"text/event-stream" in link.recv(4096)
            time.sleep(0.3)
            stopped = paced.written
            time.sleep(0.5)
            assert 10 <= paced.written == stopped < 60
            assert ask(client_of(address), user(text("Who?")), max_tokens=2).choices

    def test_a_stream_that_is_closed_by_the_client_package(self) -> None:
        paced = PacedModel(0.03)
        with served(paced) as address, client_of(address) as client:
            stream = ask(client, max_tokens=300, stream=True)
            for _, _chunk in zip(range(4), stream, strict=False):
                pass
            stream.close()
            client.close()
            time.sleep(0.4)
            stopped = paced.written
            time.sleep(0.4)
            assert paced.written == stopped < 60


def test_many_at_once_are_each_answered_as_alone(model: NatureLM) -> None:
    sounds = [wav(0.5 + i / 10, i) for i in range(5)]
    expected = [model.ask(sound, f"{QUESTION} {i}").text for i, sound in enumerate(sounds)]
    found: dict[int, tuple[str, str]] = {}
    slow = SlowModel()
    with served(slow) as address:
        client = client_of(address)

        def one(i: int) -> None:
            messages = user(audio(sounds[i]), text(f"{QUESTION} {i}"))
            whole = ask(client, messages).choices[0].message.content
            found[i] = whole, text_of(streamed(client, messages))

        threads = [threading.Thread(target=one, args=(i,)) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[i] for i in range(5)] == [(words, words) for words in expected]
    assert max(len(batch) for batch in slow.batches) > 1
