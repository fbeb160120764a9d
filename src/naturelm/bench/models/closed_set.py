"""A classifier with labels of its own, asked about the labels of data sets."""

from collections.abc import Sequence
from threading import Lock

from naturelm.bench.models.base import BenchAnswer, BenchItem
from naturelm.bench.models.deciding import UnanswerableError, answer_by_scores, named_labels
from naturelm.bench.models.names import LabelNames, Mapped, SystemLabel
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.taxonomy import Taxonomy

_LISTED = 8
"""Unknown labels that a note names one by one."""


class ClosedSets:
    """The closed sets that a classifier was asked about, each mapped to its labels once."""

    def __init__(self, system: str, labels: Sequence[SystemLabel], taxonomy: Taxonomy | None = None) -> None:
        """system: its name, for messages. labels: in the order of its scores. taxonomy: see `LabelNames`."""
        self._system = system
        self._names = LabelNames(labels, taxonomy)
        self._mapped: dict[tuple[str, tuple[str, ...]], Mapped] = {}
        self._lock = Lock()

    def mapped(self, item: BenchItem) -> Mapped:
        """The labels of an item's data set.

        Raises UnanswerableError where there is no closed set, or none of its labels is known.
        """
        labels = named_labels(item, self._system)
        key = (item.dataset_name, labels)
        with self._lock:
            if key not in self._mapped:
                self._mapped[key] = self._names.map(labels)
            found = self._mapped[key]
        if not found.known:
            some = ", ".join(found.unknown[:3])
            raise UnanswerableError(
                f"{item.dataset_name}: {self._system} has no name for any of its {len(labels)} labels ({some}, ...); "
                "it is not made for this data set"
            )
        return found

    def check(self, batch: Sequence[BenchItem]) -> None:
        """Raises UnanswerableError, before anything is heard, if an item cannot be answered."""
        for item in batch:
            self.mapped(item)

    def answer(self, batch: Sequence[BenchItem], scores: FloatArray, threshold: float) -> list[BenchAnswer]:
        """Answers from (items, classifier's labels) scores; see `answer_by_scores`.

        A label that stands for several of the classifier's has the highest of their scores; one that it has no
        name for has 0.
        """
        return [self._answer(item, row, threshold) for item, row in zip(batch, scores, strict=True)]

    def _answer(self, item: BenchItem, row: FloatArray, threshold: float) -> BenchAnswer:
        places = self.mapped(item).places
        names = named_labels(item, self._system)
        scores = {
            label: max(float(row[place]) for place in places[label]) if label in places else 0.0
            for label in names
        }
        return answer_by_scores(item, scores, threshold)

    def notes(self) -> list[str]:
        """A line a data set, on how many of its labels were known, and which were not."""
        with self._lock:
            # Rows that offer options of their own make many sets of one data set.
            by_name: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
            for (name, _), found in self._mapped.items():
                known, unknown = by_name.setdefault(name, ({}, {}))
                known.update(dict.fromkeys(found.places))
                unknown.update(dict.fromkeys(found.unknown))
        return [_note(name, len(known), list(unknown)) for name, (known, unknown) in sorted(by_name.items())]


def _note(name: str, known: int, unknown: Sequence[str]) -> str:
    told = f"{name}: {known} of {known + len(unknown)} labels known"
    if not unknown:
        return told
    more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
    return f"{told}, not {', '.join(unknown[:_LISTED])}{more}"
