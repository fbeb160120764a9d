"""The sides of `training.py`: what they train on, their model, and the steps that each takes in its own process."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
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
    """Useful ones; the formula is in `training.py`."""
    loss: float
    peak_memory: int
    """Bytes, so far."""


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
    """Of one training step; the formula is in `training.py`."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    adapter = [p for name, p in model.language_model.named_parameters() if ".lora_" in name]
    lora = sum(parameter.numel() for parameter in adapter)
    tied = head.weight is table.weight
    frozen = _weights(model.language_model) - lora - _weights(table) - (0 if tied else _weights(head))
    ear, projector = _weights(model.ear), _weights(model.projector)

    tokens = int(batch["attention_mask"].sum())
    answered = int((batch["labels"][:, 1:] != -100).sum())
    clips, samples = batch["input_values"].shape
    patches = clips * model.config.audio_config.num_frames(samples)
    heard = int((batch["input_ids"] == model.config.audio_token_id).sum())
    passed = 4 * (frozen * tokens + _weights(head) * answered)
    return float(passed + 6 * (lora * tokens + ear * patches + projector * heard))


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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
            enable = getattr(
                self.model, "activation_checkpointing_enable", self.model.gradient_checkpointing_enable
            )
            enable()  # the first name is that of later releases of transformers
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

    def forget_peak_memory(self) -> None:
        """Let the peak begin at what is in use now: loading takes two copies of the language model."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with contextlib.suppress(OSError):  # Linux alone has it
            Path("/proc/self/clear_refs").write_text("5")

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
        stepper.forget_peak_memory()
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
