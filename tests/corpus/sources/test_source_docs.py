import importlib.util
import re
import sys
from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import source_names, source_type

PAGE = Path(__file__).parents[3] / "docs" / "corpus-sources.md"


def test_every_source_is_in_the_documentation() -> None:
    documented = re.findall(
        r"^\| `([a-z0-9-]+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE
    )
    assert sorted([*documented, "folder"]) == sorted(source_names())


def test_the_example_of_a_new_source_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    module = write(tmp_path / "pond_frogs.py", next(block for block in blocks if "class Source" in block))
    spec = importlib.util.spec_from_file_location("pond_frogs", module)
    assert spec and spec.loader
    pond_frogs = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pond_frogs", pond_frogs)
    spec.loader.exec_module(pond_frogs)
    tone(tmp_path / "audio" / "1.wav")
    write(tmp_path / "calls.csv", "file,species,tape,licence\n1.wav,Rana,T1,CC0-1.0\ngone.wav,Rana,T1,\n")
    (frog,), (failure,) = listed(pond_frogs.Source(tmp_path))
    assert (frog.id, frog.species, frog.group, frog.license) == ("1", ("Rana",), "T1", "CC0-1.0")
    assert failure.file_name == "audio/gone.wav"


def test_the_example_of_a_table_works(tmp_path: Path) -> None:
    blocks = re.findall(r"^```csv\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    write(tmp_path / "metadata.csv", blocks[0])
    tone(tmp_path / "pond" / "night1.wav", seconds=50, rate=8000)
    tone(tmp_path / "road.flac")
    recordings, failures = listed(source_type("folder")(tmp_path))
    assert not failures
    assert [recording.kind for recording in recordings] == ["animal", "animal", "environment"]
