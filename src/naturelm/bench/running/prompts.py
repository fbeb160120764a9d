"""In how many ways a question is put: other wordings, and the same options in another order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naturelm.bench.running.journal import RunError
from naturelm.bench.suites.suite import SuiteRow

OWN = "own"
"""The questions as the suite has them."""
_PROMPT, _OPTIONS = "{prompt}", "{options}"


@dataclass(frozen=True)
class Variant:
    """One way to put the questions."""

    wording: int = 0
    """0: the suite's own; others count the wordings that were given."""
    order: int = 0
    """0: options as they stand; others count shuffles."""
    template: str = _PROMPT
    seed: int = 0

    @property
    def name(self) -> str:
        """For files and tables."""
        wording = f"wording{self.wording}" if self.wording else OWN
        return f"{wording}-order{self.order}" if self.order else wording

    def prompt(self, row: SuiteRow, labels: Sequence[str]) -> str:
        """The question to a row. labels: its closed set, which the template may list."""
        listed = ", ".join(self._shuffled(row, labels))
        own = row.prompt
        options = ", ".join(row.options)
        if self.order and options and options in own:
            own = own.replace(options, ", ".join(self._shuffled(row, row.options)))
        # One pass, so that braces within a question are not taken for places of the template.
        filled = {_PROMPT: own, _OPTIONS: listed}
        return re.sub(r"\{prompt\}|\{options\}", lambda place: filled[place[0]], self.template)

    def _shuffled(self, row: SuiteRow, labels: Sequence[str]) -> list[str]:
        if not self.order:
            return list(labels)
        rng = np.random.default_rng([self.seed, self.order, *row.dataset_name.encode(), *row.id.encode()])
        return [labels[place] for place in rng.permutation(len(labels))]


def variants_of(wordings: Sequence[str], orders: int, seed: int) -> tuple[Variant, ...]:
    """The suite's own wording first, then each wording, then all of them with shuffled options.

    wordings: templates, in which `{prompt}` is the suite's own question and `{options}` the closed set. Raises RunError
    for one that is empty or given twice.
    """
    templates = [_PROMPT, *(text.strip() for text in wordings)]
    if "" in templates:
        raise RunError("a wording is empty; write a question, with {prompt} or {options} where they go")
    twice = next((text for text in templates if templates.count(text) > 1), None)
    if twice is not None:
        raise RunError(f"the wording {twice!r} is there twice; give each once")
    return tuple(
        Variant(wording, order, template, seed)
        for order in range(orders + 1)
        for wording, template in enumerate(templates)
    )


def asked_rows(
    variant: Variant, rows: Sequence[SuiteRow], labels: Sequence[Sequence[str]]
) -> list[tuple[SuiteRow, str]]:
    """The rows that a variant asks, with their questions; those that it leaves as they were are not asked again."""
    is_first = variant.name == OWN
    before = Variant(variant.wording, 0, variant.template) if variant.order else Variant()
    asked = []
    for row, own in zip(rows, labels, strict=True):
        prompt = variant.prompt(row, own)
        if is_first or prompt != before.prompt(row, own):
            asked.append((row, prompt))
    return asked
