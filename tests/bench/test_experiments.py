"""The four questions: arms trained once and resumed, failures told, and what the numbers are made to say."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from bench.answerers import FakeAnswerer
from corpus.corpora import a_pair, chirps, write_corpus
from naturelm.answer.engine import NatureLM
from naturelm.bench import experiments
from naturelm.bench.comparing import (
    HIGHER,
    LOWER,
    NOT_SHOWN,
    TOO_FEW,
    ArmScores,
    Evidence,
    Mark,
    against_chance,
    level,
    paired,
    unpaired,
)
from naturelm.bench.experiment_report import write_findings
from naturelm.bench.experiments import (
    ARMS,
    STAGE1,
    ExperimentOptions,
    Outcome,
    Processes,
    plan_experiments,
    run_experiments,
)
from naturelm.bench.held_out import AnswerRecord, HeldOutReport, Score
from naturelm.bench.questions import COUNTING, NEEDED, SPEECH_AND_MUSIC, answer_questions
from naturelm.cli.experiments import app
from naturelm.errors import NatureLMError
from naturelm.train import run as train_run
from naturelm.train.options import TrainOptions, load_train_options, save_train_options
from naturelm.train.run import TrainReport
from naturelm.train.runlog import CorpusFacts, Hardware, RunFacts, write_facts

ROWS = 40
TASKS = {
    "mini-captioning": ("caption", "word_f1", 0.1),
    "mini-count": ("count", "exact", 0.25),
    "mini-indiv": ("one-or-more", "exact", 0.5),
    "mini-speaker-count": ("speaker-count", "exact", 0.3),
}
End = Literal["finished", "stopped", "failed"]
Shares = Mapping[tuple[str, str], float]
"""Of the rows that an arm gets right, by arm and component; 0.5 if not named."""


def mark(metric: str, right: bool) -> dict[str, Any]:
    return {metric: float(right)}


def answers(
    arm: str, component: str, shares: Shares, *, rows: int = ROWS
) -> tuple[list[AnswerRecord], Score]:
    task, metric, chance = TASKS.get(component, ("species-common", "exact", 0.02))
    right = round(shares.get((arm, component), 0.5) * rows)
    record = AnswerRecord(
        "", component, task, "", "Q", "A", "W", None, None, None, "", None, None, "", "", ""
    )
    made = [
        replace(record, id=f"{component}-{n}", group=f"{component}-{n}", **mark(metric, n < right))
        for n in range(rows)
    ]
    score = Score(component, task, metric, right / rows, 0.0, 1.0, rows, rows, chance, "uniform guess")
    return made, score


def report(arm: str, shares: Shares, *, rows: int = ROWS) -> HeldOutReport:
    parts = [answers(arm, name, shares, rows=rows) for name in (*NEEDED, "mini-speaker-count")]
    return HeldOutReport(tuple(s for _, s in parts), tuple(a for made, _ in parts for a in made), ())


def evidence(shares: Shares, seeds: int = 2, rows: int = ROWS) -> Evidence:
    found = []
    for seed in range(seeds):
        for arm in ARMS:
            of_arm = report(arm, shares, rows=rows)
            found.append(ArmScores(seed, arm, of_arm.scores, of_arm.answers))
    return Evidence(tuple(found))


@dataclass
class World:
    """A corpus, a trainer and a scorer that do no work, and what they were asked to do."""

    corpus: Path
    corpus_hash: str
    broken: Mapping[str, End] = field(default_factory=dict)
    """How the runs of a name end; `finished` if not named."""
    trained: list[str] = field(default_factory=list)
    options: dict[str, TrainOptions] = field(default_factory=dict)
    scored: list[str] = field(default_factory=list)
    shares: Shares = field(default_factory=dict)

    def train(self, options: TrainOptions, out: Path, *, resume: bool) -> TrainReport:
        assert resume
        self.trained.append(f"{out.parent.name}/{out.name}")
        self.options[self.trained[-1]] = options
        state = self.broken.get(out.name, "finished")
        out.mkdir(parents=True, exist_ok=True)
        save_train_options(options, out / "options.yaml")
        corpora = (CorpusFacts("small", self.corpus_hash, 1),)
        facts = RunFacts(options.name, "", (), 1, Hardware("", 1, None), {}, corpora)
        write_facts(out, replace(facts, state=state, finished=f"after {len(self.trained)}"))
        if state == "finished":
            (out / "model").mkdir(exist_ok=True)
            (out / "model" / "config.json").write_text("{}")
        return TrainReport(out, 1, state, "the loss is no number" if state == "failed" else "", None)

    def score(self, model: Path, corpus: Path, *, limit: int | None, **options: object) -> HeldOutReport:
        arm = model.parent
        self.scored.append(f"{arm.parent.name}/{arm.name}")
        assert corpus == self.corpus
        return report(arm.name, self.shares, rows=min(limit or ROWS, ROWS))

    def go(self, out: Path, **changes: Any) -> Outcome:
        self.trained, self.scored = [], []
        plan = plan_experiments(ExperimentOptions(self.corpus, out, **{"seeds": 2, **changes}))
        return run_experiments(plan, self.train, self.score)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        a_pair(n, "test", dataset_name=name, task=TASKS.get(name, ("species-common",))[0])
        for n, name in enumerate(NEEDED)
    ]
    return write_corpus(tmp_path_factory.mktemp("world") / "small", [a_pair(0), *rows])


@pytest.fixture
def world(corpus: Path, tmp_path: Path) -> World:
    plan = plan_experiments(ExperimentOptions(corpus, tmp_path / "none", 1))
    return World(corpus, plan.corpus_hash)


ALL = [f"seed-{seed}/{name}" for seed in (0, 1) for name in (STAGE1, *ARMS)]
SCORED = [name for name in ALL if not name.endswith(STAGE1)]


def test_arms_differ_in_the_tasks_left_out_alone(world: World, tmp_path: Path) -> None:
    outcome = world.go(tmp_path / "out", changes=("steps=7", "mixture.without_tasks=[caption]"))
    assert world.trained == ALL and world.scored == SCORED
    assert not outcome.failures and not outcome.stopped and len(outcome.scores) == len(SCORED)
    of = {name: world.options[f"seed-1/{name}"] for name in (STAGE1, *ARMS)}
    without = {name: set(options.mixture.without_tasks) for name, options in of.items()}
    assert without == {
        STAGE1: {*COUNTING, *SPEECH_AND_MUSIC},
        "full": {"caption"},
        "without-speech-music": {"caption", *SPEECH_AND_MUSIC},
        "without-counting": {"caption", *COUNTING},
        "without-counting-speech-music": {"caption", *COUNTING, *SPEECH_AND_MUSIC},
    }
    full = of["full"]
    assert full.model.start == str(tmp_path / "out" / "seed-1" / STAGE1)
    assert {(options.steps, options.seed) for name, options in of.items() if name != STAGE1} == {(7, 1)}
    assert of[STAGE1].steps == load_train_options("mini-stage1").steps and of[STAGE1].seed == 1
    for name in ARMS:
        assert replace(of[name], name=full.name, mixture=full.mixture) == full


def test_speech_and_music_are_what_the_shipped_configuration_leaves_out() -> None:
    shipped = load_train_options("mini-stage2-without-speech-music")
    assert set(shipped.mixture.without_tasks) == set(SPEECH_AND_MUSIC)


def test_what_is_there_is_not_done_again(world: World, tmp_path: Path) -> None:
    world.broken = {"without-counting": "stopped"}
    first = world.go(tmp_path / "out")
    assert first.stopped and world.trained[-1] == "seed-0/without-counting"
    assert not world.scored and not first.scores and not first.failures
    world.broken = {}
    second = world.go(tmp_path / "out")
    assert world.trained == ALL[ALL.index("seed-0/without-counting") :]
    assert world.scored == SCORED and len(second.scores) == len(SCORED)
    assert world.go(tmp_path / "out") == second and not world.trained and not world.scored
    fewer = world.go(tmp_path / "out", limit=10)
    assert not world.trained and world.scored == SCORED
    assert {len(of.answers) for of in fewer.scores} == {10 * (len(NEEDED) + 1)}
    (tmp_path / "out" / "seed-0" / "full" / "scores" / "answers.parquet").write_bytes(b"broken")
    assert world.go(tmp_path / "out", limit=10) == fewer and world.scored == ["seed-0/full"]


def test_a_failed_arm_leaves_the_others(world: World, tmp_path: Path) -> None:
    world.broken = {"without-speech-music": "failed"}
    outcome = world.go(tmp_path / "out")
    assert [(of.seed, of.name, of.reason) for of in outcome.failures] == [
        (seed, "without-speech-music", "the loss is no number") for seed in (0, 1)
    ]
    assert world.scored == [name for name in SCORED if not name.endswith("/without-speech-music")]
    fourth = answer_questions(Evidence(outcome.scores))[3]
    assert fourth.says == "Nothing: no arm that would tell has been trained and scored."
    world.broken = {STAGE1: "failed"}
    outcome = world.go(tmp_path / "other")
    assert world.trained == ["seed-0/stage1", "seed-1/stage1"] and not outcome.scores
    assert outcome.failures[1].reason == "its first stage has failed" and len(outcome.failures) == 10


def test_an_error_in_training_is_a_failure_and_an_interruption_stops(world: World, tmp_path: Path) -> None:
    plan = plan_experiments(ExperimentOptions(world.corpus, tmp_path / "out", 1))

    def train(error: BaseException) -> Callable[..., TrainReport]:
        def run(options: TrainOptions, out: Path, *, resume: bool) -> TrainReport:
            if out.name == "full":
                raise error
            return world.train(options, out, resume=resume)

        return run

    short = run_experiments(plan, train(RuntimeError("out of\nmemory")), world.score)
    assert [of.reason for of in short.failures] == ["out of memory"] and len(short.scores) == 3
    assert run_experiments(plan, train(KeyboardInterrupt()), world.score).stopped


def test_processes_share_out_the_scoring(world: World, tmp_path: Path) -> None:
    """Each trains all runs; what the other one scores is read from the folders."""
    plan = plan_experiments(ExperimentOptions(world.corpus, tmp_path / "out", 1))
    waited: list[int] = []
    second = run_experiments(
        plan, world.train, world.score, processes=Processes(1, 2, lambda: waited.append(1))
    )
    assert (second.scores, second.failures, waited) == ((), (), [1])
    assert world.scored == SCORED[1:4:2]
    plan = plan_experiments(ExperimentOptions(world.corpus, tmp_path / "out", 1))
    first = run_experiments(
        plan, world.train, world.score, processes=Processes(0, 2, lambda: waited.append(0))
    )
    assert world.scored == [*SCORED[1:4:2], *SCORED[0:4:2]] and waited == [1, 0]
    assert [of.arm for of in first.scores] == list(ARMS) and not first.failures


def test_what_another_process_has_not_scored_is_a_failure(world: World, tmp_path: Path) -> None:
    plan = plan_experiments(ExperimentOptions(world.corpus, tmp_path / "out", 1))
    outcome = run_experiments(plan, world.train, world.score, processes=Processes(0, 2))
    assert [of.arm for of in outcome.scores] == list(ARMS)[::2]
    assert [of.name for of in outcome.failures] == list(ARMS)[1::2]


def test_a_start_is_used_for_all_seeds(world: World, tmp_path: Path) -> None:
    first = load_train_options("mini-stage1", (), [world.corpus])
    world.train(first, tmp_path / "begun", resume=True)
    world.go(tmp_path / "out", start=tmp_path / "begun")
    assert world.trained == SCORED
    assert {world.options[name].model.start for name in SCORED} == {str(tmp_path / "begun")}
    plan = plan_experiments(ExperimentOptions(world.corpus, tmp_path / "out", 1, tmp_path / "begun"))
    assert "may have learnt from count, one-or-more, speaker-count" in plan.notes[1]
    clean = replace(first.mixture, without_tasks=(*COUNTING, *SPEECH_AND_MUSIC))
    world.train(replace(first, mixture=clean), tmp_path / "clean", resume=True)
    plan = plan_experiments(ExperimentOptions(world.corpus, tmp_path / "new", 1, tmp_path / "clean"))
    assert len(plan.notes) == 1


def test_bad_input_is_refused_before_anything_is_trained(world: World, tmp_path: Path) -> None:
    world.go(tmp_path / "out")
    world.broken = {"begun": "stopped"}
    world.train(load_train_options("mini-stage1"), tmp_path / "begun", resume=True)
    small = write_corpus(tmp_path / "other", [a_pair(0), a_pair(0, "test", dataset_name="mini-count")])
    rebuilt = write_corpus(
        tmp_path / "rebuilt",
        [a_pair(n, "test", dataset_name=name) for n, name in enumerate(NEEDED)],
        name="rebuilt",
    )
    cases: Sequence[tuple[dict[str, Any], str]] = (
        ({"changes": ("steps=9",)}, "another `steps`; give another --out"),
        ({"changes": ("step=9",)}, "--set step=9: step: there is no such key"),
        ({"changes": ("seed=9",)}, "--set seed=9: each arm has its own"),
        ({"start": tmp_path / "begun"}, "another `model`"),
        ({"start": tmp_path / "begun", "out": tmp_path / "new"}, "begun: not a finished run"),
        ({"start": tmp_path / "nowhere", "out": tmp_path / "new"}, "no run.json"),
        ({"corpus": small}, "no component mini-captioning"),
        ({"corpus": rebuilt}, "another build of the corpus"),
        ({"corpus": tmp_path / "nowhere"}, "nowhere"),
        ({"seeds": 0}, "seeds: must be 1 or more"),
    )
    for changes, message in cases:
        with pytest.raises(NatureLMError, match=message):
            plan_experiments(
                ExperimentOptions(**{"corpus": world.corpus, "out": tmp_path / "out", "seeds": 1, **changes})
            )


def test_known_numbers_make_known_tables() -> None:
    found = answer_questions(
        evidence(
            {
                ("full", "mini-seen-cmn"): 0.9,
                ("full", "mini-unseen-family-cmn"): 0.0,
                ("without-counting", "mini-count"): 0.8,
                ("without-counting-speech-music", "mini-count"): 0.4,
                ("without-counting", "mini-indiv"): 0.5,
                ("full", "mini-captioning"): 0.2,
                ("without-speech-music", "mini-captioning"): 0.6,
            }
        )
    )
    assert [of.number for of in found] == [1, 2, 3, 4]
    unseen, transfer, _, without = ({line.about: line for line in of.lines} for of in found)
    of_chance, of_seen = unseen["unseen families"].comparisons
    assert (of_chance.value, of_chance.against) == (pytest.approx(-0.02), "chance")
    assert of_seen.value == pytest.approx(-0.9) and of_seen.verdict == LOWER
    assert [of.arm for of in unseen["counting"].levels] == ["without-counting", "full"]
    assert unseen["counting"].comparisons[0].value == pytest.approx(0.8 - 0.25)
    assert [c.against for c in unseen["scientific names of unseen species"].comparisons] == ["chance"]
    (gain,) = transfer["counting"].comparisons
    assert gain.value == pytest.approx(0.4) and gain.verdict == HIGHER
    assert gain.by_seed == pytest.approx({0: 0.4, 1: 0.4})
    assert transfer["counting"].levels[0].value == pytest.approx(0.8)
    assert (transfer["counting"].levels[0].rows, transfer["counting"].levels[0].groups) == (ROWS, ROWS)
    assert transfer["counting"].chance == 0.25
    assert found[1].says == (
        "without-counting against without-counting-speech-music: higher for counting (exact) by 0.400 in 2 of 2 "
        "seeds; no difference shown for one or more (exact), counting speakers (exact): the interval of the "
        "difference contains 0."
    )
    assert {line.about: line.comparisons[0].verdict for line in found[2].lines} == {
        "captions": NOT_SHOWN,
        "counting": HIGHER,
        "one or more": NOT_SHOWN,
    }
    assert set(without) == set(NEEDED)  # of animals alone: no speakers
    assert without["mini-captioning"].comparisons[0].value == pytest.approx(-0.4)
    assert "lower for mini-captioning (word_f1) by 0.400 in 2 of 2 seeds" in found[3].says


def test_few_rows_tell_nothing() -> None:
    shares = {("full", "mini-count"): 1.0, ("without-speech-music", "mini-count"): 0.0}
    for rows, verdict in ((5, TOO_FEW), (6, HIGHER)):
        lines = answer_questions(evidence(shares, rows=rows))[3].lines
        assert {line.about: line for line in lines}["mini-count"].comparisons[0].verdict == verdict


marks = st.dictionaries(
    st.tuples(st.integers(0, 2), st.sampled_from("abcdefgh")),
    st.sampled_from([0.0, 0.5, 1.0]).map(lambda value: Mark(value, "g")),
    min_size=1,
)


@settings(deadline=None)
@given(marks, marks, st.floats(0, 1))
def test_differences_are_those_of_the_means(
    ours: dict[Any, Mark], theirs: dict[Any, Mark], chance: float
) -> None:
    ours, theirs = ({key: Mark(m.value, key[1]) for key, m in of.items()} for of in (ours, theirs))
    reached, other = level("ours", ours), level("theirs", theirs)
    above = against_chance(reached, chance)
    assert above.value == pytest.approx(reached.value - chance)
    assert (above.low, above.high) == (reached.low - chance, reached.high - chance)
    apart = unpaired("ours", ours, "theirs", theirs)
    assert apart is not None and apart.value == pytest.approx(reached.value - other.value)
    shared = paired("ours", ours, "theirs", theirs)
    assert (shared is None) == (not set(ours) & set(theirs))
    same = paired("ours", ours, "ours", ours)
    assert same is not None and (same.low, same.value, same.high) == (0, 0, 0) and same.agreeing == 0


def test_marks_of_several_seeds_are_not_several_rows() -> None:
    one = {(0, str(n)): Mark(float(n % 2), str(n)) for n in range(20)}
    three = {(seed, row): mark for seed in range(3) for (_, row), mark in one.items()}
    few, many = level("arm", one), level("arm", three)
    assert (many.low, many.high, many.rows) == (few.low, few.high, few.rows)


def test_files_hold_the_table(world: World, tmp_path: Path) -> None:
    outcome = world.go(tmp_path / "out")
    plan = plan_experiments(ExperimentOptions(world.corpus, tmp_path / "out", 2))
    files = write_findings(plan, outcome)
    values = json.loads(files[0].read_text(encoding="utf-8"))
    assert values["seeds"] == 2 and values["failures"] == [] and len(values["questions"]) == 4
    counting = values["questions"][1]["lines"][0]
    assert counting["comparisons"][0]["verdict"] == NOT_SHOWN and counting["levels"][0]["value"] == 0.5
    page = files[1].read_text(encoding="utf-8")
    assert page.count("\n## ") == 4 and "0.500 (" in page and "seeds 0.500, 0.500" in page
    assert all(of["paper"] in page for of in values["questions"])
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.count(" | ") == table[0].count(" | ") for line in table[:6])


def test_small_closed_sets_of_what_is_asked_for_are_chosen_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer = FakeAnswerer(lambda query: "1")
    monkeypatch.setattr(NatureLM, "from_pretrained", lambda model: answerer)
    largest = experiments.MOST_CHOSEN_FROM
    rows = [
        a_pair(
            number,
            "test",
            samples=chirps(0.1),
            dataset_name=name,
            task=task,
            output=str(label),
            **{"id": f"{name}-{label}"},
        )
        for number, (name, task, labels) in enumerate(
            [("small", "count", largest), ("large", "count", largest + 1), ("voices", "speaker-sex", 2)]
        )
        for label in range(labels)
    ]
    corpus = write_corpus(tmp_path / "corpus", [a_pair(0), *rows])
    told: list[tuple[int, int]] = []
    found = experiments.score_model(
        tmp_path, corpus, limit=5, progress=lambda done, total: told.append((done, total))
    )
    assert {(of.component, of.metric) for of in found.scores} == {
        ("small", "exact"),
        ("small", "choice"),
        ("large", "exact"),
    }
    assert {of.component: of.n for of in found.scores} == {"small": 5, "large": 5}
    assert told[-1] == (5, 5) and not found.failures


@pytest.fixture
def command(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(train_run, "train", world.train)
    monkeypatch.setattr(experiments, "score_model", world.score)

    def run(*arguments: str) -> Result:
        given = ["run", "--corpus", str(world.corpus), "--out", str(tmp_path / "out"), "--seeds", "1"]
        return CliRunner().invoke(app, [*given, *arguments])

    return run


def test_the_command(command: Callable[..., Result], world: World, tmp_path: Path) -> None:
    result = command("--set", "steps=7")
    assert result.exit_code == 0, result.output
    plan = [line for line in result.stderr.splitlines() if "to be trained" in line]
    assert (
        len(plan) == 5 and "seed 0, without-counting: to be trained, 7 steps of 16 pairs; without " in plan[3]
    )
    assert result.stdout.count("## ") == 4 and (tmp_path / "out" / "experiments.md").exists()
    world.broken = {"without-counting": "failed"}
    again = command("--set", "steps=7", "--json")
    assert again.exit_code == 0 and len(json.loads(again.stdout)["questions"]) == 4
    assert "finished, 7 steps" in again.stderr


def test_exit_codes(command: Callable[..., Result], world: World, tmp_path: Path) -> None:
    world.broken = {"without-counting": "stopped"}
    stopped = command()
    assert stopped.exit_code == 130 and "the same command goes on" in stopped.stderr
    world.broken = {"without-counting": "failed"}
    failed = command()
    assert failed.exit_code == 1 and "seed 0, without-counting: the loss is no number" in failed.stderr
    assert "failed: seed 0, without-counting" in failed.stdout and world.trained[-1].endswith("speech-music")
    refused = command("--set", "seed=3")
    assert refused.exit_code == 2 and refused.stderr.count("error:") == 1
    world.broken = {STAGE1: "failed"}
    assert command("--out", str(tmp_path / "new")).exit_code == 2
