"""Archives that are damaged, odd or foreign: what can be used is used, the rest is named with its cause."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from archives import write
from builds import CLIPS, all_pairs, birds, call, causes, places, rows_of, small_options
from corpora import RATE

from naturelm.corpus.build import BuildReport, build_corpus
from naturelm.corpus.check import check_corpus
from naturelm.corpus.options import BuildOptions, CorpusError, Share, SplitOptions
from naturelm.corpus.sources import SourceError, source_type
from naturelm.corpus.storage import MANIFEST
from naturelm.corpus.taxonomy import Taxonomy

NAMES = {
    "птицы/дрозд.wav": "Чёрный дрозд",
    "鸟/画眉.wav": "画眉",
    "طيور/عصفور.wav": "عصفور",
    "🐦/🎵 1.wav": "Чижик 🐦‍⬛",
    "Zaunkönig é.wav": "Zaunkönig",
}
FORMATS = {"low.wav": (8000, 1), "cd.wav": (44100, 2), "high.wav": (96000, 1), "flac-in.wav": (RATE, 1)}
VANISHED = "Parus-major/1.wav"


def damaged(folder: Path) -> list[str]:
    """Files that cannot be used."""
    whole = call(folder / "cut-in-header.wav", 900).read_bytes()
    (folder / "cut-in-header.wav").write_bytes(whole[:30])
    (folder / "header-alone.wav").write_bytes(whole[:44])
    (folder / "text.wav").write_text("not a sound, but a letter\n" * 50)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "noise.flac").write_bytes(np.random.default_rng(0).bytes(4000))
    call(folder / "cut.flac", 901, seconds=3)
    flac = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(flac[: len(flac) // 2])
    (folder / "picture.mp3").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    sf.write(folder / "silent.wav", np.zeros(RATE), RATE)
    sf.write(folder / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, "FLOAT")
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("bad") / "archive"
    bad = damaged(folder / "birds")
    rows = [f"{name},Parus major,,,,,,," for name in bad]
    for number, (name, species) in enumerate(NAMES.items()):
        call(folder / "birds" / unicodedata.normalize("NFD", name), 2000 + number)
        rows.append(f"{unicodedata.normalize('NFC', name)},{species},,,,train,,,")
    for number, (name, (rate, channels)) in enumerate(FORMATS.items()):
        call(folder / "birds" / name, 3000 + number, rate=rate, channels=channels)
        rows.append(f"{name},Cuculus canorus,,,,train,,,")
    call(folder / "birds" / "emoji.wav", 3900)
    rows.append("emoji.wav,🐦,,,,train,,,")
    sound, rate = sf.read(folder / "birds" / "flac-in.wav")
    sf.write(folder / "birds" / "flac-in.wav", sound, rate, format="FLAC")
    held_out = ("Syrnium aluco,", "Cuculus canorus,Strix aluco", "Strix alucco,")
    for number, taxa in enumerate(held_out):
        call(folder / "birds" / f"owl{number}.wav", 4000 + number)
        rows.append(f"owl{number}.wav,{taxa},,,train,,,")
    call(folder / "birds" / "owl3.wav", 4003)
    rows.append("owl3.wav,,,,,train,Rain; far away two tawny owls.,rain,environment")
    call(folder / "birds" / "owl4.wav", 4004)
    rows.append("owl4.wav,,,,,train,,brown owl,environment")
    rows.append("copy.wav,Fringilla coelebs,,,,test,,,")
    birds(folder / "birds", rows="\n".join(rows) + "\nTurdus-merula/0.wav,Turdus merula,,,,,,,\n")
    copied = folder / "birds" / "Fringilla-coelebs" / "0.wav"
    (folder / "birds" / "copy.wav").write_bytes(copied.read_bytes())
    call(folder / "other" / "Turdus merula" / "x.wav", 5)
    call(folder / "again" / "Turdus merula" / "x.wav", 6)
    return folder, bad


@pytest.fixture(scope="module")
def built(archive: tuple[Path, list[str]]) -> BuildReport:
    folder, _ = archive
    options = BuildOptions(
        name="odd",
        sources=tuple(source_type("folder")(folder / name) for name in ("birds", "other", "again")),  # type: ignore[call-arg]
        shares=(
            Share("species-common"),
            Share("environment"),
            Share("species-common", split="test", dataset_name="held-out"),
            Share("species-scientific"),
            Share("species-scientific", split="test"),
            Share("species-several", 30),
            Share("species-several", split="test"),
        ),
        splits=SplitOptions(species=("Strix aluco",), test_share=0.0, validation_share=0.0),
        train_scenes=CLIPS,
        test_scenes=CLIPS,
        pairs_per_shard=16,
    )

    def vanish(stage: str, _done: int, _total: int | None) -> None:
        if stage == "gathering":
            (folder / "birds" / VANISHED).unlink()

    return build_corpus(options, folder.parent / "corpus", workers=2, progress=vanish)


def test_every_unusable_file_is_named_with_its_cause(
    archive: tuple[Path, list[str]], built: BuildReport
) -> None:
    _, bad = archive
    told = causes(built.folder)
    assert len(told) == built.failures
    again = [name for name in told if name.startswith("metadata.csv line")]
    assert len(again) == 1
    assert set(told) == {*bad, VANISHED, *again, "Turdus merula/x.wav", "emoji.wav"}
    assert told["emoji.wav"] == "the taxon '🐦' has no letters: correct it in the archive's metadata"
    for name in bad:
        assert "\n" not in told[name]
        assert name in told[name] or "silent" in told[name], told[name]
    assert told["silent.wav"].startswith("silent: no part of it is above -100 dB")
    assert "used by another recording" in told["Turdus merula/x.wav"]


def test_a_file_that_vanished_is_replaced_by_another(built: BuildReport) -> None:
    assert VANISHED in causes(built.folder)[VANISHED]
    rows = [row for row in all_pairs(built.folder).to_pylist() if row["split"] == "train"]
    assert not any(f"folder:{VANISHED}" in row["source_files"] for row in rows)
    # As many pairs of birds as recordings that had been found usable, the vanished one too; the
    # original of the copy that is in test, and another by its recordist, are not among them.
    usable = 5 * 4 - 3 - 2 + len(NAMES) + len(FORMATS)
    assert sum(row["task"] == "species-common" for row in rows) == usable


def test_a_copy_under_another_name_is_told_and_in_the_same_split(built: BuildReport) -> None:
    (row,) = rows_of(built.folder / "duplicates.csv")
    assert {row["first"], row["second"]} == {"folder:Fringilla-coelebs/0.wav", "folder:copy.wav"}
    assert row["split"] == "test"
    assert built.duplicates == 1
    splits = {
        file: row["split"] for row in all_pairs(built.folder).to_pylist() for file in row["source_files"]
    }
    assert splits["folder:Fringilla-coelebs/0.wav"] == splits["folder:copy.wav"] == "test"


def test_all_rates_and_names_are_used(built: BuildReport) -> None:
    rows = all_pairs(built.folder).to_pylist()
    heard = {file for row in rows for file in row["source_files"]}
    assert {f"folder:{name}" for name in FORMATS} <= heard
    assert {unicodedata.normalize("NFC", file) for file in heard} >= {
        unicodedata.normalize("NFC", f"folder:{name}") for name in NAMES
    }
    answers = {row["output"] for row in rows}
    assert set(NAMES.values()) <= answers
    for row in rows:
        assert row["duration"] <= 2.0


def test_unknown_names_are_listed_with_counts_and_kept(built: BuildReport) -> None:
    rows = {row["name"]: row for row in rows_of(built.folder / "unknown_taxa.csv")}
    assert set(rows) == {*NAMES.values(), "Strix alucco"}
    assert built.unknown_taxa == len(rows)
    assert {row["recordings"] for row in rows.values()} == {"1"}
    assert (rows["Strix alucco"]["how"], rows["Strix alucco"]["suggestions"]) == (
        "misspelling",
        "Strix aluco",
    )
    assert rows["画眉"]["how"] == "unknown"
    # Two words are a scientific name only where they may be Latin.
    answers = {
        row["output"] for row in all_pairs(built.folder).to_pylist() if row["task"] == "species-common"
    }
    assert "Чёрный дрозд" in answers
    kept = Taxonomy.from_csv(built.folder / "taxonomy.csv")
    assert {"Turdus merula", "Strix aluco"} <= {taxon.scientific_name for taxon in kept}
    assert set(NAMES.values()) <= {taxon.scientific_name for taxon in kept}


def test_held_out_taxa_are_in_test_under_any_name(built: BuildReport) -> None:
    """By a synonym, in the background, misspelt, in a caption, or as the label of a sound."""
    rows = all_pairs(built.folder).to_pylist()
    splits = {file: row["split"] for row in rows for file in row["source_files"]}
    assert {splits[f"folder:owl{number}.wav"] for number in range(3)} == {"test"}
    # No share asks for sounds of test.
    assert not {"folder:owl3.wav", "folder:owl4.wav"} & set(splits)
    trained = [row for row in rows if row["split"] == "train"]
    assert trained
    for row in trained:
        assert "Strix aluco" not in row["taxa"]
        assert "owl" not in row["output"].lower()


def test_what_is_built_of_it_passes_the_check(built: BuildReport) -> None:
    report = check_corpus(built.folder)
    assert report.ok, report


def plain_options(archive: Path) -> BuildOptions:
    """Of a folder of sounds, nothing held out by name."""
    return small_options(archive, sources=(source_type("folder")(archive),), splits=SplitOptions())  # type: ignore[call-arg]


def test_an_archive_of_nothing_usable_is_refused_and_the_causes_can_be_read(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    bad = damaged(archive / "bird")
    with pytest.raises(CorpusError, match=r"no recording fits any of the tasks asked for: see failures\.csv"):
        build_corpus(plain_options(archive), tmp_path / "corpus")
    assert set(causes(tmp_path / "corpus")) == {f"bird/{name}" for name in bad}
    assert not (tmp_path / "corpus" / MANIFEST).exists()


def no_column(archive: Path) -> None:
    write(archive / "esc50" / "meta" / "esc50.csv", "filename,fold\na.wav,1\n")


def no_folder(archive: Path) -> None:
    (archive / "esc50").rename(archive / "elsewhere")


def no_table(archive: Path) -> None:
    (archive / "esc50" / "meta" / "esc50.csv").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_column, r"esc50\.csv: no column category, src_file; its header has: filename, fold"),
        (no_folder, r"esc50: no such folder"),
        (no_table, r"esc50\.csv: not found"),
    ],
)
def test_an_archive_that_cannot_be_used_at_all_stops_the_build(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    birds(tmp_path / "archive" / "birds", each=1)
    places(tmp_path / "archive" / "esc50", each=1)
    spoil(tmp_path / "archive")
    with pytest.raises(SourceError, match=message):
        build_corpus(small_options(tmp_path / "archive"), tmp_path / "corpus")


def test_no_recording_at_all_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "archive" / "metadata.csv", "file,species\n")
    with pytest.raises(CorpusError, match="the sources list no recording at all"):
        build_corpus(plain_options(tmp_path / "archive"), tmp_path / "corpus")


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a long recording with events, and of names that a taxonomy of the user's own corrects."""
    folder = tmp_path_factory.mktemp("windows")
    call(folder / "sea" / "ICLISTENHF1251_20130619T000000.000Z.wav", 7, seconds=30.6)
    events = [(1.0, 2.0, "Pm"), (9.9, 10.05, "Oo"), (29.0, 30.6, "Pm")]
    rows = "".join(
        f"ICLISTENHF1251_20130619T000000.000Z.wav,{start},{end},{name}\n" for start, end, name in events
    )
    write(folder / "sea" / "events.csv", "Soundfile,Left time (sec),Right time (sec),Species\n" + rows)
    lines = ["file,species,split"]
    for number, name in enumerate(
        ("Turdus merula", "Turdus merulla", "Turdus merula", "Nova avis", "Nova avis")
    ):
        call(folder / "birds" / f"{number}.wav", 50 + number)
        lines.append(f"{number}.wav,{name},train")
    write(folder / "birds" / "metadata.csv", "\n".join(lines) + "\n")
    table = Taxonomy.from_taxa(
        taxon for taxon in Taxonomy.built_in() if taxon.genus in {"Turdus", "Physeter", "Orcinus"}
    )
    table.to_csv(folder / "own.csv")
    options = BuildOptions(
        name="windows",
        sources=(
            source_type("barkley-canyon")(folder / "sea"),  # type: ignore[call-arg]
            source_type("folder")(folder / "birds"),  # type: ignore[call-arg]
        ),
        shares=(Share("species-scientific"), Share("detection", 12)),
        taxonomy=(folder / "own.csv",),
        splits=SplitOptions(test_share=0.0, validation_share=0.0),
        train_scenes=replace(CLIPS, seconds=10.0),
    )
    return build_corpus(options, folder / "corpus").folder


def test_with_a_taxonomy_a_misspelt_species_is_a_failure(windowed: Path) -> None:
    told = causes(windowed)
    assert told["1.wav"] == (
        "the taxon 'Turdus merulla' is misspelling for Turdus merula: correct it in the archive's metadata"
    )
    unknown = rows_of(windowed / "unknown_taxa.csv")
    assert [(row["source"], row["name"], row["recordings"]) for row in unknown] == [
        ("folder", "Nova avis", "2")
    ]
    heard = {file for row in all_pairs(windowed).to_pylist() for file in row["source_files"]}
    assert "folder:1.wav" not in heard
    assert {"folder:0.wav", "folder:2.wav", "folder:3.wav"} <= heard


def test_windows_carry_the_names_of_what_is_in_them(windowed: Path) -> None:
    named: dict[str, str] = {}
    for row in all_pairs(windowed).to_pylist():
        if row["task"] == "species-scientific":
            named |= dict(zip(row["recordings"][:1], [row["output"]], strict=True))
    at = {key.partition("@")[2]: name for key, name in named.items() if "@" in key}
    assert at["20"] == "Physeter macrocephalus"
    assert "30" not in at
