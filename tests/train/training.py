"""Tiny training runs: a few made clips, a random language model, an audio side of a few thousand weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpora import RATE, a_pair, write_corpus
from transformers import LlamaForCausalLM

from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.schema import Pair
from naturelm.train.options import (
    LoraOptions,
    MixtureOptions,
    ModelOptions,
    OptimizerOptions,
    TrainOptions,
    WarmUpOptions,
)
from tiny import BEATS, CHATML, PROJECTOR, tiny_text_config, tiny_tokenizer

KINDS = {"Dog": 300.0, "Cat": 700.0, "Owl": 1500.0, "Bee": 3200.0}


def tone(pitch: float, seconds: float, seed: int) -> FloatArray:
    """(samples,) of a tone in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * rng.standard_normal(len(time))
    return sound.astype(np.float32)


def kind_pair(number: int, split: str = "train", **changes: object) -> Pair:
    """A pair about one of four kinds, of which each has its pitch."""
    name, pitch = list(KINDS.items())[number % len(KINDS)]
    task = ("species-common", "caption")[number // len(KINDS) % 2]
    answer = name if task == "species-common" else f"A {name.lower()} calls."
    fields: dict[str, Any] = {
        "samples": tone(pitch, 0.4 + 0.1 * (number % 7), number),
        "task": task,
        "dataset_name": task,
        "instruction_text": "Which animal is it?" if task == "species-common" else "Describe the clip.",
        "output": answer,
        "labels": (answer,),
        "taxa": (f"{name}us {name.lower()}us",),
    }
    return a_pair(number, split, **{**fields, **changes})


def kinds_corpus(folder: Path, pairs: int = 48) -> Path:
    """A corpus of tones by four kinds, two tasks."""
    rows = [kind_pair(number) for number in range(pairs)]
    rows += [kind_pair(number, "validation") for number in range(8)]
    return write_corpus(folder, rows, shards=2)


def save_decided_llm(folder: Path) -> None:
    """A random language model whose head can be sure of a token: at its usual spread it never could."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(tiny_text_config())
    with torch.no_grad():
        model.lm_head.weight.mul_(40)
        model.model.embed_tokens.weight.mul_(20)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def tiny_options(root: Path, **changes: Any) -> TrainOptions:
    """Options of a run on `kinds_corpus`, both of which are made in `root` if they are not there."""
    llm, corpus = root / "llm", root / "corpus"
    if not llm.exists():
        save_decided_llm(llm)
    if not corpus.exists():
        kinds_corpus(corpus)
    options = TrainOptions(
        name="tiny",
        steps=6,
        corpus=(corpus,),
        model=ModelOptions(
            llm=str(llm),
            audio=dict(BEATS),
            projector={**PROJECTOR, "output_layer_norm": True, "dropout": 0.0},
            lora=LoraOptions(rank=4, alpha=8),
            clip_seconds=2,
            prompt_template=CHATML,
            end_of_answer="<|im_end|>",
            add_bos=False,
        ),
        mixture=MixtureOptions(),
        optimizer=OptimizerOptions(learning_rate=3e-3, final_learning_rate=0, warm_up_steps=2),
        batch_size=8,
        micro_batch_size=8,
        log_every=1,
        evaluate_every=100,
        evaluation_pairs=0,
        save_every=100,
        workers=0,
        threads=1,
        precision="float32",
    )
    return replace(options, **changes)


WARM_UP = WarmUpOptions(steps=6, batch_size=8, min_count=2, learning_rate_steps=2)


def losses(run: Path, phase: str = "answers") -> dict[int, float]:
    """Loss by step, as the run's log has them; of a step that was done twice, the later one."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step" and line["phase"] == phase}
