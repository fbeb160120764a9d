"""What an ear that has labels takes a clip for, spelt out for the language model.

An embedding alone would have to teach a language model every name that an ear knows. Spelt in the language
model's own tokens, a name needs only to be copied, and one that was never trained on is copied as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from naturelm.model.configuration import NatureLMProjectorConfig
from naturelm.model.ear import EarOutput
from naturelm.model.spelling import CONFIDENCE_SPREAD, embedded, spelt


@dataclass(frozen=True)
class TaughtLabels:
    """Labels that an ear was taught beside its own, as a linear reader of its embeddings.

    names: as they are spelt out. weight: (labels + 1, size) and bias: (labels + 1,) float32, of a softmax; the last
    row is for what is none of them.
    """

    names: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


class LabelHints(nn.Module):
    """The likeliest labels of a clip as embeddings: `label_hints` times `label_hint_tokens` of the ear's own, then
    `taught_hints` times `taught_hint_tokens` of those that it was taught, once it was.

    A label of the ear's own scores what its best window scores; those that it was taught are read from the mean of
    all windows. To each token of a label's spelling, as the language model embeds it, a learnt vector is added,
    scaled by how sure the ear is (between 0 and 1).
    """

    def __init__(
        self, config: NatureLMProjectorConfig, label_count: int, ear_size: int, output_size: int
    ) -> None:
        super().__init__()
        self.config = config
        self.confidence = nn.Parameter(torch.randn(output_size) * CONFIDENCE_SPREAD)
        self.spellings: Tensor
        shape = (label_count, config.label_hint_tokens)
        # Kept in the checkpoint, so that it loads without the ear's own files.
        self.register_buffer("spellings", torch.zeros(shape, dtype=torch.int32))
        if not config.taught_hints:
            return
        self.taught_confidence = nn.Parameter(torch.randn(output_size) * CONFIDENCE_SPREAD)
        self.taught_spellings: Tensor
        self.taught_weight: Tensor
        self.taught_bias: Tensor
        taught = len(config.taught_labels)
        shape = (taught, config.taught_hint_tokens)
        self.register_buffer("taught_spellings", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("taught_weight", torch.zeros(taught + 1, ear_size))
        self.register_buffer("taught_bias", torch.zeros(taught + 1))

    def spell(self, names: Sequence[str], tokenizer: Any) -> None:
        """Take down how each label of the ear's own is spelt: cut off, or filled with line ends, to the configured length."""
        self.spellings.copy_(spelt(names, tokenizer, self.config.label_hint_tokens))

    def teach(self, labels: TaughtLabels, tokenizer: Any) -> None:
        """Take down the labels that the ear was taught, in the configuration too, and how each is spelt."""
        self.config.taught_labels = labels.names
        device = self.spellings.device
        self.taught_spellings = spelt(labels.names, tokenizer, self.config.taught_hint_tokens).to(device)
        self.taught_weight = torch.from_numpy(labels.weight).to(device)
        self.taught_bias = torch.from_numpy(labels.bias).to(device)

    def forward(self, heard: EarOutput, ear: nn.Module, embed: nn.Module) -> Tensor:
        """heard: of some clips, by `ear`; embed: the language model's input embeddings.

        Returns (clips, tokens, output_size): the ear's own labels, the likeliest first, then those that it was taught.
        """
        frames, mask = heard.last_hidden_state, heard.frame_mask
        assert frames is not None and mask is not None
        frames = frames.float()
        with torch.no_grad():
            scores = ear.label_scores(frames).masked_fill(~mask.unsqueeze(-1), -torch.inf)  # type: ignore[operator]
            best, labels = scores.amax(1).topk(self.config.label_hints, dim=1)
        hints = embedded(embed, self.spellings[labels], best.sigmoid(), self.confidence)
        if not self.config.taught_hints or not self.config.taught_labels:
            return hints
        with torch.no_grad():
            sure, labels = self.taught_scores(frames, mask).topk(self.config.taught_hints, dim=1)
        taught = embedded(embed, self.taught_spellings[labels], sure, self.taught_confidence)
        return torch.cat([hints, taught], dim=1)

    def taught_scores(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(clips, taught labels): how likely each is, of all of them and of none."""
        weight = mask.unsqueeze(-1).to(frames)
        means = (frames * weight).sum(1) / weight.sum(1).clamp_min(1)
        # Where training could be sure of every clip, the language model would learn to believe whatever stands first.
        means = F.dropout(means, self.config.frame_dropout, self.training)
        return (means @ self.taught_weight.T + self.taught_bias).softmax(-1)[:, :-1]
