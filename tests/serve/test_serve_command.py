"""`naturelm serve` as a process: it starts, answers, stops when told to after answering, and is killed without harm."""

import concurrent.futures
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from serving import item, predict, wav

from naturelm import NatureLM
from naturelm.answer.results import GenerationOptions
from naturelm.serve.faults import ServeError
from naturelm.serve.options import Access, Limits, QueueOptions, ServeOptions
from naturelm.serve.running import public_name

EXAMPLES = Path(__file__).parents[2] / "examples" / "recordings"


def free_port() -> int:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return int(link.getsockname()[1])


@contextmanager
def process(
    *arguments: str, port: int | None = None, ready: bool = True, **variables: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address and process of a server that is ready, unless that is not waited for."""
    port = port or free_port()
    started = subprocess.Popen(
        [sys.executable, "-m", "naturelm", "serve", "--port", str(port), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        if ready:
            _wait_until_ready(address, started)
        yield address, started
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def _wait_until_ready(address: str, server: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until and server.poll() is None:
        try:
            httpx.get(f"{address}/health", timeout=5)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    server.kill()
    raise AssertionError(f"the server did not come up; it said: {server.communicate(timeout=60)[1]}")


def owl(sample_id: str, question: str) -> dict[str, object]:
    sound = (EXAMPLES / "owl.flac").read_bytes()
    asked = item(sample_id, question, sound)
    return asked


def test_a_server_answers_as_ask_does_and_stops_after_answering_what_it_has_accepted() -> None:
    questions = [f"Which animal is this? Say it in {i} words." for i in range(12)]
    with process("--batch-size", "2", "--log-content") as (address, server):
        assert httpx.get(f"{address}/info").json()["model"] == "mini"
        clips = [wav(1.0, i % 3) for i in range(12)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            waiting = [
                pool.submit(predict, address, item(str(i), question, clip, max_new_tokens=8))
                for i, (question, clip) in enumerate(zip(questions, clips, strict=True))
            ]
            # Once all are in, and some are not answered yet: one that is still on its way would be turned away.
            until = time.monotonic() + 60
            accepted = in_progress = 0
            while accepted < len(clips) and time.monotonic() < until:
                text = httpx.get(f"{address}/metrics").text
                answered = re.search(
                    r'^naturelm_requests_total{path="/predict",status="200"} (\S+)', text, re.M
                )
                found = re.search(r"^naturelm_requests_in_progress (\S+)", text, re.M)
                assert found
                in_progress = int(float(found[1])) - 1  # without this question about it
                accepted = in_progress + (int(float(answered[1])) if answered else 0)
            server.send_signal(signal.SIGTERM)
            rows = [each.result().json()["responses"][0] for each in waiting]
        log = server.communicate(timeout=60)[1]
    assert server.returncode == 0
    assert accepted == len(clips)
    assert in_progress >= 4
    model = NatureLM.from_pretrained("mini")
    for row, question, clip in zip(rows, questions, clips, strict=True):
        assert row["error"] is None
        asked = f"<Audio><AudioHere></Audio> {question}"
        assert row["predictions"] == [
            model.ask(clip, asked, options=GenerationOptions(max_new_tokens=8)).text
        ]
    assert questions[7] in log and "Traceback" not in log


@pytest.mark.slow
def test_a_killed_server_starts_again_at_the_same_port() -> None:
    port = free_port()
    for _ in range(2):
        with process(port=port) as (address, server):
            assert predict(address, owl("1", "What is it?")).status_code in (200,)
            server.send_signal(signal.SIGKILL)
            assert server.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--host", "0.0.0.0"], "API key"), (["--allow-dir", "no/such/folder"], "no/such/folder")],
)
def test_what_cannot_be_served_is_said_in_a_line(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "naturelm", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: ServeOptions(port=99_999), "--port"),
        (lambda: ServeOptions(host="192.168.1.5"), "API key"),
        (lambda: Access(url_hosts=("https://x.example/",)), "host's name alone"),
        (lambda: Access(folders=(EXAMPLES / "owl.flac",)), "is not a folder"),
        (lambda: QueueOptions(batch_size=0), "batch-size"),
        (lambda: QueueOptions(request_seconds=float("nan")), "request-seconds"),
        (lambda: Limits(clip_seconds=0), "clip-seconds"),
    ],
)
def test_options_that_cannot_be_are_refused(made: Callable[[], object], said: str) -> None:
    with pytest.raises(ServeError, match=said):
        made()


def test_a_folder_is_known_by_its_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert public_name(str(tmp_path / "my-model")) == "my-model"
    assert public_name("my-model/") == public_name("./my-model") == "my-model"
    assert public_name("mini") == "mini"
    assert public_name("some/hub-id") == "some/hub-id"


def test_a_taken_port_is_said_in_a_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with process(port=taken.getsockname()[1], ready=False) as (_, server):
            log = server.communicate(timeout=120)[1]
    assert server.returncode == 2
    assert "choose another --port" in log and "Traceback" not in log
