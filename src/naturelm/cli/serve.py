"""`naturelm serve`: an HTTP API, and a web page, over one model."""

import os
from pathlib import Path
from typing import Annotated

import typer

from naturelm.cli.common import give_up
from naturelm.cli.extras import need_packages
from naturelm.errors import NatureLMError
from naturelm.model.registry import DEFAULT_MODEL

PACKAGES = ("fastapi", "fastapi_offline", "prometheus_client", "uvicorn")
API_KEY_VARIABLE = "NATURELM_API_KEY"


def serve(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Built-in name, folder or hub id.")
    ] = DEFAULT_MODEL,
    llm: Annotated[str | None, typer.Option(help="Language model in place of the checkpoint's own.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the GPU if there is one.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    web: Annotated[bool, typer.Option("--web", help="A web page beside the API.")] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help=f"File that holds the API key; or give it in {API_KEY_VARIABLE}."),
    ] = None,
    no_api_key: Annotated[
        bool, typer.Option("--no-api-key", help="Let everybody who reaches the address ask.")
    ] = False,
    allow_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Folder whose files requests may name; several are fine. Default: none."),
    ] = None,
    allow_url_host: Annotated[
        list[str] | None,
        typer.Option(help="Host from which requests may have audio fetched, over https. Default: none."),
    ] = None,
    max_body_mib: Annotated[int, typer.Option(help="Largest request, MiB.")] = 64,
    max_clip_seconds: Annotated[float, typer.Option(help="Longest clip of a question, s.")] = 60.0,
    max_recording_minutes: Annotated[
        float, typer.Option(help="Longest recording to scan on the web page, min.")
    ] = 60.0,
    max_items: Annotated[int, typer.Option(help="Items of one /predict.")] = 64,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 512,
    batch_size: Annotated[int, typer.Option(help="Questions answered together at most.")] = 32,
    queue_size: Annotated[int, typer.Option(help="Questions that may wait.")] = 256,
    request_seconds: Annotated[float, typer.Option(help="Time limit of a question, s.")] = 120.0,
    cache_mib: Annotated[int, typer.Option(min=0, help="Memory for what was heard, MiB.")] = 512,
    log_content: Annotated[
        bool, typer.Option("--log-content", help="Write questions and answers to the log, too.")
    ] = False,
) -> None:
    """Answer questions about recordings over HTTP.

    /predict keeps predictions_v1 (BEANS-Next), /v1/chat/completions OpenAI's API; /docs describes both.
    Exit code: 0 stopped by a signal after all that was accepted was answered, 2 not started.
    """
    try:
        need_packages("serve", PACKAGES)
        if web:
            need_packages("web", ("gradio",))
        from naturelm.serve.options import Access, Limits, QueueOptions, ServeOptions

        options = ServeOptions(
            model=model,
            llm=llm,
            device=device,
            host=host,
            port=port,
            web=web,
            cache_mib=cache_mib,
            open_to_all=no_api_key,
            log_content=log_content,
            limits=Limits(
                body_bytes=max_body_mib * 2**20,
                clip_seconds=max_clip_seconds,
                items=max_items,
                new_tokens=max_new_tokens,
                recording_seconds=60 * max_recording_minutes,
            ),
            queue=QueueOptions(batch_size=batch_size, queue_size=queue_size, request_seconds=request_seconds),
            access=Access(_api_key(api_key_file), tuple(allow_dir or ()), tuple(allow_url_host or ())),
        )
        # Here, not above: this loads torch, and a wrong option is told at once.
        from naturelm.serve.running import serve as run

        run(options)
    except NatureLMError as error:
        give_up(error)


def _api_key(file: Path | None) -> str | None:
    """The key; never from the command line, where every user of the machine sees it."""
    if file is None:
        return os.environ.get(API_KEY_VARIABLE) or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NatureLMError(f"{file}: the API key cannot be read ({error})") from error
    if not key:
        raise NatureLMError(f"{file}: is empty; write the API key into it")
    return key
