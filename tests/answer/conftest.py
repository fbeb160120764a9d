"""Tiny engines, made once; a test that changes weights makes its own."""

import pytest
from asking import attentive, official_like_naturelm

from naturelm.answer.engine import NatureLM
from tiny import tiny_naturelm


@pytest.fixture(scope="session")
def _naturelm() -> NatureLM:
    return attentive(tiny_naturelm())


@pytest.fixture(scope="session")
def _official_like() -> NatureLM:
    return official_like_naturelm()


@pytest.fixture
def naturelm(_naturelm: NatureLM) -> NatureLM:
    """Our kind of model, having heard nothing."""
    _naturelm.clear_cache()
    return _naturelm


@pytest.fixture(params=["ours", "official"])
def either(request: pytest.FixtureRequest, _naturelm: NatureLM, _official_like: NatureLM) -> NatureLM:
    """Our kind of model, then the official kind."""
    chosen = {"ours": _naturelm, "official": _official_like}[request.param]
    chosen.clear_cache()
    return chosen
