"""Embeddings of recordings, and the windows nearest to an example."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile as sf
from scanning import RATE, tone, write_recording
from typer.testing import CliRunner, Result

from naturelm.cli import app
from naturelm.scan.embedding import EmbedReport, embed_recordings, read_embeddings
from naturelm.scan.finding import find_recordings
from naturelm.scan.options import CutOptions, ScanError
from naturelm.scan.searching import nearest, probe, read_examples
from tiny import tiny_naturelm


class SpectrumEmbedder:
    """The mean power spectrum in bands of 500 Hz."""

    model, revision, sample_rate, default_window, longest_window, size = "spectrum", "1", RATE, 1.0, 60.0, 16

    def embed(self, windows: list[np.ndarray]) -> np.ndarray:
        spectra = [np.abs(np.fft.rfft(window, RATE))[: RATE // 2] ** 0.5 for window in windows]
        return np.stack([s.reshape(self.size, -1).mean(1) for s in spectra]).astype(np.float32)


def embedded(folder: Path, **options: bool) -> EmbedReport:
    write_recording(folder / "in" / "a.wav", 10.5, [(2.2, "high bat"), (7.2, "low owl")])
    write_recording(folder / "in" / "b.wav", 6, [(4.2, "high bat")], seed=1)
    return embed_recordings(
        find_recordings([folder / "in"]), SpectrumEmbedder(), CutOptions(1.0), folder / "e.parquet", **options
    )


def test_one_row_a_window_or_a_recording(tmp_path: Path) -> None:
    assert embedded(tmp_path).rows == 11 + 6
    table = pandas.read_parquet(tmp_path / "e.parquet")
    assert table["window"].tolist() == [*range(11), *range(6)] and table["end"][10] == 10.5
    assert all(len(row) == 16 for row in table["embedding"])
    means = table.groupby("recording")["embedding"].apply(lambda rows: np.mean(np.stack(list(rows)), 0))
    assert embedded(tmp_path, mean=True).rows == 2
    ((rows, values),) = read_embeddings(tmp_path / "e.parquet")
    np.testing.assert_allclose(values, np.stack(list(means)), rtol=1e-5)
    assert rows.column("end").to_pylist() == [10.5, 6.0]


def examples(folder: Path) -> Path:
    for label in ("high bat", "low owl"):
        (folder / "examples" / label).mkdir(parents=True)
        sf.write(folder / "examples" / label / "one.wav", np.pad(tone(label), (3_000, 6_600)), RATE)
    return folder / "examples"


@pytest.mark.parametrize("find", [nearest, probe])
def test_what_is_like_the_examples_comes_first(find, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    embedded(tmp_path)
    hits = find(tmp_path / "e.parquet", read_examples(examples(tmp_path), SpectrumEmbedder(), 1.0), 2)
    found = [(hit.label, Path(hit.recording).name, hit.start) for hit in hits]
    assert set(found[:2]) == {("high bat", "a.wav", 2.0), ("high bat", "b.wav", 4.0)}
    assert found[2] == ("low owl", "a.wav", 7.0) and len(found) == 4
    assert hits[2].score > hits[3].score and all(-1 <= hit.score <= 1.0001 for hit in hits)


def test_cosines_are_exact(tmp_path: Path) -> None:
    embedded(tmp_path)
    given = read_examples(examples(tmp_path) / "low owl" / "one.wav", SpectrumEmbedder(), 1.0)
    table = pandas.read_parquet(tmp_path / "e.parquet")
    values, wanted = np.stack(list(table["embedding"])).astype(np.float64), given["one"][0].astype(np.float64)
    cosines = values @ wanted / np.linalg.norm(values, axis=1) / np.linalg.norm(wanted)
    assert [hit.score for hit in nearest(tmp_path / "e.parquet", given, 17)] == pytest.approx(
        sorted(cosines, reverse=True), abs=1e-5
    )


def test_too_many_examples_are_refused(tmp_path: Path) -> None:
    embedded(tmp_path)
    with pytest.raises(ScanError, match="1 to 20"):
        probe(tmp_path / "e.parquet", {"x": np.ones((21, 16), np.float32)}, 1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_commands(tmp_path: Path) -> None:
    model = tmp_path / "model"
    tiny = tiny_naturelm()
    tiny.model.save_pretrained(model)
    tiny.processor.save_pretrained(model)
    write_recording(tmp_path / "in" / "a.wav", 6, [(2.2, "high bat")])
    (tmp_path / "in" / "bad.wav").touch()
    out = tmp_path / "e.parquet"
    result = run("embed", tmp_path / "in", "-o", out, "-m", model, "--window", 1, "--json")
    assert result.exit_code == 1 and "bad.wav" in result.stderr
    assert json.loads(result.stdout)["rows"] == 6
    sound, _ = sf.read(tmp_path / "in" / "a.wav")
    sf.write(tmp_path / "like this.wav", sound[2 * RATE : 3 * RATE], RATE)
    found = run("search", out, "--like", tmp_path / "like this.wav", "--top", 2)
    assert found.exit_code == 0, found.output
    first = next(csv.DictReader(io.StringIO(found.stdout)))
    assert (first["Label"], first["Score"], float(first["Start (s)"])) == ("like this", "1.0000", 2)
    assert run("search", tmp_path / "in" / "a.wav", "--like", out).exit_code == 2
    assert run("search", out, "--like", tmp_path / "in" / "bad.wav").exit_code == 2
