"""`NatureLM.ask`: recordings of every kind, stretches of them, and one line for what cannot be asked."""

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from asking import QUESTION, SHORT, assert_same, clip, one_line

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import GenerationOptions, Query
from naturelm.errors import AudioError, QuestionError
from tiny import noise

RATE = 16_000


def recording(
    folder: Path, name: str = "dawn.wav", seconds: float = 2.0, rate: int = RATE, channels: int = 1
) -> Path:
    path = folder / name
    sf.write(
        path,
        noise(seconds * channels, seed=len(name), rate=rate).reshape(-1, channels),
        rate,
        subtype="FLOAT",
    )
    return path


def test_one_recording_one_question_one_answer(naturelm: NatureLM, tmp_path: Path) -> None:
    path = recording(tmp_path, seconds=1.3)
    answer = naturelm.ask(path, QUESTION, options=SHORT)
    assert (answer.recording, answer.start, answer.question) == (str(path), 0.0, QUESTION)
    assert answer.end == pytest.approx(1.3)
    assert (answer.model, answer.revision) == ("tiny", "0")
    assert 1 <= len(answer.token_ids) <= 6
    assert 0 < answer.probability <= 1


def test_lists_are_answered_recording_by_recording(naturelm: NatureLM, tmp_path: Path) -> None:
    paths = [
        recording(tmp_path, name, seconds=s)
        for name, s in (("a.wav", 0.9), ("bb.wav", 0.2), ("ccc.wav", 0.5))
    ]
    questions = ["Dog or cat, or something else again?", "Dog?"]
    answers = naturelm.ask(paths, questions, options=SHORT)
    assert [(a.recording, a.question) for a in answers] == [(str(p), q) for p in paths for q in questions]
    assert [a.end for a in answers[::2]] == pytest.approx([0.9, 0.2, 0.5])
    assert_same(answers, [naturelm.ask(p, q, options=SHORT) for p in paths for q in questions])
    # One of each in lists is still a list.
    assert [
        len(naturelm.ask(*pair, options=SHORT)) for pair in ((paths[:1], "Dog?"), (paths[0], ["Dog?"]))
    ] == [1, 1]
    assert naturelm.ask([], "Dog?") == []


def test_a_stretch_of_one_channel(naturelm: NatureLM, tmp_path: Path) -> None:
    path = recording(tmp_path, channels=2)
    sound, _ = sf.read(path, dtype="float32")
    answer = naturelm.ask(path, QUESTION, start=0.5, end=1.25, channel=1, options=SHORT)
    assert (answer.start, answer.end) == (0.5, 1.25)
    stretch = sound[RATE // 2 : RATE * 5 // 4]
    assert_same([answer], [_renamed(naturelm, stretch[:, 1], path)])
    other = naturelm.ask(path, QUESTION, start=0.5, end=1.25, channel=0, options=SHORT)
    assert other.token_log_probs != pytest.approx(answer.token_log_probs, abs=1e-4)
    mean = naturelm.ask(path, QUESTION, start=0.5, end=1.25, options=SHORT)
    assert_same([mean], [_renamed(naturelm, stretch.mean(1), path)])


def _renamed(naturelm: NatureLM, samples: np.ndarray, path: Path) -> object:
    """The answer about samples, as if they came from a file."""
    return naturelm.answer([Query((type(clip())(samples, str(path)),), QUESTION)], SHORT)[0]


def test_every_kind_of_source_is_the_same_sound(naturelm: NatureLM, tmp_path: Path) -> None:
    path = recording(tmp_path)
    sound, _ = sf.read(path, dtype="float32")
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file, sound]
        answers = [naturelm.ask(source, QUESTION, options=SHORT) for source in sources]
    assert len({a.token_ids for a in answers}) == 1
    assert {a.end for a in answers} == {2.0}
    assert answers[-1].recording == "<array>"


def test_a_pipe_is_read_once(naturelm: NatureLM, tmp_path: Path) -> None:
    content = recording(tmp_path, seconds=0.5).read_bytes()
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb") as mouth:
        # Half a second of sound is within what a pipe holds.
        mouth.write(content[:60_000])
        mouth.close()
        answer = naturelm.ask(pipe, QUESTION, options=SHORT)
    assert answer.end == pytest.approx(0.5, abs=0.1)


def test_an_array_at_its_own_rate(naturelm: NatureLM) -> None:
    sound = noise(1.0, rate=48_000)
    answer = naturelm.ask(sound, QUESTION, source_rate=48_000, options=SHORT)
    assert answer.end == pytest.approx(1.0)
    assert naturelm.ask(sound, QUESTION, options=SHORT).end == pytest.approx(3.0)
    # Integers are scaled by their full range.
    integers = (noise(0.5) * 2**15).astype(np.int16)
    (scaled,) = naturelm.ask([integers], QUESTION, options=SHORT)
    floats = naturelm.ask(integers.astype(np.float32) / 2**15, QUESTION, options=SHORT)
    assert_same([scaled], [floats])


def test_a_short_clip_ends_where_its_sound_ends(either: NatureLM) -> None:
    """Padding to the ear's shortest clip, or to the clip length of training, is not sound."""
    assert either.ask(noise(0.02), QUESTION, options=SHORT).end == pytest.approx(0.02)
    assert either.ask(noise(0.4), QUESTION, options=SHORT).end == pytest.approx(0.4)


def test_answers_are_plain_json(naturelm: NatureLM) -> None:
    free = naturelm.ask(noise(0.5), QUESTION, options=SHORT)
    closed = naturelm.ask(noise(0.5), QUESTION, choices=["Dog", "Örtli"])
    for answer in (free, closed):
        plain = answer.to_dict()
        again = json.loads(json.dumps(plain, allow_nan=False))
        assert again["text"] == answer.text
        assert set(again["seconds"]) == {"hear", "prefill", "answer"}
        assert [c["label"] for c in again["choices"]] == [c.label for c in answer.choices]
        assert tuple(again["token_ids"]) == answer.token_ids


# --- what cannot be asked ------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["", "  \n", ["Dog?", ""]])
def test_an_empty_question(naturelm: NatureLM, question: str | list[str]) -> None:
    with pytest.raises(QuestionError) as error:
        naturelm.ask(noise(0.5), question)
    assert "empty" in one_line(error)


def test_audio_places_that_do_not_match_the_clips(naturelm: NatureLM) -> None:
    with pytest.raises(QuestionError) as error:
        naturelm.ask(noise(0.5), "Is <AudioHere> like <AudioHere>?")
    assert "2 <AudioHere> for 1" in one_line(error)


def refusal(naturelm: NatureLM, source: object, **arguments: object) -> str:
    with pytest.raises(AudioError) as error:
        naturelm.ask(source, QUESTION, **arguments)
    return one_line(error)


class CountingFile(io.FileIO):
    """A file that counts the bytes read from it."""

    taken = 0

    def readinto(self, buffer: memoryview) -> int:
        count = super().readinto(buffer)
        self.taken += count
        return count

    def read(self, size: int = -1) -> bytes:
        content = super().read(size)
        self.taken += len(content)
        return content


def three_hours(folder: Path) -> Path:
    """A sparse WAV of three hours, 4 kHz, 8 bits."""
    path = folder / "night.wav"
    size = 3 * 3600 * 4000
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, 4000, 4000, 1, 8)
    with path.open("wb") as file:
        file.write(header + struct.pack("<4sI", b"data", size))
        file.truncate(44 + size)
    return path


def test_three_hours_are_refused_by_their_header(naturelm: NatureLM, tmp_path: Path) -> None:
    path = three_hours(tmp_path)
    message = refusal(naturelm, path)
    assert message.startswith(f"{path}: 10800 s")
    assert "at most 60 s" in message
    assert "--window" in message
    assert "--start" in message
    with CountingFile(path) as file:
        assert "10800 s" in refusal(naturelm, file)
        assert file.taken < 100_000
    # A stretch of it can be asked about, and is named if it too is long.
    assert naturelm.ask(path, QUESTION, start=7200, end=7201, options=SHORT).end == 7201
    assert "100 s as one window" in refusal(naturelm, path, start=7200, end=7300)
    assert "3600 s as one window" in refusal(naturelm, path, start=7200)


def test_sound_that_is_no_sound(naturelm: NatureLM, tmp_path: Path) -> None:
    def written(name: str, sound: np.ndarray) -> Path:
        sf.write(tmp_path / name, sound, RATE, subtype="FLOAT")
        return tmp_path / name

    broken = noise(0.5)
    broken[4000] = np.nan
    header = recording(tmp_path, "header.wav").read_bytes()
    (tmp_path / "only.wav").write_bytes(header[:44])
    cases = {
        written("zero.wav", np.zeros(8000)): "zero",
        written("nan.wav", broken): "NaN",
        written("brief.wav", noise(0.005)): "5.0 ms",
        tmp_path / "only.wav": "",
        tmp_path / "missing.wav": "no such file",
        tmp_path: "directory",
    }
    for path, words in cases.items():
        message = refusal(naturelm, path)
        assert message.startswith(f"{path}: ")
        assert words in message
    # Ten milliseconds are enough.
    assert naturelm.ask(written("enough.wav", noise(0.01)), QUESTION, options=SHORT).end == pytest.approx(
        0.01
    )


def test_bad_arrays_and_stretches(naturelm: NatureLM, tmp_path: Path) -> None:
    path = recording(tmp_path)
    for source, arguments, words in (
        (np.zeros(8000, np.float32), {}, "zero"),
        (np.full(8000, np.nan, np.float32), {}, "NaN"),
        (noise(0.005), {}, "5.0 ms"),
        (noise(61.0), {}, "61 s as one window"),
        (path, {"start": 3.0}, "start is 3 s"),
        (path, {"start": 1.0, "end": 0.5}, "after start"),
        (path, {"start": float("nan")}, "start"),
        (path, {"channel": 1}, "no channel 1"),
        (path, {"source_rate": 8000}, "arrays only"),
    ):
        message = refusal(naturelm, source, **arguments)
        assert words in message
        assert (
            message.startswith("<array>" if isinstance(source, np.ndarray) else str(path))
            or "source_rate" in message
        )


def test_one_bad_recording_is_named_among_good_ones(naturelm: NatureLM, tmp_path: Path) -> None:
    good, bad = recording(tmp_path), tmp_path / "gone.flac"
    message = refusal(naturelm, [good, bad])
    assert message.startswith(f"{bad}: ")


def test_merging_alpha_needs_an_adapter() -> None:
    from naturelm.errors import CheckpointError
    from tiny import tiny_naturelm

    bare = tiny_naturelm(lora=None)
    assert bare.ask(noise(0.5), QUESTION, options=SHORT).token_ids
    with pytest.raises(CheckpointError) as error:
        bare.ask(noise(0.5), QUESTION, options=GenerationOptions(merging_alpha=0.5))
    assert "merging_alpha" in one_line(error)
