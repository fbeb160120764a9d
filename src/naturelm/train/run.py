"""A training run from beginning to end, or from where it was stopped."""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from transformers.integrations import TensorBoardCallback, WandbCallback
from transformers.trainer_callback import PrinterCallback

from naturelm.corpus.storage import DATA, Corpus
from naturelm.model.label_hints import TaughtLabels
from naturelm.train.arguments import training_arguments
from naturelm.train.building import Built, build_model
from naturelm.train.callbacks import EvaluateEvery, ProgressBar, SaveLast, StopOnSignal
from naturelm.train.checkpoints import (
    PHASES,
    RunCheckpoint,
    clear_staging,
    newest_checkpoint,
    require_checkpoint,
)
from naturelm.train.data import AnswerCollator, Example, TrainingRows
from naturelm.train.evaluation import EvaluationRows, Evaluator
from naturelm.train.facts import begin_facts, close_facts, has_facts, is_finished, resume_facts
from naturelm.train.kept_features import KeptFeatures, kept_features
from naturelm.train.label_rows import (
    LABEL_SOURCE,
    AllRows,
    LabelRows,
    background_rows,
    clip_lengths,
    label_columns,
    label_embeddings,
)
from naturelm.train.memory import keep_freed_memory
from naturelm.train.metrics import Tally
from naturelm.train.mixture import (
    Mixture,
    MixtureRows,
    joined_rows,
    mixture_rows,
    require_even,
    source_of,
    with_lessons,
)
from naturelm.train.options import (
    MixtureOptions,
    TrainError,
    TrainOptions,
    WarmUpOptions,
    load_train_options,
    save_train_options,
)
from naturelm.train.parts import PartRates, train_only
from naturelm.train.precision import autocast
from naturelm.train.runlog import RunLog, read_log
from naturelm.train.taught_labels import fit_taught_labels
from naturelm.train.trainer import NatureLMTrainer, PhaseData, Unusable, load_weights, save_weights
from naturelm.train.warm_up import (
    WarmUpCollator,
    WordHearer,
    WordTargets,
    learn_words,
    require_fitting_ear,
    start_patches_from_components,
    word_targets,
)

OPTIONS = "options.yaml"
MODEL = "model"
_FEATURES = "warm-up-features.bin"
_PATCH_CLIPS = 400
_WARM_UP, _ANSWERS = PHASES
_MAY_CHANGE = (
    *("corpus", "log_every", "save_every", "keep", "workers", "threads", "wandb", "micro_batch_size"),
    *("gradient_checkpointing", "evaluate_every", "evaluation_pairs", "sample_answers"),
)
"""Options that a resumed run may have otherwise: they change nothing that is learnt. Corpora may have moved."""


@dataclass(frozen=True)
class TrainReport:
    """How a run ended."""

    folder: Path
    steps: int
    """Optimiser steps of the main phase that are done."""
    state: Literal["finished", "stopped", "failed"]
    reason: str
    """Why it was stopped or failed; empty if it finished."""
    loss: float | None
    """Of the last evaluation; None if there was none."""


def train(options: TrainOptions, out: Path, *, resume: bool = False, fresh: bool = False) -> TrainReport:
    """Train as the options say.

    out: the run's folder (see docs/training.md). resume: go on from its newest checkpoint, with the same
    batches; nothing to go on from begins at the beginning, and a finished run stays as it is. fresh: throw
    away what is in the folder.

    A run that is stopped by a signal, or by a fault that it cannot get past (a loss that is no number, a pair
    that cannot be read, a full disk), leaves a checkpoint that loads, and says so in the report. Raises
    TrainError, CorpusError or CheckpointError where it cannot begin.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.warm_up is not None and not torch.cuda.is_available():
        keep_freed_memory()
    process = PartialState(cpu=not torch.cuda.is_available())
    _require_folder(options, out, resume=resume, fresh=fresh)
    # What cannot be trained on is refused before anything is written.
    run = _Run(options, out, process)
    if resume and (done := _finished(run)) is not None:
        return done
    process.wait_for_everyone()
    if process.is_main_process:
        _prepare_folder(options, out, fresh=fresh)
    process.wait_for_everyone()
    others = multiprocessing.active_children()
    try:
        return run.go(newest_checkpoint(out) if resume else None)
    finally:
        # Loaders ignore the signals that end a process.
        for child in multiprocessing.active_children():
            if child not in others:
                child.kill()


def _require_folder(options: TrainOptions, out: Path, *, resume: bool, fresh: bool) -> None:
    """The folder must be new, or that of this very run."""
    there = (out / OPTIONS).exists()
    if there and not (resume or fresh):
        raise TrainError(
            f"{out}: there is a run already; go on with it with --resume, or begin anew with --fresh"
        )
    if out.exists() and not there and (not out.is_dir() or any(out.iterdir())):
        raise TrainError(f"{out}: not empty, and no run; give another folder")
    if there and resume:
        before = load_train_options(out / OPTIONS)
        for name in vars(options):
            if name not in _MAY_CHANGE and getattr(options, name) != getattr(before, name):
                raise TrainError(
                    f"{out / OPTIONS}: this run has another `{name}`; "
                    "resume with the options that it began with, or begin anew with --fresh"
                )


def _prepare_folder(options: TrainOptions, out: Path, *, fresh: bool) -> None:
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    save_train_options(options, out / OPTIONS)
    (out / "checkpoints").mkdir(exist_ok=True)
    clear_staging(out / "checkpoints")


class _Run:
    """What the phases of one run share."""

    def __init__(self, options: TrainOptions, out: Path, process: PartialState) -> None:
        self.options = options
        self.out = out
        self.process = process
        self.main = process.is_main_process
        self.log = RunLog(out)
        self.signals = StopOnSignal()
        self.steps_done = 0
        self.losses: list[float] = []
        if options.wandb and find_spec("wandb") is None:
            raise TrainError("wandb: its package is not installed; pip install wandb, or set it to false")
        if not options.corpus:
            raise TrainError("corpus: no corpus is given; name the folder of one with --corpus")
        self.corpora = [Corpus(folder, "train") for folder in options.corpus]
        require_even(options.batch_size, self._micro_batch(options.batch_size), process.num_processes)
        self.corpus_columns = mixture_rows(self.corpora)
        labels = label_columns(options.mixture.label_pairs)
        self.columns = joined_rows([self.corpus_columns, labels])
        self.mixture = self._mixture(self.columns, options.mixture, options.batch_size)
        torch.manual_seed(options.seed)  # a new model begins alike in every process, and after a kill
        self.built = build_model(options.model)
        sample_rate = self.built.processor.feature_extractor.sampling_rate
        hear = getattr(self.built.model.ear, "hear", None)
        if options.warm_up is not None:
            require_fitting_ear(self.built.model, options.warm_up)
        self.rows = TrainingRows(self.corpora, sample_rate, options.model.clip_seconds, hear)
        self.backgrounds = background_rows(self.corpus_columns, options.mixture.sources)
        self.all_rows = AllRows(self.rows, self._label_rows())
        self.taught = self._taught_labels()
        self.targets = None if options.warm_up is None else self._word_targets(options.warm_up)
        self._teach(self.built)
        self.evaluator = self._evaluator()

    def go(self, newest: RunCheckpoint | None) -> TrainReport:
        """Train from a checkpoint, or from the beginning."""
        if self.main and newest is not None and has_facts(self.out):
            resume_facts(self.out, newest, self.corpora)
        elif self.main:
            processes = self.process.num_processes
            begin_facts(self.out, self.options, self.corpora, self.columns, self.mixture, processes)
        try:
            with self.signals:
                report = self._phases(newest)
        except (Unusable, OSError) as error:
            report = self._report("failed", str(error))
            together = isinstance(error, Unusable)
        else:
            together = True
        if self.main:
            with suppress(TrainError):  # on a full disk the report still says what happened
                close_facts(self.out, report.state, report.reason or None)
        if together:
            # torchrun ends the first process when another one is gone: it must have said what happened.
            self.process.wait_for_everyone()
        return report

    def _phases(self, newest: RunCheckpoint | None) -> TrainReport:
        if newest is not None:
            load_weights(self.built.model, newest.folder)
        warmed_up = newest is not None and newest.phase == _ANSWERS
        if self.options.warm_up is not None and not warmed_up:
            if newest is None and self.built.untrained_ear:
                self._start_patches()
            self._warm_up(self.options.warm_up, newest)
            if self.signals.asked:
                return self._report("stopped")
            if self.process.num_processes > 1:
                # DDP's hooks stay on parameters as long as these live; the next phase needs fresh ones.
                self.built = build_model(self.options.model)
                self._teach(self.built)
                load_weights(self.built.model, require_checkpoint(self.out).folder)
                self.evaluator = self._evaluator()
        weights = self._answers(newest if warmed_up else None)
        if self.signals.asked and self.steps_done < self.options.steps:
            return self._report("stopped")
        if self.main:
            _save_model(self.built, self.out / MODEL, weights)
        return self._report("finished")

    def _report(self, state: Literal["finished", "stopped", "failed"], reason: str = "") -> TrainReport:
        if state == "stopped":
            reason = "stopped by a signal"
        loss = self.losses[-1] if self.losses else None
        return TrainReport(self.out, self.steps_done, state, reason, loss)

    # --- phases -------------------------------------------------------------------------------

    def _warm_up(self, options: WarmUpOptions, newest: RunCheckpoint | None) -> None:
        built, targets = self.built, self.targets
        clips = self.rows
        assert targets is not None
        wanted = replace(
            self.options.mixture,
            tasks=dict.fromkeys(targets.of_task, 1.0),
            sources={
                name: weight for name, weight in self.options.mixture.sources.items() if name != LABEL_SOURCE
            },
            temperature=options.temperature,
        )
        if options.clip_seconds is not None:
            clips = TrainingRows(clips.corpora, clips.sample_rate, options.clip_seconds, clips.hear)
        rates = PartRates.of_warm_up(options, self.options.optimizer)
        train_only(built.model, rates)
        torch.manual_seed(self.options.seed)
        hearer = WordHearer(built.model, built.processor, targets, colouring_db=options.colouring_db)
        with ExitStack() as held:
            rows: TrainingRows | KeptFeatures = clips
            if options.keep_features:
                path = self.out / _FEATURES
                rows = held.enter_context(
                    kept_features(clips, built.model, built.processor, path, self.process)
                )
            data = PhaseData(
                _WARM_UP,
                rows,
                with_lessons(self.corpus_columns, wanted, options, self.options.seed),
                WarmUpCollator(built.processor, targets),
                _tally(self.columns),
                options.steps,
                max(1, options.batch_size // self.process.num_processes),
                self.options.workers,
            )
            self._train(self._trainer(hearer, data, rates, None), newest)

    def _answers(self, newest: RunCheckpoint | None) -> dict[str, torch.Tensor] | None:
        """The whole weights, where no process has them all."""
        options = self.options
        rates = PartRates.of_answers(options.optimizer)
        train_only(self.built.model, rates)
        torch.manual_seed(options.seed)

        def evaluate(step: int) -> dict[str, float]:
            assert self.evaluator is not None
            measured = self.evaluator.measure(trainer.model_wrapped)
            self.losses.append(measured["loss"])
            if self.main:
                self._note({"kind": "evaluation", "phase": _ANSWERS, "step": step, **measured})
                _show(step, measured)
            scalars = {f"loss/{task}": sums["loss"] for task, sums in measured["tasks"].items()}
            return {"loss": measured["loss"], **scalars}

        data = PhaseData(
            _ANSWERS,
            self.all_rows,
            self.mixture,
            AnswerCollator(self.built.processor),
            _tally(self.columns),
            options.steps,
            self._micro_batch(options.batch_size),
            options.workers,
        )
        trainer = self._trainer(self.built.model, data, rates, evaluate if self.evaluator else None)
        try:
            self._train(trainer, newest)
        finally:
            self.steps_done = max(trainer.state.global_step, trainer.first_step)
        return trainer.gathered_weights()

    def _trainer(
        self,
        model: Any,
        data: PhaseData,
        rates: PartRates,
        evaluate: Callable[[int], dict[str, float]] | None,
    ) -> NatureLMTrainer:
        options = self.options
        callbacks: list[Any] = [self.signals, SaveLast(), ProgressBar(data.name)]
        if evaluate is not None:
            callbacks.append(EvaluateEvery(options.evaluate_every))
        if self.main:
            from torch.utils.tensorboard import SummaryWriter

            callbacks.append(TensorBoardCallback(SummaryWriter(str(self.out / "tensorboard" / data.name))))
        if options.wandb:
            callbacks.append(WandbCallback())
        AcceleratorState._reset_state()  # the phases share the work in different ways
        trainer = NatureLMTrainer(
            model,
            training_arguments(options, self.out, data, self.process.num_processes),
            data,
            joint=self.built.model,
            rates=rates,
            checkpoints=self.out / "checkpoints",
            keep=options.keep,
            log=self.log,
            evaluate=evaluate,
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _train(self, trainer: NatureLMTrainer, newest: RunCheckpoint | None) -> None:
        if newest is not None:
            done = [
                line["seconds"]
                for line in read_log(self.out)
                if line["kind"] == "step" and line["phase"] == newest.phase and line["step"] <= newest.step
            ]
            trainer.go_on_from(newest.step, done[-1] if done else 0.0)
        if trainer.first_step >= trainer.data.steps:
            return
        try:
            trainer.train(resume_from_checkpoint=str(newest.folder) if newest else None)
        except Unusable:
            trainer.save_after_fault()
            raise

    def _word_targets(self, options: WarmUpOptions) -> WordTargets:
        processes = self.process.num_processes
        if options.batch_size % processes:
            raise TrainError(
                f"warm_up.batch_size: {options.batch_size} clips cannot be shared evenly by {processes} processes"
            )
        return word_targets(self.corpora, options)

    def _note(self, line: dict[str, Any]) -> None:
        try:
            self.log.append(line)
        except TrainError as error:
            raise Unusable(str(error)) from error

    def _start_patches(self) -> None:
        numbers: list[int] = []
        for step in range(-(-_PATCH_CLIPS // self.mixture.batch_size)):
            numbers += self.mixture.batch(step).tolist()
        clips = (self.all_rows[number] for number in numbers)
        start_patches_from_components(
            self.built.model.ear, [clip.samples for clip in clips if isinstance(clip, Example)]
        )

    def _label_rows(self) -> LabelRows | None:
        count = self.options.mixture.label_pairs
        if not count:
            return None
        embeddings = label_embeddings(self.built.model.ear, self.rows, self.backgrounds)
        audio = self.built.model.config.audio_config
        longest = round(self.options.model.clip_seconds * audio.sampling_rate)
        return LabelRows(embeddings, count, self.options.seed, clip_lengths(audio.num_frames, longest))

    def _taught_labels(self) -> TaughtLabels | None:
        """What the ear is to be taught; None if nothing, or if the model that is started from was."""
        config = self.built.model.config.projector_config
        if not config.taught_hints or config.taught_labels:
            return None
        drawn = self.mixture.probabilities[: len(self.corpus_columns)] > 0
        return fit_taught_labels(
            self.rows,
            self.corpus_columns,
            drawn,
            self.backgrounds,
            self.all_rows.labels,
            least=config.taught_hints,
            silent=not self.main,
        )

    def _teach(self, built: Built) -> None:
        if self.taught is not None and built.model.hints is not None:
            built.model.hints.teach(self.taught, built.processor.tokenizer)
        learn_words(built.model, built.processor, self.targets)

    def _mixture(self, columns: MixtureRows, options: MixtureOptions, batch_size: int) -> Mixture:
        return Mixture(columns, options, batch_size=batch_size, seed=self.options.seed)

    def _micro_batch(self, batch_size: int) -> int:
        """Pairs of a forward pass: at most as the options say, and no more than a process has of a batch."""
        return max(1, min(self.options.micro_batch_size, batch_size // self.process.num_processes))

    def _evaluator(self) -> Evaluator | None:
        options, built, rows = self.options, self.built, self.rows
        if options.evaluation_pairs == 0:
            return None
        validated = [folder for folder in options.corpus if any((folder / DATA).glob("validation-*"))]
        corpora = [Corpus(folder, "validation") for folder in validated]
        validation = TrainingRows(corpora, rows.sample_rate, rows.clip_seconds, rows.hear)
        tasks = sorted(set(self.columns.tasks[self.mixture.probabilities > 0].tolist()))
        drawn = EvaluationRows.draw(
            validation,
            options.evaluation_pairs,
            options.sample_answers,
            options.seed,
            tasks,
            [name for name, weight in options.mixture.sources.items() if weight == 0],
        )
        if not drawn.examples:
            return None
        return Evaluator(
            built.model,
            built.processor,
            drawn,
            rank=self.process.process_index,
            processes=self.process.num_processes,
            precision=lambda: autocast(options.precision, built.model.device),
        )


def _finished(run: _Run) -> TrainReport | None:
    """How a run ended before, if it came to its end and its model is there. TrainError if it was of other corpora."""
    if not ((run.out / MODEL / "config.json").exists() and is_finished(run.out, run.corpora)):
        return None
    *_, loss = None, *(line["loss"] for line in read_log(run.out) if line["kind"] == "evaluation")
    return TrainReport(run.out, run.options.steps, "finished", "", loss)


def _tally(columns: MixtureRows) -> Tally:
    sources = {source_of(name) for name in columns.sources}
    return Tally(tuple(sorted(set(columns.tasks))), tuple(sorted(sources)))


def _save_model(built: Built, folder: Path, weights: dict[str, torch.Tensor] | None) -> None:
    """Write the trained model whole: its folder is renamed into place."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    save_weights(built.model, aside, weights)
    if built.model.config.text_model is None:
        built.processor.save_pretrained(aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _show(step: int, measured: dict[str, Any]) -> None:
    """Sample answers of an evaluation, on stderr: stdout is for the report."""
    lines = [f"\nstep {step}: evaluation loss {measured['loss']:.3f}"]
    for sample in measured["samples"]:
        lines += [f"  {sample['task']}: {sample['question']}"]
        lines += [f"    right:   {sample['answer']}", f"    written: {sample['written']}"]
    print("\n".join(lines), file=sys.stderr, flush=True)
