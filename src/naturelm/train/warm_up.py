"""Perception before the language model is asked: ear and projector learn which words the answers have.

Three readers have to tell the words of a clip's answer from the other words that answers to that question have.
A linear head on the ear's frames, averaged over time but not over frequency, from which a small ear learns soonest,
is thrown away. So is one on the projector's summaries, unless the model has word hints: then it stays and says
what is spelt out (`naturelm.model.word_hints`). The third is the language model's own word
embeddings, at which the mean audio token has to point. It leaves the projection where a language model can begin
to read it: without it a small model learns next to nothing in a thousand answers. The language model itself is
not run, so a step costs a fraction of one with it.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naturelm.corpus.storage import Corpus
from naturelm.model.beats import BeatsModel
from naturelm.model.ear import EarOutput
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor
from naturelm.model.word_hints import mean_summary
from naturelm.train.data import Example, Unreadable, sound_batch, unreadable_batch, without_sound
from naturelm.train.options import TrainError, WarmUpOptions

_WORD = re.compile(r"[\w#]+(?:[-'][\w#]+)*")
_NORM_WEIGHT = 0.02
_PATCH_SAMPLE = 20_000
_COLOUR_POINTS = 4


@dataclass(frozen=True)
class WordTargets:
    """Words that answers are made of.

    words: in order of frequency. of_task: for each task (words,) bool, True for the words that its answers
    have; the others are neither right nor wrong there. share: (words,) of the answers in which a word could
    have come, those in which it came. places: for each task (words,), how many words stand before each in its
    answers, or in the part of them since the last comma; the mean.
    """

    words: tuple[str, ...]
    of_task: dict[str, np.ndarray]
    share: np.ndarray
    places: dict[str, np.ndarray]

    def targets(self, task: str, answer: str) -> tuple[np.ndarray, np.ndarray]:
        """(words,) float32, 1 for the words of the answer, and (words,) bool, True where that counts."""
        present = set(answer_words(answer))
        hit = np.fromiter((word in present for word in self.words), np.float32, len(self.words))
        return hit, self.of_task[task]


def answer_words(answer: str) -> list[str]:
    """The words of an answer; a hyphen joins (`four-note` is one)."""
    return _WORD.findall(answer)


def _places(answer: str) -> dict[str, int]:
    """For each word how many stand before it, since the last comma, where it comes first."""
    places: dict[str, int] = {}
    for part in answer.split(","):
        for place, word in enumerate(answer_words(part)):
            places.setdefault(word, place)
    return places


def word_targets(corpora: Sequence[Corpus], options: WarmUpOptions) -> WordTargets:
    """Words of the training answers to open questions. TrainError if there are none."""
    counts: dict[str, Counter[str]] = {}
    before: dict[str, Counter[str]] = {}
    rows: Counter[str] = Counter()
    open_tasks: set[str] = set()
    for corpus in corpora:
        table = corpus.table(["task", "output", "options"])
        for task, output, offered in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if not offered:
                open_tasks.add(task)
            rows[task] += 1
            places = _places(output)
            counts.setdefault(task, Counter()).update(places.keys())
            before.setdefault(task, Counter()).update(places)
    unknown = sorted(set(options.tasks) - set(rows))
    if unknown:
        raise TrainError(
            f"warm_up.tasks: no pair of the corpora is of {unknown[0]!r}; there are: {', '.join(sorted(rows))}"
        )
    # Where every question offers the answers, what else is in the clip is not known to be absent.
    tasks = sorted(options.tasks or open_tasks)
    frequent = {
        task: {word for word, count in counts[task].items() if count >= options.min_count} for task in tasks
    }
    total: Counter[str] = Counter()
    for task in tasks:
        total.update({word: counts[task][word] for word in frequent[task]})
    words = tuple(sorted(total, key=lambda word: (-total[word], word)))
    if not words:
        raise TrainError(
            f"warm_up.min_count: no word is in {options.min_count} answers to open questions; lower it"
        )
    of_task = {task: np.array([word in frequent[task] for word in words]) for task in tasks}
    asked = np.zeros(len(words))
    for task, mask in of_task.items():
        asked += rows[task] * mask
    places_of = {
        task: np.array([before[task][word] / max(1, counts[task][word]) for word in words]) for task in tasks
    }
    return WordTargets(words, of_task, np.array([total[word] for word in words]) / asked, places_of)


def learn_words(
    model: NatureLMForConditionalGeneration, processor: NatureLMProcessor, targets: WordTargets | None
) -> None:
    """Tell a model that has word hints which words there are; targets: of the warm-up, None if there is none.

    TrainError where they have too few words, or no warm-up teaches them.
    """
    if model.word_hints is None:
        return
    if targets is None:
        if not model.config.projector_config.hinted_words:
            raise TrainError(
                "model.projector.word_hints: a warm-up teaches them; add warm_up, or take them out"
            )
        return
    for hint in model.config.projector_config.hints_of_words:
        known = int(targets.of_task[hint.task].sum()) if hint.task in targets.of_task else 0
        if known < hint.words:
            raise TrainError(
                f"model.projector.word_hints: {hint.words} words of {hint.task!r} are wanted, and the warm-up has {known}; "
                "want fewer, lower warm_up.min_count, or add it to warm_up.tasks"
            )
    model.word_hints.learn(targets.words, targets.of_task, targets.places, processor.tokenizer)


def require_fitting_ear(model: NatureLMForConditionalGeneration, options: WarmUpOptions) -> None:
    """TrainError if the warm-up asks of the ear what only others can."""
    for key in ("colouring_db", "keep_features"):
        if getattr(options, key) and not isinstance(model.ear, BeatsModel):
            raise TrainError(f"warm_up.{key}: the ear must be a naturelm_beats; take it out")
    if options.keep_features and not model.ear.config.exact_mask:
        # Each clip is padded by itself: how far its batch is padded must make no difference.
        raise TrainError("warm_up.keep_features: the ear must have `exact_mask: true`; take it out")


@dataclass(frozen=True)
class WarmUpCollator:
    """Examples to clips and the words to be heard in them."""

    processor: NatureLMProcessor
    targets: WordTargets

    def __call__(self, examples: list[Example | Unreadable]) -> dict[str, Any]:
        good = [example for example in examples if isinstance(example, Example)]
        if len(good) < len(examples):
            return unreadable_batch(examples)
        pairs = [self.targets.targets(example.task, example.answer) for example in good]
        return {
            **sound_batch(good, self.processor),
            "words": torch.from_numpy(np.stack([hit for hit, _ in pairs])),
            "counting": torch.from_numpy(np.stack([counting for _, counting in pairs])),
            "examples": [without_sound(example) for example in good],
        }


class WordHearer(nn.Module):
    """The audio side of a joint model and its two readers. The modules are the model's own, and so trained."""

    def __init__(
        self,
        model: NatureLMForConditionalGeneration,
        processor: NatureLMProcessor,
        targets: WordTargets,
        *,
        colouring_db: float = 0.0,
    ) -> None:
        """colouring_db: as in `WarmUpOptions`; 0 if the ear is no BEATs."""
        super().__init__()
        self.colouring_db = colouring_db
        self.ear = model.ear
        self.projector = model.projector
        self.head = (
            nn.Linear(model.projector.linear.in_features, len(targets.words))
            if model.word_hints is None
            else model.word_hints.reader
        )
        self.rows = model.ear.config.patches_per_column if isinstance(model.ear, BeatsModel) else 1
        self.frame_head = nn.Linear(self.rows * model.ear.config.hidden_size, len(targets.words))
        embeddings = _word_embeddings(model, processor, targets.words)
        self.directions: Tensor
        self.register_buffer(
            "directions", F.normalize(embeddings - embeddings.mean(0), dim=-1), persistent=False
        )
        self.norm = float(embeddings.norm(dim=-1).mean())
        self.scale = nn.Parameter(torch.tensor(np.log(10.0)))
        self.bias = nn.Parameter(torch.from_numpy(np.log(targets.share + 1e-6)).float())
        with torch.no_grad():
            for head in (self.head, self.frame_head):
                head.weight.zero_()
                head.bias.copy_(self.bias)

    def forward(
        self,
        words: Tensor,
        counting: Tensor,
        input_values: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        fbank: Tensor | None = None,
        heard: EarOutput | None = None,
        num_items_in_batch: int | Tensor | None = None,
    ) -> dict[str, Tensor]:
        """words: (clips, words) 1 where a word is in the answer; counting: (clips, words) bool, where that
        counts; input_values, input_features_mask: (clips, samples), or in place of the first `fbank`: (clips, frames,
        mel bins), or in place of both what the ear heard; num_items_in_batch: clips of the whole step.

        Returns `loss`, and of the reader through word embeddings: `row_losses` (clips,), `hits` (clips,), the
        share of the answer's words that are among as many words that it finds the likeliest.
        """
        if heard is None:
            assert input_features_mask is not None
            heard = self._hear(input_values, ~input_features_mask, fbank)
        assert heard is not None and heard.last_hidden_state is not None and heard.frame_mask is not None
        summaries, real = self.projector.summarise(heard.last_hidden_state, heard.frame_mask)
        tokens = self.projector.linear(summaries)
        weight = real.unsqueeze(-1) / real.sum(1)[:, None, None].clamp_min(1)
        by_head = self.head(mean_summary(summaries, real))
        by_frames = self.frame_head(self._over_time(heard))
        pointing = F.normalize(mean_summary(tokens, real), dim=-1) @ self.directions.T
        by_words = pointing * self.scale.exp() + self.bias
        row_losses = _word_loss(by_words, words, counting)
        excess = ((tokens.norm(dim=-1) - self.norm).square() * weight.squeeze(-1)).sum(1)
        thrown_away = _word_loss(by_head, words, counting) + _word_loss(by_frames, words, counting)
        loss = (row_losses + thrown_away + _NORM_WEIGHT * excess).sum()
        return {
            "loss": loss / (len(words) if num_items_in_batch is None else num_items_in_batch),
            "row_losses": row_losses.detach(),
            "hits": _hits(by_words.detach(), words, counting),
        }

    def _hear(self, input_values: Tensor | None, padding: Tensor, fbank: Tensor | None) -> EarOutput:
        if self.training and self.colouring_db:
            if fbank is None:
                fbank = self.ear.normalised_fbank(input_values)
            fbank, padding = coloured(fbank, padding, self.ear, self.colouring_db)
        heard: EarOutput = self.ear(input_values, padding, **({} if fbank is None else {"fbank": fbank}))
        return heard

    def _over_time(self, heard: EarOutput) -> Tensor:
        """(clips, rows * hidden_size): the mean over time of each row of patches."""
        assert heard.last_hidden_state is not None and heard.frame_mask is not None
        shape = (-1, self.rows)
        frames, real = heard.last_hidden_state.unflatten(1, shape), heard.frame_mask.unflatten(1, shape)
        weight = real.unsqueeze(-1) / real.sum(1)[:, None, :, None].clamp_min(1)
        return (frames * weight).sum(1).flatten(1)


def coloured(fbank: Tensor, padding: Tensor, ear: BeatsModel, colouring_db: float) -> tuple[Tensor, Tensor]:
    """Clips as another recorder, nearer or farther, switched on a little later, would have had them.

    fbank: (clips, frames, mel bins) and padding: (clips, samples), as `BeatsModel.forward` takes them. Each clip is
    raised by a normal random number of decibels at four points of the mel axis, with straight lines between them, and
    by another over all, both of standard deviation `colouring_db`. Less than a patch, the same for all clips, is cut
    from their beginning, so that calls lie otherwise on the grid of patches; not from clips that would be too short.
    """
    decibels = torch.randn(len(fbank), 1, _COLOUR_POINTS, device=fbank.device)
    curve = F.interpolate(decibels, fbank.shape[-1], mode="linear", align_corners=True)
    level = torch.randn(len(fbank), 1, 1, device=fbank.device)
    # 10 dB are a factor of ten in energy, of which the filter bank has the natural logarithm.
    scale = colouring_db * math.log(10) / 10 / (2 * ear.config.fbank_std)
    cut = int(torch.randint(ear.config.patch_size, ()))
    samples = cut * ear.filter_bank.frame_shift
    if int((~padding).sum(1).min()) - samples < ear.config.min_samples:
        cut = samples = 0
    return (fbank + (curve + level) * scale)[:, cut:], padding[:, samples:]


def _word_loss(logits: Tensor, words: Tensor, counting: Tensor) -> Tensor:
    """(clips,) cross-entropy in nats of a word of the answer against all that could have come; the mean of its words.

    Words compete, so that rare ones, as most names of real animals are, are not held down by how rare they are.
    """
    words = words * counting
    logits = logits.masked_fill(~counting, torch.finfo(logits.dtype).min)
    return -(F.log_softmax(logits, dim=1) * words).sum(1) / words.sum(1).clamp_min(1)


def _hits(logits: Tensor, words: Tensor, counting: Tensor) -> Tensor:
    words = words * counting
    wanted = words.sum(1)
    order = logits.masked_fill(~counting, -torch.inf).argsort(dim=1, descending=True)
    ranked = words.gather(1, order)
    within = torch.arange(words.shape[1], device=words.device) < wanted.unsqueeze(1)
    return (ranked * within).sum(1) / wanted.clamp_min(1)


def _word_embeddings(
    model: NatureLMForConditionalGeneration, processor: NatureLMProcessor, words: Sequence[str]
) -> Tensor:
    """(words, hidden) float32: the mean embedding of each word's tokens, as it stands inside a sentence."""
    table = torch.as_tensor(model.get_input_embeddings().weight).detach()
    ids = [processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    return torch.stack([table[torch.tensor(each, device=table.device)].float().mean(0) for each in ids])


def start_patches_from_components(ear: nn.Module, clips: Sequence[np.ndarray]) -> None:
    """Let an untrained BEATs see patches through their whitened principal components.

    clips: (samples,) float32 each, enough of them for more patches than a patch has pixels.
    """
    if not isinstance(ear, BeatsModel):
        return
    size, width = ear.config.patch_size, ear.config.embed_dim
    with torch.no_grad():
        patches = []
        for clip in clips:
            if len(clip) < ear.config.min_samples:
                continue
            fbank = ear.normalised_fbank(torch.from_numpy(clip)[None].to(ear.patch_embedding.weight.device))[
                0
            ]
            columns = fbank[: len(fbank) // size * size].unflatten(0, (-1, size)).unflatten(2, (-1, size))
            patches.append(columns.transpose(1, 2).reshape(-1, size * size))
        flat = torch.cat(patches)[:_PATCH_SAMPLE]
        if len(flat) <= size * size or width > size * size:
            return
        _, values, vectors = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        spread = values[:width, None] / len(flat) ** 0.5
        ear.patch_embedding.weight.copy_((vectors[:width] / (spread + 1e-3)).reshape(width, 1, size, size))


def save_readers(hearer: WordHearer, path: Path) -> None:
    """Write what belongs to the readers alone."""
    from safetensors.torch import save_file

    own = {
        name: tensor for name, tensor in hearer.state_dict().items() if name.split(".")[0] in _READER_PARTS
    }
    save_file({name: tensor.contiguous() for name, tensor in own.items()}, path)


def load_readers(hearer: WordHearer, path: Path) -> None:
    """Read what `save_readers` wrote. TrainError if it does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        hearer.load_state_dict({**hearer.state_dict(), **load_file(path)})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainError(
            f"{path}: does not fit the answers' words of this corpus; start afresh with --fresh"
        ) from error


_READER_PARTS = ("head", "frame_head", "scale", "bias")
