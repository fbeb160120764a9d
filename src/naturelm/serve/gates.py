"""What every request passes before the application sees it: its id, its host, its key, its size.

Plain ASGI, so that bodies are neither read ahead nor kept, and a client that goes is noticed.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import MIB, Limits, ServeOptions
from naturelm.serve.responses import REQUEST_ID, refusal

log = logging.getLogger("naturelm.serve")

OPEN_PATHS = frozenset({"/health"})
"""What is told to everybody."""
_OWN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STALLED_SECONDS = 30.0
_LINGER_SECONDS = 5.0
_BODIES_AT_ONCE = 8
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class RequestIds:
    """Gives every request an id, logs it with what became of it, and lets no trace of a crash out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _OWN_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.monotonic(), 0

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self.app(scope, receive, with_id)
        except Exception:
            log.exception("request %s crashed", request_id)
            if status:
                raise  # too late to say so: the connection is closed
            fault = RequestFault(
                Fault.INTERNAL, f"the server failed at this request; its log says how under {request_id}"
            )
            await refusal(fault)(scope, receive, with_id)
        finally:
            took = time.monotonic() - began
            log.info("%s %s %s %s %.3f s", request_id, scope["method"], _shown_path(scope), status, took)


class HostGate:
    """Refuses requests that name another host than this machine.

    A page on the web can make a browser call a name of its own that leads to loopback (DNS rebinding). Where no
    API key is asked for, only the name tells such a call from one of the machine's own.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self.app = app
        self._guarding = options.is_loopback and options.access.api_key is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._guarding and scope["type"] in ("http", "websocket"):
            name = re.sub(r":\d+$", "", Headers(scope=scope).get("host", "").lower())
            if name not in _LOOPBACK_NAMES:
                fault = RequestFault(
                    Fault.NOT_ALLOWED,
                    "this server answers to localhost alone; an API key opens it to other names",
                )
                await _refuse(fault, scope, receive, send)
                return
        await self.app(scope, receive, send)


class KeyGate:
    """Asks for the API key: `Authorization: Bearer KEY`, or Basic with the key as password, as browsers ask for it."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self.app = app
        self._key = options.access.api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            self._key is not None
            and scope["type"] in ("http", "websocket")
            and scope["path"] not in OPEN_PATHS
            and not _same(_key_of(Headers(scope=scope)), self._key)
        ):
            fault = RequestFault(Fault.UNAUTHORISED, "the API key is missing or wrong")
            await _refuse(fault, scope, receive, send)
            return
        await self.app(scope, receive, send)


class BodyGate:
    """Bounds what is read of a request, of all requests together, and how long a client may pause in it."""

    def __init__(self, app: ASGIApp, limits: Limits, *, stalled_seconds: float = _STALLED_SECONDS) -> None:
        self.app = app
        self._most = limits.body_bytes
        self._most_together = _BODIES_AT_ONCE * limits.body_bytes
        self._together = 0
        self._stalled = stalled_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            stated = int(Headers(scope=scope).get("content-length", "0"))
        except ValueError:
            stated = 0  # the server's own parser refuses what is no number
        fault = self._fault(stated, stated)
        if fault is not None:
            await _refuse(fault, scope, receive, send)
            return
        held, read = stated, 0
        self._together += held
        whole = answering = False

        async def bounded() -> Message:
            nonlocal fault, held, read, whole
            try:
                # Once the body is there, whoever waits here waits for the client to go.
                message = await asyncio.wait_for(receive(), None if whole else self._stalled)
            except TimeoutError:
                fault = RequestFault(Fault.TIMED_OUT, "the body of the request stopped coming")
                raise _StoppedReading from None
            if message["type"] == "http.request":
                whole = not message.get("more_body", False)
                read += len(message.get("body", b""))
                if read > held:  # it came without a stated length
                    fault = self._fault(read, read - held)
                    if fault is not None:
                        raise _StoppedReading
                    self._together += read - held
                    held = read
            return message

        async def unless_stopped(message: Message) -> None:
            nonlocal answering
            # What the application makes of a body that was not read on is not what the client has to know.
            if fault is None or answering:
                answering = True
                await send(message)

        try:
            await self.app(scope, bounded, unless_stopped)
        except _StoppedReading:
            pass
        finally:
            self._together -= held
        if fault is not None and not answering:
            await _refuse(fault, scope, receive, send)

    def _fault(self, size: int, more: int) -> RequestFault | None:
        """Why a body of so many bytes, of which `more` are new, is not read; None if it is."""
        if size > self._most:
            return RequestFault(
                Fault.TOO_LARGE,
                f"the request is larger than {self._most / MIB:g} MiB; send less at once, or compressed audio",
            )
        if self._together + more > self._most_together:
            return RequestFault(Fault.BUSY, "too much is being sent at once; try again", retry_after=2)
        return None


class _StoppedReading(Exception):
    """The body is not read on."""


async def _refuse(fault: RequestFault, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse, and let what the client is still sending run out for a while, so that it gets to read why."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    response = refusal(fault)
    response.headers["connection"] = "close"
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})


def _key_of(headers: Headers) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def _same(given: str, key: str) -> bool:
    return hmac.compare_digest(given.encode(), key.encode())


def _shown_path(scope: MutableMapping[str, Any]) -> str:
    """The address without its query, on one line."""
    return ascii(scope["path"])[1:-1][:200]
