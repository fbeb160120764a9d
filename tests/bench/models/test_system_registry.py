"""Systems by name."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.models.bench_items import an_item
from naturelm.bench.models.callable import CallableSystem
from naturelm.bench.models.deciding import SystemFault
from naturelm.bench.models.registry import SYSTEMS, Surroundings, UnknownSystemError, made, open_registered


@dataclass(frozen=True)
class Settings:
    share: float = 0.5
    count: int = 1
    on: bool = False
    where: Path | None = None
    how: str = "max"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("count is at least 1")


def test_settings_are_read_as_their_kind() -> None:
    typed = {"share": "0.25", "count": "3", "on": "true", "where": "a/b", "how": "mean"}
    assert made(Settings, typed) == Settings(0.25, 3, True, Path("a/b"), "mean")
    assert made(Settings, {}) == Settings()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"shares": "1"}, "no setting is called 'shares'; there are: share, count, on, where, how"),
        ({"share": "much"}, "share cannot be 'much'"),
        ({"on": "1"}, "true or false"),
        ({"count": "0"}, "count is at least 1"),
    ],
)
def test_false_settings_are_named(typed: dict[str, str], message: str) -> None:
    with pytest.raises(UnknownSystemError, match=message):
        made(Settings, typed)


def test_names_open_systems_and_other_texts_are_left_to_others() -> None:
    random = open_registered("random", Surroundings(seed=3))
    assert random is not None and random.info.revision == "seed 3"
    counted = open_registered("most-frequent", Surroundings(answers=lambda: [("calls", "Dog")]))
    assert counted is not None and counted.answer([an_item()])[0].prediction == "Dog"
    assert isinstance(open_registered("json:loads"), CallableSystem)
    for other in ("mini", "some/folder", "EarthSpeciesProject/NatureLM-audio", "/a:b/c"):
        assert open_registered(other) is None


@pytest.mark.parametrize(
    ("spec", "around", "error", "message"),
    [
        ("random=7", Surroundings(), UnknownSystemError, "is written random"),
        ("random=", Surroundings(), UnknownSystemError, "is written random"),
        ("random", Surroundings(settings={"a": "1"}), UnknownSystemError, "no settings"),
        ("log-mel", Surroundings(), UnknownSystemError, "give the corpus"),
        ("most-frequent", Surroundings(), UnknownSystemError, "give a corpus"),
        ("birdnet", Surroundings(settings={"hops": "1"}), UnknownSystemError, "hop_seconds"),
        ("http://", Surroundings(), SystemFault, "give a URL"),
        ("nomodule_at_all:f", Surroundings(), SystemFault, "no module"),
    ],
)
def test_what_cannot_be_opened_is_named(spec: str, around: Surroundings, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        open_registered(spec, around)


def test_every_system_that_needs_a_place_says_which() -> None:
    for known in SYSTEMS.values():
        if known.place:
            with pytest.raises(UnknownSystemError, match=f"{known.name}={known.place.upper()}"):
                open_registered(known.name)


def test_listing_them_loads_nothing_heavy() -> None:
    code = (
        "import sys; from naturelm.bench.models.registry import SYSTEMS; "
        "print([m for m in ('torch', 'transformers', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
