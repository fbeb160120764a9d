"""The bridge from the ear to the language model: windows, Q-Former, linear projection."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from naturelm.model.configuration import NatureLMProjectorConfig


class WindowedProjector(nn.Module):
    """Each window of frame features becomes `num_queries` language-model embeddings.

    A window is 17 patches, a third of a second, in the official model (Tang et al. 2023,
    arXiv:2310.13289, describe the window-level Q-Former).
    """

    def __init__(self, config: NatureLMProjectorConfig, input_size: int, output_size: int) -> None:
        super().__init__()
        self.config = config
        input_size *= config.fold_frames
        self.input_norm = nn.LayerNorm(input_size)
        self.frame_dropout = nn.Dropout(config.frame_dropout)
        if config.kind == "qformer":
            self.query_tokens = nn.Parameter(torch.randn(1, config.num_queries, config.hidden_size) * 0.02)
            self.qformer = Blip2QFormerModel(_qformer_config(config, input_size))
            width = config.hidden_size
        else:
            width = input_size
        self.output_norm = nn.LayerNorm(width) if config.output_layer_norm else nn.Identity()
        self.linear = nn.Linear(width, output_size)

    def forward(self, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """frames: (batch, frames, input_size); frame_mask: (batch, frames) bool, True where real.

        Returns embeddings (batch, tokens, output_size) and their mask (batch, tokens) bool.
        """
        summaries, token_mask = self.summarise(frames, frame_mask)
        return self.linear(summaries), token_mask

    def summarise(self, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """One vector a query and window, before the projection: (batch, tokens, width) and mask."""
        folded, folded_mask = self._fold(frames, frame_mask)
        windows, window_mask = self._cut(self.frame_dropout(self.input_norm(folded)), folded_mask)
        batch, count, length, _ = windows.shape
        if self.config.kind == "mean":
            weights = window_mask.unsqueeze(-1).to(windows.dtype)
            summaries = (windows * weights).sum(2) / weights.sum(2).clamp_min(1)
        else:
            # A window of nothing but padding has no key to attend to; it is dropped by its mask.
            keys = window_mask | ~window_mask.any(-1, keepdim=True)
            hidden = self.qformer(
                query_embeds=self.query_tokens.expand(batch * count, -1, -1),
                encoder_hidden_states=windows.flatten(0, 1),
                encoder_attention_mask=None if bool(keys.all()) else keys.reshape(batch * count, length),
            ).last_hidden_state
            summaries = hidden.reshape(batch, count * self.config.num_queries, -1)
        return self.output_norm(summaries), self._token_mask(frame_mask, count)

    def _token_mask(self, frame_mask: Tensor, count: int) -> Tensor:
        """(batch, tokens) bool: True for the windows that each row's own frames give."""
        lengths = frame_mask.sum(1) if self.config.honour_mask else [frame_mask.shape[1]] * len(frame_mask)
        real = torch.tensor([self.config.num_windows(int(n)) for n in lengths], device=frame_mask.device)
        windows = torch.arange(count, device=frame_mask.device) < real.unsqueeze(1)
        return windows.repeat_interleave(
            self.config.num_queries if self.config.kind == "qformer" else 1, dim=1
        )

    def _fold(self, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, folded frames, fold_frames * size) and (batch, folded frames) bool: real if any of them is."""
        fold = self.config.fold_frames
        if fold == 1:
            return frames, frame_mask
        missing = -frames.shape[1] % fold if self.config.honour_mask else 0
        whole = (frames.shape[1] + missing) // fold * fold
        frames = F.pad(frames * frame_mask.unsqueeze(-1), (0, 0, 0, missing))[:, :whole]
        frame_mask = F.pad(frame_mask, (0, missing))[:, :whole]
        return frames.reshape(len(frames), -1, fold * frames.shape[2]), frame_mask.unflatten(
            1, (-1, fold)
        ).any(-1)

    def _cut(self, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, windows, window_frames, size) and (batch, windows, window_frames) bool."""
        length, stride = self.config.window_frames, self.config.stride_frames
        if self.config.honour_mask:
            windows = self.config.num_windows(frames.shape[1] * self.config.fold_frames)
            missing = (windows - 1) * stride + length - frames.shape[1]
            frames = F.pad(frames, (0, 0, 0, max(0, missing)))
            frame_mask = F.pad(frame_mask, (0, max(0, missing)))
        else:
            frame_mask = torch.ones_like(frame_mask)
        return frames.unfold(1, length, stride).transpose(2, 3), frame_mask.unfold(1, length, stride)


def _qformer_config(config: NatureLMProjectorConfig, input_size: int) -> Blip2QFormerConfig:
    return Blip2QFormerConfig(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        layer_norm_eps=config.layer_norm_eps,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        encoder_hidden_size=input_size,
        cross_attention_frequency=1,
        use_qformer_text_input=False,
    )
