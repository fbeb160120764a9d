"""What requests pass first: ids, the host's name, the key, the size of the body."""

import asyncio
import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from naturelm.serve.faults import ServeError
from naturelm.serve.gates import BodyGate, HostGate, KeyGate, RequestIds
from naturelm.serve.options import MIB, Access, Limits, ServeOptions

KEY = "a-long-enough-key"
OPEN_TO_ALL = {"host": "0.0.0.0", "open_to_all": True}


async def size(request: Request) -> JSONResponse:
    return JSONResponse({"bytes": len(await request.body())})


async def crash(_request: Request) -> JSONResponse:
    raise RuntimeError("at /secret/place")


def gated(options: ServeOptions, stalled_seconds: float = 30.0) -> Starlette:
    app = Starlette(
        routes=[Route("/size", size, methods=["GET", "POST"]), Route("/crash", crash), Route("/health", size)]
    )
    app.add_middleware(BodyGate, limits=options.limits, stalled_seconds=stalled_seconds)
    app.add_middleware(KeyGate, options=options)
    app.add_middleware(HostGate, options=options)
    app.add_middleware(RequestIds)
    return app


@contextmanager
def running(options: ServeOptions, stalled_seconds: float = 30.0) -> Iterator[int]:
    """The port of a server with nothing but the gates before it."""
    server = uvicorn.Server(
        uvicorn.Config(gated(options, stalled_seconds), port=0, log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def ask(
    options: ServeOptions, path: str = "/size", host: str = "localhost:8000", **kwargs: object
) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=gated(options), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request("POST" if "content" in kwargs else "GET", path, **kwargs)

    return asyncio.run(go())


def test_every_response_has_an_id_and_a_client_may_give_its_own() -> None:
    first, second = (ask(ServeOptions()).headers["x-request-id"] for _ in range(2))
    assert first != second and len(first) == 32
    assert ask(ServeOptions(), headers={"x-request-id": "mine-7"}).headers["x-request-id"] == "mine-7"
    bad = ask(ServeOptions(), headers={"x-request-id": "two words\u00a0"[:9]}).headers["x-request-id"]
    assert len(bad) == 32


def test_a_crash_tells_no_path_and_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    response = ask(ServeOptions(), "/crash")
    assert response.status_code == 500
    assert "secret" not in response.text and "Traceback" not in response.text
    assert response.headers["x-request-id"] in response.json()["error"]["message"]
    assert "secret" in caplog.text and response.headers["x-request-id"] in caplog.text


def test_the_log_has_the_address_and_nothing_that_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ask(ServeOptions(), "/size?key=hidden", content=b"hidden")
    ask(ServeOptions(), "/%0a%1b[2Jfake")
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name == "naturelm.serve")
    assert "POST /size 200" in logged and "hidden" not in logged
    assert "\x1b" not in logged and len(logged.splitlines()) == 2


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8000", 403),
    ],
)
def test_without_a_key_loopback_answers_to_its_own_names(host: str, status: int) -> None:
    assert ask(ServeOptions(), host=host).status_code == status
    assert ask(ServeOptions(**OPEN_TO_ALL), host=host).status_code == 200


def test_a_key_is_asked_for_everywhere_but_at_health() -> None:
    options = ServeOptions(access=Access(api_key=KEY))
    password = base64.b64encode(f"anyone:{KEY}".encode()).decode()
    assert ask(options, "/health", host="evil.example").status_code == 200
    for authorization in (f"Bearer {KEY}", f"bearer {KEY}", f"Basic {password}"):
        assert ask(options, headers={"authorization": authorization}).status_code == 200
    for authorization in ("", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", KEY, "Basic !", "Basic YQ=="):
        response = ask(options, headers={"authorization": authorization})
        assert response.status_code == 401
        assert "Bearer" in response.headers["www-authenticate"]
        assert response.json()["error"]["type"] == "unauthorised" and KEY not in response.text


def test_a_key_that_no_header_can_hold_is_refused_at_the_start() -> None:
    with pytest.raises(ServeError, match="ASCII"):
        Access(api_key="schlüssel-wort")
    with pytest.raises(ServeError, match="8 characters"):
        Access(api_key="short")
    options = ServeOptions(access=Access(api_key=KEY))
    assert ask(options, headers=[(b"authorization", "Bearer schlüssel".encode())]).status_code == 401
    assert KEY not in repr(options)


def test_a_gigabyte_is_refused_before_it_is_sent() -> None:
    with running(ServeOptions(limits=Limits(body_bytes=MIB))) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        began = time.monotonic()
        client.putrequest("POST", "/size")
        client.putheader("Content-Length", str(2**30))
        client.endheaders()
        response = client.getresponse()
        assert response.status == 413 and time.monotonic() - began < 3
        body = json.loads(response.read())
        assert body["error"]["type"] == "too_large" and "1 MiB" in body["error"]["message"]


def test_whoever_sends_on_all_the_same_gets_to_read_why() -> None:
    """As clients do that look for a response only when they have sent all."""
    with running(ServeOptions(limits=Limits(body_bytes=MIB))) as port:
        response = httpx.post(f"http://127.0.0.1:{port}/size", content=bytes(20 * MIB), timeout=20)
        assert response.status_code == 413
        assert httpx.post(f"http://127.0.0.1:{port}/size", content=bytes(MIB)).json() == {"bytes": MIB}


def test_a_body_without_a_stated_length_is_bounded_too() -> None:
    with running(ServeOptions(limits=Limits(body_bytes=MIB))) as port:
        address = f"http://127.0.0.1:{port}/size"
        fits = httpx.post(address, content=(bytes(2**16) for _ in range(16)), timeout=20)
        assert fits.json() == {"bytes": MIB}
        over = httpx.post(address, content=(bytes(2**16) for _ in range(320)), timeout=20)
        assert over.status_code == 413


def test_a_client_that_stops_in_mid_upload_is_let_go_and_holds_nothing() -> None:
    options = ServeOptions(limits=Limits(body_bytes=MIB))
    with running(options, stalled_seconds=2.0) as port:
        stalled = []
        for _ in range(8):  # together all that may be on its way at once
            link = socket.create_connection(("127.0.0.1", port), timeout=10)
            link.sendall(
                f"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\nabc".encode()
            )
            stalled.append(link)
        refused = until_status(port, b"x", 429)
        assert int(refused.headers["retry-after"]) > 0
        stalled.pop().close()
        assert b"504" in stalled[0].recv(100)
        until_status(port, bytes(MIB), 200)
        for link in stalled:
            link.close()


def until_status(port: int, body: bytes, status: int) -> httpx.Response:
    """The first response of that status."""
    for _ in range(100):
        response = httpx.post(f"http://127.0.0.1:{port}/size", content=body, headers={"connection": "close"})
        if response.status_code == status:
            return response
        time.sleep(0.02)
    raise AssertionError(f"no response had status {status}")


def test_a_body_that_keeps_coming_slowly_is_taken() -> None:
    with running(ServeOptions(), stalled_seconds=1.0) as port:
        link = socket.create_connection(("127.0.0.1", port), timeout=10)
        link.sendall(b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            time.sleep(0.3)
            link.sendall(b"x")
        assert b"200 OK" in link.recv(1000)
        link.close()
