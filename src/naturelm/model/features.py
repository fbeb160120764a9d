"""Clips of unlike lengths to one padded batch with its mask."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoFeatureExtractor, BatchFeature, SequenceFeatureExtractor

from naturelm.errors import AudioError
from naturelm.model.configuration import NatureLMConfig


class NatureLMFeatureExtractor(SequenceFeatureExtractor):
    """Pads waveforms; the ear makes its own features, in float32, from the waveform.

    min_samples: a shorter clip is filled up with zeros that count as sound, since the ear needs them.
    pad_to_samples: a shorter clip is padded to this many samples, masked.
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "input_features_mask"]

    def __init__(
        self, sampling_rate: int = 16_000, min_samples: int = 2_800, pad_to_samples: int = 0, **kwargs: Any
    ) -> None:
        kwargs.pop("feature_size", None)
        kwargs.pop("padding_value", None)
        super().__init__(feature_size=1, sampling_rate=sampling_rate, padding_value=0.0, **kwargs)
        self.min_samples = min_samples
        self.pad_to_samples = pad_to_samples

    @classmethod
    def from_model_config(cls, config: NatureLMConfig) -> "NatureLMFeatureExtractor":
        """The extractor that suits a model."""
        ear = config.audio_config
        pad_to = config.padded_samples(0) if config.pad_to_clip else 0
        return cls(sampling_rate=ear.sampling_rate, min_samples=ear.min_samples, pad_to_samples=pad_to)

    def __call__(
        self,
        raw_speech: np.ndarray | Sequence[np.ndarray],
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Pad and stack.

        raw_speech: one (samples,) float array in [-1, 1] or a sequence of them.
        sampling_rate: Hz of the arrays; must be the extractor's own where given.

        Returns input_values (clips, samples) float32 and input_features_mask (clips, samples)
        bool, True where a sample counts as sound. Raises AudioError on another rate or shape.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise AudioError(
                f"the sound is at {sampling_rate} Hz and the model hears {self.sampling_rate} Hz; "
                "resample it first, or read it with naturelm.audio.read_audio"
            )
        single = isinstance(raw_speech, np.ndarray) and raw_speech.ndim == 1
        clips = [np.asarray(clip, dtype=np.float32) for clip in ([raw_speech] if single else raw_speech)]
        for index, clip in enumerate(clips):
            if clip.ndim != 1:
                raise AudioError(
                    f"clip {index} has shape {clip.shape}; the model takes mono, shape (samples,)"
                )
        length = max([self.min_samples, self.pad_to_samples, *(len(clip) for clip in clips)])
        values = np.zeros((len(clips), length), dtype=np.float32)
        mask = np.zeros((len(clips), length), dtype=bool)
        for row, clip in enumerate(clips):
            values[row, : len(clip)] = clip
            mask[row, : max(len(clip), self.min_samples)] = True
        features = BatchFeature({"input_values": values, "input_features_mask": mask})
        if return_tensors == "pt":
            return BatchFeature({name: torch.from_numpy(array) for name, array in features.items()})
        return features.convert_to_tensors(return_tensors)


AutoFeatureExtractor.register(NatureLMConfig, NatureLMFeatureExtractor, exist_ok=True)
