"""`naturelm ask`: tables, JSON lines, windows, exit codes, and every bad input as one line."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from naturelm.cli import app
from tiny import noise, save_tiny_naturelm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model in our layout, tokenizer included; 5 s windows."""
    return save_tiny_naturelm(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "two seconds.wav"
    soundfile.write(path, noise(2.0), 16_000)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ask(model: Path, *arguments: object, tokens: int = 4) -> Result:
    return run("ask", "--model", model, "--max-new-tokens", tokens, *arguments)


def rows(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_table_holds_question_answer_probability_and_time(model: Path, recording: Path) -> None:
    result = ask(model, recording, "-q", "Which animal is this?", "--choices", "Dog,Cat")
    assert result.exit_code == 0, result.output
    heading, row = result.stdout.splitlines()[:2]
    assert all(word in heading for word in ("question", "answer", "probability", "time"))
    assert "0.0-2.0" in row


def test_json_has_one_object_a_window_and_question(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(11.9), 16_000)
    result = ask(model, path, "-q", "What is it?", "-q", "How many?", "--json")
    assert result.exit_code == 0, result.output
    found = rows(result)
    assert [(row["start"], row["end"], row["question"]) for row in found] == [
        (start, pytest.approx(end), question)
        for start, end in ((0.0, 5.0), (5.0, 10.0), (10.0, 11.9))
        for question in ("What is it?", "How many?")
    ]
    for row in found:
        assert row["recording"] == str(path)
        assert len(row["token_ids"]) == len(row["token_log_probs"]) > 0
        assert row["revision"] and row["model"] == str(model)


def test_windows_hops_and_stretches(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, noise(6.0), 16_000)
    result = ask(model, path, "-q", "?", "--json", "--start", 1, "--end", 4.5, "--window", 2, "--hop", 1)
    assert [(row["start"], row["end"]) for row in rows(result)] == [(1.0, 3.0), (2.0, 4.0), (3.0, 4.5)]
    beyond = ask(model, path, "-q", "?", "--json", "--start", 5, "--end", 60)
    assert [(row["start"], row["end"]) for row in rows(beyond)] == [(5.0, 6.0)]
    whole = ask(model, path, "-q", "?", "--json", "--whole")
    assert [(row["start"], row["end"]) for row in rows(whole)] == [(0.0, 6.0)]


def test_choices_are_scored_and_sum_to_one(model: Path, recording: Path, tmp_path: Path) -> None:
    listed = tmp_path / "labels.txt"
    listed.write_text("Dog\nCat, wild\n\n", encoding="utf-8")
    result = ask(model, recording, "-q", "What?", "--choices-file", listed, "--none-of-these", "--json")
    (row,) = rows(result)
    assert {choice["label"] for choice in row["choices"]} == {"Dog", "Cat, wild", "None of these"}
    assert sum(choice["probability"] for choice in row["choices"]) == pytest.approx(1)
    assert row["text"] == row["choices"][0]["label"]


def test_channel_chooses_one(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([noise(1.0), np.zeros(16_000, np.float32)], 1), 16_000)
    assert ask(model, path, "-q", "?", "--channel", 0).exit_code == 0
    silent = ask(model, path, "-q", "?", "--channel", 1)
    assert silent.exit_code == 2
    assert "all samples are zero" in silent.stderr


def bad_recordings(folder: Path) -> dict[str, Path]:
    """One file of each kind of damage."""
    made = {name: folder / name for name in ("folder", "empty.wav", "header.wav", "cut.flac", "text.wav")}
    made["missing"] = folder / "missing.wav"
    made["folder"].mkdir()
    made["empty.wav"].touch()
    soundfile.write(made["header.wav"], np.zeros(0, np.float32), 16_000)
    soundfile.write(made["cut.flac"], noise(3.0), 16_000)
    made["cut.flac"].write_bytes(made["cut.flac"].read_bytes()[:20_000])
    made["text.wav"].write_text("this is no sound\n" * 50)
    for name, samples in {
        "zero.wav": np.zeros(16_000, np.float32),
        "nan.wav": np.full(16_000, np.nan, np.float32),
        "short.wav": noise(0.009),
    }.items():
        made[name] = folder / name
        soundfile.write(made[name], samples, 16_000, subtype="FLOAT")
    return made


def test_every_bad_recording_is_one_line_and_the_others_are_answered(
    model: Path, recording: Path, tmp_path: Path
) -> None:
    bad = bad_recordings(tmp_path)
    result = ask(model, *bad.values(), recording, "-q", "What?", "--json")
    assert result.exit_code == 1
    complaints = result.stderr.splitlines()
    assert len(complaints) == len(bad)
    for path, complaint in zip(bad.values(), complaints, strict=True):
        assert complaint.startswith("error: ") and str(path) in complaint
    failed = [row for row in rows(result) if "error" in row]
    answered = [row for row in rows(result) if "text" in row]
    assert {row["recording"] for row in failed} == {str(path) for path in bad.values()}
    assert [row["recording"] for row in answered] == [str(recording)]


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty.wav", "header.wav", "cut.flac", "text.wav", "zero.wav"]
)
def test_nothing_usable_exits_with_2(model: Path, tmp_path: Path, kind: str) -> None:
    path = bad_recordings(tmp_path)[kind]
    result = ask(model, path, "-q", "What?")
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_silent_window_fails_alone(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "gap.wav"
    soundfile.write(path, np.concatenate([noise(5.0), np.zeros(80_000, np.float32), noise(2.0)]), 16_000)
    result = ask(model, path, "-q", "What?", "--json")
    assert result.exit_code == 1
    assert [("error" in row, row["start"]) for row in rows(result)] == [
        (False, 0.0),
        (True, 5.0),
        (False, 10.0),
    ]


def test_three_hours_as_one_window_are_refused_at_once(model: Path, recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "night.wav"
    with soundfile.SoundFile(path, "w", 4_000, 1, subtype="PCM_U8") as file:
        for _ in range(180):
            file.write(np.full(4_000 * 60, 0.1, np.float32))
    for arguments in (["--whole"], ["--window", 10_800]):
        result = ask(model, path, "-q", "What?", *arguments)
        assert result.exit_code == 2
        assert str(path) in result.stderr and "at most" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--choices", ""],
        ["--choices", "Dog,,Cat"],
        ["--choices", "Dog, Dog"],
        ["--choices-file", "absent.txt"],
        ["--choices", "Dog", "--choices-file", "absent.txt"],
        ["--none-of-these"],
        ["--whole", "--window", "3"],
        ["--window", "0"],
        ["--window", "nan"],
        ["--hop", "-1"],
        ["--temperature", "-1"],
        ["--beams", "2", "--temperature", "1"],
    ],
)
def test_bad_options_are_one_line_and_exit_2(model: Path, recording: Path, arguments: list[str]) -> None:
    result = ask(model, recording, "-q", "What?", *arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_question_is_refused(model: Path, recording: Path) -> None:
    result = ask(model, recording, "-q", "  ")
    assert result.exit_code == 2
    assert "question is empty" in result.stderr


def test_bad_checkpoints_are_one_line(model: Path, recording: Path, tmp_path: Path) -> None:
    unknown = ask(Path("no-such-model"), recording, "-q", "?")
    assert unknown.exit_code == 2 and "no-such-model" in unknown.stderr

    pickled = tmp_path / "pickled"
    shutil.copytree(model, pickled)
    (pickled / "model.safetensors").unlink()
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": 1}))
    refused = ask(pickled, recording, "-q", "?")
    assert refused.exit_code == 2 and "refused" in refused.stderr and str(pickled) in refused.stderr
    for result in (unknown, refused):
        assert len(result.stderr.splitlines()) == 1, result.stderr


def test_square_brackets_and_markup_in_names_stay_as_they_are(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "[bold]x[.wav"
    soundfile.write(path, noise(1.0), 16_000)
    result = ask(model, path, "-q", "[red]What?[/red] [/x]", "--choices", "[a],[/b]")
    assert result.exit_code == 0, result.output
