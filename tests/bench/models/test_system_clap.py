"""CLAP: a small random model through the code that opens the real one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ClapModel, ClapProcessor

from bench.models.bench_items import an_item, same_in_any_order_and_batch, tone
from bench.models.tiny_clap import save_clap
from naturelm.bench.models.clap import ClapOptions, ClapSystem
from naturelm.bench.models.deciding import UnanswerableError
from naturelm.bench.models.registry import Surroundings, open_registered
from naturelm.errors import CheckpointError

RATE = 48_000
LABELS = ("Owl", "Dog", "Sea_lion")


@pytest.fixture(scope="module", params=[False, True], ids=["rand_trunc", "fusion"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap"), fusion=request.param)


def test_answers_are_the_same_in_any_batch_and_each_time(folder: Path) -> None:
    items = [
        an_item(0, tone(600, 0.4, rate=RATE), sample_rate=RATE, labels=LABELS),
        an_item(1, tone(2600, 1.0), labels=LABELS[::-1]),
        an_item(2, tone(4000, 2.5, rate=RATE), sample_rate=RATE, labels=(*LABELS, "None"), task="detection"),
    ]
    system = ClapSystem(folder, device="cpu")
    answers = same_in_any_order_and_batch(system, items)
    for answer in answers[:2]:
        assert answer.scores is not None and sum(answer.scores.values()) == pytest.approx(1)
        assert max(answer.scores, key=answer.scores.get) == answer.prediction  # type: ignore[arg-type]
    assert list(answers[2].scores or ()) == list(LABELS)
    scores = [answer.scores["Owl"] for answer in system.answer([replace(item, task="") for item in items])]
    assert np.ptp(scores) > 0.01  # it hears
    assert all(np.ptp(list((answer.scores or {}).values())) > 0.01 for answer in answers[:2])  # and reads


def test_scores_are_those_of_the_model_called_plainly(folder: Path) -> None:
    system = ClapSystem(folder, ClapOptions(template="Hear {label}!"), device="cpu")
    clip = tone(900, 1.0, rate=RATE)
    (answer,) = system.answer([an_item(waveform=clip, sample_rate=RATE, labels=LABELS)])
    model, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
    texts = [f"Hear {label}!" for label in ("Owl", "Dog", "Sea lion")]
    inputs = processor(text=texts, audio=[clip], sampling_rate=RATE, return_tensors="pt", padding=True)
    inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
    with torch.inference_mode():
        logits = model(**inputs).logits_per_audio[0]
    assert answer.scores is not None
    np.testing.assert_allclose(list(answer.scores.values()), logits.softmax(0).numpy(), atol=1e-5)


def test_long_clip_is_its_windows_pooled_and_detection_is_their_likeness(folder: Path) -> None:
    labels = (*LABELS, "None")
    clip = tone(900, 2.0, rate=RATE)
    halves = [
        an_item(n, half, sample_rate=RATE, labels=labels, task="detection")
        for n, half in enumerate(np.split(clip, 2))
    ]
    whole = an_item(3, clip, sample_rate=RATE, labels=labels, task="detection")
    for pool, of in (("max", np.max), ("mean", np.mean)):
        system = ClapSystem(folder, ClapOptions(pool=pool, threshold=0.0), device="cpu")  # type: ignore[arg-type]
        (long,) = system.answer([whole])
        parts = system.answer(halves)
        assert long.scores is not None
        for label in LABELS:
            likeness = [part.scores[label] for part in parts if part.scores]
            if min(likeness) > 0:
                assert long.scores[label] == pytest.approx(of(likeness), abs=1e-5)
    (none,) = ClapSystem(folder, ClapOptions(threshold=1.01), device="cpu").answer([whole])
    assert none.prediction == "None"


def test_what_it_cannot_do(folder: Path) -> None:
    system = ClapSystem(folder, device="cpu")
    with pytest.raises(UnanswerableError, match="calls: CLAP"):
        system.answer([an_item(labels=())])
    for fields in ({"template": "a sound"}, {"pool": "sum"}):
        with pytest.raises(ValueError, match=r"\{label\}|max or mean"):
            ClapOptions(**fields)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="no device"):
        ClapSystem(folder, device="toaster")


def test_by_name_biolingual_has_its_own_sentence(folder: Path) -> None:
    for name, sentence in (("clap", "This is a sound of {label}."), ("biolingual", "Sound of a {label}.")):
        system = open_registered(f"{name}={folder}", Surroundings(device="cpu"))
        assert system is not None and sentence in system.info.note
        assert len(system.info.revision) == 12
    assert system.info.name == "BioLingual"


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "broken"))


def test_folder_that_is_not_there_or_of_another_model(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent: no config\.json"):
        ClapSystem(tmp_path / "absent")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(CheckpointError, match="is of a 'llama', not of CLAP"):
        ClapSystem(broken)
    for text in ("{", "[]", "[" * 100_000):
        (broken / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match="names no model_type"):
            ClapSystem(broken)


def test_weights_in_part_damaged_or_pickled_are_refused(broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = broken / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if name.startswith("audio_projection"))
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"tensors missing {name}"):
        ClapSystem(broken)
    weights.write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="not a whole CLAP checkpoint"):
        ClapSystem(broken)
    weights.unlink()
    torch.save({}, broken / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        ClapSystem(broken)


def test_processor_that_is_missing_is_named(broken: Path) -> None:
    for file in [*broken.glob("*processor*"), *broken.glob("tokenizer*")]:
        file.unlink()
    with pytest.raises(CheckpointError, match="broken: not a whole CLAP checkpoint"):
        ClapSystem(broken)
