"""The trie of a closed set's tokens, as a structure and as a sum of log probabilities."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.answer.choices import ROOT, LabelTrie, split_sequences, trie_log_likelihoods

# Few tokens and short sequences: shared beginnings, and one sequence inside another, come up often.
TOKENS = st.integers(0, 3)
SEQUENCES = st.lists(
    st.lists(TOKENS, min_size=1, max_size=6).map(tuple), min_size=1, max_size=12, unique=True
)


@given(SEQUENCES)
def test_paths_spell_the_sequences(sequences: list[tuple[int, ...]]) -> None:
    trie = LabelTrie.build(sequences)
    assert [tuple(trie.tokens[node] for node in path) for path in trie.paths] == sequences
    for path in trie.paths:
        assert [trie.parents[node] for node in path] == [ROOT, *path[:-1]]
        assert [trie.depths[node] for node in path] == list(range(len(path)))
    # Every beginning is held once, and nothing else is.
    beginnings = {sequence[:length] for sequence in sequences for length in range(1, len(sequence) + 1)}
    assert len(trie.tokens) == len(trie.parents) == len(trie.depths) == len(beginnings)


@given(SEQUENCES)
def test_a_node_sees_its_ancestors_and_itself_alone(sequences: list[tuple[int, ...]]) -> None:
    trie = LabelTrie.build(sequences)
    beginning = {
        node: sequences[i][: d + 1] for i, path in enumerate(trie.paths) for d, node in enumerate(path)
    }
    inner = trie.inner_nodes()
    assert inner == [n for n in range(len(trie.tokens)) if n in trie.parents]
    mask = trie.ancestor_mask(inner)
    expected = [[beginning[a][: len(beginning[b])] == beginning[b] for b in inner] for a in inner]
    assert mask.tolist() == expected


@given(SEQUENCES, st.integers(1, 20))
def test_groups_hold_every_sequence_once_within_the_limit(
    sequences: list[tuple[int, ...]], limit: int
) -> None:
    groups = split_sequences(sequences, limit)
    assert sorted(i for group in groups for i in group) == list(range(len(sequences)))
    for group in groups:
        nodes = len(LabelTrie.build([sequences[i] for i in group]).tokens)
        assert nodes <= limit or len(group) == 1


def test_groups_keep_alike_sequences_together() -> None:
    sequences = [(1, 1, 1), (2, 2, 2), (1, 1, 2), (2, 2, 3), (1, 1, 3)]
    assert split_sequences(sequences, 5) == [[0, 2, 4], [1, 3]]
    assert split_sequences(sequences, 100) == [[0, 2, 4, 1, 3]]


@settings(max_examples=30)
@given(SEQUENCES)
def test_log_likelihoods_are_sums_along_the_paths(sequences: list[tuple[int, ...]]) -> None:
    trie = LabelTrie.build(sequences)
    inner = trie.inner_nodes()
    generator = torch.Generator().manual_seed(len(trie.tokens))
    after = torch.randn(2, 1 + len(inner), 4, generator=generator)
    found = trie_log_likelihoods(trie, after, inner)
    assert found.dtype == torch.float64
    for row in range(2):
        logits = {node: after[row, i] for i, node in enumerate([ROOT, *inner])}
        expected = [
            sum(float(logits[trie.parents[n]].double().log_softmax(-1)[trie.tokens[n]]) for n in path)
            for path in trie.paths
        ]
        torch.testing.assert_close(
            found[row], torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-5
        )
