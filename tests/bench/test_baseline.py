"""The plain baseline: learns what is easy, composes names it never saw, and knows when nothing is there."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from corpus.corpora import RATE, a_pair, write_corpus
from naturelm.bench.baseline import PlainBaseline
from naturelm.bench.classifiers import NameClassifier, PresenceClassifier
from naturelm.bench.components import read_components
from naturelm.bench.features import FEATURES, log_mel_statistics
from naturelm.bench.matching import exact_match, label_f1
from naturelm.corpus.storage import Corpus

PITCHES = {"low": 500.0, "medium": 1200.0, "high": 3000.0}
RATES = {"slow": 2.0, "quick": 9.0}
UNSEEN = ("quick", "medium")


def beeps(tempo: str, pitch: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    gate = (time * RATES[tempo] * rng.uniform(0.95, 1.05) % 1) < 0.5
    tone = np.sin(2 * np.pi * PITCHES[pitch] * rng.uniform(0.95, 1.05) * time)
    return (0.2 * gate * tone + 0.002 * rng.standard_normal(RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen = [of for of in product(RATES, PITCHES) if of != UNSEEN]
    rows = []
    for number in range(40):
        tempo, pitch = seen[number % len(seen)]
        name = f"{tempo} {pitch} beeper"
        rows.append(a_pair(number, samples=beeps(tempo, pitch, number), output=name, labels=(name,)))
    for number in range(8):
        split = "test"
        name = " ".join((*UNSEEN, "beeper"))
        # The first is no sound at all; the second offers names.
        changes = {"audio": b"nothing"} if number == 0 else {}
        options = (name, "slow low beeper") if number == 1 else ()
        rows.append(
            a_pair(
                number,
                split,
                samples=beeps(*UNSEEN, 100 + number),
                output=name,
                labels=(name,),
                dataset_name="unseen",
                options=options,
                **changes,
            )
        )
    text = {"task": "caption", "dataset_name": "captions", "output": "A beep.", "labels": ("A beep.",)}
    rows += [a_pair(90, **text), a_pair(91, "test", **text)]
    return write_corpus(tmp_path_factory.mktemp("corpus"), rows)


def test_it_composes_names_that_training_does_not_have(folder: Path) -> None:
    baseline, corpus = PlainBaseline(folder), Corpus(folder, "test")
    (captions, unseen) = read_components(folder)
    given = baseline.answer(corpus, unseen)
    assert given is not None
    assert [bool(of.error) for of in given] == [True, *[False] * 7]
    assert [exact_match(of.row.answer, of.written) for of in given[1:]].count(1.0) >= 5
    # With two names offered it takes the right one; without options there is one label, and nothing to choose.
    assert given[1].choice == "quick medium beeper"
    assert {of.choice for of in given[2:]} == {""}
    assert baseline.answer(corpus, captions) is None


def test_features_are_of_one_length_and_finite_however_short_the_clip() -> None:
    for samples in (1, 200, 16_000, 40_000):
        features = log_mel_statistics(np.full(samples, 0.1, np.float32))
        assert features.shape == (FEATURES,) and np.isfinite(features).all()
    assert np.isfinite(log_mel_statistics(np.zeros(800, np.float32))).all()


def blobs(presence: np.ndarray, seed: int) -> np.ndarray:
    """(rows, features) float32: each column of `presence` shifts two features."""
    rng = np.random.default_rng(seed)
    return (
        np.repeat(presence, 2, axis=1) * 4 + rng.standard_normal((len(presence), presence.shape[1] * 2))
    ).astype(np.float32)


def test_whole_names_of_unlike_length_are_told_apart() -> None:
    names = ["dog", "barn owl", "great grey owl"]
    truth = np.arange(90) % 3
    classifier = NameClassifier(blobs(np.eye(3)[truth], 0), [names[k] for k in truth])
    fresh = blobs(np.eye(3)[truth], 1)
    written = classifier.write(fresh)
    assert np.mean([w == names[k] for w, k in zip(written, truth, strict=True)]) > 0.9
    # Among unknown names the known one wins; without choices nothing is chosen.
    dogs = fresh[truth == 0][:1]
    assert classifier.choose(dogs, [("Cat", "Dog", "barn owl")]) == ["Dog"]
    assert classifier.choose(dogs, [()]) == [""]


def test_one_answer_alone_is_always_given() -> None:
    classifier = NameClassifier(blobs(np.eye(2)[[0, 1, 0]], 0), ["owl"] * 3)
    assert classifier.write(blobs(np.eye(2)[[1]], 1)) == ["owl"]


def test_presence_names_what_is_there_and_none_where_nothing_is() -> None:
    rng = np.random.default_rng(0)
    names = ("dog", "barn owl", "frog")

    def world(rows: int, seed: int) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        present = (rng.random((rows, 3)) < 0.4).astype(int)
        heard = [tuple(name for name, there in zip(names, row, strict=True) if there) for row in present]
        return blobs(present, seed), heard

    features, heard = world(200, 0)
    answers = [", ".join(of) or "None" for of in heard]
    classifier = PresenceClassifier(features, heard, answers, [()] * 200, label_f1)
    fresh, truth = world(100, 1)
    written = classifier.write(fresh, [()] * 100)
    assert np.mean([label_f1(", ".join(t) or "None", w) for t, w in zip(truth, written, strict=True)]) > 0.9
    offered = classifier.write(fresh, [("frog", "wolf")] * 100)
    assert set(offered) == {"frog", "None"}
    assert np.mean([("frog" in t) == (w == "frog") for t, w in zip(truth, offered, strict=True)]) > 0.9
    chosen = classifier.choose(fresh, [("frog", "wolf", "None")] * 100)
    assert np.mean([("frog" in t) == (w == "frog") for t, w in zip(truth, chosen, strict=True)]) > 0.9
    assert "None" not in classifier.choose(fresh, [("frog", "wolf")] * 100)


def test_what_is_heard_but_not_asked_for_is_learnt_from_too(tmp_path: Path) -> None:
    rows = []
    for number in range(24):
        pitch = ("low", "high")[number % 2]
        events = [{"label": f"{pitch} beeper", "start": 0.0, "end": 1.0}]
        asked = number % 4 < 2  # of the others the clip holds what the list does not
        rows.append(
            a_pair(
                number,
                "test" if number >= 16 else "train",
                samples=beeps("slow", pitch, number),
                task="detection-options",
                dataset_name="options",
                output=f"{pitch} beeper" if asked else "None",
                labels=(f"{pitch} beeper",) if asked else (),
                options=("low beeper", "high beeper") if asked else ("wolf", "medium beeper"),
                metadata=json.dumps({"events": events}),
            )
        )
    folder = write_corpus(tmp_path, rows)
    (component,) = read_components(folder)
    given = PlainBaseline(folder).answer(Corpus(folder, "test"), component)
    assert given is not None
    assert np.mean([exact_match(of.row.answer, of.written, of.row.kind) for of in given]) >= 0.75
