"""What the tests of chat completions share: questions, clients, and a model that takes its time."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import openai
from openai import OpenAI
from serving import SlowModel, base64_of, wav

from naturelm.answer.results import Answer

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
