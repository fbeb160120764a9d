"""Configuration of the three parts: the ear, the projector and the language model.

Written for the two generations of transformers' configuration classes (5.17 and
later): sub-configurations are built in `__post_init__`, and every field is plain JSON.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

AUDIO_TOKEN = "<AudioHere>"
LLAMA3_PROMPT = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


class BeatsConfig(PreTrainedConfig):
    """BEATs audio encoder (Chen et al. 2022, arXiv:2212.09058); the defaults are BEATs base.

    `exact_mask` chooses how padding is marked. False follows the original: a patch counts as
    padding when every sample of its (rounded) share is padding. True counts the patches that
    the unpadded sound alone would give, so that a padded clip and an unpadded one agree exactly.

    `row_embedding` adds to each patch a learnt vector for its place in frequency. The original has none: its
    positions are relative, and a small model that is not pretrained does not find out how high a sound is.
    """

    model_type = "naturelm_beats"

    patch_size: int = 16  # mel bins and frames
    embed_dim: int = 512  # of a patch, before the projection to hidden_size
    conv_bias: bool = False
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    deep_norm: bool = True
    layer_norm_first: bool = False
    position_conv_kernel: int = 128
    position_conv_groups: int = 16
    num_buckets: int = 320  # of relative positions
    max_distance: int = 800
    gated_position_bias: bool = True
    row_embedding: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    sampling_rate: int = 16_000  # Hz
    num_mel_bins: int = 128
    fbank_mean: float = 15.41663
    fbank_std: float = 6.55582
    exact_mask: bool = False

    @property
    def patches_per_column(self) -> int:
        """Patches at one moment, from low to high frequency."""
        return self.num_mel_bins // self.patch_size

    def num_frames(self, num_samples: int) -> int:
        """Patches that `num_samples` samples give, in time-major order."""
        fbank_frames = max(0, 1 + (num_samples - 400) // 160)
        return fbank_frames // self.patch_size * self.patches_per_column

    @property
    def min_samples(self) -> int:
        """Fewest samples that give one patch column."""
        return 400 + (self.patch_size - 1) * 160


@dataclass(frozen=True)
class WordHint:
    """How many of the likeliest words of a task's answers are spelt out, in how many tokens each, and after which text."""

    task: str
    words: int
    tokens: int
    title: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "WordHint":
        """From a mapping with just these fields; `title` may be missing. ValueError if it is not."""
        if set(fields) | {"title"} != {"task", "words", "tokens", "title"}:
            raise ValueError(
                f"word_hints of the projector have task, words and tokens each, and may have a title, not {dict(fields)}"
            )
        numbers = fields["words"], fields["tokens"]
        if not all(type(number) is int and number >= 1 for number in numbers):
            raise ValueError(f"words and tokens of word_hints are whole numbers from 1, not {dict(fields)}")
        return cls(str(fields["task"]), *numbers, str(fields.get("title", "")))


class NatureLMProjectorConfig(PreTrainedConfig):
    """From frame features to language-model embeddings, window by window.

    `kind` "qformer" lets learnt queries read each window; "mean" averages the window. Both
    end in the linear projection to the language model.

    `honour_mask` False follows the original: padding counts as sound and the frames after the
    last whole window are dropped. True keeps every real frame and nothing else.

    `fold_frames` lays so many neighbouring frames side by side, as one frame of so many times the width, before
    windows are cut; windows then count folded frames. The original folds none. With 8, the patches of one moment
    under BEATs, it is plain which patch is high and which low, and a small Q-Former that is not pretrained learns
    to read pitch, of which it finds nothing otherwise.

    `label_hints` likeliest labels of the clip, each spelt out in `label_hint_tokens` tokens, follow the windows;
    only an ear that has labels of its own can give them (see `naturelm.model.label_hints`). `taught_hints` more, of
    `taught_hint_tokens` each, are of the `taught_labels` that the ear was taught beside its own; none until it was.

    `word_hints` say of which tasks' answers the likeliest words follow, how many, and in how many tokens each is spelt
    (see `naturelm.model.word_hints`): mappings with the fields of `WordHint`. They are among the `hinted_words`, which
    the warm-up of training taught; none until it did. `hint_titles` are the token ids of each hint's title, taken down
    with them.

    `frame_dropout` is the share of each frame's numbers that training leaves out: behind a frozen ear that gives
    many numbers, a few recordings would otherwise be learnt by heart.
    """

    model_type = "naturelm_projector"

    kind: str = "qformer"
    window_frames: int = 17
    stride_frames: int = 17
    fold_frames: int = 1
    num_queries: int = 1  # per window
    hidden_size: int = 768
    num_hidden_layers: int = 2
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1
    frame_dropout: float = 0.0
    output_layer_norm: bool = False  # before the linear projection
    honour_mask: bool = False
    label_hints: int = 0
    label_hint_tokens: int = 20
    taught_hints: int = 0
    taught_hint_tokens: int = 14
    taught_labels: tuple[str, ...] = ()
    word_hints: tuple[dict[str, Any], ...] = ()
    hinted_words: tuple[str, ...] = ()
    hint_titles: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self, **kwargs: Any) -> None:
        if self.kind not in ("qformer", "mean"):
            raise ValueError(f"projector kind {self.kind!r} is not known; use 'qformer' or 'mean'")
        if min(self.window_frames, self.stride_frames, self.fold_frames, self.num_queries) < 1:
            raise ValueError(
                "window_frames, stride_frames, fold_frames and num_queries of the projector are at least 1"
            )
        if self.label_hints < 0 or self.label_hint_tokens < 1:
            raise ValueError("label_hints of the projector is at least 0, and label_hint_tokens at least 1")
        if self.taught_hints < 0 or self.taught_hint_tokens < 1:
            raise ValueError("taught_hints of the projector is at least 0, and taught_hint_tokens at least 1")
        if self.taught_hints and not self.label_hints:
            raise ValueError("taught_hints of the projector stand beside label_hints: set these to 1 or more")
        self.taught_labels = tuple(self.taught_labels)  # JSON has lists
        if 0 < len(self.taught_labels) < self.taught_hints:
            raise ValueError(
                f"taught_hints of the projector is at most its {len(self.taught_labels)} taught labels, "
                f"not {self.taught_hints}"
            )
        self.word_hints = tuple(map(dict, self.word_hints))
        self.hinted_words = tuple(self.hinted_words)
        self.hint_titles = tuple(map(tuple, self.hint_titles))
        if self.hinted_words and len(self.hint_titles) != len(self.word_hints):
            raise ValueError(
                f"with hinted_words hint_titles are one for each of its {len(self.word_hints)} word_hints, "
                f"not {len(self.hint_titles)}"
            )
        if len({hint.task for hint in self.hints_of_words}) < len(self.word_hints):
            raise ValueError("word_hints of the projector name a task twice")
        most = max((hint.words for hint in self.hints_of_words), default=0)
        if self.hinted_words and not 0 < most <= len(self.hinted_words):
            raise ValueError(
                f"word_hints of the projector want {most} words of its {len(self.hinted_words)} hinted_words"
            )
        if not 0 <= self.frame_dropout < 1:
            raise ValueError(
                f"frame_dropout of the projector is 0 or more and below 1, not {self.frame_dropout}"
            )
        if self.honour_mask and self.stride_frames > self.window_frames:
            raise ValueError(
                "with honour_mask every frame is in a window: stride_frames is at most window_frames"
            )
        super().__post_init__(**kwargs)

    @property
    def hints_of_words(self) -> tuple["WordHint", ...]:
        """`word_hints`. ValueError where a field is missing, unknown or no good."""
        return tuple(map(WordHint.of, self.word_hints))

    def num_windows(self, num_frames: int) -> int:
        """Windows that `num_frames` frames of the ear give."""
        if self.honour_mask:
            folded = math.ceil(num_frames / self.fold_frames)
            beyond_first = max(0, folded - self.window_frames)
            return 1 + math.ceil(beyond_first / self.stride_frames) if folded > 0 else 0
        folded = num_frames // self.fold_frames
        return max(0, 1 + (folded - self.window_frames) // self.stride_frames)

    def num_tokens(self, num_frames: int) -> int:
        """Language-model embeddings that `num_frames` frames give."""
        per_window = self.num_queries if self.kind == "qformer" else 1
        spelt = self.label_hints * self.label_hint_tokens
        if self.taught_labels:
            spelt += self.taught_hints * self.taught_hint_tokens
        if self.hinted_words:
            spelt += sum(hint.words * hint.tokens for hint in self.hints_of_words)
            spelt += sum(map(len, self.hint_titles))
        return self.num_windows(num_frames) * per_window + spelt


class NatureLMConfig(PreTrainedConfig):
    """The joint model: ear, projector, language model, and how a question is put to it.

    audio_config: any registered configuration whose model keeps the ear's contract (see
        `naturelm.model.ear`): it has `hidden_size`, `sampling_rate`, `min_samples` and
        `num_frames(num_samples)`.
    text_config: any causal language model's configuration.
    text_model: where the language model's weights come from when the checkpoint leaves them
        out: an embedded name, a folder or a hub id.
    lora: rank, alpha, dropout and target modules of the LoRA adapter, or None.
    prompt_template: the chat turn around one question, with one `{}`.
    end_of_answer: text whose tokens end every answer.
    clip_seconds: the length that the model was trained on, and the window of a long recording.
    pad_to_clip: pad every shorter clip with zeros to `clip_seconds`, as the official model does.
    max_clip_seconds: the longest clip that is taken as one window.
    """

    model_type = "naturelm"
    sub_configs: ClassVar[dict[str, Any]] = {
        "audio_config": AutoConfig,
        "projector_config": NatureLMProjectorConfig,
        "text_config": AutoConfig,
    }

    audio_config: Any = None
    projector_config: Any = None
    text_config: Any = None
    text_model: str | None = None
    lora: dict[str, Any] | None = None
    prompt_template: str = LLAMA3_PROMPT
    end_of_answer: str = "<|end_of_text|>"
    add_bos: bool = True
    audio_token_id: int | None = None
    clip_seconds: float = 10.0
    pad_to_clip: bool = False
    max_clip_seconds: float = 60.0
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.audio_config = _sub_config(self.audio_config, BeatsConfig)
        self.projector_config = _sub_config(self.projector_config, NatureLMProjectorConfig)
        self.text_config = _sub_config(self.text_config, None)
        if self.prompt_template.count("{}") != 1:
            raise ValueError(f"prompt_template needs exactly one '{{}}', got {self.prompt_template!r}")
        if not isinstance(self.end_of_answer, str):
            raise ValueError(f"end_of_answer is a text, not {self.end_of_answer!r}")
        if min(self.clip_seconds, self.max_clip_seconds) <= 0:
            raise ValueError("clip_seconds and max_clip_seconds are above 0")
        if self.projector_config.honour_mask and not getattr(self.audio_config, "exact_mask", True):
            raise ValueError(
                "honour_mask counts a clip's own frames, which audio_config.exact_mask=False only estimates; set it to True"
            )
        if self.projector_config.label_hints and not hasattr(self.audio_config, "label_count"):
            raise ValueError(
                f"projector_config.label_hints: an ear of type {self.audio_config.model_type} has no labels; use 0"
            )
        if self.audio_token_id is None:
            # One past the vocabulary: no text can hold it, and it is replaced before the embedding.
            self.audio_token_id = self.text_config.vocab_size
        if not isinstance(self.audio_token_id, int):
            raise ValueError(f"audio_token_id is a whole number, not {self.audio_token_id!r}")
        super().__post_init__(**kwargs)

    def num_audio_tokens(self, num_samples: int) -> int:
        """Embeddings that a clip of `num_samples` samples becomes in the prompt when it is heard alone."""
        heard = max(num_samples, self.audio_config.min_samples)
        if not self.projector_config.honour_mask:
            heard = self.padded_samples(num_samples)
        return self.projector_config.num_tokens(self.audio_config.num_frames(heard))

    def padded_samples(self, num_samples: int) -> int:
        """Samples that a clip has after the least padding that the model needs."""
        least = round(self.clip_seconds * self.audio_config.sampling_rate) if self.pad_to_clip else 0
        return max(num_samples, self.audio_config.min_samples, least)


def _sub_config(given: Any, default: type[PreTrainedConfig] | None) -> Any:
    """A configuration object from an object, a dict (by its model_type) or the default."""
    if isinstance(given, PreTrainedConfig):
        return given
    if isinstance(given, dict):
        fields = dict(given)
        model_type = fields.pop("model_type", None)
        if model_type is None:
            if default is None:
                raise ValueError("text_config needs a model_type")
            return default(**fields)
        return AutoConfig.for_model(model_type, **fields)
    if given is not None:
        raise ValueError(f"a sub-configuration is an object with a model_type, not {given!r}")
    if default is None:
        return AutoConfig.for_model("llama")
    return default()


AutoConfig.register(BeatsConfig.model_type, BeatsConfig, exist_ok=True)
AutoConfig.register(NatureLMProjectorConfig.model_type, NatureLMProjectorConfig, exist_ok=True)
AutoConfig.register(NatureLMConfig.model_type, NatureLMConfig, exist_ok=True)
