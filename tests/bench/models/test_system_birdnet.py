"""BirdNET as a system: the real network where it has been fetched, and what it says it cannot do."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soxr

from bench.models.bench_items import an_item, same_in_any_order_and_batch, tone
from naturelm.audio import read_audio
from naturelm.bench.models.birdnet import BirdNetOptions, BirdNetSystem
from naturelm.bench.models.deciding import UnanswerableError
from naturelm.errors import CheckpointError
from naturelm.model.birdnet_files import GRAPH_FILE, birdnet_folder, birdnet_ready

RATE, WINDOW = 48_000, 144_000
OWL = Path(__file__).parents[3] / "examples" / "recordings" / "owl.flac"

fetched = pytest.mark.skipif(
    not birdnet_ready() or find_spec("ai_edge_litert") is None,
    reason="BirdNET is not here: naturelm models fetch birdnet, and pip install 'naturelm[birdnet]'",
)


def test_without_its_files_the_command_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="naturelm models fetch birdnet"):
        BirdNetSystem()


@pytest.mark.parametrize("fields", [{"hop_seconds": 0}, {"hop_seconds": 3.5}, {"pool": "median"}])
def test_options_that_cannot_be(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at most 3|max or mean"):
        BirdNetOptions(**fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def birdnet() -> BirdNetSystem:
    return BirdNetSystem()


@fetched
def test_scores_are_those_of_the_published_graph_run_by_itself(birdnet: BirdNetSystem) -> None:
    from ai_edge_litert.interpreter import Interpreter

    labels = ("Common Chaffinch", "Riparia riparia", "Sand Martin", "Dog", "No such bird")
    names = (birdnet_folder() / "BirdNET_GLOBAL_6K_V2.4_Labels.txt").read_text().splitlines()
    places = [
        names.index(name)
        for name in ("Fringilla coelebs_Common Chaffinch", *["Riparia riparia_Bank Swallow"] * 2, "Dog_Dog")
    ]
    clip = tone(3000, 4.0, rate=RATE)
    published = Interpreter(str(birdnet_folder() / GRAPH_FILE), num_threads=1)
    published.allocate_tensors()
    logits = []
    for window in (clip[:WINDOW], clip[-WINDOW:]):
        published.set_tensor(published.get_input_details()[0]["index"], window[None])
        published.invoke()
        logits.append(published.get_tensor(published.get_output_details()[0]["index"])[0])
    confidences = 1 / (1 + np.exp(-np.max(logits, 0)))
    (answer,) = birdnet.answer([an_item(waveform=clip, sample_rate=RATE, labels=labels)])
    assert answer.scores is not None
    expected = [*confidences[places], 0.0]
    np.testing.assert_allclose(list(answer.scores.values()), expected, atol=1e-5)
    assert "4 of 5 labels known, not No such bird" in birdnet.info.note
    assert (birdnet.info.revision, birdnet.info.license) == ("2.4", "CC-BY-NC-SA-4.0")


@fetched
def test_names_an_owl_in_any_batch_rate_and_order(birdnet: BirdNetSystem) -> None:
    owl = read_audio(OWL, sample_rate=RATE)[: 5 * RATE]
    labels = ("Great Horned Owl", "Common Chaffinch", "Tawny Owl", "Dog", "Barred Owl", "Mallard")
    items = [
        an_item(0, owl, sample_rate=RATE, labels=labels),
        an_item(1, tone(900, 0.5), labels=labels),
        an_item(2, soxr.resample(owl, RATE, 16_000), labels=labels[::-1]),
        an_item(3, owl, sample_rate=RATE, labels=(*labels, "None"), task="detection"),
        an_item(4, np.zeros(RATE, np.float32), sample_rate=RATE, labels=(*labels, "None"), task="detection"),
    ]
    answers = same_in_any_order_and_batch(birdnet, items)
    assert "Owl" in answers[0].prediction
    assert answers[2].prediction == answers[3].prediction.split(", ")[0] == answers[0].prediction
    assert answers[4].prediction == "None"


@fetched
def test_mean_pools_lower_and_the_threshold_is_kept(birdnet: BirdNetSystem) -> None:
    owl = read_audio(OWL, sample_rate=RATE)[: 5 * RATE]
    labels = ("Great Horned Owl", "Tawny Owl", "Barred Owl", "None")
    item = an_item(0, owl, sample_rate=RATE, labels=labels, task="detection")
    (most,) = birdnet.answer([item])
    (mean,) = BirdNetSystem(BirdNetOptions(pool="mean")).answer([item])
    (none,) = BirdNetSystem(BirdNetOptions(threshold=1.0)).answer([item])
    assert most.scores and mean.scores and none.scores == pytest.approx(most.scores)
    assert all(mean.scores[label] <= most.scores[label] for label in most.scores)
    assert most.prediction != "None" and none.prediction == "None"


@fetched
@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("Fin, Finback Whale", "Beluga, White Whale")},
        {"labels": ("adult", "juvenile")},
        {"labels": ()},
        {"task": "captioning"},
    ],
)
def test_what_it_cannot_answer_it_says(birdnet: BirdNetSystem, changes: dict[str, object]) -> None:
    with pytest.raises(UnanswerableError, match=r"whales: BirdNET"):
        birdnet.answer([an_item(dataset_name="whales", **changes)])
