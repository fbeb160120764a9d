"""Small corpora for the tests, written directly: clips generated on the spot, one shard or more a split."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.schema import SCHEMA_VERSION, SPLITS, Pair
from naturelm.corpus.storage import DATA, MANIFEST, TAXONOMY, encode_flac, write_shard
from naturelm.corpus.taxonomy import Taxon, Taxonomy

RATE = 16_000
AUDIO_PLACE = "<Audio><AudioHere></Audio> "
BLACKBIRD = Taxon("Turdus merula", common_name="Common Blackbird", genus="Turdus", family="Turdidae")
THRUSH = Taxon("Turdus philomelos", common_name="Song Thrush", genus="Turdus", family="Turdidae")
OWL = Taxon("Strix aluco", common_name="Tawny Owl", genus="Strix", family="Strigidae")


def chirps(seconds: float = 1.0, *, seed: int = 0, level: float = 0.3) -> FloatArray:
    """(samples,) of chirps over a little noise, different for every seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    low, sweep, rate = rng.uniform(500, 4000), rng.uniform(200, 3000), rng.uniform(1, 6)
    pitch = low + sweep * (time * rate % 1)
    envelope = np.sin(np.pi * (time * rate % 1)) ** 2
    sound = level * envelope * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.003 * rng.standard_normal(
        len(time)
    )
    return sound.astype(np.float32)


def a_pair(
    number: int, split: str = "train", *, samples: FloatArray | None = None, **changes: object
) -> Pair:
    """A sound pair about its own clip and recording; `changes` are fields of `Pair`.

    A changed `instruction_text` is also put into `instruction`; `options` into neither.
    """
    samples = chirps(seed=number) if samples is None else samples
    identifier = str(changes.get("id", f"pair-{split}-{number:04d}"))
    text = str(changes.get("instruction_text", "What is the common name for the focal species in the audio?"))
    pair = Pair(
        id=identifier,
        audio=encode_flac(samples),
        file_name=f"{identifier}.flac",
        dataset_name="species-common",
        source_dataset="xeno-canto",
        task="species-common",
        instruction=AUDIO_PLACE + text,
        instruction_text=text,
        output="Common Blackbird",
        options=(),
        labels=("Common Blackbird",),
        taxa=("Turdus merula",),
        recordings=(f"xeno-canto:{split}{number}",),
        source_files=(f"xeno-canto:{split}/{number}.ogg",),
        groups=(f"xeno-canto:{split}{number}",),
        recordists=(f"Recordist {split} {number}",),
        license="CC-BY-4.0",
        created_at="",
        split=split,
        duration=len(samples) / RATE,
        metadata=json.dumps({"sample_rate": RATE}),
    )
    return replace(pair, **changes)  # type: ignore[arg-type]


def write_corpus(
    folder: Path,
    pairs: Iterable[Pair],
    *,
    taxa: Sequence[Taxon] = (BLACKBIRD, THRUSH, OWL),
    shards: int = 1,
    **manifest: object,
) -> Path:
    """Write a finished corpus; `manifest` are keys of corpus.json in place of those that fit the pairs."""
    rows = list(pairs)
    for split in SPLITS:
        of_split = [pair for pair in rows if pair.split == split]
        for shard in range(shards if of_split else 0):
            name = f"{split}-{shard:05d}-of-{shards:05d}.parquet"
            write_shard(of_split[shard::shards], folder / DATA / name)
    counts = {
        split: dict(Counter(pair.task for pair in rows if pair.split == split))
        for split in SPLITS
        if any(pair.split == split for pair in rows)
    }
    licenses: dict[str, dict[str, int]] = {}
    for pair in rows:
        of_source = licenses.setdefault(pair.source_dataset, {})
        of_source[pair.license] = of_source.get(pair.license, 0) + 1
    values: dict[str, object] = {
        "schema": SCHEMA_VERSION,
        "name": "small",
        "seed": 0,
        "held_out": {"species": [], "genera": [], "families": []},
        "recordists_apart": True,
        "generated_sources": ["fauna"],
        "counts": counts,
        "licenses": licenses,
        "versions": {},
    }
    folder.mkdir(parents=True, exist_ok=True)
    Taxonomy.from_taxa(taxa).to_csv(folder / TAXONOMY)
    (folder / MANIFEST).write_text(json.dumps({**values, **manifest}), encoding="utf-8")
    return folder
