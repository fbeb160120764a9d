"""Names that the command line knows. Nothing is imported here, so that `--help` is quick."""

from enum import StrEnum


class Preset(StrEnum):
    """Questions that go by a name."""

    SPECIES = "species"
    CAPTION = "caption"
    CALL_TYPE = "call-type"
    LIFE_STAGE = "life-stage"
    COUNT = "count"


class Format(StrEnum):
    """Tables that events are written as."""

    CSV = "csv"
    RAVEN = "raven"
    AUDACITY = "audacity"
    KALEIDOSCOPE = "kaleidoscope"
    JSONL = "jsonl"


class Spread(StrEnum):
    """How a scan is spread over processes."""

    LOCAL = "local"
    RAY = "ray"
