"""The model card: everything that is known of a model, and nothing that its run's files could smuggle in."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.corpora import a_pair, write_corpus
from naturelm.corpus.storage import MANIFEST
from naturelm.model.birdnet import BirdNetConfig
from naturelm.model.configuration import NatureLMProjectorConfig
from naturelm.train.card import ModelFacts, count_parameters, model_card, require_license
from naturelm.train.lineage import Stage, find_model, read_lineage
from naturelm.train.options import (
    Lesson,
    MixtureOptions,
    ModelOptions,
    TrainError,
    TrainOptions,
    WarmUpOptions,
    save_train_options,
)
from naturelm.train.runlog import CorpusFacts, Gpu, Hardware, RunFacts, RunLog, write_facts
from tiny import tiny_config, tiny_model, tiny_projector_config, tiny_tokenizer

FACTS = RunFacts(
    name="tiny-stage1",
    started="2026-01-02T03:04:05+00:00",
    finished="2026-01-02T05:04:05+00:00",
    state="finished",
    command=("/home/me/bin/naturelm", "train", "tiny.yaml", "--corpus", "/home/me/small", "--set", "model.start=/home/me/run0"),
    processes=2,
    hardware=Hardware("Some CPU", 4, 8 * 2**30, (Gpu("Some GPU", 2**34), Gpu("Some GPU", 2**34))),
    versions={"python": "3.11.9", "torch": "2.13.0"},
    task_shares={"species-common": 0.75, "detection": 0.25},
    source_shares={"xeno-canto": 1.0},
)  # fmt: skip
WARM_UP = WarmUpOptions(100, colouring_db=5, lessons=(Lesson(30, ("species-common",), unmixed=True),))
STEP = {"kind": "step", "phase": "answers", "loss": 1.0}
LOG: tuple[dict[str, Any], ...] = (
    {"kind": "step", "phase": "warm-up", "step": 100, "seconds": 1800.0},
    {**STEP, "step": 10, "seconds": 900.0, "tasks": {"species-common": {"pairs": 60}}, "sources": {"xeno-canto": 60}},
    {**STEP, "step": 20, "seconds": 5400.0, "tasks": {"species-common": {"pairs": 20}, "detection": {"pairs": 20}},
     "sources": {"xeno-canto": 40}},
    {"kind": "evaluation", "phase": "answers", "step": 10, "loss": 2.5,
     "tasks": {"detection": {"pairs": 8, "loss": 2.5, "accuracy": 0.25, "exact": 0.125}}},
    {"kind": "evaluation", "phase": "answers", "step": 20, "loss": 0.75,
     "tasks": {"detection": {"pairs": 8, "loss": 0.75, "accuracy": 0.875, "exact": 0.625}}},
)  # fmt: skip


def a_model(**changes: Any) -> ModelFacts:
    facts = ModelFacts(
        config=tiny_config(text_model="smollm2-135m-instruct"),
        parameters={"ear": 1000, "projector": 200, "hints": 0, "lora": 30, "language model": 135_000_000},
        layout="naturelm",
        stored=2_460_000,
        with_language_model=False,
    )
    return replace(facts, **changes)


def a_run(
    folder: Path, *, options: TrainOptions, facts: RunFacts = FACTS, log: Sequence[dict[str, Any]] = LOG
) -> Path:
    """A run's folder with a final model, as far as it is looked at here; returns the model's."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    save_train_options(options, folder / "options.yaml")
    write_facts(folder, facts)
    for line in log:
        RunLog(folder).append(line)
    return folder / "model"


def tiny_options(*corpus: Path, **changes: Any) -> TrainOptions:
    fields = {"name": "tiny-stage1", "steps": 20, "corpus": corpus, "warm_up": WARM_UP}
    return TrainOptions(**{**fields, **changes})


def corpus_facts(folder: Path, rows: int) -> CorpusFacts:
    return CorpusFacts(folder.name, sha256((folder / MANIFEST).read_bytes()).hexdigest(), rows)


def stages_of(tmp_path: Path, **facts: Any) -> tuple[Stage, ...]:
    return read_lineage(a_run(tmp_path / "run", options=tiny_options(), facts=replace(FACTS, **facts)))


def rows_of(card: str, heading: str) -> dict[str, list[str]]:
    """A table by its first column."""
    lines = card.split(f"| {heading} |", 1)[1].splitlines()[2:]
    table = lines[: next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {row[0]: row[1:] for row in cells}


def test_front_matter_as_the_hub_reads_it() -> None:
    data = ModelCard(model_card(a_model(), name="tiny", license="cc-by-nc-sa-4.0")).data
    assert data.license == "cc-by-nc-sa-4.0"
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (data.library_name, data.pipeline_tag) == ("naturelm", "audio-text-to-text")
    assert "bioacoustics" in data.tags


def test_nothing_is_made_up_without_a_licence_a_base_or_a_run(tmp_path: Path) -> None:
    config = tiny_config(text_model=str(tmp_path))
    card = model_card(a_model(config=config, with_language_model=True), name="tiny")
    data = ModelCard(card).data
    assert data.license is None
    assert data.base_model is None
    assert "No licence has been chosen" in card
    assert "## Training data\n\nNot known." in card
    assert "## Results\n\nNone were measured." in card
    assert "They hold the language model's own weights" in card


def test_the_model_in_numbers() -> None:
    card = model_card(a_model(), name="tiny")
    parts = rows_of(card, "part | what | parameters")
    assert parts["ear"] == ["naturelm\\_beats, 2 layers, 24 wide, 16000 Hz", "1,000"]
    assert parts["lora"] == ["rank 4, alpha 8, on q\\_proj, k\\_proj, v\\_proj, o\\_proj", "30"]
    assert parts["together"][-1] == "135,001,230"
    assert "2.5 MB" in card
    assert "read from smollm2-135m-instruct" in card
    assert "hears up to 8 kHz" in card


def test_parameters_are_counted_once() -> None:
    model = tiny_model()
    counts = count_parameters(model)
    assert sum(counts.values()) == sum(parameter.numel() for parameter in model.parameters())
    # Two layers, rank 4, the numbers that go in and come out of q, k, v and o.
    assert counts["lora"] == 2 * 4 * ((32 + 32) + (32 + 16) + (32 + 16) + (32 + 32))
    assert counts["ear"] == sum(parameter.numel() for parameter in model.ear.parameters())


def test_what_is_spelt_out_for_the_language_model() -> None:
    projector = tiny_projector_config(
        word_hints=[
            {"task": "species-common", "words": 3, "tokens": 2},
            {"task": "sex", "words": 1, "tokens": 1},
        ]
    )
    model = tiny_model(projector_config=projector)
    assert model.config.projector_config.hinted_words == ()
    of_task = {task: np.ones(4, bool) for task in ("species-common", "sex")}
    places = {task: np.zeros(4) for task in of_task}
    model.word_hints.learn(("dog", "cat", "male", "female"), of_task, places, tiny_tokenizer())
    counts = count_parameters(model)
    assert counts["hints"] == 2 * 32 + 4 * (24 + 1)  # a vector a task, and the reader
    assert sum(counts.values()) == sum(parameter.numel() for parameter in model.parameters())
    card = model_card(a_model(config=model.config, parameters=counts), name="tiny")
    spelt = rows_of(card, "part | what | parameters")["hints"]
    assert spelt == ["spelt out: 4 words, for 2 kinds of question", "164"]
    assert "of 4 that the audio side was taught before it: 3 for species-common, 1 for sex." in card
    assert "hints" not in rows_of(model_card(a_model(), name="tiny"), "part | what | parameters")


def test_birdnets_licence_is_told() -> None:
    projector = NatureLMProjectorConfig(kind="mean", honour_mask=True, label_hints=1)
    config = tiny_config(audio_config=BirdNetConfig(), projector_config=projector)
    card = model_card(a_model(config=config), name="tiny")
    assert "BirdNET 2.4" in card and "CC-BY-NC-SA-4.0 (share-alike, non-commercial)" in card
    assert "Commercial use is forbidden." in card
    assert "the ear was taught" not in card and "hears up to 15 kHz" in card
    projector.taught_labels = ("cat (Felis catus)", "dog (Canis familiaris)")
    card = model_card(a_model(config=config), name="tiny")
    assert "the ear was taught these 2: cat (Felis catus), dog (Canis familiaris)." in card
    assert "BirdNET" not in model_card(a_model(), name="tiny")


def test_data_with_licences_and_what_they_bind(tmp_path: Path) -> None:
    of = [
        ("CC0-1.0", "esc"),
        ("CC-BY-NC-SA-4.0", "xeno-canto"),
        ("CC-BY-NC-SA-4.0 + GPL-2.0+", "xeno-canto+esc"),
        ("GPL-3.0", "esc"),
    ]
    pairs = [a_pair(n, license=licence, source_dataset=source) for n, (licence, source) in enumerate(of)]
    corpus = write_corpus(tmp_path / "small", [*pairs, a_pair(9, "test", license="CC-BY-ND-4.0")])
    facts = replace(FACTS, corpora=(corpus_facts(corpus, 4), CorpusFacts("gone", "f" * 64, 70)))
    model = a_run(tmp_path / "run", options=tiny_options(corpus, tmp_path / "gone"), facts=facts)
    card = model_card(a_model(), read_lineage(model), name="tiny")

    corpora = rows_of(card, "corpus | training pairs | hours | build")
    assert corpora["small"][:2] == ["4", "0.0011"]
    assert corpora["gone"][:2] == ["70", ""]
    assert "No longer there to be read" in card
    licences = rows_of(card, "licence of the sounds | pairs | share | hours")
    assert licences["CC-BY-NC-SA-4.0"][:2] == ["2", "50.0%"]
    assert "CC-BY-ND-4.0" not in card  # not trained on
    assert rows_of(card, "source | pairs | share | hours")["esc"][:2] == ["3", "75.0%"]
    assert licences["GPL-2.0+"][0] == "1"
    assert "- CC-BY-NC-SA-4.0 (share-alike, non-commercial)\n" in card
    assert "- GPL-3.0 (share-alike)\n" in card
    assert "- CC0-1.0\n" in card
    assert "may bind the model" in card
    assert "some or all training data are not known" in card


def test_another_build_of_a_corpus_is_not_described(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "small", [a_pair(0, license="CC0-1.0")])
    facts = replace(FACTS, corpora=(corpus_facts(corpus, 1),))
    write_corpus(tmp_path / "small", [a_pair(0, license="GPL-3.0")], seed=2)
    model = a_run(tmp_path / "run", options=tiny_options(corpus), facts=facts)
    card = model_card(a_model(), read_lineage(model), name="tiny")
    assert "No longer there to be read" in card
    assert "GPL" not in card


def test_training(tmp_path: Path) -> None:
    card = model_card(a_model(), stages_of(tmp_path), name="tiny")
    mixture = rows_of(card, "task | share asked for | drawn | share drawn")
    assert mixture["species-common"] == ["75.0%", "80", "80.0%"]
    assert mixture["detection"] == ["25.0%", "20", "20.0%"]
    assert "100 steps of 32 clips, learning rate 0.001, clips coloured by 5 dB" in card
    assert "| 30 steps of species-common, clips of one source and one taxon |" in card
    assert "20 of 8 pairs" in card
    assert "beta 0.9 and 0.999, weight decay 0.05" in card
    assert "2 processes; first one on 2 x Some GPU" in card
    assert "2.00 hours" in card  # half an hour of perception, one and a half of answers
    assert "python 3.11.9, torch 2.13.0" in card
    assert "naturelm train tiny.yaml --corpus small --set model.start=run0" in card
    assert "/home/me" not in card


def test_results(tmp_path: Path) -> None:
    row = {"component": "unseen", "metric": "exact", "value": 0.31, "low": 0.25, "high": 0.375, "n": 1200,
           "chance": 0.01, "baseline": None}  # fmt: skip
    stages = stages_of(tmp_path)
    evaluated = rows_of(
        model_card(a_model(), stages, name="tiny"), "task | pairs | loss | tokens right | pairs right"
    )
    assert evaluated == {"detection": ["8", "0.75", "0.875", "0.625"]}

    (tmp_path / "run" / "scores.json").write_text(json.dumps([row]))
    card = model_card(a_model(), read_lineage(tmp_path / "run" / "model"), name="tiny")
    scores = rows_of(card, "component | metric | value | interval | n | chance | baseline")
    assert scores["unseen"] == ["exact", "0.31", "0.25 to 0.375", "1,200", "0.01", ""]


@pytest.mark.parametrize("content", ["{", '{"component": 1}', "[1]"])
def test_scores_that_are_none(tmp_path: Path, content: str) -> None:
    model = a_run(tmp_path / "run", options=tiny_options())
    (tmp_path / "run" / "scores.json").write_text(content)
    with pytest.raises(TrainError, match=r"scores\.json"):
        read_lineage(model)


def test_a_checkpoint_is_described_up_to_its_step(tmp_path: Path) -> None:
    a_run(
        tmp_path / "run",
        options=tiny_options(),
        facts=replace(FACTS, state="stopped", reason="out of | time"),
    )
    checkpoint = tmp_path / "run" / "checkpoints" / "answers-000010"
    checkpoint.mkdir(parents=True)
    (tmp_path / "run" / "scores.json").write_text('[{"component": "of the final model"}]')
    card = model_card(a_model(), read_lineage(checkpoint), name="tiny")
    assert "that of step 10 of the answers; the run is stopped (out of \\| time)" in card
    assert "at step 10," in card
    assert "0.875" not in card
    assert "of the final model" not in card
    assert rows_of(card, "task | share asked for | drawn | share drawn")["species-common"][1] == "60"


def test_the_run_before_is_a_part_of_it(tmp_path: Path) -> None:
    """What the first stage learnt from is in the model too."""
    corpora = [write_corpus(tmp_path / name, [a_pair(0, license=name)]) for name in ("first", "second")]
    known = [replace(FACTS, corpora=(corpus_facts(corpus, 1),)) for corpus in corpora]
    first = a_run(tmp_path / "run1", options=tiny_options(corpora[0]), facts=known[0])
    second = a_run(
        tmp_path / "run2",
        options=tiny_options(
            corpora[1], name="tiny-stage2", model=ModelOptions(start=str(tmp_path / "run1"))
        ),
        facts=known[1],
    )
    stages = read_lineage(second)
    assert [stage.options.name for stage in stages] == ["tiny-stage1", "tiny-stage2"]
    card = model_card(a_model(), stages, name="tiny")
    assert set(rows_of(card, "corpus | training pairs | hours | build")) == {"first", "second"}
    assert "Started from the model run1." in card
    assert find_model(tmp_path / "run1") == first

    (tmp_path / "run1" / "run.json").unlink()
    assert len(read_lineage(second)) == 1


def test_a_run_that_started_from_itself(tmp_path: Path) -> None:
    model = a_run(tmp_path / "run", options=tiny_options(model=ModelOptions(start=str(tmp_path / "run"))))
    assert len(read_lineage(model)) == 1


hostile = st.text(max_size=30) | st.sampled_from(
    [
        "\n---\nlicense: mit",
        "| a | b |",
        "```\n# Title",
        "<script>",
        "[x](javascript:y)",
        "a\r\n\r\n# b",
        "\u202etxt",
    ]
)


@pytest.fixture(scope="module")
def a_stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return stages_of(tmp_path_factory.mktemp("stage"))[0]


@settings(max_examples=60, deadline=None)
@given(hostile, hostile, st.dictionaries(hostile, st.floats() | hostile | st.integers(), max_size=3))
def test_text_from_a_run_cannot_pass_for_the_card(
    a_stage: Stage, one: str, other: str, values: dict[str, Any]
) -> None:
    log: list[dict[str, Any]] = [
        {**STEP, "step": 1, "seconds": one, "tasks": {one: values, other: None}, "sources": values},
        {
            "kind": "evaluation",
            "phase": "answers",
            "step": 1,
            "loss": other,
            "tasks": {one: {"pairs": other, **values}},
        },
    ]
    facts = replace(
        FACTS, name=one, command=(one, other, f"/{one}"), reason=other, state="failed", versions={one: other},
        hardware=Hardware(one, 1, None), corpora=(CorpusFacts(other, one, 10**30),), task_shares={one: 0.5},
    )  # fmt: skip
    scores = ({"component": one, "metric": other, "value": 10**400, **values},)
    hurt = replace(a_stage, facts=facts, log=tuple(log), scores=scores)
    plain = model_card(a_model(), [replace(a_stage, scores=({},))], name="tiny")
    card = model_card(a_model(), [hurt], name=one + other)

    assert yaml.safe_load(card.split("---\n")[1]) == yaml.safe_load(plain.split("---\n")[1])
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert headings == [line for line in plain.splitlines() if line.startswith("## ")]
    assert len([line for line in card.splitlines() if line.startswith("# ")]) == 1
    *_, before_command, command, after_command = re.split(r"^(`{3,}\n.*\n`{3,})$", card, flags=re.MULTILINE)
    assert "<" not in before_command + after_command
    assert command.count("\n") == 2
    for line in card.splitlines():
        if line.startswith("|"):
            unescaped = line.replace("\\\\", "").replace("\\|", "")
            assert unescaped.count("|") in {3, 4, 5, 6, 8}


@pytest.mark.parametrize("license", ["", "MIT", "mit\nlicense_link: x", "a b", "-"])
def test_a_licence_is_an_identifier(license: str) -> None:
    with pytest.raises(TrainError, match="not an identifier"):
        require_license(license)


def test_mixture_options_are_told(tmp_path: Path) -> None:
    options = tiny_options(mixture=MixtureOptions(temperature=3.0, taxon_cap=250))
    card = model_card(a_model(), read_lineage(a_run(tmp_path / "run", options=options)), name="tiny")
    assert "| temperature of the mixture | 3 |" in card
    assert "| most pairs of a taxon | 250 |" in card
