"""Windows of a recording in one batch against one by one, and where the time of each goes."""

import sys

from common import alternate, arguments, build_base_naturelm, endless, noise_clip

from naturelm.answer.results import Answer, GenerationOptions, Query

QUESTION = "What is the common name for the focal species in the audio?"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--windows", type=int, default=8, help="windows, and the batch size")
    parser.add_argument(
        "--tokens", type=int, default=16, help="tokens of every answer; no end token stops it"
    )
    options = parser.parse_args()
    naturelm = build_base_naturelm(options)
    naturelm.batch_size = options.windows
    endless(naturelm)
    length = GenerationOptions(max_new_tokens=options.tokens)
    queries = [Query((noise_clip(seed),), QUESTION) for seed in range(options.windows)]
    found: dict[str, list[Answer]] = {}

    def batched() -> None:
        found["batched"] = naturelm.answer(queries, length)

    def one_by_one() -> None:
        found["one by one"] = [naturelm.answer([query], length)[0] for query in queries]

    print(f"{options.windows} windows of 10 s, one question, {options.tokens} tokens each")
    sides = {"batched": batched, "one by one": one_by_one}
    together, alone = alternate(sides, options.repeats, prepare=naturelm.clear_cache)
    same = [a.token_ids for a in found["batched"]] == [a.token_ids for a in found["one by one"]]
    print(f"ratio {alone.ratio(together)}; identical answers: {same}")
    print("seconds of the last round, by part:")
    parts = {
        name: [sum(getattr(a.seconds, part) for a in answers) for part in ("hear", "prefill", "answer")]
        for name, answers in found.items()
    }
    for name, (hear, prefill, answer) in parts.items():
        print(f"  {name}: hear {hear:.2f}, prefill {prefill:.2f}, answer {answer:.2f}")
    ratios = [alone / together for together, alone in zip(*parts.values(), strict=True)]
    print("  ratio: hear {:.2f}, prefill {:.2f}, answer {:.2f}".format(*ratios))
    sys.exit(not same)


if __name__ == "__main__":
    main()
