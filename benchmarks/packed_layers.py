"""Answers with packed layers against torch's own products, and the last layer alone."""

import sys
from contextlib import nullcontext
from unittest.mock import patch

import torch
from common import alternate, arguments, build_base_naturelm, endless, noise_clip

from naturelm.answer.packed import PackedLayers
from naturelm.answer.results import Answer, GenerationOptions, Query

QUESTION = "What is the common name for the focal species in the audio?"
_TIMES = 10


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32], help="answers written together")
    parser.add_argument(
        "--tokens", type=int, default=16, help="tokens of every answer; no end token stops it"
    )
    options = parser.parse_args()
    naturelm = build_base_naturelm(options)
    endless(naturelm)
    layer = naturelm.model.get_output_embeddings()
    packed = PackedLayers.of(naturelm.model)
    if packed is None:
        sys.exit("torch cannot pack these layers here")
    print(f"the packed weights take {packed.nbytes / 1e6:.0f} MB more")
    for rows in options.rows:
        given = torch.randn(rows, 1, layer.in_features)

        def product() -> None:
            with torch.no_grad():
                for _ in range(_TIMES):
                    layer(given)  # noqa: B023  # called before the loop goes on

        def packed_product() -> None:
            with packed.in_use():
                product()

        fast, slow = alternate({"packed": packed_product, "plain": product}, options.repeats)
        print(f"{rows} rows, the last layer alone: ratio {slow.ratio(fast)}")
    naturelm.batch_size = max(options.rows)
    length = GenerationOptions(max_new_tokens=options.tokens)
    for rows in options.rows:
        queries = [Query((noise_clip(seed),), QUESTION) for seed in range(rows)]
        naturelm.answer(queries, GenerationOptions(max_new_tokens=1))  # all is heard and packed before
        found: dict[str, list[Answer]] = {}

        def answer(name: str) -> None:
            found[name] = naturelm.answer(queries, length)  # noqa: B023

        def plain() -> None:
            with patch.object(PackedLayers, "in_use", lambda _: nullcontext()):
                answer("plain")

        fast, slow = alternate({"packed": lambda: answer("packed"), "plain": plain}, options.repeats)
        same = [a.token_ids for a in found["packed"]] == [a.token_ids for a in found["plain"]]
        print(f"{rows} answers of {options.tokens} tokens: ratio {slow.ratio(fast)}; identical: {same}")


if __name__ == "__main__":
    main()
