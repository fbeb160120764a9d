"""What the tests of this folder share: clips, queries and fresh engines around one tiny model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer, Clip, GenerationOptions, Query
from naturelm.errors import NatureLMError
from tiny import noise, tiny_beats_config, tiny_naturelm, tiny_projector_config

SHORT = GenerationOptions(max_new_tokens=6)
QUESTION = "What is the common name for the focal species in the audio?"


def official_like_naturelm() -> NatureLM:
    """As the official model: clips padded to one length, padding heard, the last part-window dropped."""
    naturelm = tiny_naturelm(
        pad_to_clip=True,
        clip_seconds=1.0,
        audio_config=tiny_beats_config(exact_mask=False),
        projector_config=tiny_projector_config(window_frames=17, stride_frames=17, honour_mask=False),
    )
    return attentive(naturelm)


def attentive(naturelm: NatureLM) -> NatureLM:
    """With larger weights: the answers of a random model then hang on the sound."""
    with torch.no_grad():
        for name, parameter in naturelm.model.named_parameters():
            if "base_layer" in name:
                parameter.mul_(4)
            if (
                name.startswith(("ear.layers", "ear.patch_embedding", "projector.qformer"))
                and parameter.dim() > 1
            ):
                parameter.mul_(3)
    return naturelm


def fresh(naturelm: NatureLM, **changes: int) -> NatureLM:
    """An engine that has heard nothing, around the same model."""
    return NatureLM(naturelm.model, naturelm.processor, **changes)


def clip(seconds: float = 0.5, seed: int = 0) -> Clip:
    return Clip(noise(seconds, seed), f"{seed}.wav", 0.0, seconds)


def query(
    question: str = QUESTION, seconds: float = 0.5, seed: int = 0, choices: Sequence[str] = ()
) -> Query:
    return Query((clip(seconds, seed),), question, tuple(choices))


def mixed_queries(count: int = 16) -> list[Query]:
    """Clips from 20 ms to 1.2 s and questions from one word to a paragraph, none like the next."""
    return [
        query("Why? " + "Dog or cat. " * (i * 5 % 7), 0.02 + 0.079 * (i * 7 % 16), seed=i)
        for i in range(count)
    ]


def assert_same(left: Sequence[Answer], right: Sequence[Answer], tolerance: float = 1e-4) -> None:
    """The same ids and choices in the same order, and numbers that agree."""
    assert [a.recording for a in left] == [b.recording for b in right]
    for one, other in zip(left, right, strict=True):
        assert one.question == other.question
        assert one.token_ids == other.token_ids
        assert one.text == other.text
        assert one.token_log_probs == pytest.approx(other.token_log_probs, abs=tolerance)
        assert [c.label for c in one.choices] == [c.label for c in other.choices]
        assert [c.log_likelihood for c in one.choices] == pytest.approx(
            [c.log_likelihood for c in other.choices], abs=tolerance
        )


@contextmanager
def counted_clips(naturelm: NatureLM) -> Iterator[list[int]]:
    """A list that grows by the number of clips each time the ear hears some."""
    heard: list[int] = []
    hook = naturelm.model.ear.register_forward_hook(
        lambda _module, inputs, _output: heard.append(len(inputs[0]))
    )
    try:
        yield heard
    finally:
        hook.remove()


def one_line(error: pytest.ExceptionInfo[NatureLMError]) -> str:
    """The message, which must be one line."""
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message
