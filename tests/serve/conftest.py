"""What several test files of the server start with. Imports are within: the packages of each are optional."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from naturelm import NatureLM
from tiny import save_tiny_naturelm, tiny_naturelm

if TYPE_CHECKING:
    from openai import OpenAI
    from web_serving import Controls, Running


@pytest.fixture(scope="module")
def model() -> NatureLM:
    return tiny_naturelm()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_naturelm(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="module")
def server(model_folder: Path) -> Iterator["Running"]:
    """The web page over a tiny model."""
    from web_serving import OPTIONS, running

    model = NatureLM.from_pretrained(model_folder, device="cpu")
    model.name = "tiny"  # as the server calls a model in a folder
    with running(model, OPTIONS) as started:
        yield started


@pytest.fixture
def page(server: "Running") -> Iterator["Controls"]:
    from web_serving import Controls

    controls = Controls(server.url, session=f"s{time.monotonic_ns()}")
    yield controls
    controls.http.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Chat completions of a tiny model, with limits that are soon reached."""
    from serving import served

    from naturelm.serve.options import Limits, ServeOptions

    with served(tiny_naturelm(), ServeOptions(limits=Limits(audios=3, choices=10, new_tokens=200))) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> "OpenAI":
    from chatting import client_of

    return client_of(address)
