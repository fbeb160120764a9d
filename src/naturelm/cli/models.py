"""`naturelm models`: the models that go by a name, what they need, and fetching what has terms of its own."""

import json
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from naturelm.cli.common import give_up
from naturelm.errors import NatureLMError
from naturelm.model.registry import BUILT_IN_MODELS, OFFICIAL_MODEL

_FETCHED = ("birdnet",)

app = typer.Typer(pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the models that `--model` and `--llm` know by name, or fetch what they listen with."""
    if context.invoked_subcommand is not None:
        return
    rows = _rows()
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    typer.echo("Any folder or hub id in our layout or the official one works too.\n")
    for row in rows:
        typer.echo(
            f"{row['name']}\n    {row['kind']}, {'ready' if row['here'] else 'not here yet'}: {row['about']}"
        )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to fetch: birdnet.")],
    accept_license: Annotated[
        str | None,
        typer.Option(metavar="SPDX", help="Accept this licence without being asked: CC-BY-NC-SA-4.0."),
    ] = None,
) -> None:
    """Fetch an ear that is under a licence of its own, which is shown first and must be accepted.

    Exit code: 0 it is there, 2 declined or not to be had.
    """
    from naturelm.model.birdnet_files import (
        BIRDNET_LICENCE,
        BIRDNET_SOURCE,
        birdnet_range_ready,
        birdnet_ready,
        fetch_birdnet,
    )

    if name not in _FETCHED:
        give_up(f"nothing to fetch is called {name!r}; there is: {', '.join(_FETCHED)}")
    typer.echo(f"{BIRDNET_SOURCE}\n\n{BIRDNET_LICENCE.name} ({BIRDNET_LICENCE.spdx})\n{BIRDNET_LICENCE.url}")
    typer.echo("".join(f"  - {term}\n" for term in BIRDNET_LICENCE.terms))
    try:
        if not (birdnet_ready() and birdnet_range_ready()):
            accepted = accept_license or _asked(BIRDNET_LICENCE.spdx)
            typer.echo("Fetching ...", err=True)
            fetch_birdnet(accepted)
    except NatureLMError as error:
        give_up(error)
    typer.echo("BirdNET is ready.")
    if find_spec("ai_edge_litert") is None:
        typer.echo("To listen with it, install what reads it: pip install 'naturelm[birdnet]'")


def _asked(spdx: str) -> str:
    """The licence, once the user has said yes to it."""
    try:
        agreed = typer.confirm("Do you accept this licence?", default=False)
    except typer.Abort:  # nobody is there to answer
        agreed = False
    if not agreed:
        give_up(f"not fetched, since its licence was not accepted; in a script: --accept-license {spdx}")
    return spdx


def _rows() -> list[dict[str, Any]]:
    """One a model: name, kind, here, about."""
    from naturelm.model.birdnet_files import BIRDNET_LICENCE, FETCH_COMMAND, birdnet_ready
    from naturelm.model.embedded import EMBEDDED_LLMS, embedded_llm_ready

    rows: list[dict[str, Any]] = []
    for built_in in BUILT_IN_MODELS.values():
        ready = (built_in.folder / "config.json").exists()
        rows.append(
            {
                "name": built_in.name,
                "kind": "audio-language model",
                "here": ready,
                "about": f"{built_in.summary}; over {built_in.language_model}",
            }
        )
    rows.append(
        {
            "name": OFFICIAL_MODEL,
            "kind": "audio-language model",
            "here": False,
            "about": "the official weights, over Llama-3.1-8B-Instruct: a gated download from the hub",
        }
    )
    for llm in EMBEDDED_LLMS.values():
        ready = embedded_llm_ready(llm.name)
        about = f"{llm.parameters / 1e6:.0f} million parameters, {llm.licence}; from {llm.requirement}"
        rows.append({"name": llm.name, "kind": "language model", "here": ready, "about": about})
    about = f"BirdNET 2.4, frozen, {BIRDNET_LICENCE.spdx}; from `{FETCH_COMMAND}`"
    rows.append({"name": "birdnet", "kind": "ear", "here": birdnet_ready(), "about": about})
    return rows
