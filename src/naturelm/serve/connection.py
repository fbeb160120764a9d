"""Work for a client, as long as it is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

Result = TypeVar("Result")


class ClientGone(Exception):
    """The client has closed the connection: nobody is there to be answered."""


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What the work comes to; it is cancelled, and ClientGone raised, once the client has gone.

    The body must have been read.
    """
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientGone
    finally:
        waiting.cancel()
        doing.cancel()
        await asyncio.gather(doing, waiting, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
