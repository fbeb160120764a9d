"""Floors: chance is chance, habit is counted, plain statistics tell low from high."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.models.bench_items import RATE, an_item, same_in_any_order_and_batch, tone
from corpus.corpora import a_pair, write_corpus
from naturelm.bench.models.deciding import UnanswerableError
from naturelm.bench.models.floors import LogMelFloor, MostFrequentLabel, RandomLabel
from naturelm.corpus.options import CorpusError

LOW, HIGH = "low whistler", "high whistler"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whistles of two pitches, more low than high, and one clip in three with nothing in it."""
    rows = []
    for number in range(24):
        name, pitch = ((LOW, 500.0), (HIGH, 3000.0))[number % 3 == 0]
        rows.append(a_pair(number, samples=tone(pitch, seed=number), output=name, labels=(name,)))
    for number in range(24, 60):
        name, pitch = ((LOW, 500.0), (HIGH, 3000.0), ("", 0.0))[number % 3]
        changes = {"task": "detection", "dataset_name": "detection", "output": name or "None"}
        rows.append(
            a_pair(number, samples=tone(pitch, seed=number), labels=(name,) if name else (), **changes)
        )
    rows.append(a_pair(60, "test", dataset_name="whistles", output=HIGH, labels=(HIGH,)))
    rows.append(a_pair(61, "test", task="detection", dataset_name="found", output="None", labels=()))
    rows.append(
        a_pair(62, "test", task="caption", dataset_name="captions", output="A beep.", labels=("A beep.",))
    )
    return write_corpus(tmp_path_factory.mktemp("corpus"), rows)


def test_random_labels_are_even_and_depend_on_the_item_alone() -> None:
    items = [an_item(number, np.zeros(8, np.float32)) for number in range(3000)]
    answers = same_in_any_order_and_batch(RandomLabel(), items)
    counts = Counter(answer.prediction for answer in answers)
    assert set(counts) == {"Owl", "Dog", "Cat"}
    assert all(abs(count - 1000) < 4 * (3000 * 1 / 3 * 2 / 3) ** 0.5 for count in counts.values())
    assert all(max(of.scores, key=of.scores.get) == of.prediction for of in answers if of.scores)
    turned = [
        an_item(number, np.zeros(8, np.float32), labels=("Cat", "Dog", "Owl")) for number in range(3000)
    ]
    assert [a.prediction for a in RandomLabel().answer(turned)] == [a.prediction for a in answers]
    assert [a.prediction for a in RandomLabel(1).answer(items)] != [a.prediction for a in answers]


def test_random_detection_may_be_none_and_none_has_no_score() -> None:
    items = [
        an_item(number, np.zeros(8, np.float32), task="detection", labels=("Owl", "None"))
        for number in range(400)
    ]
    answers = RandomLabel().answer(items)
    assert 140 < sum(answer.prediction == "None" for answer in answers) < 260
    assert all(set(answer.scores or ()) == {"Owl"} for answer in answers)


def test_random_has_no_answer_without_labels() -> None:
    with pytest.raises(UnanswerableError, match="calls: a random label"):
        RandomLabel().answer([an_item(labels=())])


def test_most_frequent_of_the_suites_own_answers_says_so() -> None:
    counted = [("calls", "Dog"), ("calls", "Cat"), ("calls", "Dog"), ("found", "None"), ("found", "Owl, Cat")]
    system = MostFrequentLabel.from_answers([*counted, ("found", "None")])
    assert "own right answers" in system.info.note
    items = [
        an_item(),
        an_item(1, dataset_name="found", task="detection"),
        an_item(2, dataset_name="found", labels=()),
    ]
    first, second, third = same_in_any_order_and_batch(system, items)
    assert (first.prediction, second.prediction, third.prediction) == ("Dog", "None", "None")
    assert first.scores == {"Owl": 0, "Dog": 2 / 3, "Cat": 1 / 3}
    assert second.scores == {"Owl": 1 / 3, "Dog": 0, "Cat": 1 / 3}
    with pytest.raises(UnanswerableError, match="elsewhere"):
        system.answer([an_item(dataset_name="elsewhere")])


def test_most_frequent_of_training_rows_is_one_that_the_data_set_knows(folder: Path) -> None:
    system = MostFrequentLabel.from_corpus(folder)
    assert "training rows" in system.info.note
    known = an_item(dataset_name="whistles", labels=(HIGH, LOW))
    only_high = an_item(1, dataset_name="whistles", labels=(HIGH, "Owl"))
    strangers = an_item(2, dataset_name="whistles", labels=("Owl", "Cat"))
    said = [answer.prediction for answer in system.answer([known, only_high, strangers])]
    assert said == [LOW, HIGH, "Cat"]


def test_most_frequent_keeps_a_label_with_a_comma_whole() -> None:
    system = MostFrequentLabel.from_answers([("calls", "Beluga, White Whale")] * 2 + [("calls", "Dog")])
    (answer,) = system.answer([an_item(labels=("Dog", "Beluga, White Whale"))])
    assert answer.prediction == "Beluga, White Whale"
    assert answer.scores == {"Dog": 1 / 3, "Beluga, White Whale": 2 / 3}


def test_log_mel_tells_low_from_high(folder: Path) -> None:
    system = LogMelFloor(folder)
    pitches = [500.0, 3000.0, 500.0, 3000.0]
    names = [LOW if pitch < 1000 else HIGH for pitch in pitches]
    items = [
        an_item(n, tone(pitch, seed=100 + n), dataset_name="whistles", labels=(HIGH, LOW))
        for n, pitch in enumerate(pitches)
    ]
    answers = same_in_any_order_and_batch(system, items)
    assert [answer.prediction for answer in answers] == names
    for answer in answers:
        assert answer.scores is not None and sum(answer.scores.values()) == pytest.approx(1)
        assert max(answer.scores, key=answer.scores.get) == answer.prediction  # type: ignore[arg-type]
    other_rate = an_item(
        9, tone(3000, rate=2 * RATE), dataset_name="whistles", labels=(HIGH, LOW), sample_rate=2 * RATE
    )
    assert system.answer([other_rate])[0].prediction == HIGH


def test_log_mel_detects_and_says_none(folder: Path) -> None:
    items = [
        an_item(
            n, tone(pitch, seed=100 + n), dataset_name="found", task="detection", labels=(HIGH, LOW, "None")
        )
        for n, pitch in enumerate((500.0, 3000.0, 0.0))
    ]
    answers = same_in_any_order_and_batch(LogMelFloor(folder), items)
    assert [answer.prediction for answer in answers] == [LOW, HIGH, "None"]
    assert all(set(answer.scores or ()) == {HIGH, LOW} for answer in answers)


def test_log_mel_without_rows_to_learn_from_says_so(folder: Path, tmp_path: Path) -> None:
    for name in ("captions", "elsewhere"):
        with pytest.raises(UnanswerableError, match=f"{name}: .* no training rows"):
            LogMelFloor(folder).answer([an_item(dataset_name=name)])
    with pytest.raises(CorpusError):
        LogMelFloor(write_corpus(tmp_path, [a_pair(0, "test")]))
