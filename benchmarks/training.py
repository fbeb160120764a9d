"""Our training step against a straightforward one: examples per second and peak memory.

    python benchmarks/training.py [--corpus CORPUS]     `mini`, on the CPU
    python benchmarks/training.py --model official      the official geometry with random weights, on a GPU

Ours makes logits for the tokens of the answers alone, and the pairs of a batch are of like length, as the
mixture draws them. The straightforward step takes the same pairs in random batches and has transformers
compute the loss: logits over the whole vocabulary at every position, labels shifted, -100 where nothing is
asked. Both pad to the longest of the batch; both clip the gradient and take an AdamW step. Reading and
decoding clips is not in the time: loader processes do it (corpus_loader.py).

On the CPU a third side is our step in a process that gives freed memory back to the system, as glibc does
unless `keep_freed_memory` tells it otherwise; the straightforward step gives it back too.

Each side lives in a fresh process, and they step in turns, so that what else the machine does falls on all.
All sides have their models in memory at once. Peak memory is the most that was resident (CPU), loading
included, or that torch had allocated from the first step on (GPU).

`--model official` also gives the share of the card's peak. Useful operations of a step are 6 N T for N weights
that T positions pass through, less the third that is the gradient of frozen weights, which nobody computes:

    4 N_frozen T + 4 N_head A + 6 N_lora T + 6 N_ear P + 6 N_projector W

T: prompt and answer tokens, without padding; A: answer tokens, the only ones that need logits; P: patches of the
ear; W: audio embeddings. N_frozen is without head and embedding table. What attention multiplies position by
position is left out, and what gradient checkpointing computes twice is not counted twice.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import cpu_model, print_machine
from torch import Tensor
from torch.utils.data import Dataset
from transformers import AutoTokenizer, LlamaConfig

from naturelm.corpus.storage import Corpus
from naturelm.errors import NatureLMError
from naturelm.model.configuration import BeatsConfig, NatureLMConfig, NatureLMProjectorConfig
from naturelm.model.embedded import ensure_embedded_llm
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor
from naturelm.train.building import Built, build_model
from naturelm.train.data import AnswerCollator, Example, TrainingRows
from naturelm.train.memory import keep_freed_memory
from naturelm.train.metrics import Tally, answer_results
from naturelm.train.mixture import Mixture, MixtureRows, mixture_rows
from naturelm.train.options import ModelOptions, load_train_options
from naturelm.train.parts import PartRates, parameter_groups, train_only

CONFIGURATIONS = {"mini": "mini-stage2", "official": "official-stage2"}
# Dense bfloat16 operations per second, by what the card's name holds. Others are asked for.
PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "A100": 312e12}
WARM_UP_STEPS = 2
SAME_LOSS = {"cpu": 1e-4, "cuda": 1e-2}
"""Relative difference of two losses that float32, or bfloat16, rounding explains."""
GENERATED_PAIRS = 2000
# Share of the pairs, question and answer of tasks that are like those of the starter corpus.
TASKS = {
    "species-common": (45, "Which animal is this? Answer with its common name.", "Northern Saw-whet Owl"),
    "species-taxonomic": (
        15,
        "Give the full taxonomic name of the animal: phylum, class, order, family, genus, species.",
        "Chordata Aves Strigiformes Strigidae Aegolius acadicus",
    ),
    "detection-options": (
        20,
        "From this list, name every animal that calls in the clip, or answer None: Hermit Thrush, Great Tit, "
        "Common Chaffinch, Pacific Tree Frog, Northern Cardinal, Song Sparrow, Mountain Chickadee, Great Horned Owl",
        "Common Chaffinch, Great Tit",
    ),
    "caption": (10, "Describe what is heard.", "A Song Thrush sings, and a dog barks far away behind it."),
    "count": (10, "How many individuals of the focal species are calling in the audio?", "2"),
}


@dataclass(frozen=True)
class Side:
    """One way of training."""

    name: str
    straightforward: bool
    keeps_memory: bool


OURS = Side("our step", straightforward=False, keeps_memory=True)
GIVEN_BACK = Side("our step, memory given back", straightforward=False, keeps_memory=False)
STRAIGHTFORWARD = Side("straightforward step", straightforward=True, keeps_memory=False)


@dataclass(frozen=True)
class Settings:
    """What the sides have in common."""

    model: str
    corpus: Path | None
    batch_size: int
    steps: int
    threads: int
    checkpointing: bool
    seed: int

    @property
    def device(self) -> str:
        return "cpu" if self.model == "mini" else "cuda"


@dataclass(frozen=True)
class Stepped:
    """What a step did and took."""

    seconds: float
    cpu_seconds: float
    examples: int
    tokens: int
    """Without padding."""
    positions: int
    """With padding: tokens of the batch as the language model sees it."""
    operations: float
    """Useful ones; see above."""
    loss: float
    peak_memory: int
    """Bytes, so far."""


@dataclass(frozen=True)
class Total:
    """A side's timed steps together."""

    side: Side
    loaded_memory: int
    """Bytes before the first step: on the CPU the most that loading took, on a GPU what the model takes."""
    peak_memory: int
    first_loss: float
    examples_per_second: float
    cpu_seconds: float
    tokens_per_second: float
    padding: float
    """Share of the language model's positions."""
    operations_per_second: float

    @classmethod
    def of(cls, side: Side, loaded_memory: int, first_loss: float, steps: Sequence[Stepped]) -> "Total":
        seconds = sum(step.seconds for step in steps)
        tokens = sum(step.tokens for step in steps)
        return cls(
            side=side,
            loaded_memory=loaded_memory,
            peak_memory=steps[-1].peak_memory,
            first_loss=first_loss,
            examples_per_second=sum(step.examples for step in steps) / seconds,
            cpu_seconds=sum(step.cpu_seconds for step in steps),
            tokens_per_second=tokens / seconds,
            padding=1 - tokens / sum(step.positions for step in steps),
            operations_per_second=sum(step.operations for step in steps) / seconds,
        )


# --- what is trained on ---------------------------------------------------------------------------


class GeneratedRows(Dataset[Example]):
    """Noise of 0.5 to 6 s, log-uniform, about the lengths of the starter corpus, with questions of its kinds."""

    def __init__(self, seed: int, sample_rate: int, clip_seconds: float) -> None:
        rng = np.random.default_rng(seed)
        shares = np.array([share for share, _, _ in TASKS.values()], float)
        self.tasks = rng.choice(np.array(list(TASKS), object), GENERATED_PAIRS, p=shares / shares.sum())
        self.seconds = np.exp(rng.uniform(np.log(0.5), np.log(6), GENERATED_PAIRS)).clip(max=clip_seconds)
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, row: int) -> Example:
        task = self.tasks[row]
        _, question, answer = TASKS[task]
        samples = (
            np.random.default_rng(row).standard_normal(round(self.seconds[row] * self.sample_rate)) * 0.1
        )
        return Example(str(row), task, "generated", question, answer, samples.astype(np.float32))

    def columns(self) -> MixtureRows:
        """What the mixture needs to know, tokens as it estimates them for a corpus."""
        text = [len(TASKS[task][1]) // 4 + len(TASKS[task][2]) // 3 for task in self.tasks]
        return MixtureRows(
            tasks=self.tasks,
            sources=np.full(len(self), "generated", object),
            taxa=[()] * len(self),
            seconds=self.seconds,
            tokens=np.rint(self.seconds * 3).astype(np.int64) + text,
        )


def batches(mixture: Mixture, steps: int, *, grouped: bool, seed: int) -> Iterator[list[int]]:
    """Rows of the batch that both sides begin with, then of as many as there are steps.

    grouped: as the mixture draws them; else the same rows, each batch at random.
    """
    drawn = np.stack([mixture.batch(step) for step in range(1 + steps)])
    yield drawn[0].tolist()
    timed = drawn[1:] if grouped else np.random.default_rng(seed).permuted(drawn[1:].ravel())
    yield from timed.reshape(steps, -1).tolist()


# --- the model ------------------------------------------------------------------------------------


def llama_8b() -> LlamaConfig:
    """Llama-3.1-8B with the row that the official checkpoint adds for its padding token, in bfloat16."""
    return LlamaConfig(
        vocab_size=128_257,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        rms_norm_eps=1e-5,
        rope_theta=500_000.0,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )


def random_official(options: ModelOptions, text_config: LlamaConfig, device: str) -> Built:
    """The official geometry with random weights, made on the device.

    SmolLM2's tokenizer stands in for Llama's, which is not free to fetch: its ids are in the vocabulary, and
    a question takes about as many tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(ensure_embedded_llm("smollm2-135m-instruct"))
    config = NatureLMConfig(
        audio_config=BeatsConfig(),
        projector_config=NatureLMProjectorConfig(**options.projector),
        text_config=text_config,
        lora={
            "r": options.lora.rank,
            "lora_alpha": options.lora.alpha,
            "lora_dropout": options.lora.dropout,
            "target_modules": list(options.lora.targets),
        },
        prompt_template="<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        end_of_answer="<|im_end|>",
        clip_seconds=options.clip_seconds,
        pad_to_clip=options.pad_to_clip,
    )
    with torch.device(device):
        model = NatureLMForConditionalGeneration(config)
    return Built(model, NatureLMProcessor.from_model_config(config, tokenizer), untrained_ear=True)


def useful_operations(model: NatureLMForConditionalGeneration, batch: dict[str, Any]) -> float:
    """Of one training step; the formula is above."""
    language_model = model.language_model
    head = model.get_output_embeddings().weight.numel()
    table = model.get_input_embeddings().weight.numel()
    own = {name: parameter.numel() for name, parameter in language_model.named_parameters()}
    lora = sum(count for name, count in own.items() if ".lora_" in name)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    frozen = sum(own.values()) - lora - table - (0 if tied else head)
    ear, projector = (sum(p.numel() for p in part.parameters()) for part in (model.ear, model.projector))

    tokens = int(batch["attention_mask"].sum())
    answered = int((batch["labels"][:, 1:] != -100).sum())
    clips, samples = batch["input_values"].shape
    patches = clips * model.config.audio_config.num_frames(samples)
    heard = int((batch["input_ids"] == model.config.audio_token_id).sum())
    passed = 4 * (frozen * tokens + head * answered)
    return float(passed + 6 * (lora * tokens + ear * patches + projector * heard))


# --- one side, in its own process -----------------------------------------------------------------


class Stepper:
    """A model and the batches of one side."""

    def __init__(self, side: Side, settings: Settings) -> None:
        options = load_train_options(CONFIGURATIONS[settings.model])
        self.side = side
        self.device = torch.device(settings.device)
        torch.manual_seed(settings.seed)
        if settings.model == "mini":
            built = build_model(options.model)
        else:
            built = random_official(options.model, llama_8b(), settings.device)
        self.model = built.model.train()
        rates = PartRates.of_answers(options.optimizer)
        train_only(self.model, rates)
        if settings.checkpointing:
            self.model.gradient_checkpointing_enable()
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, rates),
            betas=(rates.beta1, rates.beta2),
            fused=settings.device == "cuda",
        )
        self.max_grad_norm = options.optimizer.max_grad_norm

        sample_rate = built.processor.feature_extractor.sampling_rate
        self.rows: Dataset[Any]
        if settings.corpus is None:
            self.rows = GeneratedRows(settings.seed, sample_rate, options.model.clip_seconds)
            columns = self.rows.columns()
        else:
            corpora = [Corpus(settings.corpus, "train")]
            self.rows = TrainingRows(corpora, sample_rate, options.model.clip_seconds)
            columns = mixture_rows(corpora)
        mixture = Mixture(columns, options.mixture, batch_size=settings.batch_size, seed=settings.seed)
        grouped = not side.straightforward
        self.batches = list(batches(mixture, settings.steps, grouped=grouped, seed=settings.seed))
        self.collator = AnswerCollator(built.processor)
        self.tally = Tally(tuple(sorted(set(columns.tasks))), ("any",))

    def step(self, number: int) -> Stepped:
        """Train on the batch of this number."""
        batch = self.collator([self.rows[row] for row in self.batches[number]])
        if "unreadable" in batch:
            raise NatureLMError(batch["unreadable"][0])
        examples = batch.pop("examples")
        operations = useful_operations(self.model, batch)
        self._wait()
        began, began_cpu = time.perf_counter(), time.process_time()
        inputs = {name: tensor.to(self.device) for name, tensor in batch.items()}
        with self._precision():
            loss = (
                self._straightforward_loss(inputs)
                if self.side.straightforward
                else self._loss(inputs, examples)
            )
        loss.backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._wait()
        return Stepped(
            seconds=time.perf_counter() - began,
            cpu_seconds=time.process_time() - began_cpu,
            examples=len(examples),
            tokens=int(batch["attention_mask"].sum()),
            positions=batch["attention_mask"].numel(),
            operations=operations,
            loss=float(loss.detach()),
            peak_memory=self.peak_memory(),
        )

    def _loss(self, inputs: dict[str, Tensor], examples: list[Example]) -> Tensor:
        """As the trainer does it, with what it counts by task for the log."""
        items = (inputs["labels"][:, 1:] != -100).sum()
        outputs = self.model(**inputs, num_items_in_batch=items)
        results = answer_results(inputs["labels"], outputs.token_losses, outputs.logits.detach())
        self.tally.add([example.task for example in examples], ["any"] * len(examples), results)
        loss: Tensor = outputs.loss
        return loss

    def _straightforward_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        heard = self.model.get_audio_features(inputs["input_values"], inputs["input_features_mask"])
        outputs = self.model.language_model(
            inputs_embeds=self.model.embed_prompt(inputs["input_ids"], heard),
            attention_mask=inputs["attention_mask"],
            labels=inputs["labels"],
        )
        loss: Tensor = outputs.loss
        return loss

    def peak_memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _precision(self) -> AbstractContextManager[Any]:
        """As the trainer's `precision: auto`, but for the few CPUs that are quick in bfloat16."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return contextlib.nullcontext()


def serve(side: Side, settings: Settings, asked: Connection) -> None:
    """In a process of its own: make a model, say what it takes, then train on each batch that is asked for.

    What is sent back is a text where it went wrong.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if side.keeps_memory and settings.device == "cpu":
        keep_freed_memory()
    try:
        stepper = Stepper(side, settings)
        if settings.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        asked.send(stepper.peak_memory())
        while (number := asked.recv()) is not None:
            torch.manual_seed(settings.seed + number)  # of dropout
            asked.send(stepper.step(number))
    except torch.OutOfMemoryError:
        asked.send("the models of all sides do not fit on the card; try a smaller --batch, or a larger card")
    except NatureLMError as error:
        asked.send(str(error))
    except EOFError:  # who asked is gone
        return


# --- all sides ------------------------------------------------------------------------------------


def measure(sides: Sequence[Side], settings: Settings) -> list[Total]:
    """Let the sides step in turns. Exits with a message if one of them cannot."""
    context = multiprocessing.get_context("spawn")
    ends = {}
    for side in sides:
        ends[side], theirs = context.Pipe()
        context.Process(target=serve, args=(side, settings, theirs), daemon=True).start()
        theirs.close()  # so that the end of the process is the end of the pipe
    loaded = {side: answered(side, end) for side, end in ends.items()}
    first: dict[Side, float] = {}
    timed: dict[Side, list[Stepped]] = {side: [] for side in sides}
    for number in itertools.chain([0] * WARM_UP_STEPS, range(1, 1 + settings.steps)):
        for side, end in ends.items():
            end.send(number)
            stepped = answered(side, end)
            first.setdefault(side, stepped.loss)
            if number:
                timed[side].append(stepped)
        print(f"step {number} of {settings.steps}" if number else "warming up", file=sys.stderr)
    for end in ends.values():
        end.send(None)
    return [Total.of(side, loaded[side], first[side], timed[side]) for side in sides]


def answered(side: Side, end: Connection) -> Any:
    try:
        said = end.recv()
    except EOFError:
        sys.exit(f"{side.name}: its process came to an end (killed for want of memory?)")
    if isinstance(said, str):
        sys.exit(f"{side.name}: {said}")
    return said


def ratios(one: Total, other: Total) -> dict[str, float]:
    """Of the first to the second. CPU time says more than the clock where other processes take turns."""
    return {
        "examples_per_second": one.examples_per_second / other.examples_per_second,
        "examples_per_cpu_second": other.cpu_seconds / one.cpu_seconds,
        "peak_memory": one.peak_memory / other.peak_memory,
    }


def peak_of_card(given: float | None) -> float:
    """Operations per second. Exits if there is no GPU, or nobody says what it can do."""
    if not torch.cuda.is_available():
        print("--model official needs a GPU, and torch finds none here; --model mini runs on the CPU")
        sys.exit(2)
    name = torch.cuda.get_device_name()
    known = [peak for part, peak in PEAKS.items() if part in name]
    if given is None and not known:
        print(
            f"{name}: its peak is not known here; give its dense bfloat16 operations per second with --peak"
        )
        sys.exit(2)
    return given if given is not None else known[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=list(CONFIGURATIONS), default="mini")
    parser.add_argument("--corpus", type=Path, help="folder of a corpus; default generated clips")
    parser.add_argument("--batch", type=int, default=8, help="pairs of a batch")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each side")
    parser.add_argument(
        "--threads", type=int, default=0, help="of torch in each process; default: as torch chooses"
    )
    parser.add_argument("--checkpointing", action="store_true", help="compute activations twice on all sides")
    parser.add_argument(
        "--peak", type=float, help="dense bfloat16 operations per second of the card, such as 989e12"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    options = parser.parse_args()
    if min(options.batch, options.steps) < 1:
        parser.error("--batch and --steps are at least 1")
    settings = Settings(
        options.model,
        options.corpus,
        options.batch,
        options.steps,
        options.threads,
        options.checkpointing,
        options.seed,
    )
    peak = peak_of_card(options.peak) if settings.device == "cuda" else None
    if options.threads:
        torch.set_num_threads(options.threads)
    if not options.json:
        print_machine()
    on_cpu = settings.device == "cpu"
    totals = measure([OURS, STRAIGHTFORWARD, *([GIVEN_BACK] if on_cpu else [])], settings)
    ours, straightforward, *rest = totals
    compared = {"ours to straightforward": ratios(ours, straightforward)}
    for given_back in rest:
        compared["freed memory kept to given back"] = ratios(ours, given_back)
        compared["ours to straightforward, both giving back"] = ratios(given_back, straightforward)
    difference = abs(ours.first_loss - straightforward.first_loss) / straightforward.first_loss
    if options.json:
        print(json.dumps(as_json(settings, totals, compared, difference, peak), indent=1))
    else:
        show(settings, totals, compared, difference, peak)
    sys.exit(not difference < SAME_LOSS[settings.device])


def as_json(
    settings: Settings,
    totals: list[Total],
    compared: dict[str, dict[str, float]],
    difference: float,
    peak: float | None,
) -> dict[str, Any]:
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "device": card(settings),
        },
        "settings": {**dataclasses.asdict(settings), "corpus": settings.corpus and str(settings.corpus)},
        "sides": {total.side.name: dataclasses.asdict(total) for total in totals},
        "ratios": compared,
        "relative_difference_of_first_loss": difference,
        "share_of_peak": peak and {total.side.name: total.operations_per_second / peak for total in totals},
    }


def card(settings: Settings) -> str:
    return "CPU" if settings.device == "cpu" else torch.cuda.get_device_name()


def show(
    settings: Settings,
    totals: list[Total],
    compared: dict[str, dict[str, float]],
    difference: float,
    peak: float | None,
) -> None:
    data = "generated clips" if settings.corpus is None else str(settings.corpus)
    print(
        f"{settings.model} on {card(settings)}, {data}: {settings.steps} steps of {settings.batch_size}, "
        f"after {WARM_UP_STEPS} untimed"
    )
    print(
        f"{'':30}{'examples/s':>12}{'tokens/s':>10}{'padding':>9}{'CPU s':>9}{'peak GB':>9}{'loaded GB':>11}"
    )
    for total in totals:
        print(
            f"{total.side.name:30}{total.examples_per_second:12.2f}{total.tokens_per_second:10.0f}"
            f"{total.padding:9.0%}{total.cpu_seconds:9.1f}{total.peak_memory / 1e9:9.2f}{total.loaded_memory / 1e9:11.2f}"
        )
    for name, ratio in compared.items():
        print(
            f"{name}: {ratio['examples_per_second']:.2f} times the examples per second by the clock, "
            f"{ratio['examples_per_cpu_second']:.2f} by CPU time; {ratio['peak_memory']:.2f} of the peak memory"
        )
    if peak is not None:
        for total in totals:
            done = total.operations_per_second
            print(f"{total.side.name}: {done / 1e12:.0f} TFLOP/s, {done / peak:.1%} of {peak / 1e12:.0f}")
    ours, straightforward, *_ = totals
    print(
        f"first loss on one batch: {ours.first_loss:.6f} and {straightforward.first_loss:.6f}, "
        f"relative difference {difference:.1e}"
    )


if __name__ == "__main__":
    main()
