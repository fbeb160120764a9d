"""Options of a run: what a file gives, what is wrong in it, what ships."""

import dataclasses
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naturelm.corpus.tasks import TASKS
from naturelm.train.options import (
    LoraOptions,
    MixtureOptions,
    ModelOptions,
    OptimizerOptions,
    TrainError,
    TrainOptions,
    WarmUpOptions,
    load_train_options,
    save_train_options,
    shipped_configurations,
)

SPEECH_AND_MUSIC = {
    "speaker-count",
    "speaker-sex",
    "speaker-pitch",
    "transcript",
    "instrument-family",
    "note-pitch",
}
FOCAL = {"species-common": 1.0, "species-scientific": 1.0, "species-taxonomic": 1.0}


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_the_options_that_it_says(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        name: pond
        corpus: [ponds, /data/lakes]
        steps: 1e3
        model:
          start: mini
          lora: {rank: 4, alpha: 8, targets: [q_proj]}
          audio: {hidden_size: 32, layer_norm_eps: 1e-6}
        mixture: {tasks: {caption: 2}, sources: {esc50: 0}, temperature: 3, taxon_cap: 50}
        warm_up: {steps: 7}
        optimizer: {learning_rate: 3e-4, ear_scale: 0}
        precision: bfloat16
        """,
    )
    assert load_train_options(path) == TrainOptions(
        name="pond",
        corpus=(Path("ponds"), Path("/data/lakes")),
        steps=1000,
        model=ModelOptions(
            start="mini",
            lora=LoraOptions(4, 8.0, targets=("q_proj",)),
            audio={"hidden_size": 32, "layer_norm_eps": 1e-6},
        ),
        mixture=MixtureOptions({"caption": 2.0}, sources={"esc50": 0.0}, temperature=3.0, taxon_cap=50),
        warm_up=WarmUpOptions(7),
        optimizer=OptimizerOptions(learning_rate=3e-4, ear_scale=0.0),
        precision="bfloat16",
    )


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("stepz: 5", "stepz: there is no such key; there are: name, steps"),
        ("optimizer: {lr: 1}", r"optimizer\.lr: there is no such key; there are: learning_rate"),
        ("model: {lora: {r: 8}}", r"model\.lora\.r: there is no such key"),
        ("warm_up: {steps: 5, batch: 8}", r"warm_up\.batch: there is no such key"),
        ("warm_up: {batch_size: 8}", r"warm_up\.steps: Field required"),
        ("warm_up: {steps: 5, colouring_db: -1}", r"warm_up\.colouring_db: must be 0 or more"),
        ("warm_up: {steps: true}", r"warm_up\.steps: must be a number, not true"),
        (
            "warm_up: {steps: 5, lessons: [{steps: 6, tasks: [a]}]}",
            r"warm_up\.lessons: must take no more than the warm-up's `steps`, 5, and take 6",
        ),
        (
            "warm_up: {steps: 5, tasks: [a], lessons: [{steps: 2, tasks: [a, b]}]}",
            r"warm_up\.lessons\[0\]\.tasks: must be among the `tasks` of the warm-up, and b is not",
        ),
        ("warm_up: {steps: 5, lessons: [{steps: 2}]}", r"warm_up\.lessons\[0\]\.tasks: Field required"),
        ("warm_up: {steps: 5, lessons: [{steps: 2, tasks: []}]}", r"warm_up\.lessons\[0\]\.tasks: must name"),
        ("mixture: {tasks: {caption: true}}", r"mixture\.tasks\.caption: must be a number, not true"),
        ("mixture: {tasks: {caption: -1}}", r"mixture\.tasks\.caption: must be 0 or more, not -1"),
        ("mixture: {tasks: {caption: much}}", r"mixture\.tasks\.caption: .*number"),
        ("mixture: {tasks: {caption: 0}}", r"mixture\.tasks: must give a weight above 0"),
        ("mixture: {tasks: {sex: 1}, without_tasks: [sex]}", r"mixture\.tasks: must give a weight above 0"),
        ("mixture: {tasks: [caption]}", r"mixture\.tasks: .*dictionary"),
        ("mixture: {sources: {esc50: .inf}}", r"mixture\.sources\.esc50: must be 0 or more"),
        ("mixture: {temperature: 0.5}", r"mixture\.temperature: must be 1 or more"),
        ("mixture: {taxon_cap: 0}", r"mixture\.taxon_cap: must be 1 or more"),
        ("mixture: {max_seconds: 0}", r"mixture\.max_seconds: must be a number above 0"),
        ("optimizer: {learning_rate: 0}", r"optimizer\.learning_rate: must be a number above 0"),
        ("optimizer: {learning_rate: fast}", r"optimizer\.learning_rate: .*number"),
        ("optimizer: {final_learning_rate: 1}", r"optimizer\.final_learning_rate: must be from 0 to"),
        ("optimizer: {beta2: 1}", r"optimizer\.beta2: must be 0 or more and below 1"),
        ("optimizer: {weight_decay: .nan}", r"optimizer\.weight_decay: must be 0 or more"),
        (
            "optimizer: {ear_scale: 0, projector_scale: 0, lora_scale: 0}",
            r"optimizer\.ear_scale: .*nothing is",
        ),
        ("model: {lora: {dropout: 1}}", r"model\.lora\.dropout: must be 0 or more and below 1"),
        ("model: {lora: {targets: []}}", r"model\.lora\.targets: must name the layers"),
        ("model: {start: a, ear_weights: b.pt}", r"model\.ear_weights: must be left out with `start`"),
        ("model: {clip_seconds: 90}", r"model\.max_clip_seconds: must be 90 or more"),
        ("model: {prompt_template: 'no place'}", r"model\.prompt_template: must have exactly one"),
        ("model: {audio: {since: 2024-05-01}}", r"model\.audio: must hold texts, numbers"),
        ("model: {audio: &a {within: *a}}", r"model\.audio: must hold texts, numbers"),
        ("parallel: dp", "parallel: .*'ddp' or 'fsdp'"),
        ("precision: float16", "precision: .*'bfloat16'"),
        ("batch_size: 0", "batch_size: must be 1 or more"),
        ("batch_size: 1.5", "batch_size: .*integer"),
        ("workers: -1", "workers: must be 0 or more"),
        ("threads: 0", "threads: must be 1 or more"),
        ("name: ''", "name: must not be empty"),
        ("name: a/b", "name: must be a plain name"),
        ("corpus: ponds", "corpus: "),
        ("seed: 1\nseed: 2", "not readable as YAML: the key 'seed' is given twice"),
        ("optimizer: {beta1: 0.8, beta1: 0.9}", "not readable as YAML: the key 'beta1' is given twice"),
        ("base: 5", "base: must be a configuration's name"),
        ("base: nobody", r"base: .*nobody: no such file"),
        ("base: run.yaml", "base: more than 8 files build on each other"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(tmp_path: Path, lines: str, key: str) -> None:
    short = "" if lines.startswith("name:") else "name: short\n"
    path = written(tmp_path, f"{short}steps: 10\n{lines}\n")
    with pytest.raises(TrainError, match=rf"run\.yaml: {key}") as raised:
        load_train_options(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [("", "expected keys such as"), ("[1]", "expected keys such as"), ("name: [", "not readable as YAML")],
)
def test_a_file_that_is_no_options_says_so(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(TrainError, match=rf"run\.yaml: {cause}"):
        load_train_options(written(tmp_path, text))


def test_a_configuration_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"^mini-stage3: no configuration .*mini-stage1.*official-stage2"):
        load_train_options("mini-stage3")
    with pytest.raises(TrainError, match=r"gone\.yaml: no such file"):
        load_train_options(tmp_path / "gone.yaml")


def test_overrides_change_nested_keys_and_the_last_one_wins() -> None:
    options = load_train_options(
        "mini-stage2",
        [
            "optimizer.learning_rate=1e-3",
            "optimizer.learning_rate=2e-4",
            "mixture.tasks={caption: 1, sex: 2}",
            "warm_up.steps=3",
            "model.start=a=b",
            "mixture.taxon_cap=",
        ],
        [Path("ponds")],
    )
    assert options.optimizer.learning_rate == 2e-4
    assert options.mixture.tasks == {"caption": 1.0, "sex": 2.0}
    assert options.warm_up == WarmUpOptions(3)
    assert options.model.start == "a=b"
    assert options.mixture.taxon_cap is None
    assert options.corpus == (Path("ponds"),)
    assert options.model.audio == load_train_options("mini-stage2").model.audio


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "--set steps: expected KEY=VALUE"),
        ("=5", "--set =5: expected KEY=VALUE"),
        ("optimizer..beta1=5", "expected KEY=VALUE"),
        ("optimizer.lr=5", r"--set optimizer\.lr=5: optimizer\.lr: there is no such key"),
        ("optimiser.beta1=0", r"--set optimiser\.beta1=0: optimiser: there is no such key"),
        ("steps.first=5", r"--set steps\.first=5: steps: has no keys below it"),
        ("steps=many", "--set steps=many: steps: .*integer"),
        ("steps=[", r"--set steps=\[: steps: not readable as YAML"),
        ("optimizer.beta2=2", r"--set optimizer\.beta2=2: optimizer\.beta2: must be"),
        ("mixture={tasks: {sex: x}}", r"--set mixture=\{tasks: \{sex: x\}\}: mixture\.tasks\.sex: "),
        ("corpus=[5]", r"--set corpus=\[5\]: corpus\[0\]: "),
        # The override makes wrong what the file says.
        (
            "optimizer.learning_rate=1e-6",
            r"official-stage1\.yaml: optimizer\.final_learning_rate: must be from",
        ),
    ],
)
def test_an_override_that_is_wrong_is_named(override: str, message: str) -> None:
    with pytest.raises(TrainError, match=f"^{message}" if message.startswith("--") else message) as raised:
        load_train_options("official-stage1", [override])
    assert "\n" not in str(raised.value)


def test_a_file_builds_on_another(tmp_path: Path) -> None:
    written(
        tmp_path, "base: mini-stage1\nmixture: {sources: {esc50: 0}}\nmodel: {lora: {rank: 2}}", "mine.yaml"
    )
    top = written(tmp_path, "base: mine.yaml\nname: top\nmixture: {tasks: {}}\nwarm_up: null")
    first, options = load_train_options("mini-stage1"), load_train_options(top)
    assert options == dataclasses.replace(
        first,
        name="top",
        warm_up=None,
        model=dataclasses.replace(first.model, lora=dataclasses.replace(first.model.lora, rank=2)),
        mixture=MixtureOptions(sources={**first.mixture.sources, "esc50": 0.0}),
    )


def test_an_error_names_the_file_of_those_that_build_on_each_other(tmp_path: Path) -> None:
    written(tmp_path, "name: low\nsteps: none\nbatch_size: none", "low.yaml")
    top = written(tmp_path, "base: low.yaml\nsteps: 5", "top.yaml")
    with pytest.raises(TrainError, match=r"low\.yaml: batch_size: "):
        load_train_options(top)


TEXT = st.text(max_size=20)
NAME = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=10)
SHARE = st.floats(0, 1, exclude_max=True)
WEIGHT = st.floats(0, 1e9)
RATE = st.floats(1e-12, 10)
COUNT = st.integers(1, 10**9)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(TEXT, PLAIN, max_size=3)
PATH = TEXT.map(Path)
MODELS = st.builds(
    ModelOptions,
    start=st.none(),
    llm=st.text(min_size=1, max_size=20),
    ear_weights=st.none() | PATH,
    audio=FIELDS,
    projector=FIELDS,
    lora=st.builds(
        LoraOptions,
        rank=COUNT,
        alpha=RATE,
        dropout=SHARE,
        targets=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3).map(tuple),
    ),
    clip_seconds=st.floats(0.1, 10),
    max_clip_seconds=st.floats(10, 100),
    prompt_template=st.none() | TEXT.map(lambda text: text.replace("{}", "") + "{}"),
    end_of_answer=st.none() | st.text(min_size=1, max_size=5),
    add_bos=st.none() | st.booleans(),
)
OPTIONS = st.builds(
    TrainOptions,
    name=NAME,
    steps=COUNT,
    corpus=st.lists(PATH, max_size=2).map(tuple),
    model=MODELS,
    mixture=st.builds(
        MixtureOptions,
        tasks=st.dictionaries(TEXT, st.floats(1e-3, 1e3), max_size=3),
        sources=st.dictionaries(TEXT, WEIGHT, max_size=3),
        temperature=st.floats(1, 1e6),
        taxon_cap=st.none() | COUNT,
        max_seconds=st.none() | RATE,
    ),
    warm_up=st.none() | st.builds(WarmUpOptions, steps=COUNT, learning_rate=RATE, tasks=st.tuples(TEXT)),
    optimizer=st.builds(
        OptimizerOptions,
        learning_rate=st.floats(1e-3, 10),
        final_learning_rate=st.floats(0, 1e-3),
        beta1=SHARE,
        ear_scale=WEIGHT,
    ),
    precision=st.sampled_from(["auto", "float32", "bfloat16"]),
    threads=st.none() | COUNT,
    wandb=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPTIONS)
def test_what_is_saved_is_read_back_equal(tmp_path: Path, options: TrainOptions) -> None:
    path = tmp_path / "options.yaml"
    save_train_options(options, path)
    assert load_train_options(path) == options
    assert [each.name for each in tmp_path.iterdir()] == ["options.yaml"]


@pytest.mark.parametrize("name", shipped_configurations())
def test_a_shipped_configuration_is_saved_in_full_and_read_back(tmp_path: Path, name: str) -> None:
    options = load_train_options(name)
    save_train_options(options, tmp_path / "options.yaml")
    assert load_train_options(tmp_path / "options.yaml") == options
    assert "base:" not in (tmp_path / "options.yaml").read_text()
    assert options.name == name


def test_options_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"missing.options\.yaml: cannot be written"):
        save_train_options(load_train_options("mini-stage1"), tmp_path / "missing" / "options.yaml")


def test_the_official_stages_have_the_released_hyper_parameters() -> None:
    first, second = load_train_options("official-stage1"), load_train_options("official-stage2")
    assert first.model.llm == "meta-llama/Llama-3.1-8B-Instruct"
    assert first.model.lora == LoraOptions(32, 32.0, 0.1, ("q_proj", "k_proj", "v_proj", "o_proj"))
    assert first.model.clip_seconds == 10 and first.model.ear_weights is None
    rates = first.optimizer
    assert (rates.initial_learning_rate, rates.learning_rate, rates.final_learning_rate) == (0, 9e-5, 1e-5)
    assert (rates.warm_up_steps, rates.weight_decay, rates.beta2) == (5000, 0.05, 0.999)
    assert (rates.ear_scale, rates.projector_scale, rates.lora_scale) == (1, 1, 1)
    assert (first.steps, second.steps) == (500_000, 2_000_000)
    assert first.gradient_checkpointing and first.precision == "auto"
    assert first.mixture.tasks == FOCAL and not second.mixture.tasks
    assert second == dataclasses.replace(
        first, name="official-stage2", steps=2_000_000, mixture=MixtureOptions()
    )


@pytest.mark.parametrize("name", ["official", "mini"])
def test_the_second_stage_starts_from_the_first(name: str) -> None:
    options = load_train_options(f"{name}-stage2", ["model.start=runs/stage1"])
    assert options.model.start == "runs/stage1"


@pytest.mark.parametrize("name", ["official-stage2", "mini-stage2"])
def test_an_ablation_is_its_base_without_these_tasks(name: str) -> None:
    base, ablation = load_train_options(name), load_train_options(f"{name}-without-speech-music")
    assert set(ablation.mixture.without_tasks) == SPEECH_AND_MUSIC
    assert ablation == dataclasses.replace(
        base,
        name=ablation.name,
        mixture=dataclasses.replace(base.mixture, without_tasks=ablation.mixture.without_tasks),
    )


@pytest.mark.parametrize("name", shipped_configurations())
def test_shipped_configurations_name_tasks_that_there_are(name: str) -> None:
    mixture = load_train_options(name).mixture
    assert {*mixture.tasks, *mixture.without_tasks} <= {task.name for task in TASKS}


def test_only_the_first_mini_stage_warms_up() -> None:
    warm_up = load_train_options("mini-stage1").warm_up
    assert warm_up is not None and warm_up.batch_size == 32
    assert load_train_options("mini-stage2").warm_up is None
