from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from entries import entry, invented, library, noise, species, stored, tone

from naturelm.corpus.library import Entry, Library
from naturelm.corpus.options import BuildOptions, CorpusError, Share
from naturelm.corpus.plan import Plan, make_plan
from naturelm.corpus.recordings import FileSound
from naturelm.corpus.tasks import TASKS

OFTEN, SELDOM = species(1, 0, 0), species(2, 0, 0)


@pytest.fixture
def sound(tmp_path: Path) -> FileSound:
    return stored(tmp_path / "tone.wav", tone(1000, 0.3))


@pytest.fixture
def birds(tmp_path: Path, sound: FileSound) -> Library:
    """Fifty recordings of one species, two of another, three that are held out, and background."""
    often = [entry(f"often-{number}", sound, (OFTEN,)) for number in range(50)]
    seldom = [entry(f"seldom-{number}", sound, (SELDOM,)) for number in range(2)]
    held = [entry(f"held-{number}", sound, (species(3, 0, number),), split="test") for number in range(3)]
    held[1] = replace(held[1], novelty="unseen-genus")
    return library(tmp_path, [*often, *seldom, *held, noise("rain"), invented(3)])


def planned(shares: Sequence[Share], birds: Library, seed: int = 0) -> Plan:
    return make_plan(BuildOptions("small", tuple(shares), seed=seed), birds)


def asked(plan: Plan, split: str, share: int, birds: Library) -> list[Entry]:
    """Recordings that a share is made from, by the number of the pair."""
    everything = plan.shard(split, 0, len(plan.jobs[split]))
    jobs = sorted((job for job in everything if job.share == share), key=lambda job: job.number)
    assert [job.number for job in jobs] == list(range(len(jobs)))
    return [birds[job.rows[0]] for job in jobs]


@pytest.mark.parametrize("pairs", [1, 7, 60, 200])
def test_species_take_turns_and_within_them_recordings_do(birds: Library, pairs: int) -> None:
    entries = asked(planned([Share("species-common", pairs, realm="real")], birds), "train", 0, birds)
    assert len(entries) == pairs
    of_species = Counter(entry.taxa[0] for entry in entries)
    assert abs(of_species[OFTEN] - of_species[SELDOM]) <= 1
    for taxon in (OFTEN, SELDOM):
        times = Counter(entry.key for entry in entries if entry.taxa == (taxon,))
        assert max(times.values(), default=0) - min(times.values(), default=0) <= 1
        assert len(times) == min(of_species[taxon], 50 if taxon == OFTEN else 2)


def test_without_a_number_every_recording_that_fits_is_asked_about_once(birds: Library) -> None:
    plan = planned([Share("species-common"), Share("environment")], birds)
    entries = asked(plan, "train", 0, birds)
    assert len(entries) == 53 and len({entry.key for entry in entries}) == 53
    assert [entry.recording.kind for entry in asked(plan, "train", 1, birds)] == ["noise"]
    assert asked(planned([Share("species-common", 0), Share("caption")], birds), "train", 0, birds) == []


def test_only_what_a_share_asks_for_is_taken(birds: Library) -> None:
    shares = [
        Share("species-common", split="test"),
        Share("species-common", split="test", novelty=("unseen-genus", "unseen-family")),
        Share("species-common", realm="invented"),
        Share("species-common", sources=("own",)),
    ]
    plan = planned(shares, birds)
    keys = [
        {entry.key for entry in asked(plan, share.split, place, birds)} for place, share in enumerate(shares)
    ]
    assert keys[0] == {"own:held-0", "own:held-1", "own:held-2"}
    assert keys[1] == {"own:held-1"}
    assert keys[2] == {"fauna:3-0-call-adult"}
    assert len(keys[3]) == 52 and all(key.startswith("own:") for key in keys[3])
    for place, of_share in enumerate(keys):
        assert {birds[int(row)].key for row in plan.eligible[place]} == of_share
        spare = {birds[row].key for job in plan.shard("test", 0, 9) if job.share == place for row in job.rows}
        assert spare <= of_share
    assert len(plan.jobs["validation"]) == 0


@pytest.mark.parametrize(
    ("task", "known", "apart"),
    [
        ("environment", {"kind": "environment"}, "labels"),
        ("instrument-family", {"kind": "music"}, "instrument"),
        ("speaker-count", {"kind": "speech"}, "recordist"),
    ],
)
def test_labels_instruments_and_speakers_take_turns(
    tmp_path: Path, sound: FileSound, task: str, known: dict[str, Any], apart: str
) -> None:
    names = ["much"] * 30 + ["little"] * 2
    values = [(name,) if apart == "labels" else name for name in names]
    entries = [entry(str(number), sound, **{**known, apart: value}) for number, value in enumerate(values)]
    rows = library(tmp_path, entries)
    chosen = asked(planned([Share(task, 20)], rows), "train", 0, rows)
    counts = Counter(getattr(one.recording, apart) for one in chosen)
    assert sorted(counts.values()) == [10, 10]


def test_a_share_is_drawn_the_same_whatever_else_is_asked_for(birds: Library) -> None:
    share = Share("species-common", 20)
    alone = asked(planned([share], birds), "train", 0, birds)
    beside = planned([Share("caption", 30), share, Share("genus", 9, "test")], birds)
    assert [one.key for one in asked(beside, "train", 1, birds)] == [one.key for one in alone]
    more = asked(planned([replace(share, pairs=40)], birds), "train", 0, birds)
    assert [one.key for one in more[:20]] == [one.key for one in alone]


def test_plans_depend_on_the_seed_alone(birds: Library) -> None:
    shares = [Share("species-common", 30), Share("caption", 10, "test")]
    first, again, other = (planned(shares, birds, seed) for seed in (4, 4, 5))
    assert first.shard("train", 0, 30) == again.shard("train", 0, 30)
    assert first.shard("train", 0, 30) != other.shard("train", 0, 30)
    assert first.shard("train", 7, 5) == first.shard("train", 0, 30)[7:12]


def test_shares_are_mixed_in_a_split(birds: Library) -> None:
    plan = planned([Share("species-common", 40), Share("caption", 40)], birds)
    shares = [job.share for job in plan.shard("train", 0, 80)]
    assert Counter(shares) == {0: 40, 1: 40}
    assert sum(one != other for one, other in pairwise(shares)) > 20


def test_the_same_share_twice_is_refused_by_name(birds: Library) -> None:
    with pytest.raises(CorpusError, match=r"train/caption/caption/any is asked for twice"):
        planned([Share("caption", 5), Share("caption", 9)], birds)
    assert planned([Share("caption", 5), Share("caption", 9, dataset_name="more")], birds)


def test_an_unknown_task_lists_those_that_there_are(birds: Library) -> None:
    with pytest.raises(CorpusError, match="no task is called 'captions'") as raised:
        planned([Share("captions")], birds)
    for task in TASKS:
        assert task.name in str(raised.value)


def test_nothing_that_fits_anything_is_refused(birds: Library) -> None:
    with pytest.raises(CorpusError, match="no recording fits any of the tasks"):
        planned([Share("transcript", 5), Share("note-pitch", 5)], birds)


def test_answers_take_turns_where_they_are_few(tmp_path: Path, sound: FileSound) -> None:
    stages = ["adult"] * 40 + ["juvenile"] * 4 + ["nestling"] * 2
    entries = [
        entry(str(number), sound, (species(number % 5, 0, 0),), life_stage=stage)
        for number, stage in enumerate(stages)
    ]
    rows = library(tmp_path, entries)
    chosen = asked(planned([Share("life-stage", 30)], rows), "train", 0, rows)
    assert Counter(one.recording.life_stage for one in chosen) == {
        "adult": 10,
        "juvenile": 10,
        "nestling": 10,
    }


def test_a_share_that_no_recording_fits_is_told(birds: Library) -> None:
    shares = [Share("species-common"), Share("speaker-count", 5), Share("caption", 0)]
    assert [share.task for share in planned(shares, birds).unfilled] == ["speaker-count"]
