"""NatureLM-audio as a system of the benchmark: it writes an answer freely, and scores every label of a closed set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naturelm.answer.results import Clip, GenerationOptions, Query
from naturelm.bench.asking import Answerer
from naturelm.bench.components import MOST_CHOICES
from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo


@dataclass(frozen=True)
class NatureLMOptions:
    """How it is asked."""

    generate: bool = True
    """Write freely; the answer is what is written, as in the paper."""
    choose: bool = True
    """Score the labels of closed sets; without `generate`, the answer is the likeliest."""
    most_choices: int = MOST_CHOICES
    """Labels of the largest closed set that is scored."""
    merging_alpha: float = 1.0
    """Scales the LoRA adapter: 1 as trained, 0 the bare language model; between, the two models merged."""
    max_new_tokens: int = 64


class NatureLMSystem:
    """A loaded model as a system. See `naturelm.bench.models.base.BenchModel`."""

    def __init__(
        self, model: Answerer, options: NatureLMOptions | None = None, *, name: str = "", revision: str = ""
    ) -> None:
        """name, revision: as they are told; default those of the model. Raises QuestionError for a false alpha."""
        self._model = model
        self._options = options or NatureLMOptions()
        self._generation = GenerationOptions(
            max_new_tokens=self._options.max_new_tokens, merging_alpha=self._options.merging_alpha
        )
        self._name = name or str(getattr(model, "name", "")) or "naturelm"
        self._revision = revision or str(getattr(model, "revision", ""))

    @property
    def info(self) -> ModelInfo:
        """What it is, and how it is asked."""
        ways = [
            name
            for name, on in (
                ("written freely", self._options.generate),
                ("labels scored", self._options.choose),
            )
            if on
        ]
        note = f"{' and '.join(ways)}; merging_alpha {self._options.merging_alpha:g}"
        return ModelInfo(self._name, self._revision, note=note)

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """What is written, and the probability of every label among its set.

        Sets of one label or of more than `most_choices` have no scores; of detection, the probability is that of the
        label alone. Raises NatureLMError for a clip that is too long for the model.
        """
        clips = [self._clip(item) for item in batch]
        sets = [self._set_of(item) for item in batch]
        free = [place for place, labels in enumerate(sets) if self._options.generate or not labels]
        closed = [place for place, labels in enumerate(sets) if labels]
        queries = [Query((clips[place],), batch[place].prompt) for place in free]
        queries += [Query((clips[place],), batch[place].prompt, sets[place]) for place in closed]
        answers = self._model.answer(queries, self._generation)
        written = dict(zip(free, answers, strict=False))
        chosen = dict(zip(closed, answers[len(free) :], strict=True))
        return [
            BenchAnswer(
                written[place].text if place in written else chosen[place].text,
                {choice.label: choice.probability for choice in chosen[place].choices}
                if place in chosen
                else None,
            )
            for place in range(len(batch))
        ]

    def _set_of(self, item: BenchItem) -> tuple[str, ...]:
        labels = tuple(dict.fromkeys(label.strip() for label in item.labels if label.strip()))
        return labels if self._options.choose and 2 <= len(labels) <= self._options.most_choices else ()

    def _clip(self, item: BenchItem) -> Clip:
        if np.any(item.waveform):
            return self._model.read_clip(item.waveform, source_rate=item.sample_rate)
        # A recording of nothing but zeros is refused, since its recorder failed; here it is a question.
        seconds = len(item.waveform) / item.sample_rate
        return Clip(np.zeros(round(seconds * self._model.sampling_rate), np.float32), end=seconds)
