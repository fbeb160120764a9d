"""Many clients at once at `naturelm serve`: batches shared between them, against the same server with batches of one.

Every answer is compared with the model's answer to the same question alone. Prints requests a second of both, their
ratio, the median and 95th percentile of the time to an answer, and the server's memory after the first minute and
at its highest later. It is no test.
"""

import argparse
import asyncio
import base64
import io
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile
from common import print_machine

from naturelm import NatureLM
from naturelm.answer.results import Clip, GenerationOptions, Query

EXAMPLES = Path(__file__).parent.parent / "examples" / "recordings"
QUESTIONS = (
    "What is the common name for the focal species in the audio?",
    "Caption the audio, using the common name for any animal species.",
    "How many individuals of the focal species are calling in the audio?",
    "What call type is heard from the focal species in the audio?",
)
SETTLING_SECONDS = 60.0


@dataclass(frozen=True)
class Load:
    """What came of one server. seconds: each answer's. memory: (s, bytes) as it was sampled."""

    answers: int
    wrong: int
    elapsed: float
    seconds: list[float]
    memory: list[tuple[float, int]]


def clips(count: int, rate: int) -> list[np.ndarray]:
    """Stretches of 3 s of the example recordings, in some noise, each another."""
    drawn = np.random.default_rng(0)
    files = sorted(EXAMPLES.glob("*.flac"))
    made = []
    for number in range(count):
        sound, own = soundfile.read(files[number % len(files)], dtype="float32")
        assert own == rate
        start = drawn.integers(0, max(1, len(sound) - 3 * rate))
        part = sound[start : start + 3 * rate]
        made.append(np.clip(part + drawn.normal(0, 0.01, len(part)), -1, 1).astype(np.float32))
    return made


def wav(samples: np.ndarray, rate: int) -> str:
    """In base64."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return base64.b64encode(file.getvalue()).decode()


def item(sound: str, question: str, tokens: int) -> dict[str, object]:
    """One request of predictions_v1."""
    asked = {
        "sample_id": "1",
        "messages": [{"role": "user", "content": question}],
        "audio_inputs": [{"payload_type": "base64_wav", "data": sound}],
        "generation_config": {"max_new_tokens": tokens},
    }
    return {"schema_version": "predictions_v1", "requests": [asked]}


async def client(
    number: int, address: str, items: list[dict[str, object]], expected: list[str], until: float
) -> tuple[list[float], int]:
    """Ask one after the other until the time is up: the seconds of each, and how many were wrong."""
    drawn = np.random.default_rng(number)
    seconds, wrong = [], 0
    async with httpx.AsyncClient(timeout=300) as http:
        while time.monotonic() < until:
            which = int(drawn.integers(len(items)))
            began = time.monotonic()
            response = await http.post(f"{address}/predict", json=items[which])
            seconds.append(time.monotonic() - began)
            response.raise_for_status()
            wrong += response.json()["responses"][0]["predictions"] != [expected[which]]
    return seconds, wrong


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def load(
    address: str, pid: int, items: list[dict[str, object]], expected: list[str], clients: int, seconds: float
) -> Load:
    """So many clients for so long."""
    began = time.monotonic()
    memory: list[tuple[float, int]] = []

    async def watch() -> None:
        while True:
            memory.append((time.monotonic() - began, resident(pid)))
            await asyncio.sleep(1)

    watching = asyncio.ensure_future(watch())
    told = await asyncio.gather(
        *(client(number, address, items, expected, began + seconds) for number in range(clients))
    )
    watching.cancel()
    all_seconds = [each for own, _ in told for each in own]
    return Load(
        len(all_seconds), sum(wrong for _, wrong in told), time.monotonic() - began, all_seconds, memory
    )


def with_server(batch_size: int, run: Callable[[str, int], Load]) -> Load:
    """What `run(address, pid)` comes to on a server of its own."""
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        port = link.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "naturelm",
        "serve",
        "--port",
        str(port),
        "--batch-size",
        str(batch_size),
    ]
    server = subprocess.Popen([*command, "--request-seconds", "300"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx.TransportError:
                time.sleep(0.2)
        return run(f"http://127.0.0.1:{port}", server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def show(name: str, result: Load) -> None:
    """One line."""
    ordered = sorted(result.seconds)
    print(
        f"{name}: {result.answers} answers in {result.elapsed:.0f} s, {result.answers / result.elapsed:.2f} a second, "
        f"p50 {statistics.median(ordered):.2f} s, p95 {ordered[int(0.95 * (len(ordered) - 1))]:.2f} s, "
        f"{result.wrong} unlike the answer alone"
    )
    settled = [size for at, size in result.memory if at >= SETTLING_SECONDS]
    if settled:
        print(
            f"  memory: {settled[0] / 2**20:.0f} MiB after {SETTLING_SECONDS:.0f} s, at most {max(settled) / 2**20:.0f} "
            f"later ({max(settled) / settled[0] - 1:+.1%}), {settled[-1] / 2**20:.0f} at the end"
        )


def main() -> None:
    """Measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clients", type=int, default=32)
    options.add_argument("--seconds", type=float, default=300.0, help="of the server with batches")
    options.add_argument("--single-seconds", type=float, default=120.0, help="of the server without")
    options.add_argument("--clips", type=int, default=64)
    options.add_argument("--tokens", type=int, default=16)
    options.add_argument("--batch-size", type=int, default=32)
    given = options.parse_args()
    print_machine()
    model = NatureLM.from_pretrained("mini")
    sounds = clips(given.clips, model.sampling_rate)
    asked = [(sound, QUESTIONS[i % len(QUESTIONS)]) for i, sound in enumerate(sounds)]
    items = [item(wav(sound, model.sampling_rate), question, given.tokens) for sound, question in asked]
    alone = GenerationOptions(max_new_tokens=given.tokens)
    expected = [
        model.answer([Query((Clip(sound, "", 0, len(sound) / model.sampling_rate),), question)], alone)[
            0
        ].text
        for sound, question in asked
    ]
    del model
    results = []
    for name, size, seconds in (
        (f"batches of {given.batch_size}", given.batch_size, given.seconds),
        ("batches of one", 1, given.single_seconds),
    ):
        results.append(
            with_server(
                size,
                lambda address, pid, seconds=seconds: asyncio.run(
                    load(address, pid, items, expected, given.clients, seconds)
                ),
            )
        )
        show(name, results[-1])
    rates = [result.answers / result.elapsed for result in results]
    print(f"ratio of answers a second: {rates[0] / rates[1]:.1f}")
    sys.exit(any(result.wrong for result in results))


if __name__ == "__main__":
    main()
