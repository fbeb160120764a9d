"""OpenAI's chat completions, as the `openai` package sees them: answers equal to `ask`, and refusals in words."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI
from serving import SlowModel, base64_of, served, wav

from naturelm import NatureLM
from naturelm.answer.results import Answer, GenerationOptions, Query
from naturelm.serve.options import Limits, QueueOptions, ServeOptions
from naturelm.serve.writing import StopFinder
from tiny import tiny_naturelm

RECORDINGS = sorted((Path(__file__).parents[2] / "examples" / "recordings").glob("*.flac"))
QUESTION = "What is the common name for the focal species in the audio?"
MARKER = "<Audio><AudioHere></Audio>"


class PacedModel(SlowModel):
    """Takes its time for every token, and counts those that it writes."""

    def __init__(self, seconds_a_token: float) -> None:
        super().__init__()
        self.pace = seconds_a_token
        self.written = 0
        self.breaks_after = 10**9

    def answer(self, queries: Any, options: Any = None, watcher: Any = None) -> list[Answer]:
        model = self

        class Paced:
            def wrote(self, query: int, token: int, log_prob: float) -> None:
                model.written += 1
                if len(queries) > 1 and model.written > model.breaks_after:
                    raise RuntimeError("out of memory at /secret/place")
                time.sleep(model.pace)
                watcher.wrote(query, token, log_prob)

            def unwanted(self, query: int) -> bool:
                return bool(watcher.unwanted(query))

        return super().answer(queries, options, Paced())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(tiny_naturelm(), ServeOptions(limits=Limits(audios=3, choices=10, new_tokens=200))) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> OpenAI:
    return client_of(address)


@pytest.fixture(scope="module")
def model() -> NatureLM:
    return tiny_naturelm()


def client_of(address: str) -> OpenAI:
    # Certificates are of no use on loopback, and take a while to load.
    http = openai.DefaultHttpxClient(verify=False, trust_env=False)
    return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60, http_client=http)


def post(address: str, content: Any) -> httpx.Response:
    """Ask without the package's own checks."""
    return httpx.post(
        f"{address}/v1/chat/completions",
        content=json.dumps(content),
        headers={"content-type": "application/json"},
        verify=False,
        timeout=30,
    )


def audio(data: bytes | None = None, form: str = "wav") -> dict[str, Any]:
    return {
        "type": "input_audio",
        "input_audio": {"data": base64_of(wav() if data is None else data), "format": form},
    }


def text(words: str = QUESTION) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def ask(client: OpenAI, messages: Any = None, **kwargs: Any) -> Any:
    return client.chat.completions.create(
        model=kwargs.pop("model", "tiny"), messages=messages or user(audio(), text()), **kwargs
    )


def streamed(client: OpenAI, messages: Any = None, **kwargs: Any) -> list[Any]:
    return list(ask(client, messages, stream=True, **kwargs))


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def finish_of(chunks: list[Any]) -> str:
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert len(reasons) == 1
    return reasons[0]


class TestAnswers:
    @pytest.mark.parametrize("seed", range(6))
    def test_equal_to_ask_whole_and_streamed(self, client: OpenAI, model: NatureLM, seed: int) -> None:
        sound, question = wav(0.5 + seed / 5, seed), f"{QUESTION} {seed}"
        expected = model.ask(sound, question)
        whole = ask(client, user(audio(sound), text(question)))
        chunks = streamed(client, user(audio(sound), text(question)))
        (choice,) = whole.choices
        assert choice.message.role == "assistant"
        assert choice.message.content == text_of(chunks) == expected.text
        assert choice.finish_reason == finish_of(chunks) == ("stop" if expected.finished else "length")
        assert (whole.object, whole.model, whole.system_fingerprint) == ("chat.completion", "tiny", "0")
        assert {(c.object, c.model, c.system_fingerprint, c.id) for c in chunks} == {
            ("chat.completion.chunk", "tiny", "0", chunks[0].id)
        }
        assert chunks[0].choices[0].delta.role == "assistant"
        assert len(chunks) > 3
        usage = whole.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (
            expected.prompt_tokens,
            len(expected.token_ids),
        )
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        clip = model.read_clip(sound)
        assert usage.prompt_tokens_details.audio_tokens == model.sound_tokens(Query((clip,), question))

    @pytest.mark.parametrize("path", RECORDINGS[:2], ids=lambda path: path.stem)
    def test_formats(self, client: OpenAI, model: NatureLM, path: Path) -> None:
        sound = path.read_bytes()
        assert ask(client, user(audio(sound, "flac"), text())).choices[0].message.content == (
            model.ask(path, QUESTION).text
        )
        for form, options in (("mp3", {"format": "MP3"}), ("ogg", {"format": "OGG", "subtype": "VORBIS"})):
            other = wav(1.0, 3, **options)
            answer = ask(client, user(audio(other, form), text())).choices[0].message.content
            assert answer == model.ask(other, QUESTION).text

    def test_options(self, client: OpenAI, model: NatureLM) -> None:
        for sent, options in (
            ({"max_tokens": 3}, {"max_new_tokens": 3}),
            ({"max_completion_tokens": 5}, {"max_new_tokens": 5}),
            ({"temperature": 1.3, "seed": 7, "top_p": 0.9}, {"temperature": 1.3, "seed": 7, "top_p": 0.9}),
            (
                {"temperature": 1, "seed": 8, "extra_body": {"top_k": 5}},
                {"temperature": 1.0, "seed": 8, "top_k": 5},
            ),
        ):
            expected = model.ask(wav(), QUESTION, options=GenerationOptions(**options))
            assert ask(client, **sent).choices[0].message.content == expected.text
            assert text_of(streamed(client, **sent)) == expected.text

    def test_a_question_without_sound(self, client: OpenAI, model: NatureLM) -> None:
        expected = model.answer([Query((), "What is a bird?")])[0]
        answer = ask(client, [{"role": "user", "content": "What is a bird?"}])
        assert answer.choices[0].message.content == expected.text
        assert answer.usage.prompt_tokens_details.audio_tokens == 0

    def test_fields_that_real_clients_send(self, client: OpenAI) -> None:
        ask(
            client, user="me", store=False, metadata={"a": "b"}, n=1, tools=[], tool_choice="none",
            response_format={"type": "text"}, modalities=["text"], presence_penalty=0, frequency_penalty=0.0,
            logit_bias={}, service_tier="auto", parallel_tool_calls=False, stop=None, logprobs=False, max_tokens=2,
            stream_options={"include_usage": True}, extra_body={"audio": None, "safety_identifier": "x"},
        )  # fmt: skip

    def test_usage_of_a_stream(self, client: OpenAI) -> None:
        whole = ask(client)
        chunks = streamed(client, stream_options={"include_usage": True})
        assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
        assert all(chunk.usage is None for chunk in chunks[:-1])

    def test_logprobs(self, client: OpenAI, model: NatureLM) -> None:
        for seed in range(4):
            sound = wav(1.0, seed)
            expected = model.ask(sound, QUESTION, options=GenerationOptions(max_new_tokens=20))
            scores = list(expected.token_log_probs[: -1 if expected.finished else None])
            whole = ask(
                client, user(audio(sound), text()), logprobs=True, top_logprobs=0, max_tokens=20
            ).choices[0]
            assert [token.logprob for token in whole.logprobs.content] == scores
            for token in whole.logprobs.content:
                assert token.top_logprobs == []
                assert token.bytes is None or bytes(token.bytes).decode() == token.token
            chunks = streamed(client, user(audio(sound), text()), logprobs=True, max_tokens=20)
            pieces = [c.choices[0].logprobs.content for c in chunks if c.choices and c.choices[0].logprobs]
            assert [t.logprob for piece in pieces for t in piece] == scores
            assert text_of(chunks) == expected.text

    def test_models(self, client: OpenAI) -> None:
        (served_model,) = client.models.list().data
        assert (served_model.id, served_model.object, served_model.owned_by) == ("tiny", "model", "naturelm")
        assert client.models.retrieve("tiny") == served_model
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt/4")


class TestQuestions:
    """How messages become the one question."""

    @pytest.fixture(scope="class")
    @classmethod
    def asked(cls) -> Iterator[Any]:
        slow = SlowModel()
        with served(slow) as address:
            client = client_of(address)

            def question(messages: Any) -> str:
                ask(client, messages, max_tokens=1)
                return slow.batches[-1][0]

            yield question

    @pytest.mark.parametrize(
        ("messages", "question"),
        [
            ([{"role": "user", "content": "Who?"}], "Who?"),
            (user(audio(), text("Who?")), "Who?"),
            (user(text("Who?"), audio()), "Who?"),
            (user(audio(), text(f"{MARKER} Who?")), "Who?"),
            (user(audio(), audio(), text("Same?")), "Same?"),
            (user(text("Here"), audio(), text("and here"), audio()), f"Here {MARKER} and here {MARKER}"),
            (user(text("Here"), audio(), text("is who?")), f"Here {MARKER} is who?"),
            (user(audio(), text("One."), text("Two.")), "One.\nTwo."),
            (user(audio(), text(f"In {MARKER} is who?")), f"In {MARKER} is who?"),
            (user(text("B is <AudioHere>, A is <AudioHere>"), audio(), audio()), "B is <AudioHere>, A is <AudioHere>"),
            (
                [{"role": "system", "content": "Be brief."}, *user(audio(), text("Who?"))],
                f"Be brief.\n{MARKER} Who?",
            ),
            (
                [{"role": "developer", "content": [text("Be brief.")]}, *user(text("Who?"), audio())],
                f"Be brief.\n{MARKER} Who?",
            ),
        ],
    )  # fmt: skip
    def test_joined(self, asked: Any, messages: Any, question: str) -> None:
        assert asked(messages) == question

    def test_clips_keep_their_order(self, client: OpenAI, model: NatureLM) -> None:
        one, two = wav(1.0, 1), wav(0.7, 2)
        clips = [model.read_clip(one), model.read_clip(two)]
        for order in ((0, 1), (1, 0)):
            sounds = [(one, two)[i] for i in order]
            expected = model.answer([Query(tuple(clips[i] for i in order), "Same?")])[0]
            answer = ask(client, user(*map(audio, sounds), text("Same?")))
            assert answer.choices[0].message.content == expected.text


class TestClosedSets:
    LABELS = ("Dog", "Cat", "Lazuli Bunting")

    @pytest.mark.parametrize("none", [False, True])
    def test_equal_to_ask(self, client: OpenAI, model: NatureLM, none: bool) -> None:
        expected = model.ask(wav(), QUESTION, choices=self.LABELS, none_of_these=none)
        extra = {"choices": list(self.LABELS), "none_of_these": none}
        whole = ask(client, extra_body=extra)
        chunks = streamed(client, extra_body=extra, stream_options={"include_usage": True})
        assert whole.choices[0].message.content == text_of(chunks) == expected.text
        assert whole.choices[0].finish_reason == finish_of(chunks) == "stop"
        scores = [
            {"label": c.label, "probability": c.probability, "log_likelihood": c.log_likelihood}
            for c in expected.choices
        ]
        assert len(scores) == 3 + none
        assert whole.choices[0].choice_scores == scores
        (last,) = [c.choices[0] for c in chunks if c.choices and c.choices[0].finish_reason]
        assert last.choice_scores == scores
        assert whole.usage.completion_tokens == 0 and chunks[-1].usage == whole.usage

    def test_a_free_answer_has_no_scores(self, address: str) -> None:
        content = {"model": "tiny", "messages": user(audio(), text()), "max_tokens": 2}
        (choice,) = post(address, content).json()["choices"]
        assert "choice_scores" not in choice

    @pytest.mark.parametrize(
        ("extra", "param"),
        [
            ({"choices": []}, "choices"),
            ({"choices": ["Dog", " "]}, "choices"),
            ({"choices": ["Dog", "Dog "]}, "choices"),
            ({"none_of_these": True}, "none_of_these"),
            ({"choices": ["Dog"], "stop": "x"}, "stop"),
            ({"choices": ["Dog"], "logprobs": True}, "logprobs"),
        ],
    )
    def test_refused(self, client: OpenAI, extra: dict[str, Any], param: str) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, extra_body=extra)
        assert caught.value.param == param

    def test_too_many_and_too_long(self, client: OpenAI) -> None:
        for choices in ([f"label {i}" for i in range(11)], ["x" * 201]):
            with pytest.raises(openai.APIStatusError) as caught:
                ask(client, extra_body={"choices": choices})
            assert caught.value.status_code == 413


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


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"functions": [{"name": "f"}]}, "functions"),
            ({"n": 2}, "n"),
            ({"response_format": {"type": "json_schema"}}, "response_format"),
            ({"logit_bias": {"5": 1}}, "logit_bias"),
            ({"modalities": ["text", "audio"]}, "modalities"),
            ({"audio": {"voice": "x"}}, "audio"),
            ({"presence_penalty": 0.5}, "presence_penalty"),
            ({"frequency_penalty": -1}, "frequency_penalty"),
            ({"prediction": {"type": "content"}}, "prediction"),
            ({"reasoning_effort": "high"}, "reasoning_effort"),
            ({"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
            ({"temprature": 1}, "temprature"),
            ({"messages": []}, "messages"),
            ({"messages": user(audio())}, "messages"),
            ({"messages": user(text("  "))}, "messages"),
            ({"messages": user(audio(), text("<AudioHere> and <AudioHere>"))}, "messages"),
            ({"messages": user(text("<AudioHere>"))}, "messages"),
            ({"messages": [*user(text()), {"role": "assistant", "content": "Owl"}]}, "messages[1].role"),
            ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
            ({"messages": [{"role": "user"}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
            ({"messages": [{"role": "system", "content": [audio()]}, *user(text())]}, "messages[0].content[0]"),
            ({"messages": user({"type": "image_url", "image_url": {"url": "x"}})}, "messages[0].content[0].type"),
            ({"messages": user({"type": "text"})}, "messages[0].content[0].text"),
            ({"messages": user({"type": "input_audio"})}, "messages[0].content[0].input_audio"),
            ({"messages": user(text(), audio(form="m4a"))}, "messages[0].content[1].input_audio.format"),
            ({"messages": user(text(), audio(form="mp3"))}, "messages[0].content[1].input_audio"),
            ({"messages": user(text(), audio(b"no sound"))}, "messages[0].content[1].input_audio"),
            ({"temperature": -1}, None),
            ({"temperature": 10**400}, None),
            ({"top_p": 0}, None),
            ({"max_tokens": 0}, None),
            ({"seed": -1}, None),
            ({"seed": 2**64}, None),
        ],
    )  # fmt: skip
    def test_in_words_and_openais_shape(
        self, address: str, change: dict[str, Any], param: str | None
    ) -> None:
        content = {"model": "tiny", "messages": user(audio(), text()), **change}
        for stream in (False, True):
            response = post(address, {**content, "stream": stream})
            assert response.status_code == 400, response.text
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["param"] == param and error["message"]
            assert response.headers["content-type"] == "application/json"

    @pytest.mark.parametrize(
        "change",
        [
            {"messages": "Who?"},
            {"messages": [{"role": "user", "content": 3}]},
            {"messages": [{"role": "user", "content": ["Who?"]}]},
            {"messages": [{"role": "user", "content": "\ud800"}]},
            {"choices": ["Dog", "\udc80"]},
            {"messages": [{"content": "Who?"}]},
            {"messages": user(*[text("a")] * 257)},
            {"messages": user(text())[:1] * 257},
            {"stream": "yes"},
            {"seed": 1.5},
            {"seed": "1"},
            {"max_tokens": True},
            {"temperature": "hot"},
            {"stop": 3},
            {"choices": "Dog"},
            {"choices": [1]},
            {"model": None},
        ],
    )
    def test_of_the_wrong_kind(self, address: str, change: dict[str, Any]) -> None:
        content = {"model": "tiny", "messages": user(text()), **change}
        response = post(address, content)
        assert response.status_code in (400, 422), response.text
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    def test_another_model(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            ask(client, model="gpt-4o-audio-preview")
        assert caught.value.param == "model" and "'tiny' is" in caught.value.message

    @pytest.mark.parametrize(
        "change",
        [
            {"max_tokens": 201},
            {"max_completion_tokens": 10**9},
            {"messages": user(*[audio()] * 4, text())},
            {"messages": user(text("x" * 16_001))},
            {"messages": user(text("why " * 3_000))},
        ],
    )
    def test_too_much(self, client: OpenAI, change: dict[str, Any]) -> None:
        for stream in (False, True):
            with pytest.raises(openai.APIStatusError) as caught:
                ask(client, **change, stream=stream)
            assert caught.value.status_code == 413

    def test_sound_that_is_too_long(self, client: OpenAI) -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, user(audio(wav(70.0, format="FLAC"), "flac"), text()))
        assert caught.value.status_code == 413
        assert caught.value.param == "messages[0].content[0].input_audio"
        assert "audio 1" in caught.value.message

    def test_no_room_is_told_before_anything_is_decoded(self) -> None:
        slow = SlowModel()
        with served(slow, ServeOptions(queue=QueueOptions(queue_size=1, batch_size=1))) as address:
            slow.go.clear()
            waiting = [
                threading.Thread(target=lambda: ask(client_of(address), max_tokens=1)) for _ in range(2)
            ]
            for thread in waiting:
                thread.start()
                time.sleep(0.5)
            with pytest.raises(openai.RateLimitError) as caught:
                ask(client_of(address), user(audio(b"no sound"), text()))
            assert int(caught.value.response.headers["retry-after"]) >= 1
            slow.go.set()
            for thread in waiting:
                thread.join()


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


def test_nothing_that_is_said_goes_to_the_log(
    client: OpenAI, model: NatureLM, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="naturelm"):
        answer = ask(client, user(audio(), text("Quokka secrets?")))
        streamed(client, user(audio(), text("Quokka secrets?")))
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "chat/completions" in said
    assert "Quokka" not in said and answer.choices[0].message.content not in said


def test_the_schema_says_how(address: str) -> None:
    schema = httpx.get(f"{address}/openapi.json").json()
    operation = schema["paths"]["/v1/chat/completions"]["post"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {"400", "404", "413", "429"} <= set(operation["responses"])


def test_the_shipped_model_names_the_animals() -> None:
    mini = NatureLM.from_pretrained("mini")
    with served(mini) as address:
        client = client_of(address)
        for path in RECORDINGS[::2]:
            messages = user(text(), audio(path.read_bytes(), "flac"))
            expected = mini.ask(path, QUESTION)
            whole = ask(client, messages, model="mini")
            assert whole.choices[0].message.content == expected.text == path.stem
            assert text_of(streamed(client, messages, model="mini")) == expected.text
        labels = [path.stem for path in RECORDINGS]
        scored = ask(client, messages, model="mini", extra_body={"choices": labels, "none_of_these": True})
        assert scored.choices[0].message.content == path.stem
        assert scored.choices[0].choice_scores[0]["label"] == path.stem
