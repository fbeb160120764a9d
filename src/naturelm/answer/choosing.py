"""How the next token is chosen: for each row by its own options."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from naturelm.answer.results import GenerationOptions


class TokenChooser(LogitsProcessor):
    """Chooses each row's next token and notes its log probability.

    Sampling adds Gumbel noise and takes the largest, which draws from the distribution exactly;
    every row has its own generator, so its draw does not depend on what shares its batch.
    """

    def __init__(
        self,
        options: Sequence[GenerationOptions],
        generators: Sequence[torch.Generator],
        device: torch.device,
    ) -> None:
        """generators: on the CPU, so that a seed means the same everywhere."""
        self.options = options
        self.device = device
        self.generators = generators
        self.log_probs = torch.empty(0)
        """(rows,) of the tokens that were chosen last."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        log_probs = scores.log_softmax(-1)
        drawn = [row for row, options in enumerate(self.options) if options.temperature > 0]
        if drawn:
            scores = scores.clone()
            for row in drawn:
                scores[row] = self._perturbed(scores[row], row)
        chosen = scores.argmax(-1, keepdim=True)
        self.log_probs = log_probs.gather(1, chosen)[:, 0].cpu()
        return scores

    def _perturbed(self, scores: Tensor, row: int) -> Tensor:
        options = self.options[row]
        scores = _keep_likeliest(scores[None] / options.temperature, options.top_k, options.top_p)[0]
        uniform = torch.rand(len(scores), generator=self.generators[row])
        gumbel = -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log()
        return scores + gumbel.to(scores.device)


def _keep_likeliest(scores: Tensor, top_k: int, top_p: float) -> Tensor:
    """Scores with -inf outside the k likeliest tokens and outside the smallest set holding top_p."""
    if top_k > 0:
        least = scores.topk(min(top_k, scores.shape[1])).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if top_p < 1:
        ordered, order = scores.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        outside = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before >= top_p)
        scores = scores.masked_fill(outside, -torch.inf)
    return scores
