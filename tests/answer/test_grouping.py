"""Rows that go through the language model together."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from naturelm.answer.grouping import PASS_TOKENS, groups_of_like_length

LENGTHS = st.lists(st.integers(0, 120), max_size=8)


def cost(groups: list[list[int]], lengths: list[int], passes: int) -> int:
    return sum(len(group) * max(lengths[i] for i in group) + passes * PASS_TOKENS for group in groups)


def within(groups: list[list[int]], lengths: list[int], most_rows: int, most_tokens: int | None) -> bool:
    return all(
        len(group) <= most_rows
        and (
            most_tokens is None
            or len(group) == 1
            or len(group) * max(lengths[i] for i in group) <= most_tokens
        )
        for group in groups
    )


@given(LENGTHS, st.integers(1, 5), st.none() | st.integers(1, 200), st.integers(1, 12))
def test_no_other_groups_cost_less(
    lengths: list[int], most_rows: int, most_tokens: int | None, passes: int
) -> None:
    groups = groups_of_like_length(lengths, most_rows, most_tokens=most_tokens, passes=passes)
    order = [i for group in groups for i in group]
    assert order == sorted(range(len(lengths)), key=lambda i: lengths[i])
    assert within(groups, lengths, most_rows, most_tokens)
    for count in range(len(order)):
        for cuts in combinations(range(1, len(order)), count):
            other = [order[a:b] for a, b in zip((0, *cuts), (*cuts, len(order)), strict=True)]
            if within(other, lengths, most_rows, most_tokens):
                assert cost(groups, lengths, passes) <= cost(other, lengths, passes)


def test_like_lengths_stay_together_and_unlike_ones_apart() -> None:
    lengths = [90, 5, 7, 95, 6, 5]
    assert groups_of_like_length(lengths, 8) == [[1, 5, 4, 2], [0, 3]]
    assert groups_of_like_length(lengths, 8, passes=50) == [[1, 5, 4, 2, 0, 3]]
    assert groups_of_like_length([], 8) == []
