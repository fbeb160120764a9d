"""BEANS-Zero built from data sets on disk: layouts, windows, labels, and the report."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench.suite_folders import tone
from naturelm.bench.beans_zero import beans_zero_components
from naturelm.bench.building.beans import beans_layout
from naturelm.bench.building.build import BuiltComponent, Sources, build_beans_zero
from naturelm.bench.building.planned import PROMPTS, BuildError, event_labels, windows
from naturelm.bench.suites.files import LocalFiles
from naturelm.bench.suites.suite import Suite, open_suite
from naturelm.cli.bench import app
from naturelm.errors import AudioError


def write_sound(path: Path, seconds: float, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.tile(tone(1), int(seconds * rate / 1600) + 1)[: round(seconds * rate)]
    sf.write(path, samples, rate, subtype="PCM_16")
    return path


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def built(sources: Sources, out: Path, *components: str) -> tuple[dict[str, BuiltComponent], Suite]:
    found = build_beans_zero(sources, out, components=components)
    return {of.dataset_name: of for of in found}, open_suite(LocalFiles(out))


def test_every_component_has_a_question_and_every_code_a_label() -> None:
    facts = beans_zero_components()
    assert set(PROMPTS) == set(facts)
    for name, layout in beans_layout().items():
        labels = [label for label in facts[name].labels if label != "None"]
        assert list(layout["codes"].values()) == labels
        assert layout["unknown"] is None or layout["unknown"] in layout["codes"]


def test_clips_are_cut_labelled_and_read_at_the_rate_of_their_component(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_sound(data / "watkins" / "wav" / "a.wav", 5.0, 8000)
    write_sound(data / "watkins" / "wav" / "b.wav", 1.0)
    write_sound(tmp_path / "outside.wav", 1.0)
    (data / "watkins" / "wav" / "bad.wav").write_bytes(b"RIFF")
    rows = [
        {"": 0, "path": "data/watkins/wav/a.wav", "label": "Beluga,_White_Whale"},
        {"": 1, "path": "watkins/wav/b.wav", "label": "Walrus"},
        {"": 2, "path": "data/watkins/wav/none.wav", "label": "Walrus"},
        {"": 3, "path": "data/watkins/wav/b.wav", "label": "Unicorn"},
        {"": 4, "path": "data/../../outside.wav", "label": "Walrus"},
        {"": 5, "path": "data/watkins/wav/bad.wav", "label": "Walrus"},
    ]  # fmt: skip
    write_table(data / "watkins" / "annotations.test.csv", rows)
    found, suite = built(Sources(beans=data), tmp_path / "out", "watkins", "cbi")
    watkins = found["watkins"]
    assert (watkins.built, watkins.expected, watkins.faults, watkins.complete) == (2, 339, 4, False)
    assert "Narwhal" in watkins.unknown_labels and "Walrus" not in watkins.unknown_labels
    assert found["cbi"].built == 0 and "annotations.test.csv is not there" in found["cbi"].note
    assert [row.output for row in suite.rows] == ["Beluga, White Whale", "Walrus"]
    lengths = []
    for _, sound in suite.sounds(suite.rows):
        assert not isinstance(sound, AudioError) and sound[1] == 44_100
        lengths.append(len(sound[0]) / 44_100)
    assert lengths == pytest.approx([3.0, 1.0], abs=1e-3)


def test_detection_is_cut_into_windows_with_the_labels_that_are_heard_in_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_sound(data / "enabirds" / "wav" / "a.wav", 5.0)
    lines = [
        {
            "path": "data/enabirds/wav/a.wav",
            "length": 500,
            "annotations": [
                {"st": 0.5, "ed": 1.0, "label": "HETH"},
                {"st": 0.9, "ed": 2.6, "label": "AMCR"},
                {"st": 0.2, "ed": 0.2, "label": "AMRO"},
                {"st": 0.1, "ed": 0.3, "label": "a bird of no code"},
                {"st": "x", "ed": 1, "label": "AMRO"},
            ],
        },
        {"path": "../../etc/passwd", "length": 5, "annotations": []},
    ]
    table = data / "enabirds" / "test.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines) + "no json\n")
    found, suite = built(Sources(beans=data), tmp_path / "out", "enabirds")
    assert [row.output for row in suite.rows] == [
        "American Crow, Hermit Thrush, Other Bird",
        "American Crow",
        "American Crow",
        "None",
    ]
    assert found["enabirds"].faults == 3
    assert {row.group for row in suite.rows} == {"enabirds/wav/a.wav"}
    assert len({row.id for row in suite.rows}) == 4


@given(st.floats(0, 100), st.sampled_from([(2.0, 1.0), (10.0, 5.0), (4.0, 2.0)]))
def test_windows_are_whole_and_none_is_left_out(duration: float, shape: tuple[float, float]) -> None:
    window, hop = shape
    starts = windows(duration, window, hop)
    assert all(start + window <= duration + 0.002 for start in starts)
    assert not starts or starts[-1] + hop + window > duration
    assert bool(starts) == (duration >= window - 0.001)


def test_an_event_counts_from_a_fifth_of_the_shorter_of_the_two() -> None:
    order = ("a", "b", "c")
    assert event_labels(0, 2, [(1.95, 2.4, "b"), (-9, 11, "a")], order) == "a"
    assert event_labels(0, 2, [(1.85, 2.4, "b"), (5, 6, "c")], order) == "b"
    assert event_labels(0, 2, [], order) == "None"


def xeno_canto(folder: Path, rows: list[dict[str, str]], seconds: float = 16.0) -> Path:
    """Answers of the API, and a sound for each row."""
    for row in rows:
        write_sound(folder / f"XC{row['id']}.wav", seconds)
    (folder / "answer.json").write_text(json.dumps({"recordings": rows}))
    return folder


def test_archives_give_stages_calls_and_species(tmp_path: Path) -> None:
    first = {"gen": "Falco", "sp": "cherrug", "en": "Saker Falcon", "lic": "//cc/by", "date": "2020-05-01"}
    rows = [
        {**first, "id": "1", "type": "song", "stage": "adult"},
        {**first, "id": "2", "type": "call, song", "stage": "Juvenile"},
        {
            **first,
            "id": "3",
            "gen": "Turdus",
            "sp": "merula",
            "en": "Blackbird",
            "type": "alarm call",
            "stage": "",
        },
    ]
    folder = xeno_canto(tmp_path / "xc", rows)
    names = (
        "lifestage",
        "call-type",
        "unseen-species-cmn",
        "unseen-species-sci",
        "unseen-species-tax",
        "captioning",
    )
    found, suite = built(Sources(xeno_canto=folder), tmp_path / "out", *names)
    outputs = {name: [row.output for row in suite.rows if row.dataset_name == name] for name in names}
    assert outputs["lifestage"] == ["adult", "juvenile"]
    assert outputs["call-type"] == ["song"]
    # 16 s are two windows of 10 s with a hop of 5 s.
    assert outputs["unseen-species-sci"] == ["Falco cherrug"] * 4
    assert outputs["unseen-species-cmn"] == ["Saker Falcon"] * 4
    assert outputs["unseen-species-tax"] == ["Chordata Aves Falconiformes Falconidae Falco cherrug"] * 4
    assert found["captioning"].built == 0 and "--captions" in found["captioning"].note
    assert "without inaturalist, animal-sound-archive" in found["unseen-species-sci"].note
    assert all(sound[1] == 16_000 and len(sound[0]) == 160_000 for _, sound in suite.sounds(suite.rows))  # type: ignore[index,arg-type]


def test_no_more_rows_are_drawn_than_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {
        "gen": "Falco",
        "sp": "cherrug",
        "en": "Saker Falcon",
        "lic": "x",
        "type": "song",
        "stage": "adult",
    }
    folder = xeno_canto(tmp_path / "xc", [{**first, "id": str(n)} for n in range(1, 480)], seconds=0.02)
    found, suite = built(Sources(xeno_canto=folder), tmp_path / "out", "lifestage")
    assert found["lifestage"].built == found["lifestage"].expected == 466 and found["lifestage"].complete
    assert "drawn of 479" in found["lifestage"].note
    again, other = built(Sources(xeno_canto=folder), tmp_path / "again", "lifestage")
    assert again["lifestage"] == found["lifestage"] and other.fingerprint == suite.fingerprint


def test_captions_are_had_from_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "inat"
    write_sound(folder / "sounds" / "12.wav", 12.0)
    write_table(
        folder / "observations.csv",
        [{"id": "7", "scientificName": "Falco cherrug", "catalogNumber": "7", "license": "CC0"}],
    )
    write_table(
        folder / "media.csv",
        [{"id": "7", "type": "Sound", "identifier": "https://x.org/sounds/12.wav", "format": ""}],
    )
    captions = tmp_path / "captions.csv"
    write_table(captions, [{"id": "12", "caption": "A falcon calls"}])
    _, suite = built(Sources(inaturalist=folder, captions=captions), tmp_path / "out", "captioning")
    assert [row.output for row in suite.rows] == ["A falcon calls"]
    write_table(captions, [{"id": "12", "text": "A falcon calls"}])
    with pytest.raises(BuildError, match="no column caption"):
        built(Sources(inaturalist=folder, captions=captions), tmp_path / "out", "captioning")


def test_the_command_tells_rows_built_of_rows_expected(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_sound(data / "hiceas" / "wav" / "a.wav", 20.0)
    line = {"path": "data/hiceas/wav/a.wav", "length": 20, "annotations": [{"st": 11, "ed": 13, "label": 1}]}
    (data / "hiceas" / "test.jsonl").write_text(json.dumps(line) + "\n")
    arguments = ["build", "--beans", str(data), "-o", str(tmp_path / "out"), "--component", "hiceas"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "| hiceas | 3 | 1,485 |" in result.stdout
    (report,) = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (report["built"], report["complete"]) == (3, False)
    nothing = CliRunner().invoke(app, ["build", "-o", str(tmp_path / "none")])
    assert nothing.exit_code == 2 and "nothing to build from" in nothing.stderr
    (tmp_path / "file").touch()
    file = CliRunner().invoke(app, ["build", "--beans", str(data), "-o", str(tmp_path / "file")])
    assert file.exit_code == 2 and "file: is a file; give a folder" in file.stderr
    unknown = CliRunner().invoke(app, [*arguments, "--component", "birds"])
    assert unknown.exit_code == 2 and "no component is called 'birds'" in unknown.stderr
