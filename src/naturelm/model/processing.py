"""Questions and clips to what the joint model takes: ids with audio places, waveforms, masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, BatchFeature, ProcessorMixin

from naturelm.errors import QuestionError
from naturelm.model.configuration import AUDIO_TOKEN, NatureLMConfig
from naturelm.model.features import NatureLMFeatureExtractor

AUDIO_MARKER = f"<Audio>{AUDIO_TOKEN}</Audio>"


@dataclass(frozen=True)
class PromptIds:
    """A prompt in two parts, so that one audio prefill can serve many questions.

    prefix: ids up to and with the last audio place; suffix: the text after it.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prefix + self.suffix


class NatureLMProcessor(ProcessorMixin):
    """Tokenizer and feature extractor under one roof, with the model's prompt around a question.

    A question may hold `<AudioHere>` once a clip, to say where each clip goes; without it the
    clips come first, as in training. Batches are padded on the left.
    """

    feature_extractor_class = "AutoFeatureExtractor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, feature_extractor: NatureLMFeatureExtractor, tokenizer: Any, config: NatureLMConfig):
        super().__init__(feature_extractor, tokenizer)
        self.config = config
        head, tail = config.prompt_template.split("{}")
        bos = [tokenizer.bos_token_id] if config.add_bos and tokenizer.bos_token_id is not None else []
        self._head = (*bos, *self._encode(head))
        self._tail = tuple(self._encode(tail))

    @classmethod
    def from_model_config(cls, config: NatureLMConfig, tokenizer: Any) -> "NatureLMProcessor":
        """The processor that suits a model."""
        return cls(NatureLMFeatureExtractor.from_model_config(config), tokenizer, config)

    @classmethod
    def from_pretrained(cls, source: str | Path, **kwargs: Any) -> "NatureLMProcessor":
        """The processor of a checkpoint in our layout or the official one."""
        from naturelm.model.loading import load_processor

        for name in (
            "_from_auto",
            "trust_remote_code",
        ):  # from AutoProcessor; no code comes with a checkpoint
            kwargs.pop(name, None)
        return load_processor(source, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """Write the tokenizer, the feature extractor and, if there is none yet, `config.json`."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)
        if not (folder / "config.json").exists():
            self.config.save_pretrained(folder)
        return [str(folder)]

    def prompt_ids(self, question: str, clip_samples: Sequence[int]) -> PromptIds:
        """Ids of one prompt.

        clip_samples: samples of each of its clips, in order.
        Raises QuestionError when the question is empty or its audio places do not match the clips.
        """
        question = question.strip()
        if not question:
            raise QuestionError("the question is empty; ask something")
        places = question.count(AUDIO_TOKEN)
        if places == 0:
            question = " ".join([AUDIO_MARKER] * len(clip_samples) + [question])
        elif places != len(clip_samples):
            raise QuestionError(
                f"the question has {places} {AUDIO_TOKEN} for {len(clip_samples)} recordings; "
                "give one for each or none"
            )
        parts = question.split(AUDIO_TOKEN)
        ids = [*self._head, *self._encode(parts[0], plain=True)]
        for samples, part in zip(clip_samples, parts[1:], strict=True):
            ids += [self.config.audio_token_id] * self.config.num_audio_tokens(samples)
            prefix_length = len(ids)
            ids += self._encode(part, plain=True)
        if not clip_samples:
            prefix_length = len(self._head)
        return PromptIds(tuple(ids[:prefix_length]), (*ids[prefix_length:], *self._tail))

    def answer_ids(self, answer: str) -> tuple[int, ...]:
        """Ids of an answer with the end of answer, as the model is trained to write it."""
        return (*self._encode(answer, plain=True), *self._encode(self.config.end_of_answer))

    def end_ids(self) -> tuple[int, ...]:
        """Ids of the end of an answer."""
        return tuple(self._encode(self.config.end_of_answer))

    def __call__(
        self,
        text: str | Sequence[str],
        audio: Sequence[np.ndarray] | Sequence[Sequence[np.ndarray]] | None = None,
        answers: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """A batch for the joint model.

        text: one question or several.
        audio: a clip for each question, or a sequence of clips for each; (samples,) float in [-1, 1].
        answers: with them the batch has `labels`, -100 but for the answers' tokens.

        Returns input_ids and attention_mask (batch, tokens), and input_values and
        input_features_mask (clips, samples) if there is audio.
        """
        questions = [text] if isinstance(text, str) else list(text)
        clips = [[] for _ in questions] if audio is None else [_as_clips(each) for each in audio]
        if len(clips) != len(questions):
            raise QuestionError(
                f"{len(questions)} questions for {len(clips)} sets of clips; give as many of each"
            )
        flat = [clip for own in clips for clip in own]
        batch = self.text_batch(questions, [[len(clip) for clip in own] for own in clips], answers)
        if flat:
            batch.update(self.feature_extractor(flat))
        return BatchFeature(batch)

    def text_batch(
        self,
        questions: Sequence[str],
        clip_samples: Sequence[Sequence[int]],
        answers: Sequence[str] | None = None,
    ) -> dict[str, torch.Tensor]:
        """The part of a batch that is no sound.

        clip_samples: for each question the samples of each of its clips. answers: as in a call.
        Returns input_ids, attention_mask and, with answers, labels: (batch, tokens).
        """
        longest = max((samples for own in clip_samples for samples in own), default=0)
        # Where padding counts as sound, every clip of a batch is as long as the longest.
        exact = self.config.projector_config.honour_mask
        rows = []
        for index, (question, own) in enumerate(zip(questions, clip_samples, strict=True)):
            prompt = self.prompt_ids(question, own if exact else [longest] * len(own)).ids
            rows.append((prompt, self.answer_ids(answers[index]) if answers is not None else ()))
        batch = left_pad([prompt + answer for prompt, answer in rows], self.pad_token_id)
        if answers is not None:
            labels = torch.full_like(batch["input_ids"], -100)
            for row, (_, answer) in enumerate(rows):
                labels[row, labels.shape[1] - len(answer) :] = torch.tensor(answer)
            batch["labels"] = labels
        return batch

    @property
    def pad_token_id(self) -> int:
        """Id under padding; it is masked, so any will do."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    def decode_answer(self, ids: Sequence[int]) -> str:
        """Text of generated ids, without special tokens and outer white space."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def decode_token(self, token: int) -> str:
        """Text of one generated id, white space and all; special tokens by their names."""
        return self.tokenizer.decode([token])

    def _encode(self, text: str, *, plain: bool = False) -> list[int]:
        """plain: text from outside, whose `<|...|>` must stay text and not become control tokens."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"]


def left_pad(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask (batch, longest), padded on the left."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row)
        mask[index, longest - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _as_clips(given: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    return [given] if isinstance(given, np.ndarray) else list(given)


AutoProcessor.register(NatureLMConfig, NatureLMProcessor, exist_ok=True)
