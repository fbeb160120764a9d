"""What experiments found, as files: experiments.json and experiments.md."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from naturelm.bench.comparing import Evidence
from naturelm.bench.experiments import MOST_CHOSEN_FROM, Outcome, Plan
from naturelm.bench.questions import FULL, answer_questions, findings_to_json, findings_to_markdown
from naturelm.corpus.storage import write_text
from naturelm.errors import NatureLMError

FINDINGS = "experiments.json"
PAGE = "experiments.md"
_TITLE = "Four questions of the NatureLM-audio paper, on a small world"


def write_findings(plan: Plan, outcome: Outcome) -> list[Path]:
    """Write experiments.json and experiments.md from all that was scored; returns the two.

    Raises NatureLMError where they cannot be written.
    """
    out = plan.options.out
    findings = answer_questions(Evidence(outcome.scores))
    values = _circumstances(plan, outcome)
    try:
        write_text(out / FINDINGS, findings_to_json(findings, values))
        page = findings_to_markdown(findings, title=_TITLE, circumstances=_lines(values))
        write_text(out / PAGE, page)
    except OSError as error:
        raise NatureLMError(f"{out}: cannot be written to ({error}); name another folder") from error
    return [out / FINDINGS, out / PAGE]


def _circumstances(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """Under which the numbers came about, as plain values."""
    options, arm = plan.options, next(run for run in plan.runs if run.name == FULL)
    unanswered = sum(bool(answer.error) for run in outcome.scores for answer in run.answers)
    return {
        "corpus": options.corpus.resolve().name,
        "corpus_hash": plan.corpus_hash,
        "seeds": options.seeds,
        "start": "a first stage for each seed" if options.start is None else options.start.resolve().name,
        "steps": arm.options.steps,
        "batch_size": arm.options.batch_size,
        "changes": list(options.changes),
        "rows_of_a_component": "all" if options.limit is None else f"at most {options.limit}",
        "chosen_from": f"closed sets of up to {MOST_CHOSEN_FROM} labels",
        "scored": [f"seed {run.seed}: {run.arm}" for run in outcome.scores],
        "unanswered_rows": unanswered,
        "failures": [asdict(failure) for failure in outcome.failures],
        "stopped_early": outcome.stopped,
        "notes": list(plan.notes),
    }


def _lines(values: dict[str, Any]) -> list[str]:
    """The same to read."""
    seeds = "1 seed" if values["seeds"] == 1 else f"{values['seeds']} seeds"
    changes = f", with {', '.join(values['changes'])}" if values["changes"] else ""
    lines = [
        f"corpus {values['corpus']} (build {values['corpus_hash'][:12]}); {seeds}; start: {values['start']}",
        f"each arm: {values['steps']:,} steps of {values['batch_size']} pairs{changes}",
        f"rows of a component: {values['rows_of_a_component']}; chosen from: {values['chosen_from']}",
    ]
    if values["unanswered_rows"]:
        lines.append(f"rows that could not be answered, in no number here: {values['unanswered_rows']:,}")
    lines += [f"failed: seed {of['seed']}, {of['name']}: {of['reason']}" for of in values["failures"]]
    if values["stopped_early"]:
        lines.append("stopped before all was done: only what had been scored by then is here")
    return [*lines, *values["notes"]]
