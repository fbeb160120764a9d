from pathlib import Path

import numpy as np
import pytest
from entries import entry, library, noise, species, stored, tone

from naturelm.corpus.augment import AugmentOptions
from naturelm.corpus.making import Maker
from naturelm.corpus.options import BuildOptions, Share
from naturelm.corpus.plan import make_plan
from naturelm.corpus.scene import SceneOptions
from naturelm.corpus.schema import Pair
from naturelm.corpus.storage import decode

BUSY = SceneOptions(3.0, 1.0, AugmentOptions(probability=1.0, noise_probability=1.0))


def made(tmp_path: Path, share: Share) -> list[Pair]:
    long = stored(tmp_path / "long.wav", tone(1000, 2.0))
    animals = [entry(str(number), long, (species(number, 0, 0),)) for number in range(4)]
    rows = library(tmp_path, [*animals, noise("rain")])
    options = BuildOptions("small", (share,), train_scenes=BUSY)
    plan = make_plan(options, rows)
    maker = Maker(options, rows)
    pairs = [maker.pair(job)[0] for job in plan.shard("train", 0, 8)]
    return [pair for pair in pairs if pair is not None]


def test_a_plain_share_is_left_as_it_was_recorded(tmp_path: Path) -> None:
    for pair in made(tmp_path, Share("species-common", 8, plain=True)):
        details = pair.details()
        assert "noise" not in details and "snr_db" not in details
        assert all("changes" not in part for part in details["parts"])  # type: ignore[attr-defined]
        assert pair.duration == pytest.approx(2.0, abs=0.05)
        assert pair.source_dataset == "own"


def test_other_shares_are_changed_and_laid_over_noise(tmp_path: Path) -> None:
    pairs = made(tmp_path, Share("species-common", 8))
    assert len(pairs) == 8
    assert all(pair.source_dataset == "own+noise" and "snr_db" in pair.details() for pair in pairs)
    assert any("changes" in part for pair in pairs for part in pair.details()["parts"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_a_share_may_have_shorter_clips_than_its_split(tmp_path: Path, seconds: float) -> None:
    pairs = made(tmp_path, Share("species-common", 8, seconds=seconds))
    assert len(pairs) == 8
    for pair in pairs:
        assert pair.duration <= seconds + 1e-3
        assert len(decode(pair)) == pytest.approx(pair.duration * 16000, abs=1)
        assert np.abs(decode(pair)).max() > 0.01
