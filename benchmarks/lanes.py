"""Answers in lanes, a thread a core, against all cores at each product. Clips are heard before."""

from unittest.mock import patch

from common import alternate, arguments, build_base_naturelm, noise_clip

from naturelm.answer import lanes
from naturelm.answer.results import Answer, GenerationOptions, Query

QUESTION = "What is the common name for the focal species in the audio?"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 128], help="questions asked together")
    parser.add_argument("--tokens", type=int, default=8, help="of every answer, at most")
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

        def together() -> None:
            with patch.object(lanes, "_ROWS", 2**30):
                answer("together")

        fast, slow = alternate({"lanes": lambda: answer("lanes"), "together": together}, options.repeats)
        same = [a.token_ids for a in found["lanes"]] == [a.token_ids for a in found["together"]]
        print(f"{rows} questions: ratio {slow.ratio(fast)}; identical: {same}")


if __name__ == "__main__":
    main()
