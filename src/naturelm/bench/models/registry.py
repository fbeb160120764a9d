"""The systems that go by a name, beside NatureLM-audio itself. Imports no system before it is opened.

A system is written `NAME` or `NAME=PLACE`, such as `random`, `birdnet` or `clap=models/clap`. `http://...` and
`https://...` are a server that keeps `predictions_v1`, `module:function` is a Python function.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from naturelm.bench.models.base import BenchModel
from naturelm.errors import NatureLMError

Options = TypeVar("Options")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class UnknownSystemError(NatureLMError):
    """A system that goes by no known name, lacks what it needs, or has no such setting."""


@dataclass(frozen=True)
class Surroundings:
    """What a system may need of the run that it is opened for."""

    corpus: Path | None = None
    """Whose training rows a floor learns from."""
    answers: Callable[[], Iterable[tuple[str, str]]] | None = None
    """Data set and right answer of every row of the suite, read only for the floor that counts them."""
    seed: int = 0
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`; the GPU if there is one when None."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the system's own options, such as `threshold`, as they are typed."""


@dataclass(frozen=True)
class KnownSystem:
    """How a system is named and opened."""

    name: str
    place: str
    """What follows its name and `=`: `folder`, `file`, `URL`; empty where nothing does."""
    summary: str
    open: Callable[[str, Surroundings], BenchModel] = field(repr=False)


def open_registered(spec: str, around: Surroundings | None = None) -> BenchModel | None:
    """The system that a text names, loaded; None if it is none of these, so that NatureLM-audio may be meant.

    Raises NatureLMError for a system that lacks its place or a setting, and what the system itself raises.
    """
    around = around or Surroundings()
    if spec.startswith(("http://", "https://")):
        return _http(spec, around)
    name, equals, place = spec.partition("=")
    known = SYSTEMS.get(name)
    if known is None:
        # A folder may be called anything.
        return _callable(spec, around) if _FUNCTION.fullmatch(spec) and not Path(spec).exists() else None
    if bool(known.place) != bool(place) or bool(equals) != bool(place):
        how = f"{name}={known.place.upper()}" if known.place else name
        raise UnknownSystemError(f"{spec}: the system {name} is written {how}")
    return known.open(place, around)


def made(options: type[Options], settings: Mapping[str, str]) -> Options:
    """An options dataclass from settings as they are typed.

    Raises UnknownSystemError, naming the settings there are, for an unknown one or a value that it cannot have.
    """
    kinds: dict[str, Any] = {each.name: each.type for each in fields(options)}  # type: ignore[arg-type]
    unknown = sorted(set(settings) - set(kinds))
    if unknown:
        raise UnknownSystemError(f"no setting is called {unknown[0]!r}; there are: {', '.join(kinds)}")
    values = {}
    for name, text in settings.items():
        try:
            values[name] = _value(str(getattr(kinds[name], "__name__", kinds[name])), text)
        except ValueError as error:
            raise UnknownSystemError(f"{name} cannot be {text!r} ({error})") from error
    try:
        return options(**values)
    except ValueError as error:
        raise UnknownSystemError(str(error)) from error


def _value(kind: str, text: str) -> Any:
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError("it is true or false")
        return text.lower() == "true"
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    return Path(text) if "Path" in kind else text


def _random(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.floors import RandomLabel

    _no_settings("random", around)
    return RandomLabel(around.seed)


def _most_frequent(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.floors import MostFrequentLabel

    _no_settings("most-frequent", around)
    if around.corpus is not None:
        return MostFrequentLabel.from_corpus(around.corpus)
    if around.answers is None:
        raise UnknownSystemError(
            "most-frequent: give a corpus with training rows, or a suite with right answers"
        )
    return MostFrequentLabel.from_answers(around.answers())


def _log_mel(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.floors import LogMelFloor

    _no_settings("log-mel", around)
    if around.corpus is None:
        raise UnknownSystemError("log-mel: give the corpus whose training rows it learns from")
    return LogMelFloor(around.corpus)


def _birdnet(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.birdnet import BirdNetOptions, BirdNetSystem

    return BirdNetSystem(made(BirdNetOptions, around.settings))


def _clap(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.clap import ClapOptions, ClapSystem

    return ClapSystem(place, made(ClapOptions, around.settings), device=around.device)


def _biolingual(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.clap import BIOLINGUAL, ClapOptions, ClapSystem

    settings = {"template": BIOLINGUAL.template, **around.settings}
    return ClapSystem(place, made(ClapOptions, settings), name="BioLingual", device=around.device)


def _perch(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.perch import PerchOptions, PerchSystem

    return PerchSystem(place, made(PerchOptions, around.settings))


def _qwen2_audio(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.audio_chat import ChatOptions
    from naturelm.bench.models.qwen_audio import open_qwen2_audio

    return open_qwen2_audio(place, made(ChatOptions, around.settings), device=around.device)


def _audio_flamingo(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.audio_chat import ChatOptions
    from naturelm.bench.models.audio_flamingo import open_audio_flamingo_3

    return open_audio_flamingo_3(place, made(ChatOptions, around.settings), device=around.device)


def _salmonn(place: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.salmonn import SalmonnOptions, SalmonnSystem

    return SalmonnSystem(place, made(SalmonnOptions, around.settings), device=around.device)


def _http(url: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.http import HttpOptions, HttpSystem

    return HttpSystem(url, made(HttpOptions, around.settings))


def _callable(name: str, around: Surroundings) -> BenchModel:
    from naturelm.bench.models.callable import CallableSystem

    _no_settings(name, around)
    return CallableSystem.named(name)


def _no_settings(name: str, around: Surroundings) -> None:
    if around.settings:
        raise UnknownSystemError(f"{name} has no settings, and so no {next(iter(around.settings))!r}")


SYSTEMS: Mapping[str, KnownSystem] = MappingProxyType(
    {
        known.name: known
        for known in (
            KnownSystem("random", "", "one label of the closed set, by chance", _random),
            KnownSystem(
                "most-frequent",
                "",
                "the most frequent right answer: of a corpus's training rows, or else of the suite itself",
                _most_frequent,
            ),
            KnownSystem(
                "log-mel",
                "",
                "log-mel statistics and logistic regression, on a corpus's training rows",
                _log_mel,
            ),
            KnownSystem(
                "birdnet", "", "BirdNET 2.4; fetch it with `naturelm models fetch birdnet`", _birdnet
            ),
            KnownSystem("clap", "folder", "LAION's CLAP, or another transformers ClapModel", _clap),
            KnownSystem(
                "biolingual", "folder", "BioLingual: CLAP with the sentence it was taught", _biolingual
            ),
            KnownSystem("perch", "path", "Perch 2, from a SavedModel's folder or an ONNX file", _perch),
            KnownSystem("qwen2-audio", "folder", "Qwen2-Audio, an audio language model", _qwen2_audio),
            KnownSystem("audio-flamingo-3", "folder", "Audio Flamingo 3, a newer one", _audio_flamingo),
            KnownSystem("salmonn", "path", "SALMONN, from its published .pth and its parts", _salmonn),
        )
    }
)
