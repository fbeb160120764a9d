"""The beginnings of prompts, heard and read once and kept: what `NatureLM` answers from.

The prompt puts the audio before the question, so a clip's place in the language model's memory serves every question.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from naturelm.answer.cache import ByteLimitedCache, clip_key
from naturelm.answer.grouping import groups_of_like_length
from naturelm.answer.prefixes import Prefix, begin, extend
from naturelm.answer.results import Clip, Query
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor, PromptIds

_MOST_TOKENS = 4096
"""Read in one pass: more are not read faster, and what is made of them on the way takes memory."""


@dataclass
class BegunPrompt:
    """How far a prompt is read, what it has behind that, and the seconds that hearing and reading took."""

    prefix: Prefix
    suffix: tuple[int, ...]
    hear: float
    prefill: float

    @property
    def key(self) -> object:
        """Equal for prompts of the same sounds and the same question, of those that were begun together."""
        return id(self.prefix), self.suffix


class PromptReader:
    """Hears clips and reads prompts, and remembers both within some bytes."""

    def __init__(
        self, model: NatureLMForConditionalGeneration, processor: NatureLMProcessor, cache_bytes: int
    ) -> None:
        self._model = model
        self._processor = processor
        self._cache_bytes = cache_bytes
        self._heard: ByteLimitedCache[Tensor] = ByteLimitedCache(cache_bytes // 4)
        self._prefixes: ByteLimitedCache[Prefix] = ByteLimitedCache(cache_bytes)
        self._heads: ByteLimitedCache[Prefix] = ByteLimitedCache(cache_bytes // 16)

    def forgetful_copy(self) -> "PromptReader":
        """One that remembers as much, and nothing yet."""
        return PromptReader(self._model, self._processor, self._cache_bytes)

    def clear(self) -> None:
        """Forget every clip and prompt."""
        self._heard.clear()
        self._prefixes.clear()
        self._heads.clear()

    def begin(
        self,
        weights: tuple[int, tuple[float, ...]],
        queries: Sequence[Query],
        prompts: Sequence[PromptIds],
        batch_size: int,
    ) -> list[BegunPrompt]:
        """Every query with its prompt in the language model's memory: up to its last audio place, which is kept for
        other questions, and where one prompt is asked several times all but its last token.

        weights: their stamp (see `weights_stamp`), and the scales of the adapter's layers, as they are now.
        batch_size: rows read together at most.
        """
        clip_keys = [tuple(clip_key(clip.samples) for clip in query.clips) for query in queries]
        keys = [(weights, prompt.prefix, clips) for prompt, clips in zip(prompts, clip_keys, strict=True)]
        found = {key: self._prefixes.get(key) for key in keys}
        new = {key: i for i, key in reversed(list(enumerate(keys))) if found[key] is None}
        spent: dict[int, tuple[float, float]] = {}
        todo = list(new.items())
        lengths = [len(tokens) for (_, tokens, _), _ in todo]
        for group in groups_of_like_length(lengths, batch_size, most_tokens=_MOST_TOKENS):
            part = [todo[place] for place in group]
            began = time.perf_counter()
            heard = self._hear(
                weights[0],
                [(c, k) for _, i in part for c, k in zip(queries[i].clips, clip_keys[i], strict=True)],
                batch_size,
            )
            hearing = (time.perf_counter() - began) / len(part)
            began = time.perf_counter()
            audio = [[heard[key] for key in clip_keys[i]] for _, i in part]
            computed = self._prefill(weights, [prompts[i].prefix for _, i in part], audio)
            prefilling = (time.perf_counter() - began) / len(part)
            for (key, i), prefix in zip(part, computed, strict=True):
                found[key], spent[i] = prefix, (hearing, prefilling)
                self._prefixes.put(key, prefix, prefix.nbytes)
        begun = [
            BegunPrompt(found[key], prompt.suffix, *spent.get(i, (0.0, 0.0)))  # type: ignore[arg-type]  # all are found now
            for i, (key, prompt) in enumerate(zip(keys, prompts, strict=True))
        ]
        same: dict[object, list[BegunPrompt]] = {}
        for key, each in zip(keys, begun, strict=True):
            same.setdefault((key, each.suffix), []).append(each)
        self._go_on([each for each in same.values() if len(each) > 1 and len(each[0].suffix) > 1], batch_size)
        return begun

    def _go_on(self, groups: list[list[BegunPrompt]], batch_size: int) -> None:
        """Read what the prompts of each group have in common: all but the last token."""
        lengths = [len(group[0].suffix) for group in groups]
        for places in groups_of_like_length(lengths, batch_size, most_tokens=_MOST_TOKENS):
            part = [groups[place] for place in places]
            began = time.perf_counter()
            longer = extend(
                self._model,
                [group[0].prefix for group in part],
                [group[0].suffix[:-1] for group in part],
                (),
                self._processor.pad_token_id,
            )
            share = (time.perf_counter() - began) / len(part)
            for group, prefix in zip(part, longer, strict=True):
                group[0].prefill += share
                for each in group:
                    each.prefix, each.suffix = prefix, each.suffix[-1:]

    def _hear(self, stamp: int, clips: Sequence[tuple[Clip, bytes]], batch_size: int) -> dict[bytes, Tensor]:
        """Audio embeddings by clip key."""
        heard = {key: self._heard.get((stamp, key)) for _, key in clips}
        new = {key: clip for clip, key in clips if heard[key] is None}
        for keys in self._heard_together(new, batch_size):
            batch = self._processor.feature_extractor([new[key].samples for key in keys])
            fbanks = [new[key].fbank for key in keys]
            embeds = self._model.get_audio_features(
                batch["input_values"].to(self._model.device),
                batch["input_features_mask"].to(self._model.device),
                None if any(fbank is None for fbank in fbanks) else torch.stack(fbanks),
            )
            for key, embed in zip(keys, embeds, strict=True):
                heard[key] = embed
                self._heard.put((stamp, key), embed, embed.nbytes)
        return heard  # type: ignore[return-value]

    def _heard_together(self, clips: Mapping[bytes, Clip], batch_size: int) -> list[list[bytes]]:
        """Keys of clips that share a batch: of one padded length, since padding counts as sound for official weights, and
        filter banks that are there already have no other; of like length where the model tells padding from sound."""
        config = self._model.config
        if config.projector_config.honour_mask and all(clip.fbank is None for clip in clips.values()):
            keys = list(clips)
            lengths = [config.num_audio_tokens(len(clips[key].samples)) for key in keys]
            return [[keys[i] for i in group] for group in groups_of_like_length(lengths, batch_size)]
        groups: dict[int, list[bytes]] = {}
        for key, clip in clips.items():
            groups.setdefault(config.padded_samples(len(clip.samples)), []).append(key)
        return list(groups.values())

    def _prefill(
        self, weights: object, tokens: Sequence[tuple[int, ...]], audio: Sequence[Sequence[Tensor]]
    ) -> list[Prefix]:
        """Prefixes of some tokens. What stands before the sound is read once, where several of them share it."""
        pad_id = self._processor.pad_token_id
        clips = [embeds for own in audio for embeds in own]
        heads = [_before(self._model.config.audio_token_id, own) for own in tokens]
        read = {head: self._heads.get((weights, head)) for head in heads}
        missing = [head for head, prefix in read.items() if prefix is None]
        if missing and (len(read) == len(tokens) or () in read):
            return begin(self._model, tokens, clips, pad_id)
        for head, prefix in zip(
            missing, begin(self._model, missing, (), pad_id) if missing else (), strict=True
        ):
            read[head] = prefix
            self._heads.put((weights, head), prefix, prefix.nbytes)
        longer = [i for i, head in enumerate(heads) if len(tokens[i]) > len(head)]
        made: list[Prefix] = [read[head] for head in heads]  # type: ignore[misc]
        if longer:
            rest = [tokens[i][len(heads[i]) :] for i in longer]
            extended = extend(self._model, [made[i] for i in longer], rest, clips, pad_id)
            for i, prefix in zip(longer, extended, strict=True):
                made[i] = prefix
        return made


def _before(audio_token_id: int, tokens: tuple[int, ...]) -> tuple[int, ...]:
    """What stands before the first audio place."""
    return tokens[: tokens.index(audio_token_id)] if audio_token_id in tokens else tokens
