"""Audio language models of transformers: a clip and a question in one chat turn, and what the model writes.

Whatever class a model is of, its own processor makes the turn: chat template, features, audio tokens. Clips are
batched with padding on the left and answers are greedy, so that a question has one answer, in any batch.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.deciding import one_line
from naturelm.bench.models.foreign import (
    blaming,
    device_of,
    large_dtype,
    open_model,
    open_processor,
    revision_of,
)
from naturelm.bench.models.sounds import heard
from naturelm.corpus.recordings import FloatArray
from naturelm.errors import QuestionError

_SHORTEST = 0.1  # s: less gives some encoders no frame at all
_LABELS_AT_ONCE = 32


@dataclass(frozen=True)
class ChatOptions:
    """How an audio language model is asked."""

    max_new_tokens: int = 64
    score_labels: bool = False
    """Score the labels of closed sets as well, which costs about as much again."""
    most_labels: int = 300
    """Of the largest closed set that is scored."""
    batch_size: int = 8
    """Questions that are answered together."""

    def __post_init__(self) -> None:
        if min(self.max_new_tokens, self.most_labels, self.batch_size) < 1:
            raise ValueError("max_new_tokens, most_labels and batch_size are at least 1")


@dataclass(frozen=True)
class ChatModel:
    """A family of audio language models: what is told apart between them."""

    name: str
    model_class: str
    """In transformers."""
    processor_class: str
    longest: float
    """Seconds that it hears; what comes after is cut."""


class Writer(Protocol):
    """What `ask_greedily` and `label_likelihoods` use of a model."""

    def __call__(self, **inputs: Any) -> Any: ...

    def generate(self, **inputs: Any) -> Tensor: ...


class ChatSystem:
    """A model of one of these families, and its processor, from a folder."""

    def __init__(
        self,
        family: ChatModel,
        folder: Path | str,
        options: ChatOptions | None = None,
        *,
        device: str | None = None,
    ) -> None:
        """device: the GPU if there is one when None. Raises CheckpointError."""
        import transformers

        self._family, self._folder, self._options = family, Path(folder), options or ChatOptions()
        self._device = device_of(device)
        self._model = open_model(
            getattr(transformers, family.model_class),
            folder,
            family.name,
            device=self._device,
            dtype=large_dtype(self._device),
        )
        self._processor = open_processor(getattr(transformers, family.processor_class), folder, family.name)
        with blaming(self._folder, family.name):
            self._tokenizer = self._processor.tokenizer
            self._tokenizer.padding_side = "left"
            if self._tokenizer.pad_token is None:
                self._tokenizer.pad_token = self._tokenizer.eos_token
            self._rate = int(self._processor.feature_extractor.sampling_rate)
            self._ends = end_tokens(self._model, self._tokenizer)
            self._own = own_tokens(self._tokenizer)

    @property
    def info(self) -> ModelInfo:
        """What it is, and how it is asked."""
        ways = "written greedily" + (", labels scored" if self._options.score_labels else "")
        note = f"{ways}; of longer clips the first {self._family.longest:g} s"
        return ModelInfo(self._family.name, revision_of(self._folder), note=note)

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """What is written; with `score_labels` also the probability of each label among its set.

        Raises AudioError for a false clip, and QuestionError for a question that the chat cannot carry.
        """
        answers: list[BenchAnswer] = []
        size = self._options.batch_size
        for start in range(0, len(batch), size):
            items = batch[start : start + size]
            texts = self._write(items)
            answers += [BenchAnswer(text, self._score(item)) for text, item in zip(texts, items, strict=True)]
        return answers

    def _write(self, items: Sequence[BenchItem]) -> list[str]:
        inputs = self._inputs(items)
        ids = ask_greedily(
            self._model, inputs, self._ends, self._tokenizer.pad_token_id, self._options.max_new_tokens
        )
        texts = self._tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _score(self, item: BenchItem) -> dict[str, float] | None:
        labels = list(dict.fromkeys(item.labels))
        if not self._options.score_labels or not 2 <= len(labels) <= self._options.most_labels:
            return None
        tokens = [self._tokenizer(label, add_special_tokens=False)["input_ids"] for label in labels]
        ended = [[*ids, self._ends[0]] for ids in tokens]
        likely = label_likelihoods(self._model, self._inputs([item]), ended)
        return dict(zip(labels, likely.softmax(0).tolist(), strict=True))

    def _inputs(self, items: Sequence[BenchItem]) -> dict[str, Tensor]:
        clips = [self._clip(item) for item in items]
        texts = [self._turn(item) for item in items]
        try:
            inputs = self._processor(
                text=texts,
                audio=clips,
                sampling_rate=self._rate,
                # Of the text alone: clips are padded as the encoder needs them, which is to its full length.
                text_kwargs={"padding": True},
                return_tensors="pt",
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise QuestionError(
                f"{items[0].id}: {self._family.name}'s processor does not take it ({one_line(error)})"
            ) from error
        dtype = self._model.dtype
        return {
            key: value.to(self._device, dtype) if value.is_floating_point() else value.to(self._device)
            for key, value in inputs.items()
            if isinstance(value, Tensor)
        }

    def _turn(self, item: BenchItem) -> str:
        """The chat up to where the answer begins, with one audio token."""
        if any(token in item.prompt for token in self._own):
            raise QuestionError(
                f"{item.id}: the question holds a token of {self._family.name}'s own; leave it out"
            )
        content = [{"type": "audio", "audio": ""}, {"type": "text", "text": item.prompt}]
        with blaming(self._folder, self._family.name):
            return str(
                self._processor.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
                )
            )

    def _clip(self, item: BenchItem) -> FloatArray:
        samples = heard(item, self._rate)[: round(self._family.longest * self._rate)]
        return np.pad(samples, (0, max(0, round(_SHORTEST * self._rate) - len(samples))))


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer, the tokenizer's own first."""
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [known]
    ends = [tokenizer.eos_token_id, *known]
    found = list(dict.fromkeys(int(end) for end in ends if end is not None))
    if not found:
        raise ValueError("no token ends an answer: neither eos_token nor eos_token_id is there")
    return found


def own_tokens(tokenizer: Any) -> list[str]:
    """Texts that are no text to a model, but its turns and its audio: a question must not hold them."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return list(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


@torch.inference_mode()
def ask_greedily(
    model: Writer,
    inputs: dict[str, Tensor],
    ends: Sequence[int],
    pad: int,
    max_new_tokens: int,
    *,
    num_beams: int = 1,
) -> Tensor:
    """(batch, prompt and answer) token ids: the likeliest token each time, or beam, without any chance.

    Of `inputs_embeds` the answer alone. A checkpoint's own settings, which may be to sample, are not used.
    """
    from transformers import GenerationConfig

    settled = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=num_beams,
        eos_token_id=list(ends),
        pad_token_id=pad,
    )
    return model.generate(**inputs, generation_config=settled)


@torch.inference_mode()
def label_likelihoods(model: Writer, prompt: dict[str, Tensor], labels: Sequence[Sequence[int]]) -> Tensor:
    """(labels,) float32 log likelihood of each label's tokens after one prompt, which is read once.

    prompt: inputs of one row without padding. labels: token ids, each with the token that ends it.
    """
    read = model(**prompt, use_cache=True)
    first = read.logits[0, -1].float().log_softmax(-1)
    length = read.past_key_values.get_seq_length()
    device = first.device
    found = []
    for start in range(0, len(labels), _LABELS_AT_ONCE):
        some = labels[start : start + _LABELS_AT_ONCE]
        width = max(len(ids) for ids in some)
        tokens = torch.tensor([[*ids, *([ids[-1]] * (width - len(ids)))] for ids in some], device=device)
        real = torch.tensor([[place < len(ids) for place in range(width)] for ids in some], device=device)
        likely = first[tokens[:, 0]]
        if width > 1:
            cache = copy.deepcopy(read.past_key_values)
            cache.batch_repeat_interleave(len(some))
            # What stands after the end of a shorter label is not attended to by anything that counts.
            mask = torch.ones(len(some), length + width - 1, dtype=torch.long, device=device)
            logits = model(
                input_ids=tokens[:, :-1], attention_mask=mask, past_key_values=cache, use_cache=True
            ).logits.float()
            steps = logits.log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
            likely = likely + (steps * real[:, 1:]).sum(1)
        found.append(likely)
    return torch.cat(found)
