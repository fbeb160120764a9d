"""How the next token is chosen, and when a row ends: each row by its own options."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from naturelm.answer.results import GenerationOptions, Watcher


class TokenChooser(LogitsProcessor):
    """Chooses each row's next token and notes its log probability.

    Sampling adds Gumbel noise and takes the largest, which draws from the distribution exactly;
    every row has its own generator, so its draw does not depend on what shares its batch.
    """

    def __init__(
        self, options: Sequence[GenerationOptions], row_seeds: Sequence[int], device: torch.device
    ) -> None:
        self.options = options
        self.device = device
        # On the CPU, so that a seed means the same everywhere.
        self.generators = [torch.Generator().manual_seed(seed) for seed in row_seeds]
        self.log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        log_probs = scores.log_softmax(-1)
        drawn = [row for row, options in enumerate(self.options) if options.temperature > 0]
        if drawn:
            scores = scores.clone()
            for row in drawn:
                scores[row] = self._perturbed(scores[row], row)
        chosen = scores.argmax(-1, keepdim=True)
        self.log_probs.append(log_probs.gather(1, chosen)[:, 0].cpu())
        return scores

    def _perturbed(self, scores: Tensor, row: int) -> Tensor:
        options = self.options[row]
        scores = _keep_likeliest(scores[None] / options.temperature, options.top_k, options.top_p)[0]
        uniform = torch.rand(len(scores), generator=self.generators[row])
        gumbel = -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log()
        return scores + gumbel.to(scores.device)


class RowEnds(StoppingCriteria):
    """Ends a row at its own longest answer, or once nobody wants it; tells a watcher of each token.

    queries: the place of each row's query, by which the watcher knows it. ends: ids that end an answer.
    """

    def __init__(
        self,
        chooser: TokenChooser,
        ends: Collection[int],
        queries: Sequence[int],
        watcher: Watcher | None,
    ) -> None:
        self.chooser = chooser
        self.options = chooser.options
        self.ends = ends
        self.queries = queries
        self.watcher = watcher
        self.written = 0
        self.done = [False] * len(queries)

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        self.written += 1
        tokens = input_ids[:, -1].tolist()
        for row, token in enumerate(tokens):
            if self.done[row]:
                continue
            self.done[row] = self.written >= self.options[row].max_new_tokens or token in self.ends
            if self.watcher is not None:
                log_prob = float(self.chooser.log_probs[-1][row])
                self.watcher.wrote(self.queries[row], token, log_prob)
                self.done[row] = self.done[row] or self.watcher.unwanted(self.queries[row])
        return torch.tensor(self.done, device=input_ids.device)


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
