"""Copies of recordings: by their sound, and sample for sample."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from archives import write
from builds import rows_of
from corpora import RATE, chirps

from naturelm.corpus.gather import DUPLICATES, gather
from naturelm.corpus.library import Library
from naturelm.corpus.options import BuildOptions, Copies, Share
from naturelm.corpus.prepare import chunk_digest, chunks, listed, prepare_chunk
from naturelm.corpus.sources import source_type


@pytest.mark.parametrize(
    ("copies", "found"),
    [
        ("sound", {("beep.wav", "beep2.wav"), ("song.ogg", "song.wav")}),
        ("samples", {("beep.wav", "beep2.wav")}),
    ],
)
def test_copies_are_found_as_the_options_say(
    tmp_path: Path, copies: Copies, found: set[tuple[str, str]]
) -> None:
    """A beep is too short for a fingerprint; a song was encoded with loss, so that its samples differ."""
    archive = tmp_path / "archive"
    names = ("beep.wav", "beep2.wav", "other.wav", "song.wav", "song.ogg")
    write(archive / "metadata.csv", "file,species\n" + "".join(f"{name},Turdus merula\n" for name in names))
    beep = (0.3 * np.sin(np.arange(RATE // 2) * 0.5)).astype(np.float32)
    for name in ("beep.wav", "beep2.wav"):
        sf.write(archive / name, beep, RATE)
    sf.write(archive / "other.wav", chirps(4, seed=1), RATE)
    for name in ("song.wav", "song.ogg"):
        sf.write(archive / name, chirps(4, seed=2), RATE)
    source = source_type("folder")(archive)  # type: ignore[call-arg]
    options = BuildOptions("small", (Share("species-common"),), sources=(source,), copies=copies)
    paths = []
    for number, chunk in enumerate(chunks(listed(options))):
        paths.append(tmp_path / f"{number}.parquet")
        prepare_chunk(chunk, options.most_seconds, paths[-1], chunk_digest(chunk, options))
    gathered = gather(paths, options, tmp_path / "library.arrow", tmp_path)
    told = {
        tuple(sorted((row["first"].partition(":")[2], row["second"].partition(":")[2])))
        for row in rows_of(tmp_path / DUPLICATES)
    }
    assert told == found
    assert gathered.duplicates == len(found)
    split_of = {entry.recording.file_name: entry.split for entry in Library(tmp_path / "library.arrow")}
    assert len(split_of) == len(names)
    for one, other in found:
        assert split_of[one] == split_of[other]
