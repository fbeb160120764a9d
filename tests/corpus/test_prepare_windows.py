"""Long recordings with events become windows: every second and every event is in one, and rightly named."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.corpus.options import BuildOptions, Share
from naturelm.corpus.prepare import listed
from naturelm.corpus.recordings import Event, Failure, FileSound, Recording

WIDTH = 10.0
SHARES = (Share("detection"),)


@dataclass(frozen=True)
class Given:
    """A source that lists what it was given."""

    rows: tuple[Recording | Failure, ...]

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource`."""
        return iter(self.rows)


def a_recording(events: tuple[Event, ...], **changes: object) -> Recording:
    species = tuple(dict.fromkeys(event.label for event in events)) or ("Strix aluco",)
    values: dict[str, object] = {
        "id": "r1",
        "source": "s",
        "sound": FileSound(Path("long.wav"), 2.0, 300.0),
        "file_name": "long.wav",
        "license": "CC0-1.0",
        "species": species,
        "common_names": tuple(f"the {name}" for name in species),
        "events": events,
        "recordist": "Jo",
    }
    return Recording(**{**values, **changes})  # type: ignore[arg-type]


def windows(recording: Recording) -> list[Recording]:
    rows = list(listed(BuildOptions("w", SHARES, (Given((recording,)),), event_window=WIDTH)))
    assert all(isinstance(row, Recording) for row in rows)
    return [row for row in rows if isinstance(row, Recording)]


def place(window: Recording) -> tuple[float, float]:
    sound = window.sound
    assert isinstance(sound, FileSound)
    assert sound.end is not None
    return sound.start, sound.end


def test_windows_hold_their_own_events_and_names() -> None:
    events = (
        Event(1.0, 2.0, "Strix aluco"),
        Event(8.0, 12.0, "Asio otus"),
        Event(9.9, 15.0, "Strix aluco"),
        Event(30.2, 30.4, "Strix aluco"),
    )
    first, second, third = windows(a_recording(events, duration=30.5, background=("Aves",), group="tape"))
    assert [place(window) for window in (first, second, third)] == [(2, 12), (12, 22), (22, 32.5)]
    assert first.species == ("Strix aluco", "Asio otus")
    assert first.common_names == ("the Strix aluco", "the Asio otus")
    # The owl that begins a tenth of a second before the end is for the next window.
    assert [(event.start, event.end, event.label) for event in first.events] == [
        (1, 2, "Strix aluco"),
        (8, 10, "Asio otus"),
    ]
    assert second.species == ("Asio otus", "Strix aluco")
    assert [(event.start, event.end) for event in second.events] == [(0, 2), (0, 5)]
    # What is too short for a window is the end of the last one.
    assert third.duration == 10.5
    assert [(event.start, event.end) for event in third.events] == [
        (pytest.approx(10.2), pytest.approx(10.4))
    ]
    for window in (first, second, third):
        assert (window.kind, window.background, window.group) == ("animal", (), "tape")
        assert (window.recordist, window.file_name) == ("Jo", "long.wav")
    assert len({window.id for window in (first, second, third)}) == 3


def test_windows_without_events_are_noise_of_the_same_group() -> None:
    rows = windows(a_recording((Event(1, 2, "Strix aluco"), Event(31, 32, "Strix aluco")), duration=40.0))
    assert [row.kind for row in rows] == ["animal", "noise", "noise", "animal"]
    assert [row.species for row in rows] == [("Strix aluco",), (), (), ("Strix aluco",)]
    assert {row.group for row in rows} == {"r1"}


def test_recordings_that_need_no_windows_are_left_alone() -> None:
    event = Event(1, 2, "Strix aluco")
    for recording in (
        a_recording((), duration=500.0),
        a_recording((event,), duration=15.0),
        a_recording((event,)),
    ):
        assert windows(recording) == [recording]


@st.composite
def annotated(draw: st.DrawFn) -> Recording:
    length = draw(st.floats(15.5, 120))
    events = []
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.floats(0, length - 0.01))
        end = draw(st.floats(start + 0.005, length))
        events.append(Event(start, end, draw(st.sampled_from(["Strix aluco", "Asio otus", "Aves"]))))
    return a_recording(tuple(sorted(events, key=lambda event: event.start)), duration=length)


@settings(max_examples=200, deadline=None)
@given(annotated())
def test_no_second_and_no_event_is_lost(recording: Recording) -> None:
    rows = windows(recording)
    places = [place(row) for row in rows]
    assert recording.duration is not None
    assert places[0][0] == 2.0
    assert places[-1][1] == pytest.approx(2.0 + recording.duration)
    assert all(one[1] == other[0] for one, other in pairwise(places))
    assert all(end - start < WIDTH + 1.0 + 1e-9 for start, end in places)
    assert len({row.id for row in rows}) == len(rows)
    told: set[tuple[float, str]] = set()
    for row in rows:
        assert row.duration is not None
        assert row.kind == ("animal" if row.events else "noise")
        assert set(row.species) == {event.label for event in row.events}
        assert len(row.common_names) == len(row.species)
        for event in row.events:
            assert 0 <= event.start <= event.end <= row.duration + 1e-9
            begin = place(row)[0] - 2.0
            sources = [
                whole
                for whole in recording.events
                if whole.label == event.label
                and whole.start <= begin + event.start + 1e-6
                and begin + event.end <= whole.end + 1e-6
            ]
            assert sources
            told |= {(whole.start, whole.label) for whole in sources}
    assert told >= {(event.start, event.label) for event in recording.events}


def test_an_id_that_was_used_before_is_a_failure() -> None:
    recording = a_recording((), duration=3.0)
    other = a_recording((), duration=3.0, source="t")
    failure = Failure("s", "x.wav", "gone")
    rows = list(listed(BuildOptions("w", SHARES, (Given((recording, failure)), Given((recording, other))))))
    assert rows[:2] == [recording, failure]
    assert isinstance(rows[2], Failure)
    assert (
        rows[2].cause == "its id 'r1' was already used by another recording; ids must be unique in a source"
    )
    assert rows[3] == other
