"""`naturelm models`: the models that go by a name, and what they need."""

import json
from typing import Annotated

import typer

from naturelm.model.registry import BUILT_IN_MODELS, OFFICIAL_MODEL


def models(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the models that `--model` and `--llm` know by name."""
    from naturelm.model.embedded import EMBEDDED_LLMS, embedded_llm_ready

    rows = []
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
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    typer.echo("Any folder or hub id in our layout or the official one works too.\n")
    for row in rows:
        typer.echo(
            f"{row['name']}\n    {row['kind']}, {'ready' if row['here'] else 'not here yet'}: {row['about']}"
        )
