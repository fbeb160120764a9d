"""Corpora in which one fault at a time is planted, and what a check says of them."""

import dataclasses
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from corpora import AUDIO_PLACE, BLACKBIRD, RATE, THRUSH, a_pair, chirps, write_corpus

from naturelm.audio import read_audio
from naturelm.corpus.check import CheckReport
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.schema import Pair
from naturelm.corpus.taxonomy import Taxon

OWL = Taxon(
    "Strix aluco",
    common_name="Tawny Owl",
    genus="Strix",
    family="Strigidae",
    synonyms=("Syrnium aluco",),
    other_names=("brown owl", "owl"),
)
BARN_OWL = Taxon("Tyto alba", common_name="Barn Owl", genus="Tyto", family="Tytonidae")
TAXA = (BLACKBIRD, THRUSH, OWL, BARN_OWL)
HELD_OUT = {"species": ["Strix aluco"], "genera": [], "families": []}


def with_options(pair: Pair, *options: str) -> Pair:
    text = f"Which of these, if any, are present in the audio recording? {', '.join(options)}"
    return dataclasses.replace(
        pair, options=options, instruction_text=text, instruction=AUDIO_PLACE + text, task="detection-options"
    )


def named(pair: Pair, *labels: str) -> Pair:
    return dataclasses.replace(pair, labels=labels, output=", ".join(labels) or "None")


@cache
def made_once() -> tuple[Pair, ...]:
    """Ten rows without a fault: open questions and lists, silence, several animals, synthetic ones, a held-out owl."""
    silence = named(a_pair(3, samples=np.zeros(RATE, np.float32), taxa=()))
    nothing: dict[str, Any] = {"recordings": (), "source_files": (), "groups": (), "recordists": ()}
    invented: dict[str, Any] = {"taxa": ("Fauna inventa",), "recordists": ("synthesiser",)}
    return (
        a_pair(0, samples=chirps(2, seed=0)),
        with_options(a_pair(1, samples=chirps(2, seed=1)), "Song Thrush", "Common Blackbird"),
        with_options(named(a_pair(2, samples=chirps(2, seed=2))), "Barn Owl", "Song Thrush"),
        dataclasses.replace(silence, **nothing),
        named(a_pair(4, samples=chirps(2, seed=4), taxa=("Turdus merula", "Tyto alba")), "Common Blackbird", "Barn Owl"),
        a_pair(5, samples=chirps(2, seed=99), recordings=("fauna:5",), groups=("fauna:5",), **invented),
        a_pair(6, "validation", samples=chirps(2, seed=6)),
        a_pair(7, "test", samples=chirps(2, seed=7)),
        named(a_pair(8, "test", samples=chirps(2, seed=8), taxa=("Strix aluco",), recordists=("Recordist train 0",)), "Owl"),
        a_pair(9, "test", samples=chirps(2, seed=99), recordings=("fauna:9",), groups=("fauna:9",), **invented),
    )  # fmt: skip


def clean_pairs() -> list[Pair]:
    """The clean rows, to be changed."""
    return list(made_once())


def changed(pairs: list[Pair], number: int, **values: object) -> list[Pair]:
    """The pairs, one of them with other values."""
    pairs[number] = dataclasses.replace(pairs[number], **values)  # type: ignore[arg-type]
    return pairs


def write(folder: Path, pairs: list[Pair], **manifest: object) -> Path:
    return write_corpus(folder, pairs, taxa=TAXA, **{"held_out": HELD_OUT, **manifest})  # type: ignore[arg-type]


def failing(report: CheckReport) -> list[str]:
    """Checks that found something; the report must agree with itself."""
    found = [check.name for check in report.checks if check.found]
    assert found == list(dict.fromkeys(finding.check for finding in report.findings))
    assert report.ok == (not found)
    assert all(finding.where and finding.what and finding.cure for finding in report.findings)
    return found


def only_finding(report: CheckReport, check: str) -> str:
    """Where and what of the one finding that there should be."""
    assert failing(report) == [check], report.findings
    (finding,) = report.findings
    return f"{finding.where}: {finding.what}"


def re_encoded(samples: FloatArray, *, gain: float = 0.6, late: float = 0.2) -> FloatArray:
    """The sound after Ogg Vorbis at 44.1 kHz, quieter, and begun a little later."""
    import soxr

    buffer = BytesIO()
    sf.write(buffer, soxr.resample(samples[round(late * RATE) :] * gain, RATE, 44100), 44100, format="OGG")
    return read_audio(buffer.getvalue(), sample_rate=RATE)
