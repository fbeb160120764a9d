"""BirdNET 2.4 as an ear: a frozen network that knows the voices of thousands of birds.

Its weights are no parameters of the model and go into no checkpoint: their licence is CC BY-NC-SA 4.0, and
each user fetches them (see `naturelm.model.birdnet_files`). `ai-edge-litert` is imported when something is heard.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from naturelm.model.birdnet_graph import (
    BIRDNET_RATE,
    EMBEDDING_SIZE,
    NUM_LABELS,
    WINDOW_SAMPLES,
    BirdNetGraph,
    BirdNetLabel,
)
from naturelm.model.birdnet_parts import FloatArray
from naturelm.model.ear import EarOutput


class BirdNetConfig(PreTrainedConfig):
    """A frame is a window of 3 s; the windows of a longer clip start `hop_seconds` apart.

    The last window ends with the clip. A clip shorter than 3 s is one window: silence follows it, as BirdNET
    itself has it, or with `repeat_short` the clip again and again.
    """

    model_type = "naturelm_birdnet"

    hidden_size: int = EMBEDDING_SIZE  # BirdNET's own
    sampling_rate: int = BIRDNET_RATE  # Hz, BirdNET's own
    hop_seconds: float = 1.5
    repeat_short: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if (self.hidden_size, self.sampling_rate) != (EMBEDDING_SIZE, BIRDNET_RATE):
            raise ValueError(
                f"BirdNET gives {EMBEDDING_SIZE} numbers and hears {BIRDNET_RATE} Hz, nothing else"
            )
        if not 1 <= self.hop_samples <= WINDOW_SAMPLES:
            raise ValueError(f"hop_seconds is above 0 and at most 3, not {self.hop_seconds}")
        super().__post_init__(**kwargs)

    @property
    def highest_frequency(self) -> float:
        """Hz, the top of BirdNET's spectrograms."""
        return 15_000.0

    @property
    def label_count(self) -> int:
        """Labels that BirdNET has."""
        return NUM_LABELS

    @property
    def hop_samples(self) -> int:
        """Samples between the starts of two windows."""
        return round(self.hop_seconds * self.sampling_rate)

    @property
    def min_samples(self) -> int:
        """Fewest samples that give a window."""
        return 1

    def num_frames(self, num_samples: int) -> int:
        """Windows that `num_samples` samples give."""
        beyond_first = max(0, num_samples - WINDOW_SAMPLES)
        return 1 + math.ceil(beyond_first / self.hop_samples) if num_samples > 0 else 0


class BirdNetEar(PreTrainedModel):
    """BirdNET as an ear: waveform in, embeddings of its windows and their mask out (see `naturelm.model.ear`).

    It has no parameters. Hearing raises CheckpointError where BirdNET is not fetched.
    """

    config_class = BirdNetConfig
    base_model_prefix = "birdnet"
    main_input_name = "input_values"

    def __init__(self, config: BirdNetConfig) -> None:
        super().__init__(config)
        self.graph = BirdNetGraph()
        self.post_init()

    def forward(self, input_values: Tensor, padding_mask: Tensor | None = None, **kwargs: Any) -> EarOutput:
        """Hear a batch.

        input_values: (batch, samples) float in [-1, 1] at 48 kHz.
        padding_mask: (batch, samples) bool, True where a sample is padding, at the end; None if none is.

        Returns (batch, windows, 1,024) float32 embeddings; 0 where a window is padding.
        """
        lengths = [input_values.shape[1]] * len(input_values)
        if padding_mask is not None:
            lengths = (~padding_mask).sum(1).tolist()
        clips = input_values.detach().float().cpu().numpy()
        shape = (len(clips), self.config.num_frames(input_values.shape[1]))
        heard = np.zeros((*shape, EMBEDDING_SIZE), dtype=np.float32)
        mask = np.zeros(shape, dtype=bool)
        for row, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            frames = self.hear(clip[:length])
            heard[row, : len(frames)] = frames
            mask[row, : len(frames)] = True
        device = input_values.device
        return EarOutput(torch.from_numpy(heard).to(device), torch.from_numpy(mask).to(device))

    def hear(self, samples: FloatArray) -> FloatArray:
        """One clip, (samples,) float32 at 48 kHz, to (windows, 1,024) embeddings."""
        return self.graph.embed(self.windows(samples))

    def label_names(self) -> tuple[str, ...]:
        """The labels as they are spelt out: `Common Blackbird (Turdus merula)`; one name alone where there is one."""
        return tuple(
            label.common if label.common == label.scientific else f"{label.common} ({label.scientific})"
            for label in self.graph.labels
        )

    def label_scores(self, embeddings: Tensor) -> Tensor:
        """BirdNET's scores of embeddings: (..., 1,024) float32 to (..., 6,522); the sigmoid is a confidence."""
        weight, bias = self._last_layer
        return embeddings @ weight.to(embeddings.device).T + bias.to(embeddings.device)

    @cached_property
    def _last_layer(self) -> tuple[Tensor, Tensor]:
        weight, bias = self.graph.last_layer
        return torch.from_numpy(weight), torch.from_numpy(bias)

    def windows(self, samples: FloatArray) -> FloatArray:
        """(samples,) float32 at 48 kHz to (windows, 144,000)."""
        missing = max(0, WINDOW_SAMPLES - len(samples))
        filled = np.pad(samples, (0, missing), mode="wrap" if self.config.repeat_short else "constant")
        last = len(filled) - WINDOW_SAMPLES
        starts = [min(i * self.config.hop_samples, last) for i in range(self.config.num_frames(len(samples)))]
        return np.stack([filled[start : start + WINDOW_SAMPLES] for start in starts])

    def predict(self, samples: FloatArray) -> FloatArray:
        """BirdNET's own scores of a clip: (samples,) float32 at 48 kHz to (windows, 6,522)."""
        return self.graph.predict(self.windows(samples))

    def class_directions(self) -> tuple[tuple[BirdNetLabel, ...], FloatArray, FloatArray]:
        """The labels, and weight (6,522, 1,024) and bias (6,522,) that turn an embedding into their scores."""
        return self.graph.labels, *self.graph.last_layer


AutoConfig.register(BirdNetConfig.model_type, BirdNetConfig, exist_ok=True)
AutoModel.register(BirdNetConfig, BirdNetEar, exist_ok=True)
