"""A frozen ear with labels of its own, as BirdNET is one: loudness in bands, and a last layer over them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from naturelm.corpus.recordings import FloatArray
from naturelm.model.ear import EarOutput

SIZE = 24
LABELS = 40


@dataclass(frozen=True)
class Label:
    scientific: str
    common: str


class LabelledEarConfig(PreTrainedConfig):
    """A frame is half a second."""

    model_type = "test_labelled_ear"

    hidden_size: int = SIZE
    sampling_rate: int = 16_000
    min_samples: int = 1
    label_count: int = LABELS

    def num_frames(self, num_samples: int) -> int:
        return -(-num_samples // 8000)


class LabelledEar(PreTrainedModel):
    """Frozen, with what an ear may offer beside the contract."""

    config_class = LabelledEarConfig
    main_input_name = "input_values"

    def __init__(self, config: LabelledEarConfig) -> None:
        super().__init__(config)
        rng = np.random.default_rng(0)
        self._weight = rng.normal(0, 0.3, (LABELS, SIZE)).astype(np.float32)
        self._bias = rng.normal(-3, 0.5, LABELS).astype(np.float32)
        self._labels = tuple(Label(f"Genus{n % 7} species{n}", f"bird {n}") for n in range(LABELS - 1))
        self._labels += (Label("Engine", "Engine"),)
        self.post_init()

    def hear(self, samples: FloatArray) -> FloatArray:
        count = self.config.num_frames(len(samples))
        frames = np.pad(samples, (0, count * 8000 - len(samples))).reshape(count, 8000)
        bands = np.abs(np.fft.rfft(frames))[:, : SIZE * 160].reshape(count, SIZE, 160)
        return np.log1p(bands.mean(2)).astype(np.float32)

    def forward(self, input_values: Tensor, padding_mask: Tensor | None = None) -> EarOutput:
        frames = torch.zeros(len(input_values), self.config.num_frames(input_values.shape[1]), SIZE)
        mask = torch.zeros(frames.shape[:2], dtype=torch.bool)
        for row, clip in enumerate(input_values.numpy()):
            length = len(clip) if padding_mask is None else int((~padding_mask[row]).sum())
            own = torch.from_numpy(self.hear(clip[:length]))
            frames[row, : len(own)] = own
            mask[row, : len(own)] = True
        return EarOutput(frames, mask)

    def label_names(self) -> tuple[str, ...]:
        return tuple(label.common for label in self._labels)

    def label_scores(self, embeddings: Tensor) -> Tensor:
        return embeddings @ torch.from_numpy(self._weight).T + torch.from_numpy(self._bias)

    def class_directions(self) -> tuple[tuple[Label, ...], FloatArray, FloatArray]:
        return self._labels, self._weight, self._bias


AutoConfig.register(LabelledEarConfig.model_type, LabelledEarConfig, exist_ok=True)
AutoModel.register(LabelledEarConfig, LabelledEar, exist_ok=True)
