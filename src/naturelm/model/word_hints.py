"""What an ear hears in a clip, spelt out for the language model: the likeliest words of an answer.

A small language model is slow to learn what vectors of an ear mean, and needs many answers for each word. A linear
reader of the same vectors learns it from the warm-up alone. The words that it finds, spelt in the language model's own
tokens, need only to be put together and copied.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from naturelm.model.configuration import NatureLMProjectorConfig, WordHint
from naturelm.model.spelling import CONFIDENCE_SPREAD, embedded, spelt


class WordHints(nn.Module):
    """The likeliest words of a clip as embeddings: for each of `word_hints` its title and its `words` times its `tokens`.

    The reader sees the mean of the projector's summaries. The words of a task compete with one another and with no
    others, and stand in the order in which answers have them. To each token of a word, as the language model embeds
    it, a vector is added that is learnt for the task, scaled by how sure the reader is: the word's
    probability times the number of words that seem to share it out among them, as those of an answer do. That number is
    1 / sum of squared probabilities, at most the `words` of the task; the product is at most 1. So beside one sure word
    the others stand out as unlikely. The title stands as the language model embeds it, so that it can tell untaught what
    the words are for.

    There are no hints before `learn` has been told the words; the warm-up of training then teaches the reader.
    """

    def __init__(self, config: NatureLMProjectorConfig, summary_size: int, output_size: int) -> None:
        super().__init__()
        self.config = config
        self.summary_size = summary_size
        self.confidence = nn.Parameter(torch.randn(len(config.word_hints), output_size) * CONFIDENCE_SPREAD)
        self.reader: nn.Linear
        self.spellings: Tensor
        self.of_task: Tensor
        self.places: Tensor
        if config.hinted_words:
            self._hold(len(config.hinted_words))

    def learn(
        self,
        words: Sequence[str],
        of_task: Mapping[str, np.ndarray],
        places: Mapping[str, np.ndarray],
        tokenizer: Any,
    ) -> None:
        """Take down the words, in the configuration too, with a reader that has learnt nothing.

        of_task: for each task that is hinted at (words,) bool, the words that its answers have; places: for each
        (words,) float, where in an answer they stand.
        """
        self.config.hinted_words = tuple(words)
        self.config.hint_titles = tuple(
            tuple(tokenizer(f" {hint.title}", add_special_tokens=False)["input_ids"]) if hint.title else ()
            for hint in self.config.hints_of_words
        )
        self._hold(len(words))
        hints = self.config.hints_of_words
        self.spellings.copy_(spelt(words, tokenizer, self.spellings.shape[1]))
        self.of_task.copy_(torch.from_numpy(np.stack([of_task[hint.task] for hint in hints])))
        self.places.copy_(torch.from_numpy(np.stack([places[hint.task] for hint in hints])))

    def forward(self, summaries: Tensor, real: Tensor, embed: nn.Module) -> Tensor:
        """summaries: (clips, tokens, summary_size) of the projector; real: (clips, tokens) bool; embed: the language
        model's input embeddings.

        Returns (clips, hint tokens, output_size), in the order of the configuration.
        """
        with torch.no_grad():
            logits = self.reader(mean_summary(summaries, real)).float()
        rows: list[Tensor] = []
        for number, hint in enumerate(self.config.hints_of_words):
            sure, words = self._likeliest(logits, number, hint)
            ids = self.spellings[words][..., : hint.tokens]
            if title := self.config.hint_titles[number]:
                rows.append(embed(ids.new_tensor(title).long()).expand(len(ids), -1, -1))
            rows.append(embedded(embed, ids, sure, self.confidence[number]))
        return torch.cat(rows, dim=1)

    def _likeliest(self, logits: Tensor, number: int, hint: WordHint) -> tuple[Tensor, Tensor]:
        """How sure, and which: (clips, words of the hint) each, in the order of answers."""
        chances = logits.masked_fill(~self.of_task[number], -torch.inf).softmax(-1)
        best, words = chances.topk(hint.words, dim=1)
        order = self.places[number][words].argsort(dim=1, stable=True)
        sharing = (1 / chances.square().sum(1, keepdim=True)).clamp(max=hint.words)
        return (best.gather(1, order) * sharing).clamp(max=1), words.gather(1, order)

    def _hold(self, words: int) -> None:
        device = self.confidence.device
        hints = self.config.hints_of_words
        self.reader = nn.Linear(self.summary_size, words, device=device)
        longest = max(hint.tokens for hint in hints)
        # Kept in the checkpoint: which words a corpus has is not known without it.
        self.register_buffer("spellings", torch.zeros((words, longest), dtype=torch.int32, device=device))
        self.register_buffer("of_task", torch.zeros((len(hints), words), dtype=torch.bool, device=device))
        self.register_buffer("places", torch.zeros((len(hints), words), device=device))


def mean_summary(summaries: Tensor, real: Tensor) -> Tensor:
    """(clips, tokens, size), and (clips, tokens) bool for those that count, to (clips, size)."""
    weight = real.unsqueeze(-1) / real.sum(1)[:, None, None].clamp_min(1)
    return (summaries * weight).sum(1)
