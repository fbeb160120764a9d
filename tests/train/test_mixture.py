"""The mixture: shares as asked for, the same batches whoever asks, whenever, and for whichever process."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from corpus.corpora import a_pair, chirps, write_corpus
from naturelm.corpus.schema import PAIR_SCHEMA
from naturelm.corpus.storage import DATA, Corpus, write_table
from naturelm.train.mixture import (
    Mixture,
    MixtureRows,
    OneAfterAnother,
    StepBatches,
    mixture_rows,
    source_of,
)
from naturelm.train.options import MixtureOptions, TrainError

TASKS = ("naming", "detection", "captioning")
SOURCES = ("archive", "invented", "archive+noise", "noise+archive")
TAXA = ("Turdus merula", "Strix aluco")


def rows_of(
    *groups: tuple[int, str, str, tuple[str, ...]], tokens: Sequence[int] | None = None
) -> MixtureRows:
    """Groups of equal rows: how many, task, source, taxa."""
    flat = [group[1:] for group in groups for _ in range(group[0])]
    return MixtureRows(
        tasks=np.array([row[0] for row in flat], dtype=object),
        sources=np.array([row[1] for row in flat], dtype=object),
        taxa=[row[2] for row in flat],
        seconds=np.full(len(flat), 5.0),
        tokens=np.array(tokens if tokens is not None else np.arange(len(flat)) % 7 + 20, dtype=np.int64),
    )


def share(mixture: Mixture, values: Sequence[object], value: object) -> float:
    """Expected share of the draws of the rows that have a value."""
    return float(mixture.probabilities[[found == value for found in values]].sum())


def epoch_of(mixture: Mixture, epoch: int) -> np.ndarray:
    """All draws of an epoch, (steps, batch_size)."""
    first = epoch * mixture.steps_per_epoch
    return np.stack([mixture.batch(first + step) for step in range(mixture.steps_per_epoch)])


@st.composite
def tables(draw: st.DrawFn) -> MixtureRows:
    """A few dozen rows of any kind, of which the first is `naming` of `archive`, so that one is left in."""
    kinds = st.tuples(
        st.integers(1, 12),
        st.sampled_from(TASKS),
        st.sampled_from(SOURCES),
        st.lists(st.sampled_from(TAXA), max_size=2, unique=True).map(tuple),
    )
    rows = rows_of((1, "naming", "archive", ()), *draw(st.lists(kinds, max_size=8)))
    tokens = draw(st.lists(st.integers(1, 60), min_size=len(rows), max_size=len(rows)))
    return replace(rows, tokens=np.array(tokens, dtype=np.int64))


weights = st.floats(0.01, 100)


@st.composite
def cases(draw: st.DrawFn) -> tuple[MixtureRows, MixtureOptions, int, int]:
    """Rows, options that leave some of them in, batch size and seed."""
    rows = draw(tables())
    others = sorted(set(rows.tasks) - {"naming"})
    options = MixtureOptions(
        tasks=draw(
            st.sampled_from([{}, {"naming": draw(weights)}, {n: draw(weights) for n in set(rows.tasks)}])
        ),
        without_tasks=tuple(draw(st.lists(st.sampled_from(others), max_size=1))) if others else (),
        sources=draw(st.dictionaries(st.just("archive"), weights)),
        temperature=draw(st.floats(1, 10)),
        taxon_cap=draw(st.none() | st.integers(1, 6)),
    )
    return rows, options, draw(st.integers(1, 8)), draw(st.integers(0, 2**31))


Case = tuple[MixtureRows, MixtureOptions, int, int]


@settings(max_examples=100, deadline=None)
@given(cases(), st.lists(st.integers(0, 10**7), min_size=1, max_size=6))
def test_a_batch_depends_on_seed_and_step_alone(case: Case, steps: list[int]) -> None:
    rows, options, batch_size, seed = case
    one = Mixture(rows, options, batch_size=batch_size, seed=seed)
    in_order = {step: one.batch(step).tolist() for step in sorted(steps)}
    for step in steps:
        fresh = Mixture(rows, options, batch_size=batch_size, seed=seed)
        assert fresh.batch(step).tolist() == in_order[step]
        assert one.batch(step).tolist() == in_order[step]
        assert len(in_order[step]) == batch_size
        assert np.all(np.diff(rows.tokens[in_order[step]]) >= 0)


def test_a_caller_who_changes_a_batch_changes_no_other() -> None:
    mixture = Mixture(rows_of((9, "naming", "archive", ())), MixtureOptions(), batch_size=3, seed=0)
    before = mixture.batch(1).tolist()
    mixture.batch(1)[:] = 0
    assert mixture.batch(1).tolist() == before


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(0, 1000))
def test_each_row_comes_as_often_as_expected_rounded_down_or_up(case: Case, epoch: int) -> None:
    rows, options, batch_size, seed = case
    mixture = Mixture(rows, options, batch_size=batch_size, seed=seed)
    assert mixture.probabilities.sum() == pytest.approx(1)
    draws = epoch_of(mixture, epoch)
    expected = mixture.probabilities * draws.size
    counts = np.bincount(draws.ravel(), minlength=len(rows))
    assert np.all(counts >= np.floor(expected - 1e-9))
    assert np.all(counts <= np.ceil(expected + 1e-9))
    # So it is with whole tasks, which shows that they are drawn as shares say in every epoch.
    for task in TASKS:
        of_task = rows.tasks == task
        assert abs(counts[of_task].sum() - expected[of_task].sum()) < 1 + 1e-9


def test_without_weights_an_epoch_shows_each_row_once() -> None:
    mixture = Mixture(rows_of((24, "naming", "archive", TAXA)), MixtureOptions(), batch_size=4, seed=3)
    first, second = epoch_of(mixture, 0), epoch_of(mixture, 1)
    assert sorted(first.ravel().tolist()) == sorted(second.ravel().tolist()) == list(range(24))
    assert first.tolist() != second.tolist()
    other = Mixture(rows_of((24, "naming", "archive", TAXA)), MixtureOptions(), batch_size=4, seed=4)
    assert epoch_of(other, 0).tolist() != first.tolist()


def test_rows_left_over_by_whole_batches_take_turns() -> None:
    mixture = Mixture(rows_of((7, "naming", "archive", ())), MixtureOptions(), batch_size=4, seed=0)
    counts = np.bincount(np.concatenate([epoch_of(mixture, e).ravel() for e in range(700)]), minlength=7)
    # 400 expected; a row is in an epoch or not, four times in seven.
    assert np.all(np.abs(counts - 400) < 5 * (700 * 4 / 7 * 3 / 7) ** 0.5)


def test_a_batch_larger_than_the_corpus_repeats_rows() -> None:
    mixture = Mixture(rows_of((3, "naming", "archive", ())), MixtureOptions(), batch_size=8, seed=0)
    assert set(Counter(mixture.batch(0).tolist()).values()) == {2, 3}


def test_shares_follow_rows_weights_and_temperature() -> None:
    rows = rows_of((900, "naming", "archive", ()), (100, "detection", "archive", ()))
    plain = Mixture(rows, MixtureOptions(), batch_size=10, seed=0)
    assert share(plain, rows.tasks, "naming") == pytest.approx(0.9)
    flat = Mixture(rows, MixtureOptions(temperature=2.0), batch_size=10, seed=0)
    assert share(flat, rows.tasks, "naming") == pytest.approx(30 / 40)
    weighed = MixtureOptions(tasks={"naming": 1.0, "detection": 9.0}, temperature=2.0)
    mixture = Mixture(rows, weighed, batch_size=10, seed=0)
    assert share(mixture, rows.tasks, "detection") == pytest.approx(90 / 120)
    drawn = epoch_of(mixture, 0)
    assert np.count_nonzero(rows.tasks[drawn] == "detection") == pytest.approx(750, abs=1)


def test_tasks_that_are_not_named_are_not_drawn() -> None:
    rows = rows_of(*((50, task, "archive", ()) for task in TASKS))
    named = MixtureOptions(tasks={"naming": 2.0, "detection": 1.0})
    assert share(Mixture(rows, named, batch_size=5, seed=0), rows.tasks, "captioning") == 0
    without = Mixture(rows, replace(named, without_tasks=("naming",)), batch_size=5, seed=0)
    assert share(without, rows.tasks, "detection") == pytest.approx(1)
    zero = Mixture(rows, MixtureOptions(tasks={"naming": 0.0, "detection": 1.0}), batch_size=5, seed=0)
    assert set(rows.tasks[epoch_of(zero, 0)].ravel()) == {"detection"}


def test_a_source_weighs_within_its_task() -> None:
    rows = rows_of(
        (30, "naming", "archive", ()), (30, "naming", "invented", ()), (60, "detection", "archive", ())
    )
    mixture = Mixture(rows, MixtureOptions(sources={"invented": 2.0}), batch_size=10, seed=0)
    assert share(mixture, rows.tasks, "naming") == pytest.approx(0.5)
    assert share(mixture, rows.sources, "invented") == pytest.approx(0.5 * 2 / 3)
    mixed = rows_of((30, "naming", "archive+noise", ()), (30, "naming", "noise+archive", ()))
    mixture = Mixture(mixed, MixtureOptions(sources={"noise": 3.0}), batch_size=10, seed=0)
    assert share(mixture, mixed.sources, "noise+archive") == pytest.approx(3 / 4)
    assert [source_of(name) for name in ("noise+archive", "noise")] == ["noise", "noise"]


@settings(max_examples=50, deadline=None)
@given(tables(), st.integers(0, 99))
def test_a_source_of_weight_zero_is_never_drawn(rows: MixtureRows, seed: int) -> None:
    known = {part for joined in rows.sources for part in joined.split("+")}
    options = MixtureOptions(sources={name: 0.0 for name in ("invented", "noise") if name in known})
    mixture = Mixture(rows, options, batch_size=4, seed=seed)
    assert set(rows.sources[np.concatenate([epoch_of(mixture, e) for e in range(3)])].ravel()) == {"archive"}
    assert mixture.steps_per_epoch == max(1, np.count_nonzero(rows.sources == "archive") // 4)


def test_a_capped_taxon_weighs_no_more_than_the_cap() -> None:
    blackbird, owl = TAXA
    rows = rows_of(
        (80, "naming", "archive", (blackbird, owl)),
        (10, "naming", "archive", (owl,)),
        (20, "naming", "archive", ()),
        (50, "detection", "archive", ()),
    )
    mixture = Mixture(rows, MixtureOptions(taxon_cap=20), batch_size=10, seed=0)
    # Of naming 20 + 10 + 20 rows count, as many as of detection.
    assert share(mixture, rows.tasks, "naming") == pytest.approx(0.5)
    assert share(mixture, rows.taxa, (blackbird, owl)) == pytest.approx(0.5 * 20 / 50)
    assert share(mixture, rows.taxa, (owl,)) == pytest.approx(0.5 * 10 / 50)
    # In shorter epochs than the taxon has rows, all of its rows take part in the end.
    drawn = {row for epoch in range(60) for row in epoch_of(mixture, epoch).ravel().tolist()}
    assert drawn == set(range(160))


def test_the_cap_holds_for_weighed_rows() -> None:
    blackbird, owl = TAXA
    rows = rows_of((30, "naming", "archive", (blackbird,)), (10, "naming", "invented", (owl,)))
    options = MixtureOptions(sources={"archive": 2.0}, taxon_cap=40)
    mixture = Mixture(rows, options, batch_size=10, seed=0)
    assert share(mixture, rows.taxa, (blackbird,)) == pytest.approx(40 / 50)


def test_longer_clips_are_left_out() -> None:
    rows = rows_of((40, "naming", "archive", ()))
    seconds = np.where(np.arange(40) < 20, np.float64(np.float32(10.1)), 10.2)
    mixture = Mixture(replace(rows, seconds=seconds), MixtureOptions(max_seconds=10.1), batch_size=4, seed=0)
    assert set(epoch_of(mixture, 0).ravel().tolist()) == set(range(20))


@settings(max_examples=50, deadline=None)
@given(tables(), st.integers(0, 2**31))
def test_unmixed_clips_have_one_source_and_one_taxon_at_most(rows: MixtureRows, seed: int) -> None:
    mixture = Mixture(rows, MixtureOptions(unmixed=True), batch_size=4, seed=seed)
    wanted = [
        "+" not in source and len(taxa) < 2 for source, taxa in zip(rows.sources, rows.taxa, strict=True)
    ]
    assert (mixture.probabilities > 0).tolist() == wanted


@given(st.lists(st.integers(1, 4), max_size=4), st.integers(0, 25))
def test_mixtures_take_turns_each_from_its_beginning(steps: list[int], step: int) -> None:
    mixtures = [
        Mixture(rows_of((9, "naming", "archive", ())), MixtureOptions(), batch_size=3, seed=seed)
        for seed in range(len(steps) + 1)
    ]
    drawn = [mixtures[turn].batch(own) for turn, count in enumerate(steps) for own in range(count)]
    drawn += [mixtures[-1].batch(own) for own in range(26)]
    turns = OneAfterAnother(list(zip(steps, mixtures, strict=False)), mixtures[-1])
    assert turns.batch(step).tolist() == drawn[step].tolist()
    assert turns.batch_size == 3


def test_what_is_not_in_the_corpus_is_named() -> None:
    rows = rows_of((5, "naming", "archive+noise", ()), (5, "detection", "archive", ()))
    for options, key, wrong, there in (
        (MixtureOptions(tasks={"singing": 1.0}), "mixture.tasks", "singing", "detection, naming"),
        (MixtureOptions(without_tasks=("music",)), "mixture.without_tasks", "music", "detection, naming"),
        (MixtureOptions(sources={"nosie": 0.0}), "mixture.sources", "nosie", "archive, noise"),
    ):
        with pytest.raises(TrainError, match=rf"{key}: .*'{wrong}'.*: {there}$"):
            Mixture(rows, options, batch_size=2, seed=0)


def test_an_empty_mixture_is_refused() -> None:
    rows = rows_of((5, "naming", "archive", ()))
    for options in (
        MixtureOptions(without_tasks=("naming",)),
        MixtureOptions(sources={"archive": 0.0}),
        MixtureOptions(max_seconds=1.0),
    ):
        with pytest.raises(TrainError, match="none of the 5 training pairs is left in"):
            Mixture(rows, options, batch_size=2, seed=0)
    with pytest.raises(TrainError, match="none of the 0 training pairs"):
        Mixture(mixture_rows([]), MixtureOptions(), batch_size=2, seed=0)


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(0, 30), st.sampled_from([(1, 1), (2, 1), (1, 2), (3, 2), (2, 4)]))
def test_processes_share_out_the_batch_of_one(case: Case, first_step: int, cut: tuple[int, int]) -> None:
    rows, options, times, seed = case
    micro_batch_size, processes = cut
    batch_size = times * micro_batch_size * processes
    steps = first_step + 3

    def micro_batches(rank: int, of: int, first: int) -> list[list[int]]:
        mixture = Mixture(rows, options, batch_size=batch_size, seed=seed)
        batches = StepBatches(
            mixture,
            steps=steps,
            first_step=first,
            micro_batch_size=micro_batch_size,
            rank=rank,
            processes=of,
        )
        listed = list(batches)
        assert len(batches) == len(listed)
        return listed

    alone = micro_batches(0, 1, first_step)
    assert all(len(micro_batch) == micro_batch_size for micro_batch in alone)
    shared = [micro_batches(rank, processes, first_step) for rank in range(processes)]
    assert [micro_batch for at_once in zip(*shared, strict=True) for micro_batch in at_once] == alone
    whole = np.array(alone).reshape(3, batch_size)
    mixture = Mixture(rows, options, batch_size=batch_size, seed=seed)
    assert whole.tolist() == [mixture.batch(step).tolist() for step in range(first_step, steps)]
    # A run that stopped before `first_step` goes on with what an unbroken run would have drawn.
    assert micro_batches(0, 1, 0)[-len(alone) :] == alone


def test_nothing_is_left_to_draw_after_the_last_step() -> None:
    mixture = Mixture(rows_of((9, "naming", "archive", ())), MixtureOptions(), batch_size=2, seed=0)
    batches = StepBatches(mixture, steps=5, first_step=5, micro_batch_size=2, rank=0, processes=1)
    assert (len(batches), list(batches)) == (0, [])


@pytest.mark.parametrize(("batch_size", "nearest"), [(2, 8), (10, 8), (15, 16), (31, 32)])
def test_a_batch_that_cannot_be_shared_out_is_refused(batch_size: int, nearest: int) -> None:
    mixture = Mixture(rows_of((9, "naming", "archive", ())), MixtureOptions(), batch_size=batch_size, seed=0)
    with pytest.raises(
        TrainError, match=rf"^batch_size: {batch_size} .*micro_batch_size.* nearest is {nearest},"
    ):
        StepBatches(mixture, steps=1, first_step=0, micro_batch_size=4, rank=0, processes=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_change_nothing(workers: int) -> None:
    mixture = Mixture(rows_of((40, "naming", "archive", ())), MixtureOptions(), batch_size=8, seed=0)
    batches = StepBatches(mixture, steps=9, first_step=2, micro_batch_size=4, rank=0, processes=1)
    loader = DataLoader(range(40), batch_sampler=batches, num_workers=workers, collate_fn=list)  # type: ignore[arg-type]
    expected = [mixture.batch(step).reshape(2, 4).tolist() for step in range(2, 9)]
    assert list(loader) == [micro_batch for batch in expected for micro_batch in batch]


def test_grouped_batches_waste_little_on_padding() -> None:
    tokens = np.random.default_rng(0).integers(20, 200, 4000)
    rows = rows_of((4000, "naming", "archive", ()), tokens=tokens)
    mixture = Mixture(rows, MixtureOptions(), batch_size=8, seed=0)
    grouped = tokens[epoch_of(mixture, 0)]
    at_random = np.random.default_rng(1).permutation(tokens).reshape(-1, 8)

    def wasted(lengths: np.ndarray) -> float:
        return float(1 - lengths.sum() / (lengths.max(axis=1).sum() * lengths.shape[1]))

    assert wasted(grouped) < 0.1 * wasted(at_random)
    # Batches of all lengths come early: training does not go from short to long.
    assert np.ptp(grouped[:25].mean(axis=1)) > 120


def test_rows_of_equal_length_are_mixed() -> None:
    rows = rows_of((4000, "naming", "archive", ()), (4000, "detection", "archive", ()), tokens=[30] * 8000)
    drawn = epoch_of(Mixture(rows, MixtureOptions(), batch_size=8, seed=0), 0)
    naming = np.count_nonzero(rows.tasks[drawn] == "naming", axis=1)
    # Drawn by chance, 4 of 8 with a standard deviation of 1.41, and 200 with one of 14 in 50 batches.
    assert naming.std() == pytest.approx(2**0.5, rel=0.1)
    assert np.all(np.abs(naming.reshape(-1, 50).sum(axis=1) - 200) < 5 * 14)


def test_large_tables_and_late_steps() -> None:
    count, rng = 200_000, np.random.default_rng(0)
    rows = MixtureRows(
        tasks=np.array(TASKS, dtype=object)[rng.choice(3, count, p=[0.9, 0.09, 0.01])],
        sources=np.array(SOURCES, dtype=object)[rng.integers(0, 4, count)],
        taxa=[(f"Genus species{taxon}",) for taxon in rng.zipf(1.5, count).clip(max=5000).tolist()],
        seconds=rng.uniform(1, 30, count),
        tokens=rng.integers(20, 200, count),
    )
    options = MixtureOptions(temperature=3.0, taxon_cap=500, sources={"invented": 0.0}, max_seconds=20.0)
    mixture = Mixture(rows, options, batch_size=64, seed=0)
    drawn = epoch_of(mixture, 10**6)
    assert not np.any(rows.sources[drawn] == "invented")
    assert rows.seconds[drawn].max() <= 20.001
    for task in TASKS:
        expected = share(mixture, rows.tasks, task) * drawn.size
        assert np.count_nonzero(rows.tasks[drawn] == task) == pytest.approx(expected, abs=1)


def test_rows_are_read_from_corpora_in_order(tmp_path: Path) -> None:
    longer = chirps(2.5)
    first = [
        a_pair(0, task="naming", taxa=(), instruction_text="a" * 9, output="b" * 7),
        a_pair(1, task="detection", source_dataset="archive+noise", samples=longer, instruction_text="é" * 8),
        a_pair(2, split="validation", task="captioning"),
    ]
    second = [a_pair(3, task="naming", taxa=TAXA)]
    corpora = [Corpus(write_corpus(tmp_path / "one", first)), Corpus(write_corpus(tmp_path / "two", second))]
    rows = mixture_rows(corpora)
    assert len(rows) == 3
    assert rows.tasks.tolist() == ["naming", "detection", "naming"]
    assert rows.sources.tolist() == ["xeno-canto", "archive+noise", "xeno-canto"]
    assert list(rows.taxa) == [(), ("Turdus merula",), TAXA]
    assert rows.seconds.tolist() == [1.0, 2.5, 1.0]
    assert rows.tokens[:2].tolist() == [3 + 2 + 2, 8 + 2 + len("Common Blackbird") // 3]
    mixture = Mixture(rows, MixtureOptions(tasks={"naming": 1.0}), batch_size=2, seed=0)
    assert sorted(mixture.batch(0).tolist()) == [0, 2]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("duration", pa.array([1.0, None], pa.float32())),
        ("duration", pa.array([1.0, float("inf")], pa.float32())),
        ("duration", pa.array([1.0, -1.0], pa.float32())),
        ("duration", pa.array(["1", "long"])),
        ("output", pa.array(["Owl", None])),
        ("output", pa.array([1, 2])),
        ("task", pa.array([1, 2])),
        ("taxa", pa.array([1, 2])),
    ],
)
def test_unusable_values_are_refused(tmp_path: Path, column: str, values: pa.Array) -> None:
    folder = write_corpus(tmp_path, [a_pair(0), a_pair(1)])
    corpus = Corpus(folder)
    table = corpus.table(PAIR_SCHEMA.names)
    place = PAIR_SCHEMA.get_field_index(column)
    write_table(table.set_column(place, column, values), folder / DATA / corpus.paths[0].name)
    with pytest.raises(TrainError, match=r"train split .*build the corpus again"):
        mixture_rows([Corpus(folder)])
