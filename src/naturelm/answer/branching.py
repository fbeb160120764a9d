"""All labels of a closed set through the language model at once, behind prompts that are in a cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from naturelm.answer.choices import LabelTrie, Walk, greedy_walk, split_sequences, trie_log_likelihoods
from naturelm.model.modeling import NatureLMForConditionalGeneration

_MAX_TRIE_LOGITS = 2**26
"""Logits are (rows, nodes, vocabulary), in float32 and once more while they are summed: this many are 512 MB."""


def most_nodes(model: NatureLMForConditionalGeneration) -> int:
    """Of all tries of a pass together, and one more for every row."""
    return max(16, _MAX_TRIE_LOGITS // int(model.config.text_config.vocab_size))


@dataclass(frozen=True, eq=False)
class ClosedSet:
    """A closed set as tries of its labels' tokens: one, or several where one would take too much memory.

    tries: each with the places of its labels in the set, and the nodes that go through the language model.
    """

    size: int
    tries: tuple[tuple[tuple[int, ...], LabelTrie, tuple[int, ...]], ...]

    @classmethod
    def of(cls, sequences: Sequence[tuple[int, ...]], most_nodes: int) -> "ClosedSet":
        """Of the tokens of each label."""
        tries = []
        for group in split_sequences(sequences, most_nodes):
            trie = LabelTrie.build([sequences[i] for i in group])
            tries.append((tuple(group), trie, tuple(trie.inner_nodes())))
        return cls(len(sequences), tuple(tries))

    @property
    def is_one(self) -> bool:
        """Whether all labels are in one trie."""
        return len(self.tries) == 1

    @property
    def nodes(self) -> int:
        """Of the largest trie, those that go through the language model."""
        return max(len(nodes) for _, _, nodes in self.tries)


def label_log_likelihoods(
    model: NatureLMForConditionalGeneration,
    sets: Sequence[ClosedSet],
    cache: Cache,
    ids: Tensor,
    mask: Tensor,
) -> list[tuple[Tensor, Walk | None]]:
    """(labels,) float64 natural log likelihood of each label of a prompt's own set after that prompt, and how a free answer
    to it begins, which the same logits tell; None where the set has several tries.

    cache: of the beginning of the prompts, which is left as it was. ids, mask: (batch, tokens), padded on the left. sets:
    one a prompt, of as many tries each.
    """
    found = [torch.empty(each.size, dtype=torch.float64) for each in sets]
    walks: list[Walk | None] = [None] * len(sets)
    for turn in range(len(sets[0].tries)):
        tries = [each.tries[turn] for each in sets]
        logits = _branch(model, [(trie, nodes) for _, trie, nodes in tries], cache, ids, mask)
        for _, same in groupby(range(len(sets)), key=lambda row: id(sets[row])):
            rows = list(same)
            places, trie, nodes = tries[rows[0]]
            own = logits[rows[0] : rows[-1] + 1, : 1 + len(nodes)]
            for row, scores in zip(rows, trie_log_likelihoods(trie, own, nodes).cpu(), strict=True):
                found[row][list(places)] = scores
                if sets[row].is_one:
                    walks[row] = greedy_walk(trie, own[row - rows[0]], nodes)
    return list(zip(found, walks, strict=True))


def _branch(
    model: NatureLMForConditionalGeneration,
    tries: Sequence[tuple[LabelTrie, tuple[int, ...]]],
    cache: Cache,
    ids: Tensor,
    mask: Tensor,
) -> Tensor:
    """(batch, 1 + most nodes, vocabulary) logits after each prompt and after each node of its trie; others mean nothing.

    One pass over what the cache lacks of the prompts, and the nodes. The cache is left as it was.
    """
    rest = ids[:, cache.get_seq_length() :]
    most = max(len(nodes) for _, nodes in tries)
    tokens, depths = ids.new_zeros(len(ids), most), ids.new_zeros(len(ids), most)
    # A place without a node sees itself, since what sees nothing is no number.
    ancestors = torch.eye(most, dtype=torch.bool).repeat(len(ids), 1, 1)
    for row, (trie, nodes) in enumerate(tries):
        tokens[row, : len(nodes)] = ids.new_tensor([trie.tokens[node] for node in nodes])
        depths[row, : len(nodes)] = ids.new_tensor([trie.depths[node] for node in nodes])
        ancestors[row, : len(nodes), : len(nodes)] = trie.ancestor_mask(nodes)
    positions = (mask.cumsum(1) - 1).clamp_min(0)[:, -rest.shape[1] :]
    visible = mask.new_zeros((len(ids), rest.shape[1] + most, mask.shape[1] + most), dtype=torch.bool)
    visible[:, :, : mask.shape[1]] = mask.bool().unsqueeze(1)
    # The prompt sees what came before, and no label; a node sees the prompt and its ancestors.
    visible[:, : rest.shape[1]] = visible[:, : rest.shape[1]].tril(mask.shape[1] - rest.shape[1])
    visible[:, rest.shape[1] :, mask.shape[1] :] = ancestors.to(mask.device)
    dtype = model.language_model.dtype
    hidden = torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
    logits = model(
        inputs_embeds=model.get_input_embeddings()(torch.cat([rest, tokens], 1)),
        attention_mask=hidden.unsqueeze(1),
        position_ids=torch.cat([positions, mask.sum(1, keepdim=True) + depths], 1),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1 + most,
    ).logits
    cache.crop(-visible.shape[1])  # a negative number takes that many off, in every version
    return logits
