"""A fresh audio side before any causal language model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from naturelm.errors import CheckpointError
from naturelm.model.building import new_model
from tiny import LORA, noise, save_tiny_llm, tiny_beats_config, tiny_projector_config, tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def parts() -> dict:
    return {
        "audio_config": tiny_beats_config(),
        "projector_config": tiny_projector_config(),
        "lora": dict(LORA),
    }


def add_chat_template(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def test_takes_weights_and_prompt_from_the_language_model(tmp_path: Path) -> None:
    save_tiny_llm(tmp_path)
    add_chat_template(tmp_path)
    model, processor = new_model(str(tmp_path), **parts())
    assert model.config.prompt_template.endswith("user\n{}<|im_end|>\n<|im_start|>assistant\n")
    assert model.config.end_of_answer == "<|im_end|>"

    # An untrained LoRA adds nothing: the language model answers text as it did.
    bare = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 9, 17, 33]])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(input_ids=ids).logits, bare(ids).logits)

    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".lora_" in name for name in trained if name.startswith("language_model."))
    model(**processor("What is it?", [noise(1.0)], answers=["Dog"])).loss.backward()
    assert all(p.grad is None for n, p in model.language_model.named_parameters() if ".lora_" not in n)


def test_a_language_model_of_another_kind_fits(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4)).save_pretrained(tmp_path)
    add_chat_template(tmp_path)
    options = parts() | {"lora": {"r": 2, "lora_alpha": 4, "target_modules": ["c_attn"]}}
    model, processor = new_model(str(tmp_path), **options)
    output = model(
        **processor(["What is it?", "And this?"], [noise(1.0), noise(2.0)], answers=["Dog", "Cat"])
    )
    assert torch.isfinite(output.loss)


def test_without_a_chat_template_the_prompt_must_be_given(tmp_path: Path) -> None:
    save_tiny_llm(tmp_path)
    with pytest.raises(CheckpointError, match="no chat template"):
        new_model(str(tmp_path), **parts())
    model, _ = new_model(str(tmp_path), **parts(), prompt_template="Q: {} A:", end_of_answer="<|im_end|>")
    assert model.config.prompt_template == "Q: {} A:"


def test_a_template_of_ones_own_ends_as_the_language_model_ends(tmp_path: Path) -> None:
    save_tiny_llm(tmp_path)
    model, _ = new_model(str(tmp_path), prompt_template="Q: {}\nA: ", **parts())
    assert (model.config.prompt_template, model.config.end_of_answer) == ("Q: {}\nA: ", "<|im_end|>")
