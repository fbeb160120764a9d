"""The joint model: audio heard by an ear, bridged into the embeddings of a causal language model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput

from naturelm.errors import CheckpointError, QuestionError
from naturelm.model import birdnet  # noqa: F401  # registers the ear
from naturelm.model.configuration import NatureLMConfig
from naturelm.model.ear import EarOutput
from naturelm.model.label_hints import LabelHints
from naturelm.model.projector import WindowedProjector
from naturelm.model.word_hints import WordHints

LORA_ADAPTER = "default"


@dataclass
class NatureLMOutput(ModelOutput):
    """What a forward pass gives.

    loss: cross-entropy, if labels were given: the mean over all labelled tokens of the batch, or their sum
        over `num_items_in_batch`.
    token_losses: (labelled tokens,) cross-entropy of each, in row order, without gradient.
    logits: (batch, positions, vocabulary) for the positions that were asked for; with labels,
        (labelled tokens, vocabulary), in row order.
    past_key_values: the language model's cache.
    """

    loss: Tensor | None = None
    token_losses: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None


class NatureLMForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """NatureLM-audio (Robinson et al. 2024, arXiv:2411.07186) over any ear and any causal language model.

    `from_pretrained` also reads the official layout and original checkpoints; see
    `naturelm.model.loading`.
    """

    config_class = NatureLMConfig
    base_model_prefix = "naturelm"
    main_input_name = "input_ids"
    input_modalities = ("audio", "text")
    # The ear and the bridge are small beside the language model, and half precision costs them accuracy.
    _keep_in_fp32_modules_strict: ClassVar[list[str]] = ["ear", "projector", "word_hints"]
    _supports_sdpa = True
    _supports_cache_class = True
    supports_gradient_checkpointing = True

    def __init__(self, config: NatureLMConfig) -> None:
        super().__init__(config)
        self.ear = AutoModel.from_config(config.audio_config)
        self.projector = WindowedProjector(
            config.projector_config, config.audio_config.hidden_size, config.text_config.hidden_size
        )
        self.hints = None
        if config.projector_config.label_hints:
            self.hints = LabelHints(
                config.projector_config,
                config.audio_config.label_count,
                config.audio_config.hidden_size,
                config.text_config.hidden_size,
            )
        self.word_hints = None
        if config.projector_config.word_hints:
            self.word_hints = WordHints(
                config.projector_config, self.projector.linear.in_features, config.text_config.hidden_size
            )
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()
        # After post_init, which would draw LoRA's B anew and undo its start at zero.
        if config.lora is not None:
            self.language_model = add_lora(self.language_model, config.lora)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def get_decoder(self) -> nn.Module:
        return self.language_model.get_decoder()

    def get_audio_features(
        self, input_values: Tensor, input_features_mask: Tensor | None = None, fbank: Tensor | None = None
    ) -> list[Tensor]:
        """Hear clips.

        input_values: (clips, samples) float in [-1, 1] at the ear's rate.
        input_features_mask: (clips, samples) bool, True where a sample is sound and not padding.
        fbank: the ear's own `normalised_fbank` of the same `input_values`, if it has one and it is made already.

        Returns one (tokens, text hidden size) tensor a clip.
        """
        padding = None if input_features_mask is None else ~input_features_mask.bool()
        made = {} if fbank is None else {"fbank": fbank}
        return self.bridge(self.ear(input_values, padding, **made))

    def bridge(self, heard: EarOutput) -> list[Tensor]:
        """What the ear heard of some clips, as one (tokens, text hidden size) tensor a clip."""
        assert heard.last_hidden_state is not None and heard.frame_mask is not None
        frames = heard.last_hidden_state.to(self.projector.linear.weight.dtype)
        summaries, token_mask = self.projector.summarise(frames, heard.frame_mask)
        embeds = self.projector.linear(summaries)
        rows = [row[mask] for row, mask in zip(embeds, token_mask, strict=True)]
        spelt: list[Tensor] = []
        if self.hints is not None:
            spelt.append(self.hints(heard, self.ear, self.get_input_embeddings()))
        if self.word_hints is not None and self.config.projector_config.hinted_words:
            spelt.append(self.word_hints(summaries, token_mask, self.get_input_embeddings()))
        if not spelt:
            return rows
        hints = torch.cat(spelt, dim=1)
        return [torch.cat([row, hint.to(row)]) for row, hint in zip(rows, hints, strict=True)]

    def embed_prompt(self, input_ids: Tensor, audio_embeds: list[Tensor]) -> Tensor:
        """(batch, tokens) ids to (batch, tokens, hidden) embeddings with the audio in its places.

        audio_embeds: the clips' embeddings in the order in which their placeholders stand.
        """
        is_audio = input_ids == self.config.audio_token_id
        embeds = self.get_input_embeddings()(input_ids.masked_fill(is_audio, 0))
        if audio_embeds:
            flat = torch.cat(audio_embeds).to(embeds)
            if len(flat) != int(is_audio.sum()):
                raise QuestionError(
                    f"the prompt has {int(is_audio.sum())} audio places for {len(flat)} audio embeddings; "
                    "make the prompt with this model's processor"
                )
            embeds = embeds.masked_scatter(is_audio.unsqueeze(-1), flat)
        return embeds

    def forward(
        self,
        input_ids: Tensor | None = None,
        input_values: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        heard: EarOutput | None = None,
        **kwargs: Any,
    ) -> NatureLMOutput:
        """One pass.

        input_ids: (batch, tokens) with `audio_token_id` at every place an audio embedding takes.
        input_values, input_features_mask: all clips of the batch, in prompt order; see `get_audio_features`.
        attention_mask: (batch, tokens), 0 for padding, or a 4-D mask as the language model takes it.
        labels: (batch, tokens) ids, -100 where no loss is wanted. Logits are then made only for
            the labelled positions.
        logits_to_keep: as in the language model: the last n positions (0 is all), or their indices.
        num_items_in_batch: labelled tokens of the whole step that this batch is a part of, so that parts
            add up to what the whole would give.
        heard: what the ear made of all clips, in place of `input_values`.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise QuestionError("give input_ids or inputs_embeds")
            audio: list[Tensor] = []
            if heard is not None:
                audio = self.bridge(heard)
            elif input_values is not None:
                audio = self.get_audio_features(input_values, input_features_mask)
            inputs_embeds = self.embed_prompt(input_ids, audio)
        targets = None
        if labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=-100)
            use_cache = False  # nothing follows that would read it
            logits_to_keep = (targets != -100).any(0).nonzero().flatten()
        if position_ids is None and attention_mask is not None and attention_mask.dim() == 2:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, -inputs_embeds.shape[1] :]
        output = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        if targets is None:
            return NatureLMOutput(logits=output.logits, past_key_values=output.past_key_values)
        kept = targets[:, logits_to_keep]
        logits = output.logits[kept != -100]
        token_losses = F.cross_entropy(logits.float(), kept[kept != -100], reduction="none")
        return NatureLMOutput(
            loss=token_losses.sum()
            / (len(token_losses) if num_items_in_batch is None else num_items_in_batch),
            token_losses=token_losses.detach(),
            logits=logits,
            past_key_values=output.past_key_values,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As in transformers; audio is for the first step, since it is in the cache from then on.

        transformers 5.17 drops `input_features` after that step by itself, but not `input_values`.
        """
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            inputs.pop("input_values", None)
        return inputs

    # --- LoRA ---------------------------------------------------------------------------------

    def lora_layers(self) -> list[LoraLayer]:
        """The language model's layers that carry a LoRA adapter; empty once merged."""
        return [module for module in self.language_model.modules() if isinstance(module, LoraLayer)]

    @contextmanager
    def merging_alpha(self, alpha: float) -> Iterator[None]:
        """Scale the LoRA adapter by `alpha` inside the block: 1 as trained, 0 the bare language model."""
        layers = self.lora_layers()
        if alpha != 1.0 and not layers:
            raise CheckpointError(
                "merging_alpha needs the LoRA adapter, and this model has none or has it merged; "
                "load the model without merging it"
            )
        before = [layer.scaling[LORA_ADAPTER] for layer in layers]
        try:
            for layer, scale in zip(layers, before, strict=True):
                layer.scaling[LORA_ADAPTER] = scale * alpha
            yield
        finally:
            for layer, scale in zip(layers, before, strict=True):
                layer.scaling[LORA_ADAPTER] = scale

    def merge_lora(self, alpha: float = 1.0) -> "NatureLMForConditionalGeneration":
        """Add the adapter, scaled by `alpha`, to the weights and take it off; returns the model itself."""
        with self.merging_alpha(alpha), torch.no_grad():
            for name, module in list(self.language_model.named_modules()):
                if isinstance(module, LoraLayer):
                    module.merge()
                    parent = self.language_model.get_submodule(name.rpartition(".")[0])
                    setattr(parent, name.rpartition(".")[2], module.get_base_layer())
        self.config.lora = None
        if hasattr(self.language_model, "peft_config"):
            del self.language_model.peft_config
        return self

    # --- checkpoints --------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, source: str | Path | None, *args: Any, **kwargs: Any) -> Any:
        """Load a folder or hub id in our layout or the official one; see `naturelm.model.loading.load_model`."""
        if source is None or kwargs.get("state_dict") is not None:
            return super().from_pretrained(source, *args, **kwargs)
        from naturelm.model.loading import load_model

        return load_model(source, **kwargs)

    def save_pretrained(
        self, save_directory: str | Path, *, with_language_model: bool = True, **kwargs: Any
    ) -> None:
        """Write `config.json` and safetensors.

        with_language_model: False leaves out the language model's own weights, which are then
            read again from `config.text_model`.
        """
        if not with_language_model:
            if self.config.text_model is None:
                raise CheckpointError(
                    f"{save_directory}: config.text_model names no source for the language model's weights; "
                    "set it, or save with_language_model=True"
                )
            weights = kwargs.pop("state_dict", None) or self.state_dict()
            kwargs["state_dict"] = {
                name: tensor
                for name, tensor in weights.items()
                if not name.startswith("language_model.") or ".lora_" in name
            }
        super().save_pretrained(save_directory, **kwargs)


def add_lora(language_model: nn.Module, lora: dict[str, Any]) -> nn.Module:
    """Put LoRA layers into a language model. lora: r, lora_alpha, lora_dropout, target_modules."""
    return inject_adapter_in_model(LoraConfig(**lora), language_model, adapter_name=LORA_ADAPTER)


for _auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM):
    _auto_class.register(NatureLMConfig, NatureLMForConditionalGeneration, exist_ok=True)
