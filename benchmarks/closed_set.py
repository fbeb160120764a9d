"""A closed set of 50 species on one clip: the label trie against scoring label by label."""

import sys

import torch
from common import alternate, arguments, build_base_naturelm, noise_clip
from torch import Tensor

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Query

QUESTION = "What is the common name for the focal species in the audio?"
SPECIES = """Lazuli Bunting; Indigo Bunting; Painted Bunting; Snow Bunting; Corn Bunting; Northern Cardinal;
Black-headed Grosbeak; Rose-breasted Grosbeak; Evening Grosbeak; American Robin; Swainson's Thrush;
Hermit Thrush; Wood Thrush; Varied Thrush; Song Thrush; Mistle Thrush; Common Blackbird; Red-winged Blackbird;
Yellow-headed Blackbird; Eurasian Wren; Carolina Wren; Bewick's Wren; Marsh Wren; Great Tit; Eurasian Blue Tit;
Coal Tit; Long-tailed Tit; Black-capped Chickadee; Mountain Chickadee; Common Chaffinch; European Goldfinch;
European Greenfinch; House Finch; Purple Finch; Song Sparrow; White-crowned Sparrow; White-throated Sparrow;
Great Horned Owl; Northern Saw-whet Owl; Eurasian Scops Owl; Great Spotted Woodpecker; Lesser Spotted Woodpecker;
Pacific Tree Frog; Common Midwife Toad; European Tree Frog; Gray Wolf; Humpback Whale; Sperm Whale;
Greater Horseshoe Bat; North American River Otter"""
LABELS = tuple(" ".join(label.split()) for label in SPECIES.split(";"))


def label_by_label(naturelm: NatureLM, query: Query, heard: list[Tensor] | None) -> dict[str, float]:
    """Log likelihoods from one whole forward pass a label.

    heard: the audio embeddings, put into every pass; None hears the clip again for every label.
    """
    scores = {}
    samples = [clip.samples for clip in query.clips]
    for label in query.choices:
        batch = naturelm.processor(query.question, [samples], answers=[label])
        with torch.no_grad():
            if heard is not None:
                embeds = naturelm.model.embed_prompt(batch.pop("input_ids"), heard)
                del batch["input_values"], batch["input_features_mask"]
                batch["inputs_embeds"] = embeds
            tokens = int((batch["labels"] != -100).sum())
            scores[label] = -float(naturelm.model(**batch).loss) * tokens
    return scores


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--target", type=float, default=15.0, help="least ratio with the clip heard; exit 1 below it"
    )
    parser.add_argument(
        "--skip-naive", action="store_true", help="leave out the loop that hears the clip 50 times"
    )
    options = parser.parse_args()
    naturelm = build_base_naturelm(options)
    clip = noise_clip()
    query = Query((clip,), QUESTION, LABELS)
    batch = naturelm.processor.feature_extractor([clip.samples])
    with torch.no_grad():
        heard = naturelm.model.get_audio_features(batch["input_values"], batch["input_features_mask"])

    def hear_only() -> None:
        """Leave the clip heard, and the prompt's beginning unread: this question has another one."""
        naturelm.clear_cache()
        naturelm.answer([Query((clip,), "Is it in <AudioHere> at all?", ("Yes",))])

    def by_trie() -> dict[str, float]:
        return {choice.label: choice.log_likelihood for choice in naturelm.answer([query])[0].choices}

    print(f"{len(LABELS)} labels, one clip of {clip.end:g} s")
    together, one_by_one = by_trie(), label_by_label(naturelm, query, heard)
    difference = max(abs(together[label] - one_by_one[label]) for label in LABELS)
    same = max(LABELS, key=together.__getitem__) == max(LABELS, key=one_by_one.__getitem__)
    print(f"largest difference of a log likelihood: {difference:.1e}; same label chosen: {same}")

    print("audio embeddings at hand for both, no prompt read:")
    trie, loop = alternate(
        {"trie": by_trie, "label by label": lambda: label_by_label(naturelm, query, heard)},
        options.repeats,
        prepare=hear_only,
    )
    print(f"ratio {loop.ratio(trie)} (target {options.target:g})")
    print("trie alone, the clip asked about before, so that its prompt is read:")
    (again,) = alternate({"trie": by_trie}, options.repeats)
    print(f"ratio {loop.ratio(again)}")
    if not options.skip_naive:
        print("nothing heard before, once each:")
        cold, naive = alternate(
            {
                "trie": by_trie,
                "label by label, heard each time": lambda: label_by_label(naturelm, query, None),
            },
            1,
            prepare=naturelm.clear_cache,
        )
        print(f"ratio {naive.ratio(cold)}")
    sys.exit(loop.wall / trie.wall < options.target)


if __name__ == "__main__":
    main()
