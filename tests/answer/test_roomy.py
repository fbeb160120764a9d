"""A memory with room to grow holds what transformers' own holds, whatever is done to both."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.cache_utils import DynamicCache

from naturelm.answer.roomy import roomy_cache

HEADS, SIZE = 2, 3
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 50)),
        st.tuples(st.just("crop"), st.integers(0, 60)),
        st.tuples(st.just("select"), st.integers(0, 9)),
        st.tuples(st.just("reorder"), st.integers(0, 9)),
    ),
    max_size=8,
)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    copies=st.integers(1, 3),
    room=st.integers(0, 40),
    actions=ACTIONS,
)
def test_it_holds_what_transformers_own_holds(
    lengths: list[int], copies: int, room: int, actions: list[tuple[str, int]]
) -> None:
    torch.manual_seed(len(actions))
    layers = [
        tuple([torch.randn(HEADS, length, SIZE) for length in lengths] for _ in range(2)) for _ in range(2)
    ]
    roomy = roomy_cache(layers, copies, room)  # type: ignore[arg-type]
    plain = DynamicCache()
    longest = max(lengths)
    for index, both in enumerate(layers):
        padded = [
            torch.stack([torch.nn.functional.pad(row, (0, 0, longest - row.shape[1], 0)) for row in rows])
            for rows in both
        ]
        plain.update(*(part.repeat_interleave(copies, 0) for part in padded), index)
    for action, number in actions:
        batch = len(plain.layers[0].keys)
        if action == "add":
            for index in range(2):
                new = [torch.randn(batch, HEADS, number, SIZE) for _ in range(2)]
                for found, expected in zip(roomy.update(*new, index), plain.update(*new, index), strict=True):
                    assert torch.equal(found, expected)
        elif action == "crop":
            for cache in (roomy, plain):
                cache.crop(-min(number, plain.get_seq_length() - 1))
        else:
            places = torch.randint(batch, (batch if action == "reorder" else 1 + number % batch,))
            for cache in (roomy, plain):
                (cache.reorder_cache if action == "reorder" else cache.batch_select_indices)(places)
        assert roomy.get_seq_length() == plain.get_seq_length()
        for ours, theirs in zip(roomy.layers, plain.layers, strict=True):
            assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)
