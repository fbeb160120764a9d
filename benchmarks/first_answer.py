"""The first answer in a fresh process, part by part, and how long the command line takes to say hello."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf
from common import RATE, print_machine

from naturelm.model.registry import BUILT_IN_MODELS

# The process notes its own parts; what its clock does not see is Python's start.
SCRIPT = """
import json, sys, time
began = time.perf_counter()
from naturelm.answer.engine import NatureLM
imported = time.perf_counter()
model = NatureLM.from_pretrained(sys.argv[1])
loaded = time.perf_counter()
clip = model.read_clip(sys.argv[2])
read = time.perf_counter()
answer = model.ask(clip.samples, sys.argv[3])
done = time.perf_counter()
parts = {"imports": imported - began, "load checkpoint": loaded - imported, "read audio": read - loaded,
         "first answer": done - read}
print(json.dumps({"text": answer.text, "parts": parts}))
"""
QUESTION = "What is the common name for the focal species in the audio?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini", help="built-in name, folder or hub id")
    parser.add_argument("--audio", type=Path, help="a recording; default 10 s of made-up sound")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes; the median counts")
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        audio = options.audio or _sweep(Path(folder) / "sweep.wav")
        built_in = BUILT_IN_MODELS.get(options.model)
        if built_in is not None and not (built_in.folder / "config.json").exists():
            print(f"first answer: not measured, the checkpoint {options.model!r} is not in this checkout")
        else:
            _first_answer(
                [sys.executable, "-c", SCRIPT, options.model, str(audio), QUESTION], options.repeats
            )
    for arguments in (["--help"], ["--version"]):
        _command_line([sys.executable, "-m", "naturelm", *arguments], options.repeats)


def _first_answer(command: list[str], repeats: int) -> None:
    rounds = []
    for _ in range(repeats):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        whole = time.perf_counter() - began
        if done.returncode != 0:
            sys.exit(f"first answer: failed\n{done.stderr.strip()[-2000:]}")
        said = json.loads(done.stdout.strip().splitlines()[-1])
        parts = said["parts"]
        rounds.append(
            {"whole process": whole, "Python's start and end": whole - sum(parts.values()), **parts}
        )
    print(f"first answer of {command[3]!r} in a fresh process: {said['text']!r}")
    for part in rounds[0]:
        print(f"  {part}: {statistics.median(each[part] for each in rounds):.2f} s")


def _command_line(command: list[str], repeats: int) -> None:
    shown = "naturelm " + " ".join(command[3:])
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - began)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            print(f"{shown}: not measured, it ended with {done.returncode} ({reason})")
            return
    print(f"{shown}: {statistics.median(seconds):.2f} s (median of {', '.join(f'{s:.2f}' for s in seconds)})")


def _sweep(path: Path) -> Path:
    moments = np.arange(10 * RATE) / RATE
    sf.write(path, 0.3 * np.sin(2 * np.pi * (1000 + 200 * moments) * moments), RATE)
    return path


if __name__ == "__main__":
    main()
