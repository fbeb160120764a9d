"""Filter banks that a warm-up keeps on disk."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import write_corpus
from training import WARM_UP, kind_pair, losses, tiny_options

from naturelm.corpus.storage import Corpus
from naturelm.train.data import Example, TrainingRows, sound_batch
from naturelm.train.kept_features import FilterBank, KeptFeatures
from naturelm.train.options import TrainError
from naturelm.train.run import train
from naturelm.train.warm_up import coloured, require_fitting_ear
from tiny import tiny_naturelm

KEEPING = replace(WARM_UP, keep_features=True)
RATE = 16_000


@pytest.fixture
def rows(tmp_path: Path) -> TrainingRows:
    """Ten clips of 0.4 to 1 s, the longer ones cropped to 0.8 s."""
    write_corpus(tmp_path / "corpus", [kind_pair(number) for number in range(10)], shards=2)
    return TrainingRows([Corpus(tmp_path / "corpus")], RATE, 0.8)


def keeping(rows: TrainingRows, path: Path) -> tuple[KeptFeatures, FilterBank]:
    heard = tiny_naturelm()
    extract = FilterBank(heard.model.ear, heard.processor)
    path.touch()
    return KeptFeatures(rows, extract, path), extract


def good(example: object) -> Example:
    assert isinstance(example, Example)
    return example


def test_a_clip_that_came_before_is_not_read_again(rows: TrainingRows, tmp_path: Path) -> None:
    kept, _ = keeping(rows, tmp_path / "kept")
    again, _ = keeping(rows, tmp_path / "kept")  # as in another process
    first = [good(kept[row]) for row in range(len(kept))]
    shutil.rmtree(tmp_path / "corpus")
    for row, before in enumerate(first):
        after = good(again[row])
        assert (after.id, after.task, after.source, after.question, after.answer) == (
            *(before.id, before.task, before.source, before.question, before.answer),
        )
        assert before.fbank is not None and after.fbank is not None
        assert np.array_equal(after.fbank.frames, before.fbank.frames)
        assert after.fbank.samples == before.fbank.samples


def test_kept_clips_sound_to_the_ear_as_the_clips_do(rows: TrainingRows, tmp_path: Path) -> None:
    kept, extract = keeping(rows, tmp_path / "kept")
    plain = sound_batch([good(rows[row]) for row in range(len(rows))], extract.processor)
    stored = sound_batch([good(kept[row]) for row in range(len(kept))], extract.processor)
    assert torch.equal(stored["input_features_mask"], plain["input_features_mask"].bool())
    assert "input_values" not in stored
    with torch.no_grad():
        by_ear = extract.ear(plain["input_values"], ~plain["input_features_mask"].bool())
        from_kept = extract.ear(None, ~stored["input_features_mask"], fbank=stored["fbank"])
    assert torch.equal(by_ear.frame_mask, from_kept.frame_mask)
    real = by_ear.frame_mask
    difference = (by_ear.last_hidden_state - from_kept.last_hidden_state)[real].abs()
    assert difference.max() < 0.02 * by_ear.last_hidden_state[real].abs().max()


def test_a_damaged_record_is_made_again(rows: TrainingRows, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    kept, _ = keeping(rows, path)
    whole = [good(kept[row]).fbank for row in range(len(kept))]
    written = path.read_bytes()
    path.write_bytes(bytes(byte ^ (place % 997 == 0) for place, byte in enumerate(written))[:-100])
    again, _ = keeping(rows, path)
    for row, before in enumerate(whole):
        after = good(again[row]).fbank
        assert before is not None and after is not None and np.array_equal(after.frames, before.frames)
    shutil.rmtree(tmp_path / "corpus")
    for row, before in enumerate(whole):
        after = good(again[row]).fbank
        assert before is not None and after is not None and np.array_equal(after.frames, before.frames)


def test_where_nothing_can_be_kept_clips_are_read_every_time(rows: TrainingRows, tmp_path: Path) -> None:
    kept, _ = keeping(rows, tmp_path / "kept")
    (tmp_path / "kept").unlink()
    first, second = good(kept[3]).fbank, good(kept[3]).fbank
    assert first is not None and second is not None and np.array_equal(first.frames, second.frames)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_warm_up_learns_the_same_from_kept_clips_and_leaves_no_file(tmp_path: Path, workers: int) -> None:
    options = tiny_options(tmp_path, steps=1, workers=workers)
    plain = replace(options, warm_up=replace(WARM_UP, steps=14))  # each clip comes twice or more
    assert train(plain, tmp_path / "plain").state == "finished"
    keeping = replace(options, warm_up=replace(KEEPING, steps=14))
    assert train(keeping, tmp_path / "kept").state == "finished"
    before, after = losses(tmp_path / "plain", "warm-up"), losses(tmp_path / "kept", "warm-up")
    assert before.keys() == after.keys() and before != after  # half precision
    assert all(abs(before[step] - after[step]) < 0.02 for step in before)
    assert not list((tmp_path / "kept").rglob("*.bin"))


def test_an_ear_whose_mask_depends_on_the_batch_is_refused(tmp_path: Path) -> None:
    options = tiny_options(tmp_path, warm_up=KEEPING)
    model = replace(
        options.model,
        audio={**options.model.audio, "exact_mask": False},
        projector={**options.model.projector, "honour_mask": False},
    )
    with pytest.raises(TrainError, match=r"warm_up.keep_features: the ear must have `exact_mask: true`"):
        train(replace(options, model=model), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wish", [{"keep_features": True}, {"colouring_db": 6.0}])
def test_an_ear_without_patches_is_refused(wish: dict[str, Any]) -> None:
    model = tiny_naturelm().model
    model.ear = torch.nn.Identity()
    require_fitting_ear(model, WARM_UP)
    with pytest.raises(TrainError, match=f"warm_up.{next(iter(wish))}: the ear must be a naturelm_beats"):
        require_fitting_ear(model, replace(WARM_UP, **wish))


def test_colouring_changes_level_and_colour_of_each_clip_and_cuts_sound_and_mask_alike() -> None:
    ear = tiny_naturelm().model.ear
    sound = 0.1 * torch.randn(3, RATE, generator=torch.Generator().manual_seed(1))
    padding = torch.zeros(sound.shape, dtype=torch.bool)
    padding[1, 12_000:] = True
    before, cuts, changes = ear.normalised_fbank(sound), set(), []
    for seed in range(40):
        torch.manual_seed(seed)
        after, mask = coloured(before, padding, ear, 6.0)
        cut = before.shape[1] - after.shape[1]
        assert torch.equal(mask, padding[:, cut * 160 :])
        change = (after - before[:, cut:]) * 2 * ear.config.fbank_std * 10 / np.log(10)  # decibels
        assert torch.allclose(change, change[:, :1].expand_as(change), atol=1e-3)  # the same all the time
        cuts.add(cut)
        changes.append(change[:, 0])
    assert cuts <= set(range(16)) and len(cuts) > 8
    drawn = torch.cat(changes)  # (clips, mel bins)
    assert drawn[:, 0].std() == pytest.approx(6 * 2**0.5, rel=0.2)  # curve and level
    assert drawn.mean(1).std() > 5 and drawn.std(1).mean() > 2
    assert not torch.equal(drawn[0], drawn[1])


def test_clips_that_are_as_short_as_an_ear_can_hear_are_not_cut() -> None:
    ear = tiny_naturelm().model.ear
    sound = torch.zeros(2, ear.config.min_samples)
    for seed in range(8):
        torch.manual_seed(seed)
        after, mask = coloured(
            ear.normalised_fbank(sound), torch.zeros(sound.shape, dtype=torch.bool), ear, 1.0
        )
        assert mask.shape == sound.shape and len(ear(None, mask, fbank=after).last_hidden_state) == 2


def test_a_warm_up_that_colours_has_other_losses(tmp_path: Path) -> None:
    options = tiny_options(tmp_path, steps=1, warm_up=replace(KEEPING, colouring_db=6.0))
    assert train(options, tmp_path / "coloured").state == "finished"
    assert train(replace(options, warm_up=KEEPING), tmp_path / "plain").state == "finished"
    assert losses(tmp_path / "coloured", "warm-up") != losses(tmp_path / "plain", "warm-up")
