"""The model card: what a model is, what it learnt from, how well it does, and what its use is bound to.

Everything that comes from a run's files is text from outside: it is escaped, so that it can neither break the
front matter nor pass for a part of the card.
"""

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from naturelm.corpus.stats import hours_text
from naturelm.model.birdnet import BirdNetConfig
from naturelm.model.birdnet_files import BIRDNET_LICENCE, BIRDNET_SOURCE
from naturelm.model.configuration import NatureLMConfig
from naturelm.model.embedded import EMBEDDED_LLMS
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.train.lineage import CorpusContent, Part, Stage, by_part
from naturelm.train.markdown import Rows, code_block, escaped, figure, finite, table
from naturelm.train.options import TrainError, TrainOptions
from naturelm.train.parts import READERS, part_of

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PARTS = ("ear", "projector", "hints", "lora", "language model")
# Terms of a licence that reach what is made with the work, by the letters that tell of them.
_BINDING = (
    ("share-alike", re.compile(r"\b(SA|GPL|LGPL|AGPL)\b", re.IGNORECASE)),
    ("non-commercial", re.compile(r"\bNC\b", re.IGNORECASE)),
    ("no derivatives", re.compile(r"\bND\b", re.IGNORECASE)),
)


@dataclass(frozen=True)
class ModelFacts:
    """What the card says of the model itself."""

    config: NatureLMConfig
    parameters: Mapping[str, int]
    """By part: ear, projector, lora, language model."""
    layout: str
    stored: int
    """Bytes of the weights' file."""
    with_language_model: bool
    """Whether that file holds the language model's own weights."""


def count_parameters(model: NatureLMForConditionalGeneration) -> dict[str, int]:
    """Parameters by part, shared ones counted once."""
    counts = dict.fromkeys(_PARTS, 0)
    for name, parameter in model.named_parameters():
        part = part_of(name) or "language model"
        counts["hints" if part == READERS else part] += parameter.numel()
    return counts


def require_license(license: str | None) -> None:
    """TrainError unless it is an identifier as the Hugging Face hub spells it, or None."""
    if license is not None and not _LICENSE.fullmatch(license):
        raise TrainError(
            f"license {license!r}: not an identifier; give one such as apache-2.0 or cc-by-nc-sa-4.0, or `other`"
        )


def model_card(
    facts: ModelFacts,
    stages: Sequence[Stage] = (),
    *,
    name: str,
    license: str | None = None,
) -> str:
    """A README.md for the Hugging Face hub.

    stages: the runs that made the model, the first one first; without them the card has no training part.
    license: the model's licence; None leaves it to be chosen.
    """
    sections = [
        _front_matter(facts.config, license),
        f"# {escaped(name)}",
        _summary(facts),
        _model(facts),
        _use(facts.config, stages),
        _data(stages),
        *(_stage(number, stage) for number, stage in enumerate(stages, 1)),
        _results(stages[-1] if stages else None),
        _licenses(facts.config, stages, license),
    ]
    return "\n\n".join(sections) + "\n"


# --- the model ---------------------------------------------------------------------------------


def _front_matter(config: NatureLMConfig, license: str | None) -> str:
    base = _base_model(config)
    fields = {
        **({"license": license} if license else {}),
        "language": ["en"],
        "library_name": "naturelm",
        "pipeline_tag": "audio-text-to-text",
        **({"base_model": base} if base else {}),
        "tags": ["bioacoustics", "audio", "animal-sounds", "naturelm-audio"],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---"


def _base_model(config: NatureLMConfig) -> str | None:
    """The language model's hub id; None where it has none."""
    named = config.text_model or ""
    if named in EMBEDDED_LLMS:
        return EMBEDDED_LLMS[named].source.partition(",")[0]
    return named if _HUB_ID.fullmatch(named) and not Path(named).is_dir() else None


def _summary(facts: ModelFacts) -> str:
    base = _base_model(facts.config)
    llm = f"the language model {escaped(base)}" if base else "a language model"
    return (
        "An audio-language model after NatureLM-audio (Robinson et al. 2024, arXiv:2411.07186): it hears a recording "
        f"and answers questions about it in words. An ear and a bridge put sound before {llm}.\n\n"
        "```python\n"
        "from naturelm import NatureLM\n\n"
        'model = NatureLM.from_pretrained("FOLDER")  # of this model\n'
        'print(model.ask("recording.wav", "Which animal is this?").text)\n'
        "```"
    )


def _model(facts: ModelFacts) -> str:
    config = facts.config
    ear, bridge, text, lora = (
        config.audio_config,
        config.projector_config,
        config.text_config,
        config.lora or {},
    )
    parts = {
        "ear": f"{ear.model_type}, {_layers(ear)}, {ear.sampling_rate} Hz",
        "projector": f"{bridge.kind}, windows of {bridge.window_frames} frames every {bridge.stride_frames}",
        "hints": _hints(bridge),
        "lora": f"rank {lora.get('r')}, alpha {lora.get('lora_alpha')}, on {', '.join(lora.get('target_modules', ()))}",
        "language model": f"{text.model_type}, {_layers(text)}",
    }
    counts = facts.parameters
    rows = [(part, parts[part], f"{counts[part]:,}") for part in _PARTS if counts[part] or part == "ear"]
    rows.append(("together", "", f"{sum(counts.values()):,}"))
    held = (
        "They hold the language model's own weights."
        if facts.with_language_model
        else f"The language model's own weights are not in them: they are read from {escaped(config.text_model)}."
    )
    taught = ""
    if bridge.hinted_words:
        taught += (
            f"\n\nThe likeliest words of its answers are spelt out for the language model, of {len(bridge.hinted_words)} "
            "that the audio side was taught before it: "
            + ", ".join(f"{hint.words} for {escaped(hint.task)}" for hint in bridge.hints_of_words)
            + "."
        )
    if bridge.taught_labels:
        names = ", ".join(map(escaped, bridge.taught_labels))
        taught += f"\n\nBeside its own labels the ear was taught these {len(bridge.taught_labels)}: {names}."
    layout = "of naturelm" if facts.layout == "naturelm" else "of the official release"
    return (
        f"## Model\n\n{table(('part', 'what', 'parameters'), rows)}\n\n"
        f"The files are in the layout {layout}; the weights take {facts.stored / 1e6:,.1f} MB. {held} "
        f"Trained on clips of up to {config.clip_seconds:g} s; up to {config.max_clip_seconds:g} s are heard as one "
        f"window, and longer recordings window by window.{taught}"
    )


def _hints(bridge: Any) -> str:
    """What is spelt out for the language model."""
    spelt = [(bridge.label_hints, "labels of the ear"), (bridge.taught_hints, "labels that it was taught")]
    words = bridge.hints_of_words
    spelt.append((sum(hint.words for hint in words), f"words, for {len(words)} kinds of question"))
    return "spelt out: " + ", ".join(f"{count} {what}" for count, what in spelt if count)


def _layers(config: Any) -> str:
    named = (("num_hidden_layers", "layers"), ("hidden_size", "wide"))
    return (
        ", ".join(f"{getattr(config, key)} {word}" for key, word in named if hasattr(config, key)) or "frozen"
    )


def _use(config: NatureLMConfig, stages: Sequence[Stage]) -> str:
    ear = config.audio_config
    highest = getattr(ear, "highest_frequency", ear.sampling_rate / 2) / 1000
    limits = [
        "It names something for every sound and does not know what it does not know: a name that it was not taught "
        "is a guess, and its probabilities are not calibrated.",
        "An answer that names no animal is no proof that none was there.",
        f"It hears up to {highest:g} kHz: the calls of most bats and much of what rodents say are above that.",
        "It was taught in English, with the kinds of question that are listed below; others may go wrong.",
        "Recordings by other people, with other devices and in other places, are harder than those of its training "
        "corpora, whose validation part the evaluation below is taken from.",
    ]
    if not stages:
        limits.append("Nothing is known here of its training: judge it by tests of your own.")
    return (
        "## What it is for, and what it is not\n\n"
        "For research and for trying things out: to ask about recordings of animals, to sort them before a person "
        "listens, and to go on training from.\n\n"
        "Not for decisions about species, land, law or safety without an expert's check; not for counts or absence "
        "data in monitoring without a test on recordings from the place itself; not for finding out who a person is "
        "or what is said.\n\n" + "\n".join(f"- {limit}" for limit in limits)
    )


# --- training ----------------------------------------------------------------------------------


def _data(stages: Sequence[Stage]) -> str:
    corpora = _corpora(stages)
    if not corpora:
        return "## Training data\n\nNot known."
    rows = [
        (
            of.facts.name,
            f"{of.facts.rows:,}",
            hours_text(of.hours) if of.hours is not None else "",
            of.facts.manifest_hash[:12],
        )
        for of in corpora
    ]
    parts = ["## Training data", table(("corpus", "training pairs", "hours", "build"), rows)]
    unread = [of.facts.name for of in corpora if of.hours is None]
    if unread:
        parts.append(
            f"No longer there to be read when this card was written, so that nothing more is known of it here: "
            f"{', '.join(map(escaped, unread))}."
        )
    read = [of for of in corpora if of.hours is not None]
    if read:
        parts.append(
            "As the corpora hold it, before the weights of the mixture; a clip of several sources counts for each of them:"
        )
        pairs = sum(of.facts.rows for of in read)
        parts.append(_shares("source", by_part((group for of in read for group in of.sources), "+"), pairs))
        parts.append(_shares("licence of the sounds", _license_groups(read), pairs))
    return "\n\n".join(parts)


def _corpora(stages: Sequence[Stage]) -> list[CorpusContent]:
    """Of all stages, each build once."""
    return list({of.facts.manifest_hash: of for stage in stages for of in stage.corpora}.values())


def _license_groups(corpora: Iterable[CorpusContent]) -> tuple[Part, ...]:
    return by_part((group for of in corpora for group in of.licenses), " + ")


def _shares(heading: str, parts: Sequence[Part], pairs: int) -> str:
    rows = [
        (
            part.name or "not known",
            f"{part.pairs:,}",
            f"{part.pairs / max(1, pairs):.1%}",
            hours_text(part.hours),
        )
        for part in parts
    ]
    return table((heading, "pairs", "share", "hours"), rows)


def _stage(number: int, stage: Stage) -> str:
    facts, options = stage.facts, stage.options
    parts = [f"## Training, run {number}: {escaped(options.name)}"]
    if stage.step is not None or facts.state != "finished":
        which = f"step {stage.step:,} of the answers" if stage.step is not None else "its last step"
        reason = f" ({escaped(facts.reason)})" if facts.reason else ""
        parts.append(f"The model is that of {which}; the run is {facts.state}{reason}.")
    if options.model.start:
        parts.append(f"Started from the model {escaped(Path(options.model.start).name)}.")
    parts.append(table(("", ""), _settings(options, stage)))
    parts += [_mixture(stage), _circumstances(stage)]
    parts.append(f"To reproduce it, with folders of your own:\n\n{code_block(_command(facts.command))}")
    return "\n\n".join(part for part in parts if part)


def _settings(options: TrainOptions, stage: Stage) -> Rows:
    optimizer, warm_up = options.optimizer, options.warm_up
    if warm_up is not None:
        coloured = f", clips coloured by {warm_up.colouring_db:g} dB" if warm_up.colouring_db else ""
        yield (
            "perception first",
            f"{warm_up.steps:,} steps of {warm_up.batch_size} clips, learning rate {warm_up.learning_rate:g}{coloured}",
        )
        for lesson in warm_up.lessons:
            alone = ", clips of one source and one taxon" if lesson.unmixed else ""
            yield "at its beginning", f"{lesson.steps:,} steps of {escaped(', '.join(lesson.tasks))}{alone}"
    yield "steps", f"{options.steps:,} of {options.batch_size} pairs"
    yield (
        "optimiser",
        f"AdamW, beta {optimizer.beta1:g} and {optimizer.beta2:g}, weight decay {optimizer.weight_decay:g}, gradients "
        f"clipped at {optimizer.max_grad_norm:g}",
    )
    yield (
        "learning rate",
        f"{optimizer.initial_learning_rate:g} to {optimizer.learning_rate:g} over {optimizer.warm_up_steps:,} steps, "
        f"then a cosine to {optimizer.final_learning_rate:g}; times {optimizer.ear_scale:g} for the ear, "
        f"{optimizer.projector_scale:g} for the projector, {optimizer.hints_scale:g} for hints, "
        f"{optimizer.lora_scale:g} for LoRA",
    )
    yield "precision", options.precision
    yield "seed", str(options.seed)
    mixture = options.mixture
    yield "temperature of the mixture", f"{mixture.temperature:g}"
    if mixture.taxon_cap is not None:
        yield "most pairs of a taxon", f"{mixture.taxon_cap:,}"


def _mixture(stage: Stage) -> str:
    """What was asked for and what was drawn, by task and by source."""
    tables = []
    lines = [line for line in stage.log if line["kind"] == "step" and line["phase"] == "answers"]
    drawn_tasks = _add_up((task, _get(of, "pairs")) for line in lines for task, of in _items(line, "tasks"))
    drawn_sources = _add_up((source, count) for line in lines for source, count in _items(line, "sources"))
    for heading, asked, drawn in (
        ("task", stage.facts.task_shares, drawn_tasks),
        ("source", stage.facts.source_shares, drawn_sources),
    ):
        total = sum(drawn.values())
        rows = [
            (
                name,
                f"{asked[name]:.1%}" if name in asked else "",
                f"{drawn[name]:,.0f}" if total else "",
                f"{drawn[name] / total:.1%}" if total else "",
            )
            for name in sorted(asked.keys() | drawn.keys())
        ]
        if rows:
            tables.append(table((heading, "share asked for", "drawn", "share drawn"), rows))
    return "\n\n".join(tables)


def _circumstances(stage: Stage) -> str:
    facts, hardware = stage.facts, stage.facts.hardware
    seconds: dict[str, float] = defaultdict(float)
    for line in stage.log:
        if line["kind"] == "step":
            seconds[line["phase"]] = max(seconds[line["phase"]], finite(line.get("seconds")) or 0.0)
    gpus = Counter(gpu.name for gpu in hardware.gpus)
    machine = ", ".join(f"{count} x {name}" for name, count in gpus.items()) or (
        f"{hardware.cores} cores of {hardware.cpu}"
    )
    rows = [
        ("hardware", f"{facts.processes} process{'es' * (facts.processes > 1)}; first one on {machine}"),
        ("time", f"{sum(seconds.values()) / 3600:.2f} hours of training steps" if seconds else ""),
        ("started, ended", f"{facts.started}, {facts.finished or 'not yet'}"),
        ("versions", ", ".join(f"{package} {version}" for package, version in facts.versions.items())),
    ]
    return table(("", ""), rows)


def _command(words: Sequence[str]) -> str:
    """The command line, with absolute paths cut to their last name: they tell of one machine alone."""
    shortened = []
    for word in words:
        key, equals, value = word.rpartition("=")
        shortened.append(key + equals + (Path(value).name if value.startswith("/") else value))
    return shlex.join(shortened)


# --- results and licences ----------------------------------------------------------------------


def _results(stage: Stage | None) -> str:
    parts = ["## Results"]
    if stage is not None and stage.scores:
        rows = [
            (
                row.get("component"),
                row.get("metric"),
                figure(row.get("value")),
                f"{figure(row.get('low'))} to {figure(row.get('high'))}",
                figure(row.get("n")),
                figure(row.get("chance")),
                figure(row.get("baseline")),
            )
            for row in stage.scores
        ]
        parts.append("Of free answers, and (`choice`) of the likeliest of a closed set, with 95% intervals:")
        parts.append(table(("component", "metric", "value", "interval", "n", "chance", "baseline"), rows))
    evaluations = [line for line in stage.log if line["kind"] == "evaluation"] if stage else []
    answers = [line for line in evaluations if line["phase"] == "answers"]
    if answers:
        last = max(answers, key=lambda line: int(line["step"]))
        by_task: Rows = [
            (task, *(figure(_get(of, key)) for key in ("pairs", "loss", "accuracy", "exact")))
            for task, of in sorted(_items(last, "tasks"))
        ]
        parts.append(
            f"Last evaluation of the run, at step {last['step']:,}, on pairs of the validation part (loss "
            f"{figure(last.get('loss'))}). The right answer is given word by word, so that these numbers are higher "
            "than those of free answers: share of tokens that are right, and share of pairs whose tokens all are."
        )
        parts.append(table(("task", "pairs", "loss", "tokens right", "pairs right"), by_task))
    if len(parts) == 1:
        parts.append("None were measured.")
    return "\n\n".join(parts)


def _licenses(config: NatureLMConfig, stages: Sequence[Stage], license: str | None) -> str:
    own = (
        f"The model's licence is {escaped(license)}, as chosen by who exported it."
        if license
        else "No licence has been chosen for this model yet: who publishes it must choose one."
    )
    parts = ["## Licences", own]
    llm = EMBEDDED_LLMS.get(config.text_model or "")
    if llm is not None:
        parts.append(f"The language model is {escaped(llm.source)}, under {llm.licence}.")
    else:
        parts.append("The language model has a licence of its own; see where it comes from.")
    if config.audio_config.model_type == BirdNetConfig.model_type:
        parts.append(
            f"The ear is {BIRDNET_SOURCE}, under {BIRDNET_LICENCE.spdx}{_terms(BIRDNET_LICENCE.spdx)}. It is not among "
            "these files; whoever uses this model fetches it and accepts its terms: "
            + " ".join(BIRDNET_LICENCE.terms)
        )
    corpora = _corpora(stages)
    names = [part.name or "not known" for part in _license_groups(corpora)]
    if names:
        parts.append(
            "The sounds that it was trained on are under these licences:\n\n"
            + "\n".join(f"- {escaped(name)}{_terms(name)}" for name in names)
        )
    if not names or any(of.hours is None for of in corpora):
        parts.append("The licences of some or all training data are not known here: find them out first.")
    parts.append(
        "The licences of training data may bind the model, share-alike and non-commercial ones above all, and "
        "the law on this differs between countries. Choose the model's licence with that in mind."
    )
    return "\n\n".join(parts)


def _terms(license: str) -> str:
    found = [term for term, pattern in _BINDING if pattern.search(license)]
    return f" ({', '.join(found)})" if found else ""


def _items(line: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    of = line.get(key)
    return list(of.items()) if isinstance(of, dict) else []


def _get(of: object, key: str) -> object:
    return of.get(key) if isinstance(of, dict) else None


def _add_up(counts: Iterable[tuple[str, object]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for name, count in counts:
        total[name] += finite(count) or 0.0
    return total
