"""CLAP and BioLingual: a clip and the sentences about it in one space, where the nearest sentence is the answer.

LAION's CLAP (Wu et al. 2023, arXiv:2211.06687) and BioLingual (Robinson et al. 2023, arXiv:2308.04978), which is
CLAP taught on animal sounds, are both transformers' `ClapModel`.

Its feature extractor takes crops of long clips at random, and of the model with fusion it marks one clip of every
batch as long at random. Here longer clips are cut into windows of the model's own length (10 s), none is marked,
and the similarities of the windows are pooled: the same clip has the same answer always.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.deciding import DETECTION, answer_by_scores, named_labels
from naturelm.bench.models.foreign import blaming, device_of, open_model, open_processor, revision_of
from naturelm.bench.models.sounds import Pool, by_clip, check_pool, heard, pooled, windows
from naturelm.corpus.recordings import FloatArray

_AT_ONCE = 16
"""Windows that are heard, and sentences that are read, together."""
_PLACE = "{label}"


@dataclass(frozen=True)
class ClapOptions:
    """How CLAP is asked."""

    template: str = "This is a sound of {label}."
    """The sentence of a label."""
    threshold: float = 0.3
    """Similarity from which a label is detected."""
    pool: Pool = "mean"
    """Over the windows of a clip longer than the model hears at once."""

    def __post_init__(self) -> None:
        check_pool(self.pool)
        if _PLACE not in self.template:
            raise ValueError(f"the template holds {_PLACE} where the label goes, unlike {self.template!r}")


BIOLINGUAL = ClapOptions(template="Sound of a {label}.")


class ClapSystem:
    """A CLAP model and its processor, from a folder."""

    def __init__(
        self,
        folder: Path | str,
        options: ClapOptions | None = None,
        *,
        name: str = "CLAP",
        device: str | None = None,
    ) -> None:
        """name: as results call it. device: the GPU if there is one when None. Raises CheckpointError."""
        from transformers import ClapModel, ClapProcessor

        self._folder, self._options, self._name = Path(folder), options or ClapOptions(), name
        self._device = device_of(device)
        self._model = open_model(ClapModel, folder, name, device=self._device)
        self._processor = open_processor(ClapProcessor, folder, name)
        with blaming(self._folder, name):
            self._rate = int(self._processor.feature_extractor.sampling_rate)
            self._longest = int(self._processor.feature_extractor.nb_max_samples)
        self._sentences: dict[str, FloatArray] = {}

    @property
    def info(self) -> ModelInfo:
        """What it is, and its sentence."""
        note = (
            f"sentence {self._options.template!r}; {self._options.pool} over windows of {self._longest / self._rate:g} s; "
            f"detection from a similarity of {self._options.threshold:g}"
        )
        return ModelInfo(self._name, revision_of(self._folder), note=note)

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """Of a classification the softmax over its labels; of a detection the cosine similarity, 0 where below 0.

        Raises UnanswerableError for a data set without labels, and AudioError for a false clip.
        """
        labels = [named_labels(item, self._name) for item in batch]
        self._read(label for names in labels for label in names)
        clips = self._hear(batch)
        scale = float(self._model.logit_scale_a.detach().exp())
        return [
            self._answer(item, names, clip, scale)
            for item, names, clip in zip(batch, labels, clips, strict=True)
        ]

    def _answer(self, item: BenchItem, names: Sequence[str], clip: FloatArray, scale: float) -> BenchAnswer:
        """clip: (windows, size), each of length 1."""
        similar = clip @ np.stack([self._sentences[label] for label in names]).T
        likeness = pooled(similar, self._options.pool)
        if item.task == DETECTION:
            scores = np.clip(likeness, 0, 1)
        else:
            weights = np.exp(scale * (likeness - likeness.max()))
            scores = weights / weights.sum()
        # Of a classification the likeliest label is said, however unlikely: `None` is of detections.
        threshold = self._options.threshold if item.task == DETECTION else 0.0
        return answer_by_scores(item, dict(zip(names, scores.tolist(), strict=True)), threshold)

    @torch.inference_mode()
    def _hear(self, batch: Sequence[BenchItem]) -> list[FloatArray]:
        """(windows, size) of each clip."""
        cut: list[list[FloatArray]] = []
        for item in batch:
            samples = heard(item, self._rate)
            # A short clip stays as it is: the extractor repeats it, as it did in training.
            long = len(samples) > self._longest
            cut.append(list(windows(samples, self._longest, self._longest)) if long else [samples])
        return by_clip(cut, self._embed, _AT_ONCE)

    def _embed(self, clips: Sequence[FloatArray]) -> FloatArray:
        inputs = self._processor.feature_extractor(list(clips), sampling_rate=self._rate, return_tensors="pt")
        features = self._model.get_audio_features(
            input_features=inputs["input_features"].float().to(self._device),
            is_longer=torch.zeros(len(clips), 1, dtype=torch.bool, device=self._device),
        )
        return _unit(features)

    @torch.inference_mode()
    def _read(self, labels: Any) -> None:
        """Remember the sentences of labels that are new."""
        new = [label for label in dict.fromkeys(labels) if label not in self._sentences]
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            texts = [self._options.template.replace(_PLACE, label.replace("_", " ")) for label in some]
            tokens = self._processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            features = self._model.get_text_features(
                input_ids=tokens["input_ids"].to(self._device),
                attention_mask=tokens["attention_mask"].to(self._device),
            )
            self._sentences.update(zip(some, _unit(features), strict=True))


def _unit(features: Any) -> FloatArray:
    """(rows, size) of length 1, from a tensor or from an output that pools into one."""
    tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return torch.nn.functional.normalize(tensor.float(), dim=-1).cpu().numpy()
