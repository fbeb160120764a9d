"""SALMONN (Tang et al. 2023, arXiv:2310.13289), from the files that its authors publish.

Whisper's encoder and BEATs hear the clip side by side, a window-level Q-Former turns every third of a second into
one embedding, and Vicuna with a LoRA adapter answers. It is what NatureLM-audio grew from: BEATs and the bridge are
this project's own, the rest is transformers'. The clip is at most 30 s, as Whisper has it, with silence after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naturelm.bench.models.audio_chat import ask_greedily, end_tokens, label_likelihoods, own_tokens
from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.foreign import blaming, device_of, large_dtype, open_model, open_processor
from naturelm.bench.models.salmonn_files import fill, merge_lora, read_salmonn
from naturelm.bench.models.sounds import heard
from naturelm.corpus.recordings import FloatArray
from naturelm.errors import CheckpointError, QuestionError
from naturelm.model.loading import load_beats
from naturelm.model.projector import WindowedProjector

RATE = 16_000  # Hz, of both ears
_SHORTEST = 1.0  # s: shorter clips are followed by silence up to it, as in training
_PLACE = "<SpeechHere>"
_TURN = "USER: <Speech><SpeechHere></Speech> {}\nASSISTANT:"


@dataclass(frozen=True)
class SalmonnOptions:
    """Where its parts are, and how it is asked."""

    whisper: Path | None = None
    """Folder of Whisper large v2; `whisper` beside the `.pth` when None."""
    beats: Path | None = None
    """BEATs' `.pt` file; the one beside the `.pth` when None."""
    vicuna: Path | None = None
    """Folder of Vicuna as safetensors; `vicuna` beside the `.pth` when None."""
    lora_alpha: float = 32.0
    """Published with the checkpoint; the adapter is scaled by it over its rank."""
    num_beams: int = 4
    """As published."""
    max_new_tokens: int = 64
    score_labels: bool = False
    """Score the labels of closed sets as well."""
    most_labels: int = 300
    """Of the largest closed set that is scored."""
    batch_size: int = 4

    def __post_init__(self) -> None:
        if min(self.num_beams, self.max_new_tokens, self.most_labels, self.batch_size) < 1:
            raise ValueError("num_beams, max_new_tokens, most_labels and batch_size are at least 1")


class SalmonnEar(nn.Module):
    """A clip to the embeddings that the language model reads."""

    def __init__(self, whisper: Any, extractor: Any, beats: Any, path: Path, output_size: int) -> None:
        """whisper: a WhisperModel; extractor: its feature extractor. Raises CheckpointError if `path` does not fit."""
        super().__init__()
        weights = read_salmonn(path)
        self.whisper, self.beats, self._extractor = whisper.encoder, beats, extractor
        widths = whisper.config.d_model, beats.config.hidden_size
        self.speech_norm, self.audio_norm = (nn.LayerNorm(width) for width in widths)
        with blaming(path, "SALMONN"):
            self.projector = WindowedProjector(weights.projector_config(), sum(widths), output_size)
        # The two ears have a norm each, before they are laid side by side.
        self.projector.input_norm = nn.Identity()  # type: ignore[assignment]
        fill(self.speech_norm, weights.speech_norm, path, "ln_speech")
        fill(self.audio_norm, weights.audio_norm, path, "ln_audio")
        fill(self.projector, weights.projector, path, "Q-Former")
        self.lora = weights.lora
        self.longest = int(extractor.n_samples)

    @torch.inference_mode()
    def forward(self, clips: Sequence[FloatArray]) -> Tensor:
        """Clips, each (samples,) at 16 kHz, to (clips, tokens, output_size) float32."""
        device = self.speech_norm.weight.device
        features = self._extractor(list(clips), sampling_rate=RATE, return_tensors="pt")["input_features"]
        speech = self.speech_norm(self.whisper(features.to(device)).last_hidden_state)
        rows = []
        for clip, of_speech in zip(clips, speech, strict=True):
            # Alone, so that no other clip's length changes what is heard.
            frames = self.beats(torch.from_numpy(clip)[None].to(device)).last_hidden_state[0]
            audio = self.audio_norm(frames)
            length = max(len(audio), len(of_speech))
            padded = [F.pad(each, (0, 0, 0, length - len(each))) for each in (of_speech, audio)]
            rows.append(torch.cat(padded, -1))
        # The shorter ear is filled with zeros; a clip longer for BEATs than for Whisper has rows of its own length.
        length = max(len(row) for row in rows)
        stacked = torch.stack([F.pad(row, (0, 0, 0, length - len(row))) for row in rows])
        return self.projector(stacked, torch.ones(stacked.shape[:2], dtype=torch.bool, device=device))[0]


class SalmonnSystem:
    """SALMONN, opened from its files."""

    def __init__(
        self, place: Path | str, options: SalmonnOptions | None = None, *, device: str | None = None
    ) -> None:
        """place: the `.pth`, or the folder that holds one. device: the GPU if there is one when None.

        Raises CheckpointError for parts that are missing, damaged, unsafe, or do not belong together.
        """
        from transformers import AutoTokenizer, LlamaForCausalLM, WhisperFeatureExtractor, WhisperModel

        self._options = options or SalmonnOptions()
        self._path = _only(Path(place), "*.pth", "SALMONN's .pth")
        self._device = device_of(device)
        folder = self._path.parent
        whisper = self._options.whisper or folder / "whisper"
        vicuna = self._options.vicuna or folder / "vicuna"
        beats = self._options.beats or _only(folder, "*.pt", "BEATs' .pt")
        self._llm = open_model(
            LlamaForCausalLM, vicuna, "Vicuna", device=self._device, dtype=large_dtype(self._device)
        )
        self._tokenizer = open_processor(AutoTokenizer, vicuna, "Vicuna")
        with blaming(vicuna, "Vicuna"):
            self._ends = end_tokens(self._llm, self._tokenizer)
            self._own = [*own_tokens(self._tokenizer), _PLACE]
        self._ear = SalmonnEar(
            open_model(WhisperModel, whisper, "Whisper", device=self._device),
            open_processor(WhisperFeatureExtractor, whisper, "Whisper"),
            load_beats(beats),
            self._path,
            self._llm.config.hidden_size,
        )
        self._ear.to(self._device).eval()
        merge_lora(self._llm, self._ear.lora, self._options.lora_alpha, self._path)

    @property
    def info(self) -> ModelInfo:
        """What it is, and how it is asked."""
        ways = f"written with {self._options.num_beams} beams" + (
            ", labels scored" if self._options.score_labels else ""
        )
        return ModelInfo("SALMONN", self._path.name, note=f"{ways}; of longer clips the first 30 s")

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """What is written; with `score_labels` also the probability of each label among its set.

        Raises AudioError for a false clip, and QuestionError for a question that holds a token of its own.
        """
        answers: list[BenchAnswer] = []
        size = self._options.batch_size
        for start in range(0, len(batch), size):
            items = batch[start : start + size]
            prompts = self._prompts(items)
            texts = self._write(prompts)
            answers += [
                BenchAnswer(text, self._score(item, prompt))
                for text, item, prompt in zip(texts, items, prompts, strict=True)
            ]
        return answers

    def _prompts(self, items: Sequence[BenchItem]) -> list[Tensor]:
        """(length, size) embeddings of each item's turn, up to where the answer begins."""
        for item in items:
            if any(token in item.prompt for token in self._own):
                raise QuestionError(f"{item.id}: the question holds a token of SALMONN's own; leave it out")
        sounds = self._ear([self._clip(item) for item in items]).to(self._llm.dtype)
        prompts = []
        for item, sound in zip(items, sounds, strict=True):
            before, after = _TURN.replace("{}", item.prompt).split(_PLACE)
            ids = self._ids(before), self._ids(after)
            start = [] if self._tokenizer.bos_token_id is None else [self._tokenizer.bos_token_id]
            prompts.append(torch.cat([self._embed([*start, *ids[0]]), sound, self._embed(ids[1])]))
        return prompts

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def _embed(self, ids: Sequence[int]) -> Tensor:
        embeddings = self._llm.get_input_embeddings()
        return embeddings(torch.tensor(ids, dtype=torch.long, device=self._device))

    def _write(self, prompts: Sequence[Tensor]) -> list[str]:
        longest = max(len(prompt) for prompt in prompts)
        embeds = torch.stack([F.pad(prompt, (0, 0, longest - len(prompt), 0)) for prompt in prompts])
        mask = torch.tensor(
            [[place >= longest - len(prompt) for place in range(longest)] for prompt in prompts],
            dtype=torch.long,
            device=self._device,
        )
        ids = ask_greedily(
            self._llm,
            {"inputs_embeds": embeds, "attention_mask": mask},
            self._ends,
            self._ends[0],
            self._options.max_new_tokens,
            num_beams=self._options.num_beams,
        )
        return [text.strip() for text in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _score(self, item: BenchItem, prompt: Tensor) -> dict[str, float] | None:
        labels = list(dict.fromkeys(item.labels))
        if not self._options.score_labels or not 2 <= len(labels) <= self._options.most_labels:
            return None
        ended = [[*self._ids(label), self._ends[0]] for label in labels]
        mask = torch.ones(1, len(prompt), dtype=torch.long, device=self._device)
        likely = label_likelihoods(self._llm, {"inputs_embeds": prompt[None], "attention_mask": mask}, ended)
        return dict(zip(labels, likely.softmax(0).tolist(), strict=True))

    def _clip(self, item: BenchItem) -> FloatArray:
        samples = heard(item, RATE)[: self._ear.longest]
        return np.pad(samples, (0, max(0, round(_SHORTEST * RATE) - len(samples))))


def _only(place: Path, pattern: str, what: str) -> Path:
    """The one file of a folder that is meant, or the file itself."""
    if place.is_file():
        return place
    found = sorted(place.glob(pattern))
    if len(found) != 1:
        raise CheckpointError(f"{place}: {len(found)} files {pattern} there; say which is {what}")
    return found[0]
