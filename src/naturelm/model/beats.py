"""BEATs, the audio encoder: log-mel patches through a transformer with gated relative positions.

Written from the paper (Chen et al. 2022, arXiv:2212.09058) and from the names and shapes of
the published checkpoints. Two things differ from the original in form and not in result: the
weight norm of the positional convolution is folded into one weight when a checkpoint is
loaded, and attention goes through `scaled_dot_product_attention`, the gated position bias
being a float mask.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from naturelm.audio.fbank import FilterBankOptions, kaldi_fbank
from naturelm.model.configuration import BeatsConfig
from naturelm.model.ear import EarOutput


class BeatsModel(PreTrainedModel):
    """BEATs as an ear: waveform in, patch features and their mask out (see `naturelm.model.ear`)."""

    config_class = BeatsConfig
    base_model_prefix = "beats"
    main_input_name = "input_values"
    _no_split_modules: ClassVar[list[str]] = ["BeatsLayer"]
    _supports_sdpa = True

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__(config)
        self.patch_embedding = nn.Conv2d(
            1, config.embed_dim, config.patch_size, stride=config.patch_size, bias=config.conv_bias
        )
        self.patch_norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.patch_projection = (
            nn.Linear(config.embed_dim, config.hidden_size)
            if config.embed_dim != config.hidden_size
            else nn.Identity()
        )
        if config.row_embedding:
            self.row_embedding = nn.Embedding(config.patches_per_column, config.hidden_size)
        self.position_conv = nn.Conv1d(
            config.hidden_size,
            config.hidden_size,
            config.position_conv_kernel,
            padding=config.position_conv_kernel // 2,
            groups=config.position_conv_groups,
        )
        self.relative_position = nn.Embedding(config.num_buckets, config.num_attention_heads)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(BeatsLayer(config) for _ in range(config.num_hidden_layers))
        self.dropout = nn.Dropout(config.dropout)
        self.filter_bank = FilterBankOptions(config.sampling_rate, config.num_mel_bins)
        self.post_init()

    @classmethod
    def from_pretrained(cls, source: str | Path | None, *args: Any, **kwargs: Any) -> Any:
        """Load as in transformers, or an original BEATs `.pt` file; see `naturelm.model.loading.load_beats`."""
        if source is None or Path(source).suffix != ".pt":
            return super().from_pretrained(source, *args, **kwargs)
        from naturelm.model.loading import load_beats

        return load_beats(source, *args, **kwargs)

    def forward(
        self,
        input_values: Tensor | None = None,
        padding_mask: Tensor | None = None,
        fbank: Tensor | None = None,
        **kwargs: Any,
    ) -> EarOutput:
        """Hear a batch.

        input_values: (batch, samples) float in [-1, 1] at `config.sampling_rate`.
        padding_mask: (batch, samples) bool, True where a sample is padding; None if none is.
        fbank: `normalised_fbank` of `input_values`, if it is made already; they are not needed then.

        Returns (batch, patches, hidden_size) features, time-major: patch index = column *
        patches_per_column + row, row 0 lowest in frequency.
        """
        if fbank is None:
            if input_values is None:
                raise ValueError("BeatsModel needs input_values or their fbank")
            fbank = self.normalised_fbank(input_values)
        return self.encode_fbank(fbank, padding_mask)

    def normalised_fbank(self, input_values: Tensor) -> Tensor:
        """(batch, samples) waveform to (batch, frames, mel bins) float32, scaled as in training."""
        raw = kaldi_fbank(input_values * 2**15, self.filter_bank)
        return (raw - self.config.fbank_mean) / (2 * self.config.fbank_std)

    def encode_fbank(self, fbank: Tensor, padding_mask: Tensor | None = None) -> EarOutput:
        """(batch, frames, mel bins) normalised filter bank to features; the mask as in `forward`."""
        patches = self.embed_patches(fbank)
        real = self._real_patches(padding_mask, fbank.shape[1], patches.shape[1])
        hidden = self.dropout(self.patch_projection(self.patch_norm(patches)))
        if self.config.row_embedding:
            columns = hidden.shape[1] // self.config.patches_per_column
            hidden = hidden + self.row_embedding.weight.repeat(columns, 1)
        hidden = self.encode(hidden, real)
        if real is None:
            real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        return EarOutput(last_hidden_state=hidden, frame_mask=real)

    def embed_patches(self, fbank: Tensor) -> Tensor:
        """(batch, frames, mel bins) to (batch, patches, embed_dim)."""
        image = fbank.to(self.patch_embedding.weight.dtype).unsqueeze(1)
        return self.patch_embedding(image).flatten(2).transpose(1, 2)

    def encode(self, hidden: Tensor, real: Tensor | None) -> Tensor:
        """(batch, patches, hidden_size) through the transformer; `real`: (batch, patches) bool or None."""
        if real is not None:
            hidden = hidden * real.unsqueeze(-1)
        # An even kernel with padding of half its length gives one value too many.
        position = self.position_conv(hidden.transpose(1, 2))[..., : hidden.shape[1]]
        hidden = hidden + F.gelu(position.transpose(1, 2))
        if not self.config.layer_norm_first:
            hidden = self.norm(hidden)
        hidden = self.dropout(hidden)
        bias = self._position_bias(hidden.shape[1], hidden.device)
        keys = None
        if real is not None and not bool(real.all()):
            keys = torch.zeros_like(real, dtype=hidden.dtype).masked_fill_(
                ~real, torch.finfo(hidden.dtype).min
            )
            keys = keys[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, bias, keys)
        return self.norm(hidden) if self.config.layer_norm_first else hidden

    def _position_bias(self, length: int, device: torch.device) -> Tensor:
        """(heads, length, length) bias by the distance from query to key."""
        buckets = _position_buckets(length, self.config.num_buckets, self.config.max_distance, device)
        return self.relative_position(buckets).permute(2, 0, 1)

    def _real_patches(self, padding_mask: Tensor | None, num_frames: int, num_patches: int) -> Tensor | None:
        if padding_mask is None:
            return None
        if self.config.exact_mask:
            lengths = (~padding_mask).sum(1).tolist()
            real = torch.tensor([self.config.num_frames(n) for n in lengths], device=padding_mask.device)
            return torch.arange(num_patches, device=padding_mask.device) < real.unsqueeze(1)
        return ~_group_padding(_group_padding(padding_mask, num_frames), num_patches)


class BeatsLayer(GradientCheckpointingLayer):
    """Self-attention and feed-forward, post-norm with DeepNorm scaling unless configured otherwise."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.attention = BeatsAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.dropout)
        self.pre_norm = config.layer_norm_first
        self.residual_scale = (2 * config.num_hidden_layers) ** 0.25 if config.deep_norm else 1.0

    def forward(self, hidden: Tensor, bias: Tensor, keys: Tensor | None) -> Tensor:
        if self.pre_norm:
            hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), bias, keys))
            return hidden + self.dropout(self._feed_forward(self.final_norm(hidden)))
        attended = self.dropout(self.attention(hidden, bias, keys))
        hidden = self.attention_norm(hidden * self.residual_scale + attended)
        fed = self.dropout(self._feed_forward(hidden))
        return self.final_norm(hidden * self.residual_scale + fed)

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(hidden)))


class BeatsAttention(nn.Module):
    """Multi-head attention whose position bias each query gates for itself."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        if config.gated_position_bias:
            self.gate = nn.Linear(self.head_dim, 8)
            self.gate_scale = nn.Parameter(torch.ones(1, self.num_heads, 1, 1))
        else:
            self.gate = None  # type: ignore[assignment]

    def forward(self, hidden: Tensor, bias: Tensor, keys: Tensor | None) -> Tensor:
        batch, length, width = hidden.shape
        query = self._heads(self.q_proj(hidden))
        key, value = self._heads(self.k_proj(hidden)), self._heads(self.v_proj(hidden))
        mask = self._gated(query, bias).to(query.dtype)
        if keys is not None:
            mask = mask + keys
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).reshape(batch, length, width))

    def _heads(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def _gated(self, query: Tensor, bias: Tensor) -> Tensor:
        """(batch, heads, queries, keys) bias after the two gates read off each query."""
        if self.gate is None:
            return bias.unsqueeze(0)
        gates = self.gate(query).unflatten(-1, (2, 4)).sum(-1).sigmoid()
        update, reset = gates.unbind(-1)
        factor = update.unsqueeze(-1) * (reset.unsqueeze(-1) * self.gate_scale - 1.0) + 2.0
        return factor * bias


@lru_cache(maxsize=64)
def _position_buckets(length: int, num_buckets: int, max_distance: int, device: torch.device) -> Tensor:
    """(length, length) bucket of each query-key distance: exact when near, logarithmic when far."""
    position = torch.arange(length, device=device)
    distance = position[None, :] - position[:, None]
    half = num_buckets // 2
    exact = half // 2
    far = distance.abs().clamp_min(1)
    ratio = torch.log(far.float() / exact) / math.log(max_distance / exact)
    logarithmic = (exact + ratio * (half - exact)).long().clamp_max(half - 1)
    size = torch.where(distance.abs() < exact, distance.abs(), logarithmic)
    return size + half * (distance > 0)


def _group_padding(padding: Tensor, groups: int) -> Tensor:
    """(batch, n) bool to (batch, groups): True where the whole group is padding; the rest of n is dropped."""
    usable = padding.shape[1] - padding.shape[1] % groups
    return padding[:, :usable].unflatten(1, (groups, -1)).all(-1)


AutoModel.register(BeatsConfig, BeatsModel, exist_ok=True)
