"""SALMONN: small random parts in the published layout, through the code that opens the real ones."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM, WhisperFeatureExtractor, WhisperForConditionalGeneration

from bench.models.bench_items import RATE, an_item, same_in_any_order_and_batch, tone
from bench.models.tiny_salmonn import AUDIO, HIDDEN, QUERIES, RANK, SPEECH, WIDTH, bridge, save_salmonn
from bench.models.tiny_texts import byte_tokenizer
from naturelm.bench.models.registry import Surroundings, open_registered
from naturelm.bench.models.salmonn import SalmonnOptions, SalmonnSystem
from naturelm.errors import CheckpointError, QuestionError
from naturelm.model.loading import load_beats

LABELS = ("Owl", "Northern Dog", "Cat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_salmonn(tmp_path_factory.mktemp("salmonn"))


def items() -> list:
    prompts = ("What is it?", "Name the animal that is heard in this recording, please.", "Dog or cat?")
    clips = (tone(700, 2.0), tone(2500, 0.3), tone(4000, 5.0, rate=32_000))
    rates = (RATE, RATE, 32_000)
    return [
        an_item(n, clip, prompt=prompt, sample_rate=rate, labels=LABELS)
        for n, (clip, prompt, rate) in enumerate(zip(clips, prompts, rates, strict=True))
    ]


OPTIONS = {"max_new_tokens": 5, "score_labels": True}


@pytest.fixture(scope="module")
def salmonn(folder: Path) -> SalmonnSystem:
    return SalmonnSystem(folder, SalmonnOptions(**OPTIONS, batch_size=2), device="cpu")


def test_answers_are_the_same_in_any_batch_and_depend_on_clip_and_question(salmonn: SalmonnSystem) -> None:
    answers = same_in_any_order_and_batch(salmonn, items(), tolerance=1e-4)
    first = items()[0]
    others = [
        an_item(5, tone(6000, 2.0, seed=5), prompt=first.prompt, labels=LABELS),
        an_item(6, first.waveform, prompt="Which bird?", labels=LABELS),
    ]
    of_first = np.log(list((answers[0].scores or {}).values()))
    for other in salmonn.answer(others):
        assert np.abs(np.log(list((other.scores or {}).values())) - of_first).max() > 0.01


def attend(query: Tensor, states: Tensor, tensors: dict[str, Tensor], stem: str) -> Tensor:
    """One attention block of BERT and its output."""
    one = {
        key: F.linear(states if key != "query" else query, *of(tensors, f"{stem}.self.{key}"))
        for key in ("query", "key", "value")
    }
    attended = (one["query"] @ one["key"].T / 8).softmax(-1) @ one["value"]  # one head of 64
    out = F.linear(attended, *of(tensors, f"{stem}.output.dense"))
    return F.layer_norm(out + query, (HIDDEN,), *of(tensors, f"{stem}.output.LayerNorm"), eps=1e-12)


def of(tensors: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


@torch.inference_mode()
def heard_plainly(folder: Path, clip: np.ndarray) -> Tensor:
    """The published forward pass written out, window by window, from the tensors as they are published."""
    tensors = bridge()
    whisper = WhisperForConditionalGeneration.from_pretrained(folder / "whisper").eval().model.encoder
    extractor = WhisperFeatureExtractor.from_pretrained(folder / "whisper")
    features = extractor(clip, sampling_rate=RATE, return_tensors="pt")["input_features"]
    speech = F.layer_norm(whisper(features).last_hidden_state[0], (SPEECH,), *of(tensors, "ln_speech"))
    audio = load_beats(folder / "BEATs_tiny.pt")(torch.from_numpy(clip)[None]).last_hidden_state[0]
    audio = F.layer_norm(audio, (AUDIO,), *of(tensors, "ln_audio"))
    assert len(audio) < len(speech) == 150
    frames = torch.cat([speech, F.pad(audio, (0, 0, 0, 150 - len(audio)))], 1)
    tokens = []
    for start in range(0, 150 - 16, 17):
        queries = tensors["speech_query_tokens"][0]
        state = F.layer_norm(
            queries, (HIDDEN,), *of(tensors, "speech_Qformer.bert.embeddings.LayerNorm"), eps=1e-12
        )
        for layer in range(2):
            stem = f"speech_Qformer.bert.encoder.layer.{layer}"
            state = attend(state, state, tensors, f"{stem}.attention")
            state = attend(state, frames[start : start + 17], tensors, f"{stem}.crossattention")
            fed = F.gelu(F.linear(state, *of(tensors, f"{stem}.intermediate_query.dense")))
            fed = F.linear(fed, *of(tensors, f"{stem}.output_query.dense"))
            state = F.layer_norm(
                fed + state, (HIDDEN,), *of(tensors, f"{stem}.output_query.LayerNorm"), eps=1e-12
            )
        tokens.append(F.linear(state, *of(tensors, "speech_llama_proj")))
    return torch.cat(tokens)


@torch.inference_mode()
def test_what_it_hears_and_scores_is_the_published_forward_pass(folder: Path, salmonn: SalmonnSystem) -> None:
    clip, prompt = tone(1500, 2.0), "What is it?"
    sound = heard_plainly(folder, clip)
    assert sound.shape == (8 * QUERIES, WIDTH)
    np.testing.assert_allclose(salmonn._ear([clip])[0].numpy(), sound.numpy(), atol=2e-4)

    llm = LlamaForCausalLM.from_pretrained(folder / "vicuna").eval()
    tensors = bridge()
    for layer, block in enumerate(llm.model.layers):
        for place in ("q_proj", "v_proj"):
            stem = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{place}"
            change = tensors[f"{stem}.lora_B.default.weight"] @ tensors[f"{stem}.lora_A.default.weight"]
            getattr(block.self_attn, place).weight += 32 / RANK * change
    tokenizer = byte_tokenizer(["<unk>", "<s>", "</s>"], bos_token="<s>", eos_token="</s>")

    def embedded(text: str, *start: int) -> Tensor:
        return llm.model.embed_tokens(
            torch.tensor([*start, *tokenizer(text, add_special_tokens=False)["input_ids"]])
        )

    turn = torch.cat([embedded("USER: <Speech>", 1), sound, embedded(f"</Speech> {prompt}\nASSISTANT:")])
    likely = []
    for label in LABELS:
        ids = [*tokenizer(label)["input_ids"], 2]
        logits = llm(inputs_embeds=torch.cat([turn, llm.model.embed_tokens(torch.tensor(ids))])[None]).logits[
            0
        ]
        steps = logits[len(turn) - 1 : -1].log_softmax(-1)
        likely.append(sum(float(steps[at, token]) for at, token in enumerate(ids)))
    (answer,) = salmonn.answer([an_item(0, clip, prompt=prompt, labels=LABELS)])
    assert answer.scores is not None
    np.testing.assert_allclose(
        list(answer.scores.values()), torch.tensor(likely).softmax(0).numpy(), atol=1e-3
    )

    beams = llm.generate(
        inputs_embeds=turn[None], num_beams=4, do_sample=False, max_new_tokens=5, pad_token_id=2
    )
    assert answer.prediction == tokenizer.decode(beams[0], skip_special_tokens=True).strip()


def test_adapter_is_scaled_by_its_alpha(folder: Path, salmonn: SalmonnSystem) -> None:
    bare = SalmonnSystem(folder, SalmonnOptions(**OPTIONS, lora_alpha=0.0), device="cpu")
    with_adapter, without = (system.answer(items()[:1])[0].scores or {} for system in (salmonn, bare))
    assert np.abs(np.log(list(with_adapter.values())) - np.log(list(without.values()))).max() > 0.01


def test_parts_may_lie_elsewhere_and_it_goes_by_name(folder: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(folder / "salmonn_v1.pth", tmp_path / "mine.pth"))
    settings = {"whisper": str(folder / "whisper"), "vicuna": str(folder / "vicuna"), "num_beams": "1"}
    around = Surroundings(
        device="cpu", settings={**settings, "beats": str(folder / "BEATs_tiny.pt"), "max_new_tokens": "2"}
    )
    system = open_registered(f"salmonn={alone}", around)
    assert system is not None and "1 beams" in system.info.note
    assert len(system.answer(items()[:1])) == 1
    with pytest.raises(CheckpointError, match=r"0 files \*\.pt there; say which is BEATs' \.pt"):
        open_registered(f"salmonn={alone}", Surroundings(settings=settings))


def test_question_with_a_token_of_its_own_is_refused(salmonn: SalmonnSystem) -> None:
    for text in ("<SpeechHere>", "Owl</s>"):
        with pytest.raises(QuestionError, match="row-3: the question holds a token"):
            salmonn.answer([an_item(3, prompt=text)])


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("should-not-exist"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {**bridge(), "x": Evil()}}, "refused, since it holds objects"),
        ({"weights": {}}, "not a SALMONN checkpoint"),
        ({"model": {"ln_speech.weight": 3}}, "not a SALMONN checkpoint"),
        ([1], "not a SALMONN checkpoint"),
        (b"no zip", "not a readable .pth file|refused"),
        ({"model": {"ln_speech.weight": torch.ones(SPEECH)}}, "tensors missing"),
        ({"model": {**bridge(), "head.weight": torch.ones(1)}}, "does not have: head.weight"),
        ({"model": {**bridge(), "ln_audio.weight": torch.ones(3)}}, "its ln_audio does not fit"),
        ({"model": {**bridge(), "speech_llama_proj.weight": torch.ones(7, HIDDEN)}}, "its Q-Former does not fit"),
        (
            {
                "model": {
                    **bridge(),
                    "llama_model.base_model.model.model.layers.7.self_attn.q_proj.lora_A.default.weight": torch.ones(4, 32),
                    "llama_model.base_model.model.model.layers.7.self_attn.q_proj.lora_B.default.weight": torch.ones(32, 4),
                }
            },
            "adapter of model.layers.7.self_attn.q_proj.weight does not fit",
        ),
        (
            {"model": {n: t for n, t in bridge().items() if "layers.0.self_attn.q_proj.lora_B" not in n}},
            "tensors missing model.layers.0.self_attn.q_proj.weight",
        ),
    ],
)  # fmt: skip
def test_false_checkpoints_are_refused_and_run_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    parts = {"whisper": folder / "whisper", "vicuna": folder / "vicuna", "beats": folder / "BEATs_tiny.pt"}
    with pytest.raises(CheckpointError, match=rf"bad\.pth: .*({message})"):
        SalmonnSystem(path, SalmonnOptions(**parts), device="cpu")
    assert not (tmp_path / "should-not-exist").exists()


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"say which is SALMONN's \.pth"):
        SalmonnSystem(tmp_path)
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    shutil.rmtree(copied / "whisper")
    with pytest.raises(CheckpointError, match=r"whisper: no config\.json .* Whisper"):
        SalmonnSystem(copied, device="cpu")
    (copied / "vicuna" / "model.safetensors").unlink()
    torch.save({}, copied / "vicuna" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        SalmonnSystem(copied, device="cpu")
    with pytest.raises(ValueError, match="at least 1"):
        SalmonnOptions(num_beams=0)
