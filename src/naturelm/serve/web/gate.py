"""The few addresses of gradio that the page needs; all others are shut, and what they answer keeps to this server.

Gradio has doors for programs, for other people's servers and for developers beside those for its page: to fetch files
from elsewhere, to pass requests on, to edit code. Programs have this server's API instead. What its page's own calls
name as files is looked at here as well: a gradio that is mounted rather than launched would copy any file of the server,
or fetch any address, to where the caller can read it.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_ASKED = 2**20
"""Bytes of a call: files go another way."""
_PREFIX = "/gradio_api"
_GET = re.compile(
    r"/(config/?|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?|assets/.+|static/.+|svelte/.+)?"
    rf"|{_PREFIX}/(theme\.css|startup-events|app_id/?|upload_progress|queue/data|heartbeat/[\w-]+|file=.+|info/?)"
)
_POST = re.compile(rf"{_PREFIX}/(queue/join/?|upload/?|cancel|reset/?)")
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_FILE_POLICY = "sandbox; default-src 'none'; media-src 'self'; style-src 'unsafe-inline'"


class PageGate:
    """ASGI middleware of the mounted page.

    folder: where files may lie that are given out, or named in calls. has_room: whether another upload may come now.
    """

    def __init__(self, app: ASGIApp, folder: Path, has_room: Callable[[], bool]) -> None:
        self.app = app
        self._folder = folder
        self._has_room = has_room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        is_file = scope["path"].startswith(f"{_PREFIX}/file=")
        if scope["method"] == "POST" and "/queue/join" in scope["path"]:
            body = await _read(receive)
            if body is None or not self._names_own_files(body):
                await PlainTextResponse("no such file; upload it again", 400)(scope, receive, send)
                return
            receive = _replayed(body, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
                headers["content-security-policy"] = _FILE_POLICY if is_file else _PAGE_POLICY
            await send(message)

        await self.app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        if scope["type"] != "http":
            return PlainTextResponse("no such address", 404)
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD") and _GET.fullmatch(path):
            if "/file=" in path and not self._is_own(path.partition("/file=")[2]):
                return PlainTextResponse("no such file", 404)
            return None
        if method == "POST" and _POST.fullmatch(path):
            if path.rstrip("/").endswith("/upload"):
                return (
                    None
                    if self._has_room()
                    else PlainTextResponse("too many uploads are kept just now; try again in an hour", 503)
                )
            length = Headers(scope=scope).get("content-length", "")
            if not length.isdecimal() or int(length) > _MOST_ASKED:
                return PlainTextResponse("a call of the page states its length, at most 1 MiB", 413)
            return None
        return PlainTextResponse("no such address", 404)

    def _names_own_files(self, body: bytes) -> bool:
        """Whether a call names no other files than uploads."""
        try:
            waiting = [json.loads(body)]
        except (ValueError, RecursionError):
            return False
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting += value
            elif isinstance(value, dict):
                waiting += value.values()
                if "path" in value and not self._is_own(value["path"]):
                    return False
        return True

    def _is_own(self, path: object) -> bool:
        try:
            return isinstance(path, str) and Path(path).resolve().is_relative_to(self._folder.resolve())
        except (OSError, ValueError, RuntimeError):
            return False


async def _read(receive: Receive) -> bytes | None:
    """A body of at most `_MOST_ASKED` bytes; None where it is longer, or the client goes."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > _MOST_ASKED:
            return None
        if not message.get("more_body"):
            return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever comes."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def folder_has_room(folder: Path, most_bytes: int) -> bool:
    """Whether the files below `folder` take less than `most_bytes`."""
    used = 0
    for file in folder.rglob("*"):
        try:
            used += file.stat().st_size
        except OSError:
            continue  # deleted meanwhile
    return used < most_bytes
