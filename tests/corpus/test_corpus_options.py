from pathlib import Path

import pytest

from naturelm.corpus.augment import AugmentOptions
from naturelm.corpus.options import BuildOptions, CorpusError, Share, SplitOptions, load_options
from naturelm.corpus.scene import SceneOptions
from naturelm.corpus.sources import source_type

GOOD = """
name: field-trip
seed: 7
sources:
  - {source: folder, folder: sounds, table: sounds/table.csv}
  - {source: esc50, folder: ESC-50-master}
shares:
  - {task: species-common, pairs: 100, realm: real}
  - {task: detection, split: test, dataset_name: my-detection, novelty: [seen, unseen-genus], sources: [folder]}
taxonomy: [backbone.zip]
splits: {species: [Turdus merula], test_share: 0.2, recordists_apart: false}
train_scenes:
  seconds: 8
  augment: {snr_db: [-5, 20], probability: 1e-1}
test_scenes: {shortest: 0.5}
most_seconds: 60
created_at: "2024-05-01"
"""


def given(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "build.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def with_(tmp_path: Path, lines: str, *, leave_out: str = "") -> Path:
    """A short, good file and some lines more."""
    short = {
        "name": "name: small",
        "sources": "sources: [{source: esc50, folder: esc}, {source: folder, folder: sounds}]",
        "shares": "shares: [{task: caption}]",
    }
    kept = [text for key, text in short.items() if key != leave_out and not lines.startswith(f"{key}:")]
    return given(tmp_path, "\n".join([*kept, lines]))


def test_a_file_gives_the_options_that_it_says(tmp_path: Path) -> None:
    assert load_options(given(tmp_path, GOOD)) == BuildOptions(
        name="field-trip",
        seed=7,
        sources=(
            source_type("folder")(Path("sounds"), Path("sounds/table.csv")),  # type: ignore[call-arg]
            source_type("esc50")(Path("ESC-50-master")),  # type: ignore[call-arg]
        ),
        shares=(
            Share("species-common", 100, realm="real"),
            Share(
                "detection",
                None,
                "test",
                "my-detection",
                novelty=("seen", "unseen-genus"),
                sources=("folder",),
            ),
        ),
        taxonomy=(Path("backbone.zip"),),
        splits=SplitOptions(species=("Turdus merula",), test_share=0.2, recordists_apart=False),
        train_scenes=SceneOptions(seconds=8.0, augment=AugmentOptions(probability=0.1, snr_db=(-5.0, 20.0))),
        test_scenes=SceneOptions(shortest=0.5),
        most_seconds=60.0,
        created_at="2024-05-01",
    )


def test_what_is_left_out_has_its_default_and_options_can_be_keys(tmp_path: Path) -> None:
    options = load_options(with_(tmp_path, ""))
    assert options.train_scenes == SceneOptions() and options.splits == SplitOptions()
    assert options.scenes("train") is options.train_scenes
    assert options.scenes("validation") is options.scenes("test") is options.test_scenes
    assert {options: 1}[load_options(with_(tmp_path, ""))] == 1


def test_names_of_shares_tell_them_apart() -> None:
    shares = [
        Share("caption"),
        Share("caption", split="test"),
        Share("caption", split="test", dataset_name="other"),
        Share("caption", realm="real"),
        Share("caption", novelty=("seen",)),
        Share("caption", sources=("esc50",)),
    ]
    assert len({share.name for share in shares}) == len(shares)
    assert Share("caption", 5).name == Share("caption", 9).name


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("nam: x", "nam: there is no such key; there are: name, shares"),
        ("5: x", "5: there is no such key"),
        ("shares: [{task: caption}, {task: genus, pair: 5}]", r"shares\[1\]\.pair: there is no such key"),
        ("splits: {test_shares: 0.1}", r"splits\.test_shares: there is no such key.*test_share"),
        ("train_scenes: {augment: {snr: [0, 5]}}", r"train_scenes\.augment\.snr: there is no such key"),
        ("sources: [{source: esc50, folder: a, table: b}]", r"sources\[0\]\.table: there is no such key"),
        ("sources: [{source: esc50, folder: a}, {source: esc50}]", r"sources\[1\]\.folder: Field required"),
        ("sources: [{source: esc50, folder: 5}]", r"sources\[0\]\.folder: "),
        (
            "sources: [{source: esc51, folder: a}]",
            r"sources\[0\]\.source: no source is called 'esc51'.*esc50",
        ),
        ("sources: [{source: ../esc50, folder: a}]", r"sources\[0\]\.source: no source is called"),
        ("sources: [{folder: a}]", r"sources\[0\] needs a key `source`"),
        ("sources: [esc50]", r"sources\[0\] needs a key `source`"),
        ("sources: []", "`sources` lists the archives"),
        ("sources: esc50", "`sources` lists the archives"),
        ("shares: []", "shares: must list"),
        ("shares: 5", "shares: "),
        ("shares: [caption]", r"shares\[0\]: "),
        ("shares: [{pairs: 5}]", r"shares\[0\]\.task: Field required"),
        ("shares: [{task: ''}]", r"shares\[0\]\.task: must not be empty"),
        ("shares: [{task: caption, pairs: many}]", r"shares\[0\]\.pairs: .*integer"),
        ("shares: [{task: caption, pairs: 1.5}]", r"shares\[0\]\.pairs: .*integer"),
        ("shares: [{task: caption, pairs: true}]", r"shares\[0\]\.pairs: must be a number, not true"),
        ("shares: [{task: caption, pairs: -1}]", r"shares\[0\]\.pairs: must be 0 or more, not -1"),
        ("shares: [{task: caption, split: training}]", r"shares\[0\]\.split: .*'train'"),
        ("shares: [{task: caption, realm: fauna}]", r"shares\[0\]\.realm: .*'invented'"),
        ("shares: [{task: caption, novelty: [new]}]", r"shares\[0\]\.novelty\[0\]: .*'unseen-genus'"),
        ("shares: [{task: caption, novelty: seen}]", r"shares\[0\]\.novelty: "),
        ("shares: [{task: caption, dataset_name: a/b}]", r"shares\[0\]\.dataset_name: must be a plain name"),
        ("splits: {species: Turdus merula}", r"splits\.species: "),
        ("splits: {species_share: 1.2}", r"splits\.species_share: must be between 0 and 1, not 1.2"),
        ("splits: {families_share: -0.1}", r"splits\.families_share: must be between 0 and 1"),
        ("splits: {genera_share: .nan}", r"splits\.genera_share: must be between 0 and 1"),
        ("splits: {test_share: 0.7, validation_share: 0.6}", r"splits\.validation_share: must be 1 or less"),
        ("splits: {recordists_apart: maybe}", r"splits\.recordists_apart: .*boolean"),
        ("splits: [0.1]", "splits: "),
        ("train_scenes: {seconds: 0}", r"train_scenes\.seconds: must be a number above 0"),
        ("train_scenes: {seconds: .inf}", r"train_scenes\.seconds: must be a number above 0"),
        ("test_scenes: {seconds: 2, shortest: 3}", r"test_scenes\.shortest: must be between 0 and `seconds`"),
        ("train_scenes: {augment: {probability: 2}}", r"train_scenes\.augment\.probability: must be between"),
        ("train_scenes: {augment: {snr_db: [5, -5]}}", r"train_scenes\.augment\.snr_db: .*smaller one first"),
        ("train_scenes: {augment: {speed: [a, 1]}}", r"train_scenes\.augment\.speed\[0\]: .*number"),
        ("train_scenes: {augment: {speed: [1]}}", r"train_scenes\.augment\.speed"),
        ("train_scenes: {augment: {level_db: [-9, 3]}}", r"train_scenes\.augment\.level_db: must be"),
        ("seed: -1", "seed: must be 0 or more"),
        ("most_seconds: .inf", "most_seconds: must be a number above 0"),
        ("event_window: -3", "event_window: must be a number above 0"),
        ("pairs_per_shard: 0", "pairs_per_shard: must be 1 or more"),
        ("created_at: 2024-05-01", "created_at: .*string"),
        ("name: 5", "name: .*string"),
        ("name: ''", "name: must not be empty"),
        ("name: ../up", "name: must be a plain name"),
        ("taxonomy: backbone.zip", "taxonomy: "),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(tmp_path: Path, lines: str, key: str) -> None:
    path = with_(tmp_path, lines)
    with pytest.raises(CorpusError, match=rf"build\.yaml: {key}") as raised:
        load_options(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["name", "sources", "shares"])
def test_a_key_that_must_be_there_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(CorpusError, match=rf"build\.yaml: .*{key}"):
        load_options(with_(tmp_path, "", leave_out=key))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "expected keys such as `name:`"),
        ("- name: a list\n", "expected keys such as `name:`"),
        ("just text", "expected keys such as `name:`"),
        ("name: [unclosed", "not readable as YAML"),
        ("name: \x00", "not readable as YAML"),
        ("created_at: 2024-13-45", "not readable as YAML: month"),
        ("!!python/object/apply:os.getcwd []", "not readable as YAML"),
        ("[" * 4000, "nested too deep"),
        ("a: &a [*a]", "`sources` lists the archives"),
        ("name: one\nname: two\n", "the key 'name' is given twice"),
        ("splits: {test_share: 0.1, test_share: 0.2}", "the key 'test_share' is given twice"),
    ],
    ids=lambda text: text[:20].encode("unicode_escape").decode(),
)
def test_a_file_that_is_no_options_says_so_in_one_line(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(CorpusError, match=rf"build\.yaml: .*{cause}") as raised:
        load_options(given(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone\.yaml: no such file"):
        load_options(tmp_path / "gone.yaml")
    with pytest.raises(CorpusError, match="not readable as YAML"):
        load_options(tmp_path)
    binary = tmp_path / "sound.wav"
    binary.write_bytes(b"RIFF\xff\xfe\x80\x81")
    with pytest.raises(CorpusError, match=r"sound\.wav: not readable as YAML"):
        load_options(binary)


def test_options_made_in_python_are_checked_as_well() -> None:
    with pytest.raises(CorpusError, match=r"^pairs: must be 0 or more, not -2"):
        Share("caption", -2)
    with pytest.raises(CorpusError, match=r"^shares: must list"):
        BuildOptions("small", ())
    with pytest.raises(CorpusError, match=r"^species_share: must be between 0 and 1"):
        SplitOptions(species_share=float("inf"))


def test_the_build_file_of_the_documentation_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text(encoding="utf-8")
    (tmp_path / "birds.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    options = load_options(tmp_path / "birds.yaml")
    assert [share.task for share in options.shares][:2] == ["species-common", "species-scientific"]
    assert len(options.sources) == 4 and options.splits.families == ("Alytidae",)
