"""Labels of data sets, found among a classifier's own names."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.models.bench_items import an_item
from naturelm.bench.models.closed_set import ClosedSets
from naturelm.bench.models.deciding import UnanswerableError, answer_by_scores
from naturelm.bench.models.names import LabelNames, SystemLabel, built_in_names, names_from
from naturelm.bench.models.sounds import by_clip, heard, pooled, windows
from naturelm.corpus.taxonomy import Taxon, Taxonomy, TaxonomyError
from naturelm.errors import AudioError

LABELS = [
    SystemLabel("Riparia riparia", "Bank Swallow"),
    SystemLabel("Corvus corone", "Carrion Crow"),
    SystemLabel("Corvus nusquam", "Nowhere Crow"),
    SystemLabel("Dog", "Dog"),
    SystemLabel("Turdus merula", "Eurasian Blackbird"),
    SystemLabel("", "Rain_and_wind"),
    SystemLabel("Delphinapterus leucas"),
    SystemLabel("Empidonax wrightii", "Gray Flycatcher"),
    SystemLabel("Coloeus monedula", "Eurasian Jackdaw"),
]
TAXA = Taxonomy.from_taxa(
    [
        Taxon("Corvus corone", "carrion crow", family="Corvidae"),
        Taxon("Corvus", "crow", rank="genus"),
        Taxon("Corvidae", "corvid", rank="family"),
        Taxon(
            "Coloeus monedula",
            "western jackdaw",
            family="Corvidae",
            synonyms=("Corvus monedula",),
            other_names=("jackdaw",),
        ),
        Taxon("Phoca vitulina", "harbor seal"),
        Taxon("Turdus merula", "garden ouzel"),
    ]
)


@pytest.mark.parametrize(
    ("label", "places"),
    [
        ("Bank Swallow", (0,)),
        ("bank-swallow", (0,)),
        ("Sand Martin", (0,)),  # by the built-in names
        ("riparia riparia", (0,)),
        ("Chordata Aves Passeriformes Hirundinidae Riparia riparia", (0,)),
        ("Common Something (Riparia riparia)", (0,)),
        ("dog", (3,)),
        ("rain and wind", (5,)),
        ("Beluga, White Whale", (6,)),
        ("Grey Flycatcher", (7,)),
        ("American Grey Flycatcher", (7,)),
        ("Corvus monedula", (8,)),  # an older name
        ("Jackdaw call", (8,)),
        ("crow", (1, 2)),  # a genus is all of its species
        ("Corvidae", (1, 8)),  # a family is those that the taxonomy knows
        ("harbor seal", ()),  # known, but not to the classifier
        ("Sand Martian", ()),  # misspelt
        ("song", ()),
        ("adult", ()),
        ("", ()),
        ("§§", ()),
    ],
)  # fmt: skip
def test_label_is_found_by_any_of_its_names_and_never_guessed(label: str, places: tuple[int, ...]) -> None:
    names = LabelNames(LABELS, TAXA.merged_with(built_in_names()))
    assert names.find(label) == places
    assert names.find(label) == places  # remembered


def test_given_taxonomy_adds_to_the_built_in_names(tmp_path: Path) -> None:
    TAXA.to_csv(tmp_path / "taxa.csv")
    for path, places in ((None, ()), (tmp_path / "taxa.csv", (4,))):
        names = LabelNames(LABELS, names_from(path))
        assert names.find("Sand Martin") == (0,)
        assert names.find("garden ouzel") == places
    with pytest.raises(TaxonomyError):
        names_from(tmp_path / "absent.csv")


def test_notes_tell_what_was_known() -> None:
    sets = ClosedSets("Ear", LABELS)
    birds = an_item(dataset_name="birds", labels=("Sand Martin", "Dog", "Unheard-of Bird", "None"))
    scores = np.linspace(0.1, 0.9, len(LABELS), dtype=np.float32)[None]
    (answer,) = sets.answer([birds], scores, 0.3)
    assert answer.prediction == "Dog"
    assert answer.scores == {"Sand Martin": scores[0, 0], "Dog": scores[0, 3], "Unheard-of Bird": 0.0}
    assert sets.notes() == ["birds: 2 of 3 labels known, not Unheard-of Bird"]
    stages = an_item(dataset_name="stages", labels=("adult", "juvenile"))
    with pytest.raises(UnanswerableError, match="stages: Ear has no name for any of its 2 labels"):
        sets.check([birds, stages])
    with pytest.raises(UnanswerableError, match="no closed set"):
        sets.check([an_item(labels=())])
    with pytest.raises(UnanswerableError, match="no closed set"):
        sets.check([an_item(task="captioning")])
    assert "stages: 0 of 2 labels known, not adult, juvenile" in sets.notes()


def test_threshold_decides_detections_and_nones() -> None:
    scores = {"Owl": 0.2, "Dog": 0.6, "Cat": 0.5}
    item = an_item(task="detection", labels=("Owl", "Dog", "Cat", "None"))
    assert answer_by_scores(item, scores, 0.5).prediction == "Dog, Cat"
    assert answer_by_scores(item, scores, 0.7).prediction == "None"
    assert answer_by_scores(an_item(), scores, 0.7).prediction == "Dog"
    assert answer_by_scores(an_item(labels=("Owl", "None")), {"Owl": 0.2}, 0.5).prediction == "None"
    assert answer_by_scores(an_item(), dict.fromkeys(("Owl", "Dog", "Cat"), 0.1), 0.5).prediction == "Cat"


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(1, 500), length=st.integers(1, 90), data=st.data())
def test_windows_hold_every_sample_and_the_last_ends_with_the_clip(
    samples: int, length: int, data: st.DataObject
) -> None:
    hop = data.draw(st.integers(1, length))
    clip = np.arange(1, samples + 1, dtype=np.float32)
    cut = windows(clip, length, hop)
    assert cut.shape[1] == length
    assert np.array_equal(np.unique(cut[cut > 0]), clip)
    assert samples < length or cut[-1, -1] == samples
    assert len(cut) == 1 or np.all(np.diff(cut[:, 0]) > 0)
    with pytest.raises(ValueError, match="apart"):
        windows(clip, length, length + 1)


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(1, 7), min_size=1, max_size=6), at_once=st.integers(1, 9))
def test_pooling_keeps_windows_with_their_clip(counts: list[int], at_once: int) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.random((count, 4), dtype=np.float32) for count in counts]
    sizes: list[int] = []

    def hear(some: list[np.ndarray]) -> np.ndarray:
        sizes.append(len(some))
        return np.stack(some) * 2

    found = by_clip((iter(clip) for clip in clips), hear, at_once)
    for clip, rows in zip(clips, found, strict=True):
        assert np.array_equal(rows, 2 * clip)
        assert np.array_equal(pooled(rows, "max"), 2 * clip.max(0))
        np.testing.assert_allclose(pooled(rows, "mean"), 2 * clip.mean(0), rtol=1e-6)
    assert max(sizes) <= at_once and sum(sizes) == sum(counts)


@pytest.mark.parametrize(
    "changes",
    [
        {"waveform": np.zeros(0, np.float32)},
        {"waveform": np.zeros((2, 9), np.float32)},
        {"waveform": np.array([0, np.nan], np.float32)},
        {"sample_rate": 0},
    ],
)
def test_false_clip_is_named(changes: dict[str, object]) -> None:
    with pytest.raises(AudioError, match="row-0"):
        heard(an_item(**changes), 48_000)


def test_clip_comes_at_the_rate_asked_for() -> None:
    assert len(heard(an_item(), 48_000)) == 48_000
    assert np.array_equal(heard(an_item(), 16_000), an_item().waveform)
    assert len(heard(an_item(waveform=np.ones(1, np.float32), sample_rate=48_000), 8_000)) >= 1
