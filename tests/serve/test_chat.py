"""OpenAI's chat completions, as the `openai` package sees them: answers equal to `ask`, and refusals in words."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from chatting import (
    MARKER,
    QUESTION,
    RECORDINGS,
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
from openai import OpenAI
from serving import SlowModel, served, wav

from naturelm import NatureLM
from naturelm.answer.results import GenerationOptions, Query
from naturelm.serve.options import QueueOptions, ServeOptions


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
