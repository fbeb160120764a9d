"""Rows that will be built: which stretch of which sound, and what is right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from naturelm.corpus.recordings import Sound
from naturelm.errors import NatureLMError


class BuildError(NatureLMError):
    """Data that cannot be built from; the text names the file and the cure."""


@dataclass(frozen=True)
class PlannedRow:
    """One row, without its sound."""

    id: str
    sound: Sound
    start: float
    """Seconds into the sound."""
    end: float | None
    """None: its end."""
    output: str
    recording: str
    """What the row's interval is drawn by: the file or recording that the stretch is of."""
    file_name: str
    license: str
    created_at: str = ""


@dataclass(frozen=True)
class Planned:
    """Rows of one component, and what was in their way."""

    rows: tuple[PlannedRow, ...]
    faults: tuple[str, ...] = ()
    note: str = ""
    """Why there are fewer than expected, where that is known."""


def windows(duration: float, window: float, hop: float) -> list[float]:
    """Starts, in seconds, of the whole windows of a sound. A sound shorter than a window has none.

    A thousandth of a second short counts as whole: files are cut to a sample, and lengths rounded.
    """
    if not duration >= window - 1e-3:
        return []
    return [hop * number for number in range(int((duration - window + 1e-3) / hop) + 1)]


PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        "esc50": "What is the sound in the audio?",
        "watkins": "What is the common name for the focal species in the audio?",
        "cbi": "What is the common name for the focal species in the audio?",
        "humbugdb": "Which mosquito species, if any, is heard in the audio?",
        "enabirds": "What are the common names for the bird species in the audio, if any?",
        "hiceas": "Is a minke whale heard in the audio? Answer Minke whale or None.",
        "rfcx": "What are the common names for the species in the audio, if any?",
        "gibbons": "Which gibbon calls, if any, are heard in the audio?",
        "dcase": "Which animals or calls, if any, are heard in the audio?",
        "lifestage": "What is the life stage of the focal species in the audio?",
        "call-type": "What call type is heard from the focal species in the audio?",
        "captioning": "Caption the audio, using the common name for any animal species.",
        "zf-indiv": "Is one zebra finch calling in the audio, or more? Answer One or More.",
        **{
            f"unseen-{rank}-{kind}": f"What is the {name} for the focal species in the audio?"
            for rank in ("species", "genus", "family")
            for kind, name in (("cmn", "common name"), ("sci", "scientific name"), ("tax", "taxonomic name"))
        },
    }
)
"""Questions of built rows, in this project's words: those of the published rows are not restated here."""


def event_labels(
    start: float, end: float, events: Sequence[tuple[float, float, str]], order: Sequence[str]
) -> str:
    """The labels of a window, in the order of the labels, with commas between; `None` for none.

    An event counts where it overlaps with more than a fifth of itself or of the window, whichever is shorter, as in
    BEANS (Hagiwara et al. 2023). One without length counts nowhere.
    """
    found = set()
    for begins, ends, label in events:
        shorter = min(end - start, ends - begins)
        if shorter > 0 and (min(end, ends) - max(start, begins)) / shorter > 0.2:
            found.add(label)
    return ", ".join(label for label in order if label in found) or "None"
