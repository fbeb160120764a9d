"""Queries in lanes: the same answers from several threads, and the processor's cores shared out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from asking import SHORT, assert_same, fresh, mixed_queries, query
from hypothesis import given
from hypothesis import strategies as st

from naturelm.answer.engine import NatureLM
from naturelm.answer.lanes import deal, side_by_side
from naturelm.answer.results import GenerationOptions, Query

CPU = torch.device("cpu")
CHOICES = ("Dog", "Cat", "Green treefrog")


@pytest.fixture
def three_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def queries() -> list[Query]:
    """Of 96 clips, each asked freely and with a closed set."""
    free = mixed_queries(96)
    return [*free, *(Query(each.clips, each.question, CHOICES) for each in free)]


@contextmanager
def threads_of(naturelm: NatureLM) -> Iterator[list[tuple[int, int]]]:
    """Who computes in the language model, and with how many threads of torch's own."""
    seen: list[tuple[int, int]] = []
    hook = (
        naturelm.model.get_decoder()
        .layers[0]
        .register_forward_pre_hook(lambda *_: seen.append((threading.get_ident(), torch.get_num_threads())))
    )
    try:
        yield seen
    finally:
        hook.remove()


@given(
    st.lists(st.tuples(st.integers(0, 140), st.integers(0, 100)), max_size=300),
    st.integers(1, 4),
)
def test_queries_are_dealt_out_fairly(asked: list[tuple[int, int]], cores: int) -> None:
    keys, costs = [key for key, _ in asked], [cost for _, cost in asked]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: cores)
        lanes = deal(keys, costs, CPU)
        assert deal(keys, costs, torch.device("cuda")) == [list(range(len(asked)))]
    assert sorted(place for lane in lanes for place in lane) == list(range(len(asked)))
    groups = [{keys[place] for place in lane} for lane in lanes]
    assert sum(map(len, groups)) == len(set(keys))  # none in two lanes
    assert 1 <= len(lanes) <= cores
    if len(lanes) > 1:
        assert len(set(keys)) >= 32 * len(lanes)
        loads = [sum(costs[place] for place in lane) for lane in lanes]
        heaviest = max(sum(c for k, c in asked if k == key) for key in set(keys))
        assert max(loads) - min(loads) <= heaviest


@pytest.mark.usefixtures("three_cores")
def test_answers_are_those_of_one_thread(naturelm: NatureLM) -> None:
    with threads_of(naturelm) as seen:
        found = fresh(naturelm, batch_size=32).answer(queries(), SHORT)
    assert len({who for who, _ in seen}) == 3
    assert {threads for _, threads in seen} == {1}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    with threads_of(naturelm) as seen:
        expected = fresh(naturelm, batch_size=32).answer(queries(), SHORT)
    assert {who for who, _ in seen} == {threading.get_ident()}
    assert_same(found, expected)


@pytest.mark.usefixtures("three_cores")
def test_few_queries_and_watched_ones_stay_in_the_calling_thread(naturelm: NatureLM) -> None:
    class Watches:
        def wrote(self, query: int, token: int, log_prob: float) -> None: ...

        def unwanted(self, query: int) -> bool:
            return False

    with threads_of(naturelm) as seen:
        naturelm.answer([query(seed=seed) for seed in range(63)], SHORT)
        naturelm.answer(mixed_queries(96), GenerationOptions(max_new_tokens=2), Watches())
    assert set(seen) == {(threading.get_ident(), 3)}


@pytest.mark.usefixtures("three_cores")
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_error_in_a_lane_is_raised_when_all_have_ended(broken: int) -> None:
    ended = []

    def work(place: int) -> int:
        if place == broken:
            raise MemoryError(f"lane {place}")
        ended.append(place)
        return place

    with pytest.raises(MemoryError, match=f"lane {broken}"):
        side_by_side([lambda place=place: work(place) for place in range(3)])  # type: ignore[misc]
    assert sorted(ended) == [place for place in range(3) if place != broken]
    assert torch.get_num_threads() == 3
