"""How the next token is chosen: the likeliest, or a draw that a row makes for itself."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

from naturelm.answer.results import GenerationOptions


class TokenChooser(LogitsProcessor):
    """Chooses each row's next token and notes its log probability.

    Sampling adds Gumbel noise and takes the largest, which draws from the distribution exactly;
    every row has its own generator, so its draw does not depend on what shares its batch.
    """

    def __init__(self, options: GenerationOptions, row_seeds: list[int], device: torch.device) -> None:
        self.options = options
        self.device = device
        # On the CPU, so that a seed means the same everywhere.
        self.generators = [torch.Generator().manual_seed(seed) for seed in row_seeds]
        self.log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        log_probs = scores.log_softmax(-1)
        if self.options.temperature > 0:
            scores = self._perturbed(scores / self.options.temperature)
        chosen = scores.argmax(-1, keepdim=True)
        self.log_probs.append(log_probs.gather(1, chosen)[:, 0].cpu())
        return scores

    def _perturbed(self, scores: Tensor) -> Tensor:
        scores = _keep_likeliest(scores, self.options.top_k, self.options.top_p)
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
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
