"""The shipped model on the shipped recordings, which it was not trained on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from naturelm import NatureLM, Query
from naturelm.model.registry import BUILT_IN_MODELS

ROOT = Path(__file__).parent.parent
RECORDINGS = sorted((ROOT / "examples" / "recordings").glob("*.flac"))
ANIMALS = [path.stem for path in RECORDINGS]
OTHERS = ["cat", "horse", "chicken", "sheep", "crow", "elephant", "goat", "lion"]
QUESTION = "What is the common name for the focal species in the audio?"


@pytest.fixture(scope="module")
def mini() -> NatureLM:
    return NatureLM.from_pretrained("mini")


def test_names_the_animals(mini: NatureLM) -> None:
    answers = mini.ask(RECORDINGS, QUESTION)
    assert [answer.text for answer in answers] == ANIMALS


def test_chooses_the_animals_from_a_closed_set(mini: NatureLM) -> None:
    answers = mini.ask(RECORDINGS, QUESTION, choices=[*ANIMALS, *OTHERS], none_of_these=True)
    assert [answer.text for answer in answers] == ANIMALS


def test_tells_noise_from_animals(mini: NatureLM) -> None:
    noise = (np.random.default_rng(5).standard_normal(32_000) * 0.05).astype(np.float32)
    assert mini.ask(noise, "What are the common names for the species in the audio, if any?").text == "None"


@pytest.mark.slow
def test_batched_answers_equal_single_ones(mini: NatureLM) -> None:
    """Sixteen clips, prompts of unlike lengths, the real language model."""
    questions = [
        QUESTION,
        "Which animal is this?",
        "Caption the audio.",
        "Do you hear a dog in this recording?",
    ]
    stretches = [(0.0, None), (0.2, 1.1), (0.7, 1.0)]
    clips = [mini.read_clip(path, start=a, end=b) for a, b in stretches for path in RECORDINGS][:16]
    queries = [Query((clip,), questions[i % len(questions)]) for i, clip in enumerate(clips)]
    together = mini.answer(queries)
    mini.clear_cache()
    alone = [mini.answer([query])[0] for query in queries]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]


def test_the_checkpoint_is_small_and_leaves_the_language_model_out() -> None:
    (weights,) = BUILT_IN_MODELS["mini"].folder.glob("*.safetensors")
    assert weights.stat().st_size < 25e6
    with safe_open(weights, framework="np") as file:
        names = list(file.keys())
    assert all(".lora_" in name for name in names if name.startswith("language_model."))
    assert any(name.startswith("ear.") for name in names)


def test_the_command_answers_in_a_fresh_process() -> None:
    owl = ROOT / "examples" / "recordings" / "owl.flac"
    command = [sys.executable, "-m", "naturelm", "ask", str(owl), "-q", "Which animal is this?", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["text"] == "owl"
    assert result.stderr == ""
