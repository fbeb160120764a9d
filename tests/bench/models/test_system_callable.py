"""A user's own function as a system."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.models.bench_items import an_item, same_in_any_order_and_batch
from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.callable import CallableSystem
from naturelm.bench.models.deciding import SystemFault
from naturelm.errors import AudioError

MODULE = """
from naturelm.bench.models.base import BenchAnswer, ModelInfo
from naturelm.errors import AudioError

def shortest(batch):
    return [min(item.labels, key=len) for item in batch]

def scored(batch):
    return (BenchAnswer(item.labels[0], {item.labels[0]: 1.0}) for item in batch)

scored.info = ModelInfo("scored", "3")

def fails(batch):
    raise RuntimeError("out of\\nluck")

def too_quiet(batch):
    raise AudioError("too quiet")

def too_few(batch):
    return ["Owl"]

def numbers(batch):
    return [1 for _ in batch]

class Model:
    info = ModelInfo("a model", "5")

    def answer(self, batch):
        return ["Cat"] * len(batch)

class Needy:
    def __init__(self, weights):
        pass

model = Model()
text = "no function"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "bench_users_own.py").write_text(MODULE)
    (tmp_path / "bench_users_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "bench_users_own"


def test_function_of_a_module_answers(module: str) -> None:
    items = [an_item(0), an_item(1, labels=("Bat", "Ox"))]
    system = CallableSystem.named(f"{module}:shortest")
    assert [answer.prediction for answer in same_in_any_order_and_batch(system, items)] == ["Owl", "Ox"]
    assert system.info == ModelInfo("bench_users_own:shortest")
    scored = CallableSystem.named(f"{module}:scored")
    assert scored.answer(items)[1] == BenchAnswer("Bat", {"Bat": 1.0})
    assert scored.info.revision == "3"
    for name in ("model.answer", "model", "Model"):
        model = CallableSystem.named(f"{module}:{name}")
        assert model.answer(items)[0].prediction == "Cat"
        assert (model.info.revision == "5") == (name != "model.answer")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", "raised RuntimeError: out of luck"),
        ("too_few", "gave 1 answers to 2 questions"),
        ("numbers", "gave a int"),
    ],
)
def test_false_answers_are_named(module: str, name: str, message: str) -> None:
    with pytest.raises(SystemFault, match=f"{module}:{name} {message}"):
        CallableSystem.named(f"{module}:{name}").answer([an_item(), an_item(1)])


def test_its_own_errors_pass(module: str) -> None:
    with pytest.raises(AudioError, match="too quiet"):
        CallableSystem.named(f"{module}:too_quiet").answer([an_item()])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("bench_users_own:absent", "has no 'absent'"),
        ("bench_users_own:Needy", "cannot be made without arguments"),
        ("bench_users_own:text", "is a str"),
        ("bench_users_own", "module:function"),
        ("os; import x:y", "module:function"),
        ("bench_users_broken:f", "cannot be imported .*zero"),
    ],
)
def test_what_is_not_there_is_named(module: str, name: str, message: str) -> None:
    with pytest.raises(SystemFault, match=message):
        CallableSystem.named(name)


def test_a_function_in_hand_needs_no_name_to_be_imported() -> None:
    def first(batch: Sequence[BenchItem]) -> list[str]:
        return [item.labels[0] for item in batch]

    assert CallableSystem(first, "first").answer([an_item()]) == [BenchAnswer("Owl")]
