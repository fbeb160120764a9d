"""Suites: layouts, columns, choosing rows, hostile files."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.suite_folders import (
    AUDIO_STRUCT,
    RATE,
    a_row,
    flac,
    mixed_rows,
    to_table,
    tone,
    write_arrow,
    write_parquet,
)
from naturelm.bench.beans_zero import beans_zero_components
from naturelm.bench.published import TASKS
from naturelm.bench.suites.files import HubFiles, LocalFiles, SuiteError
from naturelm.bench.suites.opening import components_of, open_named_suite
from naturelm.bench.suites.sound import LONGEST_SECONDS, sound_of
from naturelm.bench.suites.suite import Choice, Suite, open_suite
from naturelm.errors import AudioError


def opened(folder: Path, choice: Choice | None = None) -> Suite:
    return open_suite(LocalFiles(folder), choice)


def heard(suite: Suite) -> dict[str, np.ndarray]:
    found = {}
    for row, sound in suite.sounds(suite.rows):
        assert not isinstance(sound, AudioError), sound
        assert sound[1] == RATE
        found[row.id] = sound[0]
    return found


def test_the_published_components_are_told() -> None:
    facts = beans_zero_components()
    assert {name: of.task for name, of in facts.items()} == dict(TASKS)
    assert sum(of.rows for of in facts.values()) == 91_965
    assert all(len(set(of.labels)) == len(of.labels) for of in facts.values())


def test_every_layout_gives_the_same_rows_and_sound(tmp_path: Path) -> None:
    rows = mixed_rows()
    write_parquet(tmp_path / "hub" / "data" / "test-00000-of-00002.parquet", rows[:10])
    write_parquet(tmp_path / "hub" / "data" / "test-00001-of-00002.parquet", rows[10:])
    write_arrow(tmp_path / "saved" / "test" / "data-00000-of-00001.arrow", rows)
    write_arrow(tmp_path / "saved" / "train" / "data-00000-of-00001.arrow", [a_row(99)])
    pa.feather.write_feather(to_table(rows), str(tmp_path / "one.arrow"), compression="uncompressed")
    suites = [opened(tmp_path / name) for name in ("hub", "saved", "one.arrow")]
    first = heard(suites[0])
    assert len(first) == len(rows)
    assert [len({row.dataset_name for row in suite.rows}) for suite in suites] == [3, 3, 3]
    for suite in suites:
        assert suite.fingerprint == suites[0].fingerprint
        for id, samples in heard(suite).items():
            assert np.array_equal(samples, first[id])
    assert np.array_equal(first["row-000"], tone(0))


def test_what_the_datasets_package_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = mixed_rows(12)
    lists = datasets.Dataset.from_list(rows)
    lists.save_to_disk(tmp_path / "lists", num_shards=2)
    datasets.DatasetDict(test=lists, train=lists.select([0])).save_to_disk(tmp_path / "splits")
    of_files = [
        {**row, "audio": {"bytes": flac(np.array(row["audio"], np.float32)), "path": None}} for row in rows
    ]
    structs = datasets.Dataset.from_list(of_files).cast_column("audio", datasets.Audio(decode=False))
    structs.save_to_disk(tmp_path / "structs")
    (tmp_path / "parquet").mkdir()
    structs.to_parquet(tmp_path / "parquet" / "test.parquet")
    first = heard(opened(tmp_path / "lists"))
    for name in ("lists", "splits", "structs", "parquet"):
        found = heard(opened(tmp_path / name))
        assert found.keys() == first.keys() == {row["id"] for row in rows}
        for id, samples in found.items():
            assert samples == pytest.approx(first[id], abs=1e-4), name


def test_sound_may_be_a_file_within_the_row_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "1.flac").write_bytes(flac(tone(1)))
    sounds = [{"bytes": flac(tone(0)), "path": None}, {"bytes": None, "path": "clips/1.flac"}]
    rows = [a_row(number, audio=sound, metadata="{}") for number, sound in enumerate(sounds)]
    found = heard(opened(write_parquet(tmp_path / "test.parquet", rows, AUDIO_STRUCT)))
    for number in range(2):
        assert found[f"row-00{number}"] == pytest.approx(tone(number), abs=1e-4)


def test_the_older_column_of_questions_loses_its_placeholder(tmp_path: Path) -> None:
    row = a_row(0, instruction="<Audio><AudioHere></Audio> Which sound?")
    del row["instruction_text"]
    suite = opened(write_parquet(tmp_path / "test.parquet", [row]))
    assert suite.rows[0].prompt == "Which sound?"


def test_a_row_without_usable_sound_is_an_error_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "secret.flac"
    secret.write_bytes(flac(tone(0)))
    folder = tmp_path / "data"
    bad = [
        {"bytes": None, "path": "../secret.flac"},
        {"bytes": None, "path": str(secret)},
        {"bytes": None, "path": None},
        {"bytes": b"no sound", "path": None},
        {"bytes": flac(tone(4)), "path": None},
    ]
    rows = [a_row(number, audio=sound) for number, sound in enumerate(bad)]
    suite = opened(write_parquet(folder / "test.parquet", rows, AUDIO_STRUCT))
    found = {row.id: sound for row, sound in suite.sounds(suite.rows)}
    assert "outside the folder" in str(found["row-000"]) and "outside the folder" in str(found["row-001"])
    assert "neither bytes nor a path" in str(found["row-002"])
    assert "esc50 row-003" in str(found["row-003"])
    assert not isinstance(found["row-004"], AudioError)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        ([0.1, None, 0.2], RATE, "empty"),
        ([], RATE, "no samples"),
        (None, RATE, "is empty"),
        ([0.1, float("nan")], RATE, "NaN|finite|not a number"),
        ([0.1] * 8, None, "sample rate is None"),
        ([0.1] * 8, 3, "sample rate is 3"),
        ([0.0] * int(4000 * (LONGEST_SECONDS + 1)), 4000, "longer|more than"),
    ],
)
def test_samples_that_are_no_sound_are_refused(
    samples: list[float] | None, rate: int | None, message: str
) -> None:
    cell = pa.array([samples], pa.list_(pa.float64()))[0]
    with pytest.raises(AudioError, match=f"here.*({message})"):
        sound_of(cell, rate, LocalFiles(Path()), "here")


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(-4, 4, width=32), min_size=16, max_size=64), st.sampled_from(["float32", "float64"])
)
def test_a_list_of_floats_comes_back_within_full_scale(samples: list[float], kind: str) -> None:
    cell = pa.array([samples], pa.list_(pa.from_numpy_dtype(np.dtype(kind))))[0]
    found, rate = sound_of(cell, RATE, LocalFiles(Path()), "here")
    assert rate == RATE and found.dtype == np.float32
    assert np.array_equal(found, np.clip(np.array(samples, np.float32), -1, 1))


def test_rows_are_chosen_by_component_number_and_seed(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "test.parquet", mixed_rows(48))
    assert {row.dataset_name for row in opened(folder, Choice(("hiceas", "esc50"))).rows} == {
        "hiceas",
        "esc50",
    }
    first = opened(folder, Choice(limit=2))
    assert [row.id for row in first.rows if row.dataset_name == "esc50"] == ["row-000", "row-001"]
    drawn = [tuple(row.id for row in opened(folder, Choice(sample=5, seed=seed)).rows) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    alone = opened(folder, Choice(("esc50",), sample=5, seed=1))
    assert [row.id for row in alone.rows] == [id for id in drawn[0] if int(id[-3:]) % 4 < 2]
    # The closed set is that of the whole component, also where few rows are asked.
    assert opened(folder, Choice(("hiceas",), limit=1)).labels["hiceas"] == ("Minke whale", "None")


def test_rows_that_cannot_be_used_are_told_and_left_out(tmp_path: Path) -> None:
    rows = [
        a_row(0),
        a_row(1, output=""),
        a_row(2, dataset_name=None),
        a_row(3, instruction_text=" "),
        a_row(4, dataset_name="birds", task=""),
        a_row(5, id="row-000"),
        a_row(6, metadata="[" * 5000),
    ]
    suite = opened(write_parquet(tmp_path / "test.parquet", rows))
    assert [row.id for row in suite.rows] == ["row-000", "row-000#2", "row-006"]
    assert len(suite.faults) == 4
    assert "row 1: it has no output" in suite.faults[0]


def test_what_is_no_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no such folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(SuiteError, match="no Parquet or Arrow file"):
        opened(tmp_path)
    (tmp_path / "rows.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(SuiteError, match="no Parquet or Arrow file"):
        opened(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "test.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(SuiteError, match=r"test\.parquet: cannot be read"):
        opened(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "test.arrow").write_bytes(b"nonsense")
    with pytest.raises(SuiteError, match=r"test\.arrow: cannot be read"):
        opened(tmp_path / "b")
    with pytest.raises(SuiteError, match="no column id"):
        opened(write_parquet(tmp_path / "c" / "test.parquet", [{"audio": [0.0], "text": "x"}]))
    with pytest.raises(SuiteError, match="has no test split, only train"):
        opened(write_parquet(tmp_path / "d" / "train-0.parquet", [a_row(0)]))
    with pytest.raises(SuiteError, match="no rows of any component"):
        opened(write_parquet(tmp_path / "e" / "test.parquet", [a_row(0, output="")]))
    link = tmp_path / "f"
    link.mkdir()
    (link / "test.parquet").symlink_to(tmp_path / "d" / "train-0.parquet")
    with pytest.raises(SuiteError, match="no Parquet or Arrow file"):
        opened(link)


def test_the_hub_is_read_through_its_file_system(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    buffer = io.BytesIO()
    pa.parquet.write_table(to_table(mixed_rows(8)), buffer)
    root = "/datasets/owner/name@0123456789abcdef"
    system.pipe(f"{root}/data/test-00000.parquet", buffer.getvalue())
    try:
        suite = open_suite(HubFiles("owner/name", "0123456789abcdef", system, root))
        assert suite.files.name == "owner/name@0123456789ab"
        assert len(heard(suite)) == 8
    finally:
        system.rm(root, recursive=True)


def test_suites_go_by_name(tmp_path: Path) -> None:
    assert components_of("beans-zero") is None and components_of("beans-mini") is None
    assert components_of("esc50, cbi,esc50") == ("esc50", "cbi")
    for wrong in ("birds", "beans-zero,esc50", ","):
        with pytest.raises(SuiteError):
            components_of(wrong)
    with pytest.raises(SuiteError, match="naturelm corpus build starter"):
        open_named_suite("beans-mini", None, Choice())
    with pytest.raises(SuiteError, match="no such folder"):
        open_named_suite("beans-zero", "a/b/c", Choice())
    odd = write_parquet(tmp_path / "test.parquet", [a_row(0, dataset_name="mini-x", task="count")])
    with pytest.raises(SuiteError, match="mini-x, no component"):
        open_named_suite("beans-zero", str(odd), Choice())
    assert open_named_suite("beans-mini", str(odd), Choice()).tasks == {"mini-x": "classification"}


def test_options_of_a_row_are_its_closed_set(tmp_path: Path) -> None:
    row = a_row(0, dataset_name="mini-x", task="detection-options", output="a, b", options=["a", "b", "c"])
    suite = opened(write_parquet(tmp_path / "test.parquet", [row]))
    assert suite.rows[0].task == "detection"
    assert suite.closed_set(suite.rows[0]) == ("a", "b", "c", "None")
    birds = a_row(1, dataset_name="enabirds", output="American Robin")
    heard_birds = opened(write_parquet(tmp_path / "birds" / "test.parquet", [birds]))
    assert heard_birds.closed_set(heard_birds.rows[0])[-2:] == ("Other Bird", "None")
    assert json.loads(row["metadata"])["sample_rate"] == suite.rows[0].sample_rate
