"""A server that runs until it is told to stop, and then answers what it has accepted."""

import logging
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from naturelm.answer.engine import NatureLM
from naturelm.serve.app import create_app
from naturelm.serve.faults import ServeError
from naturelm.serve.options import MIB, ServeOptions

_CONNECTIONS = 1_000


def serve(options: ServeOptions) -> None:
    """Load the model, listen, and come back after SIGTERM or Ctrl-C, once accepted requests are answered.

    Raises CheckpointError for the model, ServeError where it cannot listen.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    model = NatureLM.from_pretrained(
        options.model, llm=options.llm, device=options.device, cache_bytes=options.cache_mib * MIB
    )
    model.name = public_name(options.model)
    config = uvicorn.Config(
        create_app(model, options),
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,  # the gates log, with the id of the request
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=int(options.queue.request_seconds) + 10,
    )
    server = _Server(config)
    # uvicorn has its own handlers while it runs, and afterwards raises again what it got, for those from before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    try:
        server.run()
    except SystemExit as error:  # uvicorn has logged why
        raise ServeError(
            f"cannot listen on {options.host} port {options.port}; choose another --port, or stop what listens there"
        ) from error


class _Server(uvicorn.Server):
    """Waits for requests when it is told to stop, but not for pages that are merely open."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        close_web = getattr(self.config.app.state, "close_web", None)  # type: ignore[union-attr]
        if close_web is not None:
            close_web()
        await super().shutdown(sockets)


def public_name(source: str) -> str:
    """What clients may know a model by: its name or hub id; of a folder the last part, and not where it lies."""
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() or path.is_absolute() else source
