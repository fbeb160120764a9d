"""Every kind of sound that a recording can have, and its text form in a build's own files."""

from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from naturelm.corpus.recordings import Sound
from naturelm.errors import NatureLMError

# Only these are ever made from text: a build's files may have been written by someone else.
_KINDS = {
    "FileSound": "naturelm.corpus.recordings",
    "ParquetSound": "naturelm.corpus.sources.naturelm_training",
    "FaunaSound": "naturelm.corpus.starter.fauna_source",
    "NoiseSound": "naturelm.corpus.starter.noise",
}


def sound_to_json(sound: Sound) -> dict[str, Any]:
    """Fields of a sound, with its kind."""
    kind = type(sound).__name__
    if kind not in _KINDS:
        raise TypeError(f"{kind} is no known kind of sound; list it in {__name__}")
    values = asdict(sound)  # type: ignore[call-overload]
    return {"kind": kind} | {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}


def sound_from_json(values: dict[str, Any]) -> Sound:
    """The sound that `sound_to_json` wrote. NatureLMError for a kind that is not known here."""
    fields = dict(values)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise NatureLMError(f"{kind!r} is no known kind of sound; build the corpus anew with --fresh")
    made = getattr(import_module(_KINDS[kind]), kind)
    if "path" in fields:
        fields["path"] = Path(fields["path"])
    sound: Sound = made(**fields)
    return sound
