"""Pairs to look at: found, drawn at random, described, and made into pictures that can be opened."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpora import RATE, a_pair, chirps, write_corpus
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from naturelm.corpus.options import CorpusError
from naturelm.corpus.recordings import Event
from naturelm.corpus.show import (
    Found,
    events_of,
    find_pair,
    pair_to_dict,
    pair_to_text,
    random_pairs,
    safe_name,
    task_names,
    write_picture,
    write_sheet,
    write_sound,
)
from naturelm.corpus.spectrogram import (
    FLOOR_DB,
    SpectrogramOptions,
    draw_spectrogram,
    hz_to_mel,
    mel_to_hz,
    spectrogram,
)
from naturelm.errors import AudioError

SHORT = np.full(1600, 0.1, np.float32)


def sine(hz: float, seconds: float = 1.0, amplitude: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def with_metadata(number: int, **metadata: object) -> Found:
    return Found("train", number, a_pair(number, metadata=json.dumps(metadata)))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    train = [a_pair(n, samples=SHORT, task="caption" if n % 2 else "species-common") for n in range(40)]
    return write_corpus(tmp_path / "corpus", [*train, a_pair(0, "test", samples=SHORT)], shards=3)


@pytest.mark.parametrize("scale", ["mel", "linear"])
def test_a_full_scale_tone_is_at_its_frequency_and_at_0_db(scale: str) -> None:
    for hz in (500.0, 3000.0):
        found = spectrogram(sine(hz), RATE, SpectrogramOptions(scale=scale))  # type: ignore[arg-type]
        middle = found.levels[:, found.levels.shape[1] // 2]
        assert found.frequencies[middle.argmax()] == pytest.approx(hz, rel=0.05)
        assert middle.max() == pytest.approx(0, abs=4 if scale == "mel" else 0.1)
        assert middle[np.abs(found.frequencies - hz) > 1000].max() < -60


def test_ten_times_less_is_20_db_less_and_silence_is_the_floor() -> None:
    loud, soft = (spectrogram(sine(1000, amplitude=level)).levels.max() for level in (1.0, 0.1))
    assert loud - soft == pytest.approx(20, abs=0.01)
    assert (spectrogram(np.zeros(RATE, np.float32)).levels == FLOOR_DB).all()


@given(samples=st.integers(1, 5000), rate=st.sampled_from([8000, 16_000, 44_100]))
def test_any_length_has_frames_from_its_begin_to_its_end(samples: int, rate: int) -> None:
    found = spectrogram(np.ones(samples, np.float32), rate)
    assert np.isfinite(found.levels).all()
    assert found.levels.shape == (128, samples // round(0.008 * rate) + 1)
    assert found.seconds == pytest.approx(samples / rate)


def test_mel_is_undone() -> None:
    hz = np.linspace(0, 8000, 50)
    assert mel_to_hz(hz_to_mel(hz)) == pytest.approx(hz)
    assert hz_to_mel(1000.0) == pytest.approx(1000, rel=0.001)


def test_no_samples_and_no_band_are_refused() -> None:
    with pytest.raises(AudioError, match="at least one sample"):
        spectrogram(np.zeros(0, np.float32))
    with pytest.raises(AudioError, match="low_hz"):
        spectrogram(SHORT, RATE, SpectrogramOptions(low_hz=9000))


@pytest.mark.parametrize("scale", ["mel", "linear"])
def test_axes_are_in_seconds_and_kilohertz(scale: str) -> None:
    axes = Figure().add_subplot()
    found = spectrogram(sine(1000, 2.0), RATE, SpectrogramOptions(scale=scale))  # type: ignore[arg-type]
    image = draw_spectrogram(axes, found, events=[Event(0.5, 1.0, "$owl"), Event(0.6, 1.2, "frog")])
    assert (axes.get_xlim(), axes.get_xlabel(), axes.get_ylabel()) == ((0, 2), "s", "kHz")
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert "2" in labels and "8" in labels
    place = dict(zip(labels, axes.get_yticks(), strict=True))["2"]
    assert place == pytest.approx(2000 if scale == "linear" else float(hz_to_mel(2000.0)))
    # Overlapping events have their names one below the other.
    names = {text.get_text(): text.xyann[1] for text in axes.texts}  # type: ignore[attr-defined]
    assert names["frog"] < names["$owl"]
    assert image.get_clim()[1] == pytest.approx(found.levels.max())


def test_silence_is_dark() -> None:
    silent = spectrogram(np.zeros(RATE, np.float32))
    image = draw_spectrogram(Figure().add_subplot(), silent)
    low, high = image.get_clim()
    assert (silent.levels <= low).all() and high > low


def test_a_pair_is_found_by_id_and_by_row(corpus: Path) -> None:
    found = find_pair(corpus, "pair-train-0007")
    assert found.pair.id == "pair-train-0007"
    assert find_pair(corpus, str(found.row), "train").pair == found.pair
    assert find_pair(corpus, "pair-test-0000").split == "test"
    assert find_pair(corpus, "0", "test").pair.id == "pair-test-0000"
    for wanted, split, message in (
        ("41", None, "has 40 rows"),
        ("x", None, "no pair"),
        ("-1", None, "no pair"),
    ):
        with pytest.raises(CorpusError, match=message):
            find_pair(corpus, wanted, split)


def test_random_pairs_are_different_and_repeat_with_their_seed(corpus: Path) -> None:
    def ids(**options: object) -> list[str]:
        return [found.pair.id for found in random_pairs(corpus, 12, **options)]  # type: ignore[arg-type]

    assert ids() == ids()
    assert ids() != ids(seed=1)
    assert len(set(ids())) == 12
    captions = list(random_pairs(corpus, 100, task="caption"))
    assert {found.pair.task for found in captions} == {"caption"} and len(captions) == 20
    assert all(found.pair == find_pair(corpus, found.pair.id).pair for found in captions[:3])
    everything = {(found.split, found.row, found.pair.id) for found in random_pairs(corpus, 100)}
    assert len(everything) == 41 and ("test", 0, "pair-test-0000") in everything
    assert task_names(corpus) == ("caption", "species-common") and task_names(corpus, "test") == (
        "species-common",
    )
    with pytest.raises(CorpusError, match="there are: caption, species-common"):
        ids(task="captions")


def test_the_text_and_json_of_a_pair_tell_everything_but_the_sound() -> None:
    pair = a_pair(
        3, options=("Owl", "Wren"), metadata=json.dumps({"snr_db": 3.5}), recordings=("a:1", "b:2"),
        source_files=("a:x.wav", "b:y.wav"), recordists=("Ann", ""), samples=SHORT,
    )  # fmt: skip
    found = Found("train", 3, pair)
    text = pair_to_text(found)
    for part in (
        "Owl",
        "Wren",
        "Common Blackbird",
        "a:1, from a:x.wav, by Ann",
        "CC-BY-4.0",
        "3.5",
        "Turdus merula",
    ):
        assert part in text
    values = json.loads(json.dumps(pair_to_dict(found)))
    assert (
        "audio" not in values
        and values["metadata"] == {"snr_db": 3.5}
        and values["options"] == ["Owl", "Wren"]
    )


def test_codes_for_a_terminal_are_not_printed() -> None:
    pair = a_pair(
        0, samples=SHORT, output="\x1b[2Jgone\nanswer  None", metadata="\x1b no JSON", recordists=()
    )
    text = pair_to_text(Found("train", 0, pair))
    assert "\x1b" not in text and "\\x1b[2Jgone" in text
    assert not [line for line in text.splitlines() if line.startswith("answer  None")]


def test_a_sound_is_written_as_it_is_stored(tmp_path: Path) -> None:
    pair = a_pair(0)
    path = write_sound(pair, tmp_path / "new")
    assert path.name == "pair-train-0000.flac" and path.read_bytes() == pair.audio
    assert soundfile.info(path).samplerate == RATE
    with pytest.raises(AudioError):
        write_sound(a_pair(1, audio=b"nothing"), tmp_path)


@given(st.text(min_size=1) | st.sampled_from(["../../x", "/etc/x", "..", "a/b", "C:\\x", "x" * 500]))
def test_no_id_leads_out_of_the_folder(identifier: str) -> None:
    name = safe_name(identifier)
    assert Path("folder", name).parent == Path("folder")
    assert name not in ("", ".", "..") and len(name) < 200 and name.isprintable()


def test_two_ids_do_not_share_a_file() -> None:
    assert len({safe_name(name) for name in ("a/b", "a_b", "a//b", "../a_b")}) == 4


def test_a_picture_has_question_answer_and_events(tmp_path: Path) -> None:
    events = [{"label": "Owl", "start": 0.2, "end": 0.6}, {"label": "$\\x", "start": 0.3, "end": 9.0}]
    plain = write_picture(Found("train", 0, a_pair(0)), tmp_path / "plain")
    marked = write_picture(with_metadata(0, events=events), tmp_path / "marked")
    before, after = imread(plain), imread(marked)
    assert before.shape == after.shape
    assert (before != after).any()
    long = a_pair(0, instruction_text="Which? " + "an option of some length, " * 30, output="$ $\\frac")
    assert imread(write_picture(Found("train", 0, long), tmp_path / "long")).shape[0] > before.shape[0] + 100


@pytest.mark.parametrize(
    "events",
    [
        "no list",
        [1],
        [{"label": "x", "start": 0}],
        [{"start": "0", "end": 1}],
        [{"start": 10**400, "end": 1}],
    ],
)
def test_events_that_are_none_are_refused(events: object) -> None:
    with pytest.raises(CorpusError, match="pair-train-0000"):
        events_of(with_metadata(0, events=events).pair)


def test_metadata_without_events_has_none() -> None:
    assert events_of(with_metadata(0).pair) == ()
    with pytest.raises(CorpusError, match="metadata is not readable"):
        events_of(a_pair(0, metadata="{"))


def test_a_sheet_has_its_pairs_and_their_sounds(corpus: Path, tmp_path: Path) -> None:
    sheet = write_sheet(corpus, "caption", tmp_path / "out", count=3, seed=4)
    assert sheet.image == tmp_path / "out" / "caption.png" and not sheet.failures
    drawn = [found.pair.id for found in random_pairs(corpus, 3, task="caption", seed=4)]
    assert [path.name for path in sheet.sounds] == [f"{n:02d}-{name}.flac" for n, name in enumerate(drawn, 1)]
    taller = write_sheet(corpus, "caption", tmp_path / "more", count=5)
    assert imread(taller.image).shape[0] > imread(sheet.image).shape[0]
    for count in (0, 101):
        with pytest.raises(CorpusError, match="1 to 100"):
            write_sheet(corpus, "caption", tmp_path, count=count)


def test_a_pair_that_cannot_be_drawn_keeps_its_place(tmp_path: Path) -> None:
    rows = [a_pair(0), a_pair(1, audio=b"nothing"), a_pair(2, metadata='{"events": 1}', samples=chirps(2))]
    corpus = write_corpus(tmp_path / "corpus", rows)
    sheet = write_sheet(corpus, "species-common", tmp_path / "out")
    assert sheet.image.is_file() and len(sheet.sounds) == 2
    assert sorted(failure.split(":")[0] for failure in sheet.failures) == [
        "pair-train-0001",
        "pair-train-0002",
    ]
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="cannot be written"):
        write_sheet(corpus, "species-common", tmp_path / "file")
