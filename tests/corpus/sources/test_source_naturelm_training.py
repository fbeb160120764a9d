import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from archives import listed, write
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.corpus.recordings import Failure
from naturelm.corpus.sounds import sound_from_json, sound_to_json
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.naturelm_training import ParquetSound, Source
from naturelm.errors import AudioError

METADATA = {
    "recordist": "Peter Boesman",
    "url": "https://xeno-canto.org/1",
    "source": "Xeno-canto",
    "duration": 0.5,
    "class": "Aves",
    "family": "Passerellidae",
    "genus": "Atlapetes",
    "species": "Atlapetes fuscoolivaceus",
    "data_category": "animal",
    "text": None,
    "sample_rate": 16000,
}
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def flac(level: float, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    sf.write(file, np.full(rate // 2, level), rate, format="FLAC")
    return file.getvalue()


def row(id: str, level: float = 0.25, **changes: Any) -> dict[str, Any]:
    return {
        "audio": {"bytes": flac(level), "path": "a.flac"},
        "instruction": "<Audio><AudioHere></Audio> What is the focal species?",
        "output": " Atlapetes fuscoolivaceus ",
        "task": "species-scientific",
        "source_dataset": "Xeno-canto",
        "metadata": json.dumps(METADATA),
        "license": "CC BY-NC",
        "id": id,
        "file_name": f"{id}.flac",
        **changes,
    }


def shard(
    path: Path, rows: list[dict[str, Any]], audio: pa.DataType = AUDIO, row_group_size: int = 2
) -> Path:
    columns = {name: [each[name] for each in rows] for name in rows[0]}
    arrays = {
        name: pa.array(values, audio if name == "audio" else pa.string()) for name, values in columns.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), path, row_group_size=row_group_size)
    return path


def test_rows_keep_their_question_and_answer(tmp_path: Path) -> None:
    shard(tmp_path / "data" / "train-0.parquet", [row("a"), row("b", license=None), row("c", 0.75)])
    shard(tmp_path / "data" / "train-1.parquet", [row("日本")])
    recordings, failures = listed(Source(tmp_path))
    assert not failures
    assert [recording.id for recording in recordings] == ["a", "b", "c", "日本"]
    first, second, third, _ = recordings
    assert first.instruction == "<Audio><AudioHere></Audio> What is the focal species?"
    assert first.answer == " Atlapetes fuscoolivaceus "
    assert (first.kind, first.species, first.duration) == ("animal", ("Atlapetes fuscoolivaceus",), 0.5)
    assert (first.recordist, first.url) == ("Peter Boesman", "https://xeno-canto.org/1")
    assert (first.license, second.license) == ("CC BY-NC", "unknown")
    assert first.group == third.group == "Xeno-canto:https://xeno-canto.org/1"
    assert third.file_name == "data/train-0.parquet row 2"
    assert third.sound == ParquetSound(tmp_path / "data" / "train-0.parquet", 1, 0, 16000)
    np.testing.assert_allclose(third.sound.read(), 0.75, atol=1e-4)
    np.testing.assert_allclose(first.sound.read(0.1, 0.3), 0.25, atol=1e-4)
    assert first.sound.read(0.1, 0.3).shape == (3200,)
    assert sound_from_json(sound_to_json(first.sound)) == first.sound


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.large_list(pa.float32())]
)
def test_sounds_can_be_lists_of_samples(tmp_path: Path, kind: pa.DataType) -> None:
    metadata = json.dumps({**METADATA, "sample_rate": 8000})
    rows = [row("a", audio=[0.5] * 4000), row("b", audio=[0.25] * 4000, metadata=metadata)]
    shard(tmp_path / "s.parquet", rows, audio=kind)
    (first, second), failures = listed(Source(tmp_path))
    assert not failures
    np.testing.assert_array_equal(first.sound.read(), np.full(4000, 0.5, np.float32))
    assert len(second.sound.read()) == 8000


def test_other_kinds_of_recordings(tmp_path: Path) -> None:
    rows = [
        row("a", source_dataset="WavCaps", task="audio-caption", output="Rain falls.", metadata=None),
        row("b", source_dataset="LibriSpeechTTS", output="two", metadata='{"data_category": "speech"}'),
        row("c", source_dataset="NSynth", output="a flute", metadata="{}"),
        row("d", metadata=json.dumps({**METADATA, "life_stage": "juvenile", "call_type": "song, call"})),
    ]
    recordings, failures = listed(Source(shard(tmp_path / "s.parquet", rows).parent))
    assert not failures
    assert [recording.kind for recording in recordings] == ["environment", "speech", "music", "animal"]
    assert recordings[0].caption == "Rain falls."
    assert recordings[0].group == "WavCaps:a.flac"
    assert (recordings[3].life_stage, recordings[3].call_types) == ("juvenile", ("song", "call"))


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    rows = [
        row("a"),
        row("a"),
        row(""),
        row("b", instruction=None),
        row("c", output="  "),
        row("d", metadata="{'species': 1}"),
        row("e", metadata="[1]"),
        row("f", metadata="[" * 100_000),
    ]
    shard(tmp_path / "a.parquet", rows)
    write(tmp_path / "b.parquet", "PAR1 no")
    shard(tmp_path / "c.parquet", [row("z")])
    recordings, failures = listed(Source(tmp_path))
    assert [recording.id for recording in recordings] == ["a", "z"]
    assert [failure.file_name for failure in failures] == [
        *(f"a.parquet row {number}" for number in range(1, 8)),
        "b.parquet",
    ]
    assert all("\n" not in failure.cause for failure in failures)


def test_a_missing_column_and_a_folder_without_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no \*\.parquet"):
        listed(Source(tmp_path))
    rows = [{name: text for name, text in row("a").items() if name != "metadata"}]
    shard(tmp_path / "a.parquet", rows)
    with pytest.raises(SourceError, match=r"a\.parquet: no column metadata; it has: audio"):
        listed(Source(tmp_path))


def test_sounds_that_cannot_be_read_name_their_row(tmp_path: Path) -> None:
    rows = [
        row("a", audio={"bytes": None, "path": "/etc/passwd"}),
        row("b", audio={"bytes": b"no sound", "path": None}),
        row("c", audio=None),
    ]
    path = shard(tmp_path / "s.parquet", rows, row_group_size=3)
    for number in range(3):
        with pytest.raises(AudioError, match=rf"s\.parquet row {number} of group 0: "):
            ParquetSound(path, 0, number).read()
    for sound in (ParquetSound(path, 0, 3), ParquetSound(path, 9, 0), ParquetSound(tmp_path / "gone", 0, 0)):
        with pytest.raises(AudioError, match="cannot be read"):
            sound.read()
    lists = shard(
        tmp_path / "l.parquet", [row("a", audio=None), row("b", audio=[])], audio=pa.list_(pa.float32())
    )
    for number in range(2):
        with pytest.raises(AudioError, match=rf"l\.parquet row {number} of group 0: "):
            ParquetSound(lists, 0, number).read()


json_values = (
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.lists(st.none())
)


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.dictionaries(st.sampled_from([*METADATA, "date", "sex", "call_type"]), json_values).map(
            json.dumps
        ),
    )
)
def test_any_metadata_is_a_recording_or_a_failure(metadata: str) -> None:
    with TemporaryDirectory() as place:
        shard(Path(place) / "s.parquet", [row("a", metadata=metadata)])
        (result,) = Source(Path(place)).recordings()
        if isinstance(result, Failure):
            assert result.file_name == "s.parquet row 0"
        else:
            assert result.answer and result.duration != 0
        repr(result).encode("utf-8")
