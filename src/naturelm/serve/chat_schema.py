"""OpenAI's chat completions as records: what is understood of a request, and what is sent back.

Ours beyond it: `choices` and `none_of_these` in a request, a closed set that is scored instead of generating, with
`choice_scores` in the response; and `top_k`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag

from naturelm.serve.faults import Fault, RequestFault

_MOST_PARTS = 256

# Fields that clients send and that change nothing here.
_PASSED_OVER = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
# Fields of what this model cannot do, and the values with which they do not ask for it.
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": ("medium",),
    "web_search_options": (),
}


class InputAudio(BaseModel):
    """A whole file of sound."""

    data: str = Field(description="Base64.")
    format: str = Field(description="`wav`, `mp3`, `flac` or `ogg`.")


class ContentPart(BaseModel):
    """A part of a message."""

    type: str = Field(description="`text` or `input_audio`.")
    text: str | None = None
    input_audio: InputAudio | None = None


def _content_kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "parts"


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[ContentPart], Field(max_length=_MOST_PARTS), Tag("parts")],
    Discriminator(_content_kind),
]


class ChatMessage(BaseModel):
    """A part of the question."""

    role: str = Field(
        description="`system`, `developer` or `user`: they are joined in order into one question."
    )
    content: Content | None = None


class StreamOptions(BaseModel):
    """How a stream ends."""

    include_usage: StrictBool | None = None


class ChatRequest(BaseModel):
    """One question about any number of clips; null is as if a field were not there."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[ChatMessage] = Field(max_length=_MOST_PARTS)
    max_completion_tokens: StrictInt | None = Field(default=None, description="Of the answer; 64 by default.")
    max_tokens: StrictInt | None = Field(default=None, description="The older name of it.")
    temperature: StrictFloat | StrictInt | None = Field(
        default=None, description="0 by default: always the likeliest token."
    )
    top_p: StrictFloat | StrictInt | None = None
    top_k: StrictInt | None = None
    seed: StrictInt | None = None
    stop: str | list[str] | None = Field(
        default=None, description="Up to 4 texts before which the answer ends."
    )
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = Field(default=None, description="0: other tokens are not told.")
    choices: list[str] | None = Field(
        default=None, description="A closed set: the likeliest of these labels is the answer."
    )
    none_of_these: StrictBool | None = Field(
        default=None, description="Adds to the closed set that none of it applies."
    )

    def check_others(self) -> None:
        """RequestFault for a field that asks for what is not done here, or that nobody knows."""
        for name, value in (self.model_extra or {}).items():
            if value is None or name in _PASSED_OVER:
                continue
            shown = name if name.isprintable() and len(name) <= 60 else "a field"
            if name not in _UNSUPPORTED:
                raise RequestFault(Fault.INVALID, f"{shown}: is not known here; take it out", param=shown)
            if value not in _UNSUPPORTED[name]:
                raise RequestFault(
                    Fault.INVALID, f"{shown}: this model does not support it; take it out", param=shown
                )


class TokenLogprob(BaseModel):
    """A token of the answer."""

    token: str
    logprob: float
    bytes: list[int] | None = Field(description="null where the token is a part of a character.")
    top_logprobs: list[Any] = []


class Logprobs(BaseModel):
    """The tokens of an answer, or of a piece of it."""

    content: list[TokenLogprob]
    refusal: None = None


class ChoiceScore(BaseModel):
    """A label of the closed set."""

    label: str
    probability: float = Field(description="Among the set.")
    log_likelihood: float = Field(description="Natural logarithm, of all of the label's tokens.")


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class AnswerChoice(BaseModel):
    """The one answer that there is."""

    index: int = 0
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: Logprobs | None = None
    choice_scores: list[ChoiceScore] | None = Field(
        default=None, description="Of a closed set, likeliest first."
    )


class PromptDetails(BaseModel):
    """Of the prompt's tokens, those of sound."""

    audio_tokens: int


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class ChatCompletion(BaseModel):
    """An answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[AnswerChoice]
    usage: Usage


class Model(BaseModel):
    """What is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "naturelm"


class ModelList(BaseModel):
    """All that is served: one model."""

    object: Literal["list"] = "list"
    data: list[Model]
