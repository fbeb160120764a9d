"""Which rows go through the language model together: padding costs as much as tokens do, and so does every pass."""

from collections.abc import Sequence

PASS_TOKENS = 32
"""Tokens that take about as long as what a pass through the language model costs beside its tokens."""


def groups_of_like_length(
    lengths: Sequence[int], most_rows: int, *, most_tokens: int | None = None, passes: int = 1
) -> list[list[int]]:
    """Indices in groups such that padding every group to its longest, and starting it, costs the least.

    lengths: tokens of each row. most_rows: of a group. most_tokens: of a group, padding included; a row that is longer
    goes alone. passes: through the language model that a group takes. Shortest first; equal lengths keep their order.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    # The best groups of the first `end` rows have a last group, and before it the best groups of what remains.
    cheapest = [0]
    first_of_last = [0]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        found = []
        for first in range(end - 1, max(end - most_rows, 0) - 1, -1):
            tokens = (end - first) * longest
            if most_tokens is not None and tokens > most_tokens and end - first > 1:
                break
            found.append((cheapest[first] + tokens + passes * PASS_TOKENS, first))
        cost, first = min(found)
        cheapest.append(cost)
        first_of_last.append(first)
    groups = []
    end = len(order)
    while end:
        groups.append(order[first_of_last[end] : end])
        end = first_of_last[end]
    return groups[::-1]
