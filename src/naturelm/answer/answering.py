"""One batch of queries whose prompts have begun: closed sets, beam searches, or free answers."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from naturelm.answer.branching import ClosedSet, label_log_likelihoods
from naturelm.answer.cache import clip_key
from naturelm.answer.choices import Walk
from naturelm.answer.prefixes import resume
from naturelm.answer.reading import BegunPrompt
from naturelm.answer.results import Choice, GenerationOptions, Query, Watcher
from naturelm.answer.writing import FreeRow, search_beams, takes_likeliest, write_answers
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor

CLOSED = "closed"


@dataclass(frozen=True)
class Asked:
    """A query, its options, and its place among those that were asked together."""

    place: int
    query: Query
    options: GenerationOptions

    @property
    def kind(self) -> object:
        """Equal for queries that can share a batch."""
        if self.query.choices:
            return CLOSED
        return self.options if self.options.num_beams > 1 else None


class BatchAnswerer:
    """Answers to batches of one kind, as fields of `Answer`.

    The logits of closed sets tell how free answers to the same prompts begin: they are best asked first.
    """

    def __init__(
        self,
        model: NatureLMForConditionalGeneration,
        processor: NatureLMProcessor,
        sets: Mapping[tuple[str, ...], ClosedSet],
        watcher: Watcher | None,
    ) -> None:
        """sets: closed sets by their labels. watcher: follows free answers."""
        self.model = model
        self.processor = processor
        self._sets = sets
        self._watcher = watcher
        self._walks: dict[object, Walk] = {}

    def answer(self, asked: Sequence[Asked], begun: Sequence[BegunPrompt]) -> list[dict[str, Any]]:
        """Of one batch: closed sets of as many tries each, one beam search, or free answers."""
        if asked[0].kind == CLOSED:
            return self._chosen([each.query.choices for each in asked], begun)
        if asked[0].options.num_beams > 1:
            return self._searched(asked[0].options, begun)
        return self._written(asked, begun)

    def _chosen(
        self, choices: Sequence[tuple[str, ...]], begun: Sequence[BegunPrompt]
    ) -> list[dict[str, Any]]:
        started = self._resumed(begun, [each.suffix for each in begun])
        scored = label_log_likelihoods(self.model, [self._sets[own] for own in choices], *started)
        for each, (_, walk) in zip(begun, scored, strict=True):
            if walk is not None:
                self._walks[each.key] = walk
        return [_ranked(own, scores) for own, (scores, _) in zip(choices, scored, strict=True)]

    def _searched(self, options: GenerationOptions, begun: Sequence[BegunPrompt]) -> list[dict[str, Any]]:
        started = self._resumed(begun, [each.suffix for each in begun], copies=options.num_beams)
        return [
            self._free_answer(tokens, log_probs)
            for tokens, log_probs in search_beams(self.model, options, *started)
        ]

    def _written(self, asked: Sequence[Asked], begun: Sequence[BegunPrompt]) -> list[dict[str, Any]]:
        ends = self._end_ids()
        rows = [
            FreeRow(
                each.place,
                each.options,
                torch.Generator().manual_seed(_row_seed(each.options.seed, each.query)),
            )
            for each in asked
        ]
        for row, each in zip(rows, begun, strict=True):
            walk = self._walks.get(each.key)
            # A watcher wants to see each token come.
            if walk is not None and self._watcher is None and takes_likeliest(self.model, row.options):
                row.follow(walk, ends)
        going = [(row, each) for row, each in zip(rows, begun, strict=True) if not row.done]
        if going:
            started = self._resumed(
                [each for _, each in going], [(*each.suffix, *row.tokens) for row, each in going]
            )
            write_answers(self.model, [row for row, _ in going], *started, ends, self._watcher)
        return [self._free_answer(row.tokens, row.log_probs) for row in rows]

    def _resumed(
        self, begun: Sequence[BegunPrompt], rests: Sequence[tuple[int, ...]], copies: int = 1
    ) -> tuple[Cache, Tensor, Tensor]:
        return resume(self.model, [each.prefix for each in begun], rests, self.processor.pad_token_id, copies)

    def _end_ids(self) -> list[int]:
        # What stops it: the language model's own setting, which transformers lets be one id or several.
        eos = self.model.language_model.generation_config.eos_token_id
        return eos if isinstance(eos, list) else [eos]

    def _free_answer(self, ids: list[int], log_probs: list[float]) -> dict[str, Any]:
        ends = self._end_ids()
        length = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
        return {
            "text": self.processor.decode_answer(ids[:length]),
            "token_ids": tuple(ids[:length]),
            "token_log_probs": tuple(log_probs[:length]),
            "probability": _exp(sum(log_probs[:length])),
            "finished": ids[length - 1] in ends,
        }


def _ranked(choices: tuple[str, ...], log_likelihoods: Tensor) -> dict[str, Any]:
    probabilities = log_likelihoods.softmax(-1)
    ranked = sorted(
        (
            Choice(label, float(p), float(score))
            for label, p, score in zip(choices, probabilities, log_likelihoods, strict=True)
        ),
        key=lambda choice: -choice.log_likelihood,
    )
    return {"text": ranked[0].label, "probability": ranked[0].probability, "choices": tuple(ranked)}


def _row_seed(seed: int, query: Query) -> int:
    """A seed of the query's own, so that a draw does not depend on what else is asked."""
    digest = hashlib.blake2b(f"{seed}\0{query.question}".encode(), digest_size=8)
    for clip in query.clips:
        digest.update(clip_key(clip.samples))
    return int.from_bytes(digest.digest(), "little") >> 1


def _exp(log_probability: float) -> float:
    return float(torch.tensor(log_probability, dtype=torch.float64).exp())
