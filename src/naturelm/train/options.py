"""What is trained, on what and how: the options, and the YAML files that hold them."""

import copy
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from naturelm.errors import NatureLMError
from naturelm.settings import Limits, SettingError, parse_yaml, read_yaml, validated, write_yaml

Precision = Literal["auto", "float32", "bfloat16"]
Parallel = Literal["ddp", "fsdp"]

_CONFIGS = Path(__file__).parent / "configs"
_BASE = "base"
_DEEPEST_BASE = 8


class TrainError(NatureLMError):
    """A run that cannot be started, continued or reported as asked; names the file or key, and the cure."""


class TrainOptionError(TrainError, SettingError):
    """An option out of its bounds."""


_LIMITS = Limits(TrainOptionError)


@dataclass(frozen=True)
class LoraOptions:
    """The adapter of the language model (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = 8
    alpha: float = 16.0
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the linear layers that are adapted."""

    def __post_init__(self) -> None:
        """Raises TrainOptionError for a value that makes no sense."""
        _LIMITS.require_least("rank", self.rank, 1)
        _LIMITS.require_positive("alpha", self.alpha)
        _LIMITS.require(
            0 <= self.dropout < 1, "dropout", f"must be 0 or more and below 1, not {self.dropout:g}"
        )
        named = bool(self.targets) and all(self.targets)
        _LIMITS.require(named, "targets", "must name the layers that are adapted, such as `[q_proj, v_proj]`")


@dataclass(frozen=True)
class ModelOptions:
    """The model that is trained: one to go on from, or a new one."""

    start: str | None = None
    """A run or checkpoint folder, built-in name or hub id to start from; None for a new model."""
    llm: str = "smollm2-135m-instruct"
    """Embedded name, folder or hub id of the language model of a new model."""
    ear_weights: Path | None = None
    """Original BEATs `.pt` file that the ear of a new model starts from; None for an untrained ear."""
    audio: dict[str, Any] = field(default_factory=dict)
    """Fields of the ear's configuration; `model_type` chooses the ear, `naturelm_beats` if not given."""
    projector: dict[str, Any] = field(default_factory=dict)
    """Fields of `NatureLMProjectorConfig`."""
    lora: LoraOptions = field(default_factory=LoraOptions)
    clip_seconds: float = 10.0
    """Length of the clips that are trained on: longer ones are cropped to it."""
    max_clip_seconds: float = 60.0
    """The longest clip that the trained model takes as one window."""
    pad_to_clip: bool = False
    """Whether shorter clips are padded with zeros to `clip_seconds`, as in the official model."""
    prompt_template: str | None = None
    """The chat turn around a question, with one `{}`; None for the language model's own."""
    end_of_answer: str | None = None
    """Text that ends an answer; None for the language model's own."""
    add_bos: bool | None = None
    """Whether the language model's start token comes first; None for as its chat template has it."""

    def __post_init__(self) -> None:
        """Raises TrainOptionError for a value that makes no sense."""
        _LIMITS.require(bool(self.llm), "llm", "must not be empty")
        _LIMITS.require(self.start != "", "start", "must not be empty; leave it out for a new model")
        _LIMITS.require(
            self.start is None or self.ear_weights is None,
            "ear_weights",
            "must be left out with `start`: that model's ear is trained already",
        )
        for key in ("audio", "projector"):
            _LIMITS.require(
                _is_plain(getattr(self, key)), key, "must hold texts, numbers, lists and mappings only"
            )
        _LIMITS.require_positive("clip_seconds", self.clip_seconds)
        _LIMITS.require_least("max_clip_seconds", self.max_clip_seconds, self.clip_seconds)
        template = self.prompt_template
        _LIMITS.require(
            template is None or template.count("{}") == 1,
            "prompt_template",
            f"must have exactly one `{{}}`, where the question goes, not {template!r}",
        )
        _LIMITS.require(self.end_of_answer != "", "end_of_answer", "must not be empty")


@dataclass(frozen=True)
class MixtureOptions:
    """How often which pairs are drawn."""

    tasks: dict[str, float] = field(default_factory=dict)
    """Weight by task. Empty: all tasks weigh 1. Else tasks that are not named are not drawn."""
    without_tasks: tuple[str, ...] = ()
    """Tasks that are not drawn, whatever `tasks` says."""
    sources: dict[str, float] = field(default_factory=dict)
    """Weight by source, 1 if not named; 0 leaves a source out."""
    temperature: float = 1.0
    """A task's share is its weight times its rows to the power of 1 / temperature: 1 draws tasks as often as
    they have rows, a high one draws all alike."""
    taxon_cap: int | None = None
    """Rows of one taxon weigh together no more than so many rows."""
    max_seconds: float | None = None
    """Clips that are longer are left out."""
    unmixed: bool = False
    """Whether clips of several sources, noise included, and of several taxa are left out."""
    label_pairs: int = 0
    """Pairs about the labels of a frozen ear that has its own, such as BirdNET's; they are of the source
    `ear-labels`, and come beside those of the corpora in the main phase."""

    def __post_init__(self) -> None:
        """Raises TrainOptionError for a value that makes no sense."""
        for key, weights in (("tasks", self.tasks), ("sources", self.sources)):
            for name, weight in weights.items():
                _LIMITS.require_least(f"{key}.{name}", weight, 0)
        drawn = [name for name, weight in self.tasks.items() if weight > 0 and name not in self.without_tasks]
        _LIMITS.require(
            bool(drawn) or not self.tasks,
            "tasks",
            "must give a weight above 0 to a task that is not in `without_tasks`",
        )
        _LIMITS.require_least("temperature", self.temperature, 1)
        if self.taxon_cap is not None:
            _LIMITS.require_least("taxon_cap", self.taxon_cap, 1)
        if self.max_seconds is not None:
            _LIMITS.require_positive("max_seconds", self.max_seconds)
        _LIMITS.require_least("label_pairs", self.label_pairs, 0)


@dataclass(frozen=True)
class Lesson:
    """What the warm-up draws for a while at its beginning: the easy before the hard."""

    steps: int
    tasks: tuple[str, ...]
    """Tasks of weight 1; others are not drawn."""
    unmixed: bool = False
    """As in the mixture."""

    def __post_init__(self) -> None:
        """Raises TrainOptionError for a value that makes no sense."""
        _LIMITS.require_least("steps", self.steps, 1)
        _LIMITS.require(bool(self.tasks), "tasks", "must name a task")


@dataclass(frozen=True)
class WarmUpOptions:
    """Perception before the language model is asked: ear and projector learn the words of the answers."""

    steps: int
    batch_size: int = 32
    """Clips per optimiser step, over all processes."""
    learning_rate: float = 1e-3
    """The peak; from there it falls to 0 along a cosine."""
    learning_rate_steps: int = 200
    """Steps over which the learning rate rises from 0."""
    min_count: int = 20
    """A word that is in fewer answers is no target."""
    tasks: tuple[str, ...] = ()
    """Tasks whose answers are learnt, all of weight 1; empty for all with open answers."""
    temperature: float = 2.0
    """As in the mixture."""
    clip_seconds: float | None = None
    """Longer clips are cropped to it; None for as in the main phase."""
    colouring_db: float = 0.0
    """How far a clip is made louder or fainter, and its frequencies apart from that, each time that it comes: the
    standard deviation; and its beginning is cut by up to a patch. 0: it is heard as it is. BEATs ears only."""
    keep_features: bool = False
    """Write each clip's filter bank to the run's folder when it first comes, and read it from there until the warm-up
    ends; takes 2 bytes a number, 38 kB for 3 s of 64 mel bins."""
    lessons: tuple[Lesson, ...] = ()
    """What the first of the steps draw, one lesson after the other; the steps after them draw from `tasks`."""

    def __post_init__(self) -> None:
        """Raises TrainOptionError for a value that makes no sense."""
        for key in ("steps", "batch_size", "min_count"):
            _LIMITS.require_least(key, getattr(self, key), 1)
        _LIMITS.require_positive("learning_rate", self.learning_rate)
        _LIMITS.require_least("learning_rate_steps", self.learning_rate_steps, 0)
        _LIMITS.require_least("temperature", self.temperature, 1)
        if self.clip_seconds is not None:
            _LIMITS.require_positive("clip_seconds", self.clip_seconds)
        _LIMITS.require_least("colouring_db", self.colouring_db, 0)
        for number, lesson in enumerate(self.lessons):
            unknown = sorted(set(lesson.tasks) - set(self.tasks)) if self.tasks else []
            _LIMITS.require(
                not unknown,
                f"lessons[{number}].tasks",
                f"must be among the `tasks` of the warm-up, and {', '.join(unknown)} is not",
            )
        taken = sum(lesson.steps for lesson in self.lessons)
        _LIMITS.require(
            taken <= self.steps,
            "lessons",
            f"must take no more than the warm-up's `steps`, {self.steps}, and take {taken}",
        )


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW, and a learning rate that rises linearly and falls along a cosine."""

    learning_rate: float = 9e-5
    """The peak."""
    initial_learning_rate: float = 0.0
    final_learning_rate: float = 1e-5
    warm_up_steps: int = 5000
    """Steps from the initial learning rate to the peak."""
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    max_grad_norm: float = 1.0
    """Gradients of a larger norm, over all that is trained, are scaled down to it."""
    ear_scale: float = 1.0
    """The ear's learning rate as a multiple of `learning_rate`; 0 freezes the ear."""
    projector_scale: float = 1.0
    hints_scale: float = 1.0
    """Of the vectors that say how sure a hint is."""
    lora_scale: float = 1.0

    def __post_init__(self) -> None:
        """Raises TrainOptionError for a value that makes no sense."""
        peak = self.learning_rate
        _LIMITS.require_positive("learning_rate", peak)
        for key in ("initial_learning_rate", "final_learning_rate"):
            value = getattr(self, key)
            _LIMITS.require(
                0 <= value <= peak,
                key,
                f"must be from 0 to `learning_rate`, which is {peak:g}, not {value:g}",
            )
        _LIMITS.require_least("warm_up_steps", self.warm_up_steps, 0)
        _LIMITS.require_least("weight_decay", self.weight_decay, 0)
        for key in ("beta1", "beta2"):
            value = getattr(self, key)
            _LIMITS.require(0 <= value < 1, key, f"must be 0 or more and below 1, not {value:g}")
        _LIMITS.require_positive("max_grad_norm", self.max_grad_norm)
        scales = ("ear_scale", "projector_scale", "hints_scale", "lora_scale")
        for key in scales:
            _LIMITS.require_least(key, getattr(self, key), 0)
        _LIMITS.require(
            any((self.ear_scale, self.projector_scale, self.lora_scale)),
            "ear_scale",
            "must be above 0, or another part's scale must be: else nothing is trained",
        )


@dataclass(frozen=True)
class TrainOptions:
    """A whole run."""

    name: str
    steps: int
    """Optimiser steps of the main phase, in which the model learns to answer."""
    corpus: tuple[Path, ...] = ()
    """Folders of corpora."""
    model: ModelOptions = field(default_factory=ModelOptions)
    mixture: MixtureOptions = field(default_factory=MixtureOptions)
    warm_up: WarmUpOptions | None = None
    """Perception first; None for no such phase."""
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    batch_size: int = 8
    """Pairs per optimiser step, over all processes."""
    micro_batch_size: int = 8
    """Pairs per forward pass and process, at most."""
    gradient_checkpointing: bool = False
    """Whether activations are computed twice rather than kept: slower, with less memory."""
    precision: Precision = "auto"
    """`auto`: bfloat16 where the hardware has it, a GPU or a processor with units for it."""
    parallel: Parallel = "ddp"
    """How several processes share the work: the model in each (`ddp`), or its parts spread over them (`fsdp`)."""
    log_every: int = 10
    """Steps from one log line to the next."""
    evaluate_every: int = 500
    """Steps from one evaluation to the next."""
    evaluation_pairs: int = 200
    """Validation pairs that an evaluation takes; 0 for no evaluation."""
    sample_answers: int = 5
    """Answers that are written out at an evaluation."""
    save_every: int = 500
    """Steps from one checkpoint to the next."""
    keep: int = 2
    """The newest checkpoints that are kept."""
    workers: int = 1
    """Processes that load batches, for each training process; 0 to load between steps."""
    threads: int | None = None
    """CPU threads of a training process; None for as many as torch takes."""
    seed: int = 0
    wandb: bool = False
    """Whether the log goes to Weights & Biases as well."""

    def __post_init__(self) -> None:
        """Raises TrainOptionError for a value that makes no sense."""
        _LIMITS.require(bool(self.name), "name", "must not be empty")
        _LIMITS.require_name("name", self.name)
        for key in (
            "steps",
            "batch_size",
            "micro_batch_size",
            "log_every",
            "evaluate_every",
            "save_every",
            "keep",
        ):
            _LIMITS.require_least(key, getattr(self, key), 1)
        for key in ("evaluation_pairs", "sample_answers", "workers", "seed"):
            _LIMITS.require_least(key, getattr(self, key), 0)
        if self.threads is not None:
            _LIMITS.require_least("threads", self.threads, 1)


def shipped_configurations() -> dict[str, Path]:
    """The configurations that come with this package: file by name."""
    return {path.stem: path for path in sorted(_CONFIGS.glob("*.yaml"), key=lambda path: path.stem)}


def load_train_options(
    config: str | Path, overrides: Sequence[str] = (), corpus: Sequence[Path] = ()
) -> TrainOptions:
    """Options from a YAML file or the name of a shipped configuration.

    A file may build on another with `base: NAME` (a shipped name, or a file beside it): keys that it gives are
    laid over the base's, mapping by mapping; `{}` empties a mapping. overrides: `a.b=value` each, the value as
    in YAML, the last one wins. corpus: folders in place of the configuration's own.

    Raises TrainError, which names the file or override and the key.
    """
    layers = _layers(_config_file(str(config)))
    values: dict[str, Any] = {}
    for _, layer in layers:
        _lay_over(values, layer)
    keys = [_override(values, text) for text in overrides]
    if corpus:
        values["corpus"] = [str(folder) for folder in corpus]
    try:
        options: TrainOptions = validated(TrainOptions, values)
    except SettingError as error:
        raise TrainError(f"{_giver(error.key, layers, keys, overrides)}: {error}") from error
    return options


def save_train_options(options: TrainOptions, path: Path) -> None:
    """Write all options as YAML, which `load_train_options` reads back equal; whole or not at all.

    Raises TrainError if the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            temporary.write_text(write_yaml(_plain(dataclasses.asdict(options))), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TrainError(f"{path}: cannot be written: {error.strerror}") from error


# Files by name, from the last base to the file that was asked for, each with what it says.
_Layers = list[tuple[Path, dict[str, Any]]]


def _config_file(config: str) -> Path:
    shipped = shipped_configurations()
    if config in shipped:
        return shipped[config]
    if Path(config).suffix or Path(config).exists():
        return Path(config)
    raise TrainError(
        f"{config}: no configuration has this name; there are: {', '.join(shipped)}; or give a YAML file"
    )


def _layers(path: Path) -> _Layers:
    layers: _Layers = []
    asked = ""
    while len(layers) < _DEEPEST_BASE:
        try:
            values = read_yaml(path, "give a YAML file, or a name that `naturelm train configs` lists")
        except SettingError as error:
            raise TrainError(f"{asked}{error}") from error
        if not isinstance(values, dict):
            raise TrainError(f"{asked}{path}: expected keys such as `name:`, `model:` and `steps:`")
        base = values.pop(_BASE, None)
        layers.insert(0, (path, values))
        if base is None:
            return layers
        asked = f"{path}: {_BASE}: "
        if not isinstance(base, str) or not base:
            raise TrainError(f"{asked}must be a configuration's name or file, not {base!r}")
        path = shipped_configurations().get(base, path.parent / base)
    raise TrainError(f"{asked}more than {_DEEPEST_BASE} files build on each other")


def _lay_over(values: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, given in layer.items():
        below = values.get(key)
        if isinstance(given, dict) and given and isinstance(below, dict):
            _lay_over(below, given)
        else:
            values[key] = copy.deepcopy(given)


def _override(values: dict[str, Any], text: str) -> str:
    """Put `a.b=value` in place; returns the key."""
    key, given, value = text.partition("=")
    parts = key.strip().split(".")
    if not given or not all(parts):
        raise TrainError(f"--set {text}: expected KEY=VALUE, such as optimizer.learning_rate=1e-4")
    for depth, part in enumerate(parts[:-1]):
        below = values.get(part)
        if below is None:
            below = values[part] = {}
        if not isinstance(below, dict):
            raise TrainError(f"--set {text}: {'.'.join(parts[: depth + 1])}: has no keys below it")
        values = below
    try:
        values[parts[-1]] = parse_yaml(value)
    except ValueError as error:
        raise TrainError(
            f"--set {text}: {key}: not readable as YAML: {' '.join(str(error).split())}"
        ) from error
    return ".".join(parts)


def _giver(key: str, layers: _Layers, keys: Sequence[str], overrides: Sequence[str]) -> str:
    """Where a key that is wrong was given: the last override or file that has it, or else the file asked for."""
    for given, text in zip(reversed(keys), reversed(overrides), strict=True):
        if key == given or key.startswith((f"{given}.", f"{given}[")) or given.startswith(f"{key}."):
            return f"--set {text}"
    for path, layer in reversed(layers):
        if _holds(layer, key.split("[", maxsplit=1)[0].split(".")):
            return str(path)
    return str(layers[-1][0])


def _holds(values: object, parts: Sequence[str]) -> bool:
    for part in parts:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _is_plain(values: Mapping[str, Any]) -> bool:
    try:
        json.dumps(values, allow_nan=False)
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # a date, infinity or a mapping within itself, as YAML can say
        return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
