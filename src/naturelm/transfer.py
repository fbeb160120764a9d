"""Bounds on what the other side of a connection can make us wait for and keep. No package of ours is needed here."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPResponse

_PIECE = 1 << 16


class TooMuchSent(Exception):
    """The other side sends more than is taken."""


@contextlib.contextmanager
def time_limit(link: socket.socket, seconds: float, late: threading.Event) -> Iterator[None]:
    """Break the connection off once the time is up, and set `late`: whoever waits for it wakes up with an error.

    The socket's own time limit starts anew with every byte that drips in: this one does not.
    """
    alarm = threading.Timer(seconds, _give_up, (link, late))
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def read_limited(response: HTTPResponse, most: int) -> bytes:
    """The body, of at most so many bytes. Raises TooMuchSent, early where the header states the size."""
    if response.length is not None and response.length > most:
        raise TooMuchSent
    pieces, size = [], 0
    while piece := response.read1(_PIECE):
        size += len(piece)
        if size > most:
            raise TooMuchSent
        pieces.append(piece)
    return b"".join(pieces)


def _give_up(link: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        # Not its own method: a TLS socket would part with its state.
        socket.socket.shutdown(link, socket.SHUT_RDWR)
