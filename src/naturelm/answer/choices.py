"""Closed sets: the likelihood of every label under one shared prefix, by a trie of their tokens.

Labels that begin alike share their tokens, and all branches go through the language model side
by side: a 4-D mask lets each token see the prompt and its own ancestors alone, so the numbers
are those of scoring label by label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROOT = -1
_FEW = 64


@dataclass(frozen=True)
class LabelTrie:
    """Token sequences as a trie, parents before children.

    tokens, parents, depths: one entry a node; the parent of a first token is ROOT, its depth 0.
    paths: the nodes of each label, in order.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]

    @classmethod
    def build(cls, sequences: Sequence[Sequence[int]]) -> "LabelTrie":
        """The trie of some token sequences."""
        nodes: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        paths = []
        for sequence in sequences:
            parent, path = ROOT, []
            for depth, token in enumerate(sequence):
                node = nodes.setdefault((parent, token), len(tokens))
                if node == len(tokens):
                    tokens.append(token)
                    parents.append(parent)
                    depths.append(depth)
                path.append(node)
                parent = node
            paths.append(tuple(path))
        return cls(tuple(tokens), tuple(parents), tuple(depths), tuple(paths))

    def inner_nodes(self) -> list[int]:
        """Nodes that some other node follows: the ones that must go through the language model."""
        return sorted({parent for parent in self.parents if parent != ROOT})

    def ancestor_mask(self, nodes: Sequence[int]) -> Tensor:
        """(n, n) bool: whether node i may see node j, itself or an ancestor; ancestors must be in `nodes`."""
        place = {node: i for i, node in enumerate(nodes)}
        mask = torch.eye(len(nodes), dtype=torch.bool)
        for row, node in enumerate(nodes):
            parent = self.parents[node]
            if parent != ROOT:
                mask[row] |= mask[place[parent]]
        return mask


def split_sequences(sequences: Sequence[tuple[int, ...]], max_nodes: int) -> list[list[int]]:
    """Indices of the sequences in groups whose tries stay within `max_nodes`, alike ones together."""
    groups: list[list[int]] = []
    nodes = 0
    previous: tuple[int, ...] = ()
    for index in sorted(range(len(sequences)), key=lambda i: sequences[i]):
        sequence = sequences[index]
        shared = 0
        while shared < min(len(previous), len(sequence)) and previous[shared] == sequence[shared]:
            shared += 1
        if not groups or nodes + len(sequence) - shared > max_nodes:
            groups.append([])
            nodes, shared = 0, 0
        groups[-1].append(index)
        nodes += len(sequence) - shared
        previous = sequence
    return groups


def trie_log_likelihoods(trie: LabelTrie, logits: Tensor, inner: Sequence[int]) -> Tensor:
    """Sum of the token log probabilities of each label.

    logits: (batch, 1 + len(inner), vocabulary), after the prompt and after each inner node.
    Returns (batch, labels) float64.
    """
    place = {ROOT: 0} | {node: i + 1 for i, node in enumerate(inner)}
    normaliser = _log_sum_exp(logits)
    rows = torch.tensor([place[parent] for parent in trie.parents], device=logits.device)
    tokens = torch.tensor(trie.tokens, device=logits.device)
    node_scores = logits[:, rows, tokens].double() - normaliser[:, rows]
    return torch.stack([node_scores[:, list(path)].sum(1) for path in trie.paths], 1)


@dataclass(frozen=True)
class Walk:
    """A free answer as far as it goes along a trie: its tokens, and the natural log probability of each."""

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]


def greedy_walk(trie: LabelTrie, logits: Tensor, inner: Sequence[int]) -> Walk:
    """The likeliest tokens, one after the other, up to the first after which there are no logits.

    logits: (1 + len(inner), vocabulary), after the prompt and after each inner node.
    """
    place = {ROOT: 0} | {node: i + 1 for i, node in enumerate(inner)}
    child = {edge: node for node, edge in enumerate(zip(trie.parents, trie.tokens, strict=True))}
    tokens: list[int] = []
    places: list[int] = []
    node: int | None = ROOT
    while node in place:
        places.append(place[node])
        tokens.append(int(logits[places[-1]].argmax()))
        node = child.get((node, tokens[-1]))
    found = logits[places]
    log_probs = found[range(len(tokens)), tokens].double() - _log_sum_exp(found)
    return Walk(tuple(tokens), tuple(log_probs.tolist()))


def _log_sum_exp(logits: Tensor) -> Tensor:
    """(..., vocabulary) to (...) float64.

    Summed in float64, since float32 rounds a sum over the vocabulary in the sixth digit; by few places at a time, since
    the copies of all of them would be made in memory that the kernel has to clear first.
    """
    flat = logits.flatten(0, -2)
    found = torch.empty(len(flat), dtype=torch.float64, device=logits.device)
    for few, part in zip(flat.split(_FEW), found.split(_FEW), strict=True):
        highest = few.max(-1, keepdim=True).values
        part.copy_((few - highest).exp_().sum(-1, dtype=torch.float64).log_().add_(highest[:, 0]))
    return found.view(logits.shape[:-1])
