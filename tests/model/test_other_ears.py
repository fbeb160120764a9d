"""An ear that the joint model has never seen: raw waveform, another rate, other frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Clip, GenerationOptions, Query
from naturelm.model.ear import EarOutput
from tiny import noise, tiny_naturelm


class ConvEarConfig(PreTrainedConfig):
    """A convolution over the waveform."""

    model_type = "test_conv_ear"

    hidden_size: int = 20
    sampling_rate: int = 32_000
    kernel: int = 640
    stride: int = 320

    @property
    def min_samples(self) -> int:
        return self.kernel

    def num_frames(self, num_samples: int) -> int:
        return max(0, 1 + (num_samples - self.kernel) // self.stride)


class ConvEar(PreTrainedModel):
    """Keeps the contract of `naturelm.model.ear` and nothing more."""

    config_class = ConvEarConfig
    main_input_name = "input_values"

    def __init__(self, config: ConvEarConfig) -> None:
        super().__init__(config)
        self.conv = nn.Conv1d(1, config.hidden_size, config.kernel, stride=config.stride)
        self.post_init()

    def forward(self, input_values: Tensor, padding_mask: Tensor | None = None) -> EarOutput:
        frames = self.conv(input_values.unsqueeze(1)).transpose(1, 2)
        lengths = torch.full((len(frames),), input_values.shape[1])
        if padding_mask is not None:
            lengths = (~padding_mask).sum(1)
        real = torch.tensor([self.config.num_frames(int(n)) for n in lengths])
        return EarOutput(frames, torch.arange(frames.shape[1]) < real.unsqueeze(1))


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    AutoConfig.register(ConvEarConfig.model_type, ConvEarConfig, exist_ok=True)
    AutoModel.register(ConvEarConfig, ConvEar, exist_ok=True)
    yield


@pytest.fixture(params=[8_000, 32_000])
def naturelm(request: pytest.FixtureRequest) -> NatureLM:
    return tiny_naturelm(audio_config=ConvEarConfig(sampling_rate=request.param))


def queries(rate: int) -> list[Query]:
    clips = [noise(seconds, seed, rate) for seed, seconds in enumerate((0.9, 0.3, 1.5))]
    return [Query((Clip(clip),), "What is it?") for clip in clips]


OPTIONS = GenerationOptions(max_new_tokens=8)


def test_answers_and_comes_back(naturelm: NatureLM, tmp_path: Path) -> None:
    rate = naturelm.sampling_rate
    assert naturelm.processor.feature_extractor.sampling_rate == rate
    together = naturelm.answer(queries(rate), OPTIONS)
    alone = [naturelm.answer([each], OPTIONS)[0] for each in queries(rate)]
    assert [a.token_ids for a in together] == [a.token_ids for a in alone]
    choices = naturelm.ask(queries(rate)[0].clips[0].samples, "Which?", choices=["Dog", "Cat"])
    assert sum(choice.probability for choice in choices.choices) == pytest.approx(1)

    naturelm.model.save_pretrained(tmp_path)
    naturelm.processor.save_pretrained(tmp_path)
    loaded = NatureLM.from_pretrained(tmp_path, device="cpu")
    assert isinstance(loaded.model.ear, ConvEar)
    assert loaded.sampling_rate == rate
    assert [a.token_ids for a in loaded.answer(queries(rate), OPTIONS)] == [a.token_ids for a in together]


def test_whole_recording_is_brought_to_its_rate(naturelm: NatureLM) -> None:
    clip = naturelm.read_clip(noise(1.0, rate=44_100), source_rate=44_100)
    assert len(clip.samples) == naturelm.sampling_rate


def test_frozen_while_the_projector_learns(naturelm: NatureLM) -> None:
    model, rate = naturelm.model.train(), naturelm.sampling_rate
    model.ear.requires_grad_(False)
    model.language_model.requires_grad_(False)
    before: dict[str, Any] = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0)
    batch = naturelm.processor(
        ["Dog?", "What?"], [noise(1, 0, rate), noise(0.5, 1, rate)], answers=["Cat", "None"]
    )
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in changed} == {"projector"}
    assert "projector.linear.weight" in changed
