"""What an ear that has labels takes a clip for, spelt out for the language model.

An embedding alone would have to teach a language model every name that an ear knows. Spelt in the language
model's own tokens, a name needs only to be copied, and one that was never trained on is copied as well.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from naturelm.model.configuration import NatureLMProjectorConfig
from naturelm.model.ear import EarOutput


class LabelHints(nn.Module):
    """The likeliest labels of a clip as embeddings: `label_hints` times `label_hint_tokens` of them.

    A label scores what its best window scores. To each token of its spelling, as the language model embeds it,
    a learnt vector is added, scaled by how sure the ear is (the sigmoid of the score).
    """

    def __init__(self, config: NatureLMProjectorConfig, label_count: int, output_size: int) -> None:
        super().__init__()
        self.count = config.label_hints
        self.confidence = nn.Parameter(torch.zeros(output_size))
        self.spellings: Tensor
        shape = (label_count, config.label_hint_tokens)
        # Kept in the checkpoint, so that it loads without the ear's own files.
        self.register_buffer("spellings", torch.zeros(shape, dtype=torch.int32))

    def spell(self, names: Sequence[str], tokenizer: Any) -> None:
        """Take down how each label is spelt: cut off, or filled with line ends, to the configured length."""
        (fill,) = tokenizer("\n", add_special_tokens=False)["input_ids"][:1]
        length = self.spellings.shape[1]
        rows = [tokenizer(f" {name}", add_special_tokens=False)["input_ids"][:length] for name in names]
        filled = [[*row, *[fill] * (length - len(row))] for row in rows]
        self.spellings.copy_(torch.tensor(filled, dtype=torch.int32))

    def forward(self, heard: EarOutput, ear: nn.Module, embed: nn.Module) -> Tensor:
        """heard: of some clips, by `ear`; embed: the language model's input embeddings.

        Returns (clips, label_hints * label_hint_tokens, output_size), the likeliest label first.
        """
        frames, mask = heard.last_hidden_state, heard.frame_mask
        assert frames is not None and mask is not None
        with torch.no_grad():
            scores = ear.label_scores(frames.float()).masked_fill(~mask.unsqueeze(-1), -torch.inf)  # type: ignore[operator]
            best, labels = scores.amax(1).topk(self.count, dim=1)
        tokens: Tensor = embed(self.spellings[labels].long())
        sure = best.sigmoid()[..., None, None].to(tokens)
        return (tokens + sure * self.confidence.to(tokens)).flatten(1, 2)
