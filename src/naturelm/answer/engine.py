"""`NatureLM`: a loaded model that answers questions about recordings.

The prompt puts the audio before the question, so each clip is heard once and its place in the
language model's memory is computed once, however many questions or labels follow. Rows of a
batch are padded on the left; a batched answer equals the answer to the query alone.
"""

import copy
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from naturelm.answer.answering import CLOSED, Asked, BatchAnswerer
from naturelm.answer.branching import ClosedSet, most_nodes
from naturelm.answer.cache import clip_key, weights_stamp
from naturelm.answer.clips import read_clip
from naturelm.answer.grouping import groups_of_like_length
from naturelm.answer.lanes import deal, side_by_side
from naturelm.answer.packed import PackedLayers
from naturelm.answer.reading import BegunPrompt, PromptReader
from naturelm.answer.results import (
    Answer,
    Clip,
    GenerationOptions,
    Query,
    Seconds,
    Watcher,
    check_choices,
    scored_text,
)
from naturelm.audio import AudioSource
from naturelm.errors import QuestionError
from naturelm.model.loading import load_model, load_processor, model_revision, open_checkpoint
from naturelm.model.modeling import LORA_ADAPTER, NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor, PromptIds
from naturelm.model.registry import DEFAULT_MODEL

_CACHE_BYTES = 512 * 2**20
_PASSES = 12
"""Through the language model, for the tokens of a free answer; only like ones are worth keeping apart."""
_NO_CLIP = Clip(np.zeros(0, np.float32), "")


class NatureLM:
    """A model and its processor, ready to answer. Calls from several threads take turns."""

    def __init__(
        self,
        model: NatureLMForConditionalGeneration,
        processor: NatureLMProcessor,
        *,
        name: str = "",
        revision: str = "",
        batch_size: int = 8,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self.model = model
        self.processor = processor
        self.name = name
        self.revision = revision
        self.batch_size = batch_size
        self._reader = PromptReader(model, processor, cache_bytes)
        self._packing = _Packing()
        self._turn = threading.RLock()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = DEFAULT_MODEL,
        *,
        revision: str | None = None,
        llm: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        local_files_only: bool = False,
        batch_size: int = 8,
        cache_bytes: int = _CACHE_BYTES,
        **kwargs: Any,
    ) -> "NatureLM":
        """Load a built-in name, a folder or a hub id, in our layout or the official one.

        llm: takes the place of the language model that the checkpoint names. device: default the
        GPU if there is one. dtype: of the language model; default bfloat16 on a GPU and float32 on
        a CPU, where bfloat16 is slower. batch_size: queries answered together at most. cache_bytes:
        for what was heard. kwargs go to `load_model`. Raises CheckpointError.
        """
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if place.type == "cuda" else torch.float32)
        found = open_checkpoint(source, revision=revision, llm=llm, local_files_only=local_files_only)
        model = load_model(source, llm=llm, checkpoint=found, dtype=dtype, **kwargs)
        if "device_map" not in kwargs:
            model = model.to(place)
        processor = load_processor(source, checkpoint=found)
        return cls(
            model,
            processor,
            name=str(source),
            revision=model_revision(found.folder),
            batch_size=batch_size,
            cache_bytes=cache_bytes,
        )

    @property
    def sampling_rate(self) -> int:
        """Hz that the ear hears."""
        return int(self.model.config.audio_config.sampling_rate)

    def sibling(self) -> "NatureLM":
        """The same weights with a cache and a batch size of its own; the two take turns."""
        other = copy.copy(self)
        other._reader = self._reader.forgetful_copy()
        return other

    @overload
    def ask(self, audio: AudioSource, question: str, **kwargs: Any) -> Answer: ...
    @overload
    def ask(self, audio: AudioSource, question: Sequence[str], **kwargs: Any) -> list[Answer]: ...
    @overload
    def ask(
        self, audio: Sequence[AudioSource], question: str | Sequence[str], **kwargs: Any
    ) -> list[Answer]: ...
    def ask(  # type: ignore[misc]  # the overloads leave the options below to it
        self,
        audio: AudioSource | Sequence[AudioSource],
        question: str | Sequence[str],
        *,
        choices: Sequence[str] | None = None,
        none_of_these: bool = False,
        start: float = 0.0,
        end: float | None = None,
        channel: int | None = None,
        source_rate: int | None = None,
        options: GenerationOptions | None = None,
    ) -> Answer | list[Answer]:
        """Ask about whole recordings, each taken as one clip.

        audio: a path, bytes, file object or array (with its `source_rate` in Hz), or a list of them.
        question: one, or a list; every recording gets every question.
        choices: a closed set of answers, scored instead of generating; none_of_these adds one for
            the case that none applies.
        start, end: the stretch in s; channel: index from 0, default the mean of all.

        Returns one Answer for one recording and one question, otherwise a list, recording by
        recording. Raises AudioError, QuestionError.
        """
        several = isinstance(audio, list | tuple)
        sources: Iterable[Any] = audio if several else [audio]  # type: ignore[assignment]
        questions = [question] if isinstance(question, str) else list(question)
        labels = check_choices(choices, none_of_these) if choices is not None else ()
        clips = [
            self.read_clip(s, start=start, end=end, channel=channel, source_rate=source_rate) for s in sources
        ]
        answers = self.answer([Query((clip,), q, labels) for clip in clips for q in questions], options)
        return answers if several or not isinstance(question, str) else answers[0]

    def read_clip(
        self,
        source: AudioSource,
        *,
        start: float = 0.0,
        end: float | None = None,
        channel: int | None = None,
        source_rate: int | None = None,
    ) -> Clip:
        """A recording, or a stretch of it, as one clip; arguments as in `ask`. Raises AudioError."""
        return read_clip(
            source,
            sample_rate=self.sampling_rate,
            max_seconds=self.model.config.max_clip_seconds,
            start=start,
            end=end,
            channel=channel,
            source_rate=source_rate,
        )

    def answer(
        self,
        queries: Sequence[Query],
        options: GenerationOptions | Sequence[GenerationOptions] | None = None,
        watcher: Watcher | None = None,
    ) -> list[Answer]:
        """Answer queries of any mixture, in their order.

        options: of all, or of each. watcher: follows free answers while they are written.
        Raises QuestionError.
        """
        if options is None or isinstance(options, GenerationOptions):
            options = [options or GenerationOptions()] * len(queries)
        elif len(options) != len(queries):
            raise QuestionError(f"{len(options)} options for {len(queries)} queries; give as many of each")
        asked = [Asked(i, query, own) for i, (query, own) in enumerate(zip(queries, options, strict=True))]
        answers: dict[int, Answer] = {}
        with self._turn:
            for alpha in dict.fromkeys(own.merging_alpha for own in options):
                with self.model.merging_alpha(alpha):
                    answers |= self._answers(
                        [each for each in asked if each.options.merging_alpha == alpha], watcher
                    )
        return [answers[i] for i in range(len(queries))]

    def prompt_tokens(self, query: Query) -> int:
        """Tokens of a query's question and sound, as `answer` would give them to the language model.

        Raises QuestionError as that does.
        """
        with self._turn:
            return len(
                self.processor.prompt_ids(query.question, [len(clip.samples) for clip in query.clips]).ids
            )

    def sound_tokens(self, query: Query) -> int:
        """Those of them that are its clips'."""
        return sum(self.model.config.num_audio_tokens(len(clip.samples)) for clip in query.clips)

    @property
    def longest_prompt(self) -> int:
        """Tokens that the language model can take, its answer included."""
        return int(self.model.config.text_config.max_position_embeddings)

    def prepare(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips with their filter banks, so that this is done in one thread while another one answers.

        Clips that are answered together must be prepared together, and none left out: then every answer is that of the
        clips as they were. An ear without a filter bank of its own leaves them as they are.
        """
        fbank_of = getattr(self.model.ear, "normalised_fbank", None)
        if fbank_of is None:
            return list(clips)
        made: list[Clip] = list(clips)
        groups: dict[int, list[int]] = {}
        for index, clip in enumerate(clips):
            groups.setdefault(self.model.config.padded_samples(len(clip.samples)), []).append(index)
        for group in groups.values():
            batch = self.processor.feature_extractor([clips[i].samples for i in group])
            with torch.no_grad():
                fbanks = fbank_of(batch["input_values"].to(self.model.device))
            for i, fbank in zip(group, fbanks, strict=True):
                made[i] = replace(clips[i], fbank=fbank)
        return made

    def clear_cache(self) -> None:
        """Forget every clip heard."""
        with self._turn:
            self._reader.clear()

    def _answers(self, asked: Sequence[Asked], watcher: Watcher | None) -> dict[int, Answer]:
        """Answers by the place of their query."""
        # Inside the turn, since a fast tokenizer keeps settings that a second call would change.
        prompts = [
            self.processor.prompt_ids(each.query.question, [len(clip.samples) for clip in each.query.clips])
            for each in asked
        ]
        # With the adapter's scales as the layers have them now, since a caller may have changed them as well.
        scales = tuple(layer.scaling[LORA_ADAPTER] for layer in self.model.lora_layers())
        weights = weights_stamp(self.model), scales
        sets = self._closed_sets([each.query for each in asked])
        lanes = [list(range(len(asked)))]
        if watcher is None:  # it is called by one thread
            keys = [tuple(clip_key(clip.samples) for clip in each.query.clips) for each in asked]
            costs = [len(prompt.ids) + _PASSES for prompt in prompts]
            for i, each in enumerate(asked):
                costs[i] += sets[each.query.choices].nodes if each.query.choices else 0
            lanes = deal(keys, costs, self.model.device)
        works = [
            partial(
                self._lane,
                [asked[i] for i in lane],
                [prompts[i] for i in lane],
                sets,
                weights,
                watcher,
                len(lanes),
            )
            for lane in lanes
        ]
        with self._packed(weights):
            return {place: answer for part in side_by_side(works) for place, answer in part.items()}

    def _lane(
        self,
        asked: Sequence[Asked],
        prompts: Sequence[PromptIds],
        sets: Mapping[tuple[str, ...], ClosedSet],
        weights: tuple[int, tuple[float, ...]],
        watcher: Watcher | None,
        lanes: int,
    ) -> dict[int, Answer]:
        """Answers to some of the queries, by their place. lanes: at work at the same time."""
        queries = [each.query for each in asked]
        answers = {}
        closed = [i for i, each in enumerate(asked) if each.kind == CLOSED]
        free = [i for i, each in enumerate(asked) if each.kind != CLOSED]
        with torch.no_grad():  # a thread's own
            begun = self._reader.begin(weights, queries, prompts, self.batch_size)
            batches = BatchAnswerer(self.model, self.processor, sets, watcher)
            for part in (closed, free):  # in this order, as `BatchAnswerer` says
                for rows in self._batches(part, asked, begun, sets):
                    began = time.perf_counter()
                    results = batches.answer([asked[i] for i in rows], [begun[i] for i in rows])
                    share = (time.perf_counter() - began) / len(rows) / lanes
                    for i, result in zip(rows, results, strict=True):
                        clip = queries[i].clips[0] if queries[i].clips else _NO_CLIP
                        answers[asked[i].place] = Answer(
                            recording=clip.recording,
                            start=clip.start,
                            end=clip.end,
                            question=queries[i].question,
                            prompt_tokens=len(prompts[i].ids),
                            seconds=Seconds(begun[i].hear / lanes, begun[i].prefill / lanes, answer=share),
                            model=self.name,
                            revision=self.revision,
                            **result,
                        )
        return answers

    def _closed_sets(self, queries: Sequence[Query]) -> dict[tuple[str, ...], ClosedSet]:
        """Every closed set that is asked about, by its labels."""
        limit = most_nodes(self.model)
        return {
            choices: ClosedSet.of([self.processor.answer_ids(scored_text(label)) for label in choices], limit)
            for choices in dict.fromkeys(query.choices for query in queries)
            if choices
        }

    def _batches(
        self,
        rows: Sequence[int],
        asked: Sequence[Asked],
        begun: Sequence[BegunPrompt],
        sets: Mapping[tuple[str, ...], ClosedSet],
    ) -> list[list[int]]:
        """Which of the rows go together: closed sets, one beam search, or free answers; of like length."""
        kinds: dict[tuple[object, int], list[int]] = {}
        for i in rows:
            each = asked[i]
            tries = len(sets[each.query.choices].tries) if each.query.choices else 0
            kinds.setdefault((each.kind, tries), []).append(i)
        batches = []
        for (_, tries), alike in kinds.items():
            lengths = [len(begun[i].suffix) for i in alike]
            if tries:
                lengths = [
                    rest + sets[asked[i].query.choices].nodes for i, rest in zip(alike, lengths, strict=True)
                ]
            groups = groups_of_like_length(
                lengths,
                self.batch_size,
                most_tokens=most_nodes(self.model) if tries else None,
                passes=tries or _PASSES,
            )
            batches += [[alike[place] for place in group] for group in groups]
        return batches

    def _packed(self, weights: object) -> AbstractContextManager[None]:
        """The language model's layers are faster inside, where they can be. weights: equal while those are the same."""
        if self._packing.weights != weights:
            self._packing.weights, self._packing.layers = weights, PackedLayers.of(self.model)
        return nullcontext() if self._packing.layers is None else self._packing.layers.in_use()


@dataclass
class _Packing:
    """Packed layers, one set for all siblings, and what they were packed from."""

    weights: object = None
    layers: PackedLayers | None = None
