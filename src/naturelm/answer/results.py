"""What goes into the model and what comes out, as plain frozen records. No torch here."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from naturelm.errors import QuestionError

NONE_OF_THESE = "None of these"
# The word that the training data uses where no option applies; it is what is scored for NONE_OF_THESE.
NONE_ANSWER = "None"


@dataclass(frozen=True)
class GenerationOptions:
    """How an answer is written; the defaults are greedy."""

    max_new_tokens: int = 64
    num_beams: int = 1  # more than 1: beam search, which excludes sampling
    temperature: float = 0.0  # 0: always the likeliest token; above: sampling
    top_k: int = 0  # sample among the k likeliest tokens; 0: all
    top_p: float = 1.0  # sample among the likeliest tokens that hold this probability together
    seed: int = 0  # of the sampling; an answer depends on it and on its own query alone
    merging_alpha: float = 1.0  # scales the LoRA adapter, for this call: 1 as trained, 0 without it

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.num_beams < 1 or self.top_k < 0:
            raise QuestionError("max_new_tokens and num_beams are at least 1, and top_k at least 0")
        if not (math.isfinite(self.temperature) and self.temperature >= 0 and 0 < self.top_p <= 1):
            raise QuestionError("temperature is 0 or above, and top_p above 0 and at most 1")
        if not math.isfinite(self.merging_alpha):
            raise QuestionError("merging_alpha is a finite number: 1 as trained, 0 the bare language model")
        if self.temperature > 0 and self.num_beams > 1:
            raise QuestionError("num_beams above 1 and temperature above 0 exclude each other; choose one")


@dataclass(frozen=True, eq=False)
class Clip:
    """Sound for the model.

    samples: (n,) float32 in [-1, 1] at the ear's rate. start, end: s in the recording. fbank: what
    `NatureLM.prepare` made of the samples; None where it did not.
    """

    samples: np.ndarray
    recording: str = "<array>"
    start: float = 0.0
    end: float = 0.0
    fbank: Any = None


@dataclass(frozen=True, eq=False)
class Query:
    """One prompt: one or more clips, a question, and the closed set of answers if there is one."""

    clips: tuple[Clip, ...]
    question: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """One label of a closed set.

    probability: among the set. log_likelihood: natural logarithm, of all of the label's tokens.
    """

    label: str
    probability: float
    log_likelihood: float


@dataclass(frozen=True)
class Seconds:
    """Time that an answer took: its share of each batch that it was in; 0 for what the cache held."""

    hear: float = 0.0
    prefill: float = 0.0
    answer: float = 0.0


@dataclass(frozen=True)
class Answer:
    """An answer and where it came from.

    recording, start, end: the (first) clip, in s; end is that of the sound and not of padding.
    token_ids, token_log_probs: what was generated, the end token included if it was reached,
        and the natural log probability of each; empty for a closed set.
    choices: the closed set, likeliest first; empty for a free answer.
    probability: of the whole generated text, or of the chosen label among the set.
    finished: whether it came to its end; False where it was cut off at `max_new_tokens`.
    prompt_tokens: of question and sound, as the language model saw them.
    """

    recording: str
    start: float
    end: float
    question: str
    text: str
    probability: float
    token_ids: tuple[int, ...] = ()
    token_log_probs: tuple[float, ...] = ()
    choices: tuple[Choice, ...] = ()
    finished: bool = True
    prompt_tokens: int = 0
    seconds: Seconds = field(default_factory=Seconds)
    model: str = ""
    revision: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Watcher(Protocol):
    """Follows answers while they are written, from the thread that writes them. Queries go by their place."""

    def wrote(self, query: int, token: int, log_prob: float) -> None:
        """A free answer goes on with this token. Not called for beam searches and closed sets."""

    def unwanted(self, query: int) -> bool:
        """Whether nobody waits for this answer any more: then it is cut off. Asked at each token."""


@dataclass(frozen=True)
class Failure:
    """A recording, or a stretch of one, that could not be answered, and why in one line."""

    recording: str
    error: str
    start: float | None = None
    end: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def scored_text(label: str) -> str:
    """What the model would write to give this label."""
    return NONE_ANSWER if label == NONE_OF_THESE else label


def check_choices(choices: Sequence[str], none_of_these: bool) -> tuple[str, ...]:
    """The closed set, stripped, with `None of these` last if wished. Raises QuestionError."""
    if isinstance(choices, str):
        raise QuestionError(f"the choices are one text, {choices!r}; give a list of labels")
    labels = [label.strip() for label in choices]
    if not labels:
        raise QuestionError(
            "choices are empty; give at least one label, or leave choices out for a free answer"
        )
    if "" in labels:
        raise QuestionError(f"choice {labels.index('') + 1} of {len(labels)} is empty; take it out")
    if none_of_these:
        labels.append(NONE_OF_THESE)
    seen: dict[str, str] = {}
    for label in labels:
        text = scored_text(label)
        if seen.get(text) == label:
            raise QuestionError(f"the choice {label!r} is given twice; give each label once")
        if text in seen:
            raise QuestionError(
                f"the choices {seen[text]!r} and {label!r} are one to the model; leave one out"
            )
        seen[text] = label
    return tuple(labels)
