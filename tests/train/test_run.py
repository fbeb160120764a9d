"""Training runs: what they leave behind, that they learn, and that parts of a step add up to the whole."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from corpora import write_corpus
from training import WARM_UP, kind_pair, losses, tiny_options, tone

from naturelm.answer.engine import NatureLM
from naturelm.corpus.storage import Corpus
from naturelm.model.loading import load_model
from naturelm.train.building import build_model
from naturelm.train.data import AnswerCollator, TrainingRows
from naturelm.train.mixture import Mixture, mixture_rows
from naturelm.train.options import Lesson, MixtureOptions, TrainError, load_train_options
from naturelm.train.parts import PartRates, part_of, train_only
from naturelm.train.run import train
from naturelm.train.runlog import read_log


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


def test_a_run_leaves_a_model_that_answers_and_a_record(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root, warm_up=WARM_UP, evaluation_pairs=8, sample_answers=2, evaluate_every=3)
    report = train(options, tmp_path / "run")

    assert (report.state, report.steps, report.reason) == ("finished", 6, "")
    run = tmp_path / "run"
    assert set(losses(run)) == set(losses(run, "warm-up")) == {1, 2, 3, 4, 5, 6}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [3, 6]
    assert report.loss == evaluations[-1]["loss"]
    assert set(evaluations[-1]["tasks"]) == {"species-common", "caption"}
    assert sum(task["pairs"] for task in evaluations[-1]["tasks"].values()) == 8
    assert len(evaluations[-1]["samples"]) == 2
    facts = json.loads((run / "run.json").read_text())
    assert facts["state"] == "finished"
    assert facts["corpora"][0]["rows"] == 48
    assert list((run / "tensorboard" / "answers").iterdir())
    clip = tone(700.0, 1.0, seed=0)
    answer = NatureLM.from_pretrained(run / "model").ask(clip, "Which animal is it?", source_rate=16_000)
    assert answer.probability > 0


def test_the_warm_up_begins_with_its_lessons(root: Path, tmp_path: Path) -> None:
    lessons = (Lesson(2, ("caption",)), Lesson(1, ("species-common",), unmixed=True))
    options = tiny_options(root, warm_up=replace(WARM_UP, lessons=lessons), steps=1)
    train(options, tmp_path / "run")

    drawn = {
        line["step"]: set(line["tasks"])
        for line in read_log(tmp_path / "run")
        if line["kind"] == "step" and line["phase"] == "warm-up"
    }
    assert [drawn[step] for step in (1, 2, 3)] == [{"caption"}, {"caption"}, {"species-common"}]
    assert set.union(*(drawn[step] for step in (4, 5, 6))) == {"caption", "species-common"}


def test_training_lowers_the_loss_and_the_warm_up_finds_words(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root, warm_up=replace(WARM_UP, steps=60, learning_rate=3e-3), steps=40)
    train(options, tmp_path / "run")

    warm_up, answers = losses(tmp_path / "run", "warm-up"), losses(tmp_path / "run")
    assert warm_up[60] < 0.6 * warm_up[1]
    assert answers[40] < 0.7 * answers[1]


def test_accumulated_gradients_equal_the_big_batch(root: Path, tmp_path: Path) -> None:
    whole = tiny_options(root)
    train(whole, tmp_path / "whole")
    train(replace(whole, micro_batch_size=2), tmp_path / "parts")

    big, small = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert big.keys() == small.keys()
    assert all(abs(big[step] - small[step]) < 1e-5 for step in big)


def test_recomputed_activations_change_nothing(root: Path, tmp_path: Path) -> None:
    plain = tiny_options(root, steps=4)
    train(plain, tmp_path / "plain")
    train(replace(plain, gradient_checkpointing=True), tmp_path / "saving")

    kept, computed = losses(tmp_path / "plain"), losses(tmp_path / "saving")
    assert all(abs(kept[step] - computed[step]) < 1e-6 for step in kept)


def test_loader_processes_change_nothing(root: Path, tmp_path: Path) -> None:
    train(tiny_options(root, steps=3), tmp_path / "none")
    train(tiny_options(root, steps=3, workers=2), tmp_path / "two")

    assert losses(tmp_path / "none") == losses(tmp_path / "two")


def test_a_run_starts_from_another(root: Path, tmp_path: Path) -> None:
    first = tiny_options(root, steps=2)
    train(first, tmp_path / "first")
    start = replace(first.model, start=str(tmp_path / "first"))
    # A vanishing learning rate: what comes out is what was started from.
    still = replace(first.optimizer, learning_rate=1e-12, warm_up_steps=0, weight_decay=0)
    train(replace(first, model=start, optimizer=still, steps=1), tmp_path / "second")

    before, after = load_model(tmp_path / "first" / "model"), load_model(tmp_path / "second" / "model")
    assert all(
        torch.allclose(tensor, after.state_dict()[name], atol=1e-9)
        for name, tensor in before.state_dict().items()
    )
    assert any("lora_B" in name and tensor.any() for name, tensor in after.state_dict().items())


def a_batch(root: Path) -> tuple:
    options = tiny_options(root)
    torch.manual_seed(0)
    built = build_model(options.model)
    corpora = [Corpus(options.corpus[0])]
    mixture = Mixture(mixture_rows(corpora), MixtureOptions(), batch_size=8, seed=0)
    rows = TrainingRows(corpora, 16_000, 2.0)
    batch = AnswerCollator(built.processor)([rows[row] for row in mixture.batch(0).tolist()])
    batch.pop("examples")
    return options, built.model, batch


@pytest.mark.parametrize("frozen", ["", "ear", "projector", "lora"])
def test_gradients_flow_into_what_is_trained_and_nowhere_else(root: Path, frozen: str) -> None:
    options, model, batch = a_batch(root)
    optimizer = replace(options.optimizer, **({f"{frozen}_scale": 0.0} if frozen else {}))
    train_only(model, PartRates.of_answers(optimizer))

    model.train()
    model(**batch).loss.backward()

    trained = {"ear", "projector", "lora"} - {frozen}
    moved = dict.fromkeys(trained, False)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        if part not in trained:
            assert parameter.grad is None, name
        elif parameter.grad is not None and parameter.grad.any():
            moved[part] = True
    assert all(moved.values()), moved
    # LoRA's A has no gradient while B is still zero. One query attends to itself whatever it asks for, and a
    # shift of all keys changes no attention. Everything else that is trained must have a gradient.
    without = re.compile(r"lora_A|\.attention\.attention\.(query|key)\.|key\.bias|k_proj\.bias")
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not without.search(name) and not parameter.grad.any()
    ]
    assert still == []


def test_what_is_not_drawn_is_not_evaluated(root: Path, tmp_path: Path) -> None:
    rows = [kind_pair(number, "train", source_dataset="esc") for number in range(16)]
    rows += [kind_pair(n, "validation", source_dataset="other+esc" if n % 2 else "esc") for n in range(8)]
    rows += [kind_pair(16, "train", source_dataset="other")]
    corpus = write_corpus(tmp_path / "corpus", rows)
    options = tiny_options(root, corpus=(corpus,), steps=1, evaluate_every=1, evaluation_pairs=8)
    pairs = []
    for name, sources in (("with", {}), ("without", {"other": 0.0})):
        train(replace(options, mixture=MixtureOptions(sources=sources)), tmp_path / name)
        (line,) = (each for each in read_log(tmp_path / name) if each["kind"] == "evaluation")
        pairs.append(sum(task["pairs"] for task in line["tasks"].values()))
    assert pairs == [8, 4]


def test_a_batch_of_eight_is_learnt_by_heart(root: Path) -> None:
    options, model, batch = a_batch(root)
    train_only(model, PartRates.of_answers(options.optimizer))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 600)
        loss = model(**batch).loss
        if loss < 0.05:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.05


@pytest.mark.slow
def test_the_shipped_configuration_learns_a_batch_of_eight_by_heart(root: Path) -> None:
    """The real language model, ear and projector, all untrained but the first."""
    corpus = tiny_options(root).corpus
    options = load_train_options("mini-stage1", corpus=corpus)
    torch.manual_seed(0)
    built = build_model(options.model)
    rows = TrainingRows([Corpus(corpus[0], "train")], 16_000, 2)
    batch = AnswerCollator(built.processor)([rows[number] for number in range(8)])
    batch.pop("examples")
    # The warm-up teaches them, which is left out here.
    optimizer_options = replace(options.optimizer, ear_scale=0.333, projector_scale=0.333)
    train_only(built.model, PartRates.of_answers(optimizer_options))
    built.model.train()
    optimizer = torch.optim.AdamW([p for p in built.model.parameters() if p.requires_grad], lr=6e-4)
    for _ in range(250):
        loss = built.model(**batch).loss
        if loss < 0.05:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(built.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.05


def test_the_labelled_positions_alone_get_logits(root: Path) -> None:
    _, model, batch = a_batch(root)
    labelled = int((batch["labels"][:, 1:] != -100).sum())
    output = model(**batch)
    assert output.logits.shape == (labelled, model.config.text_config.vocab_size)
    assert torch.isclose(output.token_losses.mean(), output.loss)
    part = model(**batch, num_items_in_batch=2 * labelled)
    assert torch.isclose(2 * part.loss, output.loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": ()}, "--corpus"),
        ({"mixture": MixtureOptions(tasks={"bird-song": 1.0})}, "bird-song"),
        ({"batch_size": 7, "micro_batch_size": 4}, "batch_size"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    root: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        train(tiny_options(root, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_misspelt_field_of_the_model_is_named(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root)
    model = replace(options.model, audio={**options.model.audio, "hiden_size": 3})
    with pytest.raises(TrainError, match=r"model\.audio\.hiden_size"):
        train(replace(options, model=model), tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root, steps=1)
    first = train(options, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert train(options, tmp_path / "run", resume=True) == first
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "run" / "model" / "config.json").unlink()  # not whole: it is written again
    assert train(options, tmp_path / "run", resume=True).state == "finished"
    assert (tmp_path / "run" / "model" / "config.json").exists()


def test_a_folder_with_a_run_is_not_overwritten(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root, steps=1)
    train(options, tmp_path / "run")
    with pytest.raises(TrainError, match="--resume"):
        train(options, tmp_path / "run")
    with pytest.raises(TrainError, match="`seed`"):
        train(replace(options, seed=1), tmp_path / "run", resume=True)
    assert train(replace(options, seed=1), tmp_path / "run", fresh=True).state == "finished"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(TrainError, match="not empty"):
        train(options, tmp_path / "other", fresh=True)
