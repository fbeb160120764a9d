"""Ten questions on one clip in one call against ten calls that each begin with nothing heard."""

import sys

from common import alternate, arguments, build_base_naturelm, endless, noise_clip

from naturelm.answer.results import Answer, GenerationOptions, Query

QUESTIONS = (
    "What is the common name for the focal species in the audio?",
    "What is the scientific name for the focal species in the audio?",
    "What is the family of the focal species in the audio?",
    "Caption the audio, using the common name for any animal species.",
    "How many individuals are calling?",
    "What is the life stage of the focal species?",
    "What call type is heard in the audio?",
    "Is there a bird in this recording? Answer yes or no.",
    "Describe the background noise.",
    "Which species is heard furthest away?",
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--tokens", type=int, default=16, help="tokens of every answer; no end token stops it"
    )
    parser.add_argument("--target", type=float, default=3.0, help="least ratio; exit 1 below it")
    options = parser.parse_args()
    naturelm = build_base_naturelm(options)
    endless(naturelm)
    clip, length = noise_clip(), GenerationOptions(max_new_tokens=options.tokens)
    found: dict[str, list[Answer]] = {}

    def together() -> None:
        naturelm.clear_cache()
        found["together"] = naturelm.answer([Query((clip,), question) for question in QUESTIONS], length)

    def apart() -> None:
        found["apart"] = []
        for question in QUESTIONS:
            naturelm.clear_cache()
            found["apart"] += naturelm.answer([Query((clip,), question)], length)

    print(f"{len(QUESTIONS)} questions on one clip of {clip.end:g} s, {options.tokens} tokens each")
    one, ten = alternate({"one call": together, "ten calls": apart}, options.repeats)
    same = [a.token_ids for a in found["together"]] == [a.token_ids for a in found["apart"]]
    print(f"ratio {ten.ratio(one)} (target {options.target:g}); identical answers: {same}")
    for name, answers in found.items():
        sums = {
            part: sum(getattr(a.seconds, part) for a in answers) for part in ("hear", "prefill", "answer")
        }
        print(f"  {name}: " + ", ".join(f"{part} {seconds:.2f} s" for part, seconds in sums.items()))
    sys.exit(not same or ten.wall / one.wall < options.target)


if __name__ == "__main__":
    main()
