"""Answers with a memory that has room to grow against transformers' own, which is copied for every token. Clips are heard
before."""

from collections.abc import Sequence
from unittest.mock import patch

import torch
from common import alternate, arguments, build_base_naturelm, noise_clip
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from naturelm.answer import prefixes
from naturelm.answer.results import Answer, GenerationOptions, Query

QUESTION = "What is the common name for the focal species in the audio?"


def transformers_cache(
    layers: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]], copies: int = 1, room: int = 0
) -> Cache:
    """As `naturelm.answer.roomy.roomy_cache`, without room."""
    cache = DynamicCache()
    longest = max(keys.shape[1] for keys in layers[0][0])
    for index, both in enumerate(layers):
        keys, values = (
            torch.stack(
                [torch.nn.functional.pad(row, (0, 0, longest - row.shape[1], 0)) for row in rows]
            ).repeat_interleave(copies, 0)
            for rows in both
        )
        cache.update(keys, values, index)
    return cache


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 128], help="questions asked together")
    parser.add_argument("--tokens", type=int, default=10, help="of every answer, at most")
    options = parser.parse_args()
    naturelm = build_base_naturelm(options)
    naturelm.batch_size = max(options.rows)
    length = GenerationOptions(max_new_tokens=options.tokens)
    for rows in options.rows:
        queries = [Query((noise_clip(seed),), QUESTION) for seed in range(rows)]
        naturelm.answer(queries, GenerationOptions(max_new_tokens=1))
        found: dict[str, list[Answer]] = {}

        def answer(name: str) -> None:
            found[name] = naturelm.answer(queries, length)  # noqa: B023

        def copied() -> None:
            with patch.object(prefixes, "roomy_cache", transformers_cache):
                answer("copied")

        fast, slow = alternate({"with room": lambda: answer("with room"), "copied": copied}, options.repeats)
        same = [a.token_ids for a in found["with room"]] == [a.token_ids for a in found["copied"]]
        print(f"{rows} questions: ratio {slow.ratio(fast)}; identical: {same}")


if __name__ == "__main__":
    main()
