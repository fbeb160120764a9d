"""Files from other hosts: only those that were allowed, only where they are public, and only so much for so long."""

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.fetch import FetchOptions, UrlFetcher, is_public

HOST = "sounds.example"
CA = trustme.CA()
CONTENT = bytes(range(256)) * 40


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        with contextlib.suppress(OSError):  # the client hangs up on purpose
            self.server.answers.get(self.path.partition("?")[0], _missing)(self)

    def log_message(self, *_: Any) -> None:
        pass

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CA.issue_cert(name).configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Callable[[_Handler], None]] = {"/owl.wav": lambda h: h.say(200, CONTENT)}

    @property
    def port(self) -> int:
        return self.server_address[1]

    def handle_error(self, *_: Any) -> None:
        pass


def _missing(handler: _Handler) -> None:
    handler.say(404, b"/srv/secret/path")


@contextlib.contextmanager
def running(name: str = HOST) -> Iterator[_Server]:
    made = _Server(name)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()


@pytest.fixture
def server() -> Iterator[_Server]:
    with running() as made:
        yield made


def fetcher(server: _Server, hosts: tuple[str, ...] = (HOST,), **changes: Any) -> UrlFetcher:
    """One that finds every host at the server on loopback, and does not mind."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    options = {"most_bytes": 100_000, "connect_seconds": 2.0, "seconds": 5.0, "port": server.port}
    options |= {key: changes.pop(key) for key in list(changes) if key in options}
    given = {
        "resolve": lambda host, port: [("127.0.0.1", port)],
        "is_allowed": lambda address: True,
        "context": context,
    }
    return UrlFetcher(hosts, FetchOptions(**options), **{**given, **changes})  # type: ignore[arg-type]


def fault(fetch: UrlFetcher, url: str = f"https://{HOST}/owl.wav") -> RequestFault:
    with pytest.raises(RequestFault) as caught:
        fetch(url, "audio 1")
    assert str(caught.value).startswith("audio 1: ")
    assert "secret" not in str(caught.value) and "127.0.0" not in str(caught.value)
    return caught.value


class TestFetched:
    def test_a_file(self, server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody: a proxy would fail
        assert fetcher(server)(f"https://{HOST}/owl.wav?night=3#here", "audio 1") == CONTENT
        ((path, headers),) = server.asked
        assert path == "/owl.wav?night=3"
        assert headers["Host"] == f"{HOST}:{server.port}"
        assert headers["Accept-Encoding"] == "identity"
        assert not {"Authorization", "Cookie"} & set(headers)

    def test_names_go_by_their_letters_and_not_their_case(self, server: _Server) -> None:
        assert fetcher(server)(f"https://SOUNDS.Example:{server.port}/owl.wav", "audio 1") == CONTENT
        with running("xn--vgel-5qa.example") as other:
            for spelt in ("vögel.example", "VÖGEL.example", "xn--vgel-5qa.example"):
                assert fetcher(other, ("Vögel.example",))(f"https://{spelt}/owl.wav", "audio 1") == CONTENT

    def test_other_letters_in_the_path(self, server: _Server) -> None:
        server.answers["/k%C3%A4uzchen%20a.wav"] = lambda h: h.say(200, b"x")
        assert fetcher(server)(f"https://{HOST}/käuzchen%20a.wav", "audio 1") == b"x"

    def test_the_next_address_where_one_is_silent(self, server: _Server) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.2", 0))  # bound and not listening: refused
            addresses = [("127.0.0.2", nobody.getsockname()[1]), ("127.0.0.1", server.port)]
            fetch = fetcher(server, resolve=lambda host, port: addresses)
            assert fetch(f"https://{HOST}/owl.wav", "audio 1") == CONTENT


class TestRefused:
    @pytest.mark.parametrize(
        "url",
        [
            "http://sounds.example/owl.wav",
            "file:///etc/passwd",
            "ftp://sounds.example/owl.wav",
            "/etc/passwd",
            "https:///etc/passwd",
            "https://other.example/owl.wav",
            "https://sounds.example.evil.example/owl.wav",
            "https://evilsounds.example/owl.wav",
            "https://sounds.example./owl.wav",
            "https://user@sounds.example/owl.wav",
            "https://user:word@sounds.example/owl.wav",
            "https://sounds.example@127.0.0.1/owl.wav",
            "https://127.0.0.1/owl.wav",
            "https://[::1]/owl.wav",
            "https://2130706433/",
            "https://localhost/owl.wav",
            "https://sounds.example:22/owl.wav",
            "https://sounds.example:0/owl.wav",
            "https://sounds.example:99999/owl.wav",
            "https://sounds.example:port/owl.wav",
            "https://sounds.example\\@127.0.0.1/owl.wav",
            "https://sounds.example/owl.wav HTTP/1.1",
            "https://sounds.example/owl.wav\r\nHost: other",
            "https://sounds.example/\t",
            "https://[sounds.example/",
            "https://" + "a" * 70 + ".example/",
            "https://sounds.example/" + "a" * 5000,
            "https://sounds.example/\ud800",
            "",
        ],
    )
    def test_urls_that_are_not_asked_for(self, server: _Server, url: str) -> None:
        found = fault(fetcher(server), url)
        assert found.kind in (Fault.INVALID, Fault.NOT_ALLOWED)
        assert not server.asked

    @given(st.text(max_size=60))
    def test_any_text_gives_a_fault_in_words(self, url: str) -> None:
        def never(host: str, port: int) -> list[Any]:
            raise AssertionError("no name is looked up")

        fetch = UrlFetcher(
            (HOST,), FetchOptions(100), resolve=never, context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        assert fault(fetch, url).kind in (Fault.INVALID, Fault.NOT_ALLOWED)

    def test_no_hosts_no_urls(self) -> None:
        assert fault(UrlFetcher((), FetchOptions(100))).kind is Fault.NOT_ALLOWED

    @pytest.mark.parametrize(
        "addresses",
        [
            ["127.0.0.1"],
            ["10.0.0.5"],
            ["169.254.169.254"],
            ["::1"],
            ["93.184.215.14", "127.0.0.1"],
            ["93.184.215.14", "::ffff:10.0.0.1"],
        ],
    )
    def test_a_name_that_leads_into_our_own_network(self, server: _Server, addresses: list[str]) -> None:
        fetch = fetcher(
            server,
            resolve=lambda host, port: [(address, server.port) for address in addresses],
            is_allowed=is_public,
        )
        found = fault(fetch)
        assert found.kind is Fault.NOT_ALLOWED and "public" in str(found)
        assert not server.asked

    def test_loopback_by_its_name_in_the_system(self) -> None:
        """With the resolver and the check that are used by default."""
        assert fault(UrlFetcher(("localhost",), FetchOptions(100)), "https://localhost/").kind is (
            Fault.NOT_ALLOWED
        )

    def test_the_address_that_was_checked_is_the_one_that_is_asked(self, server: _Server) -> None:
        """A name that points elsewhere at the second look is looked up only once."""
        looks = iter([[("127.0.0.1", server.port)], [("127.0.0.1", 9)]])
        checked: list[str] = []
        fetch = fetcher(
            server,
            resolve=lambda host, port: next(looks),
            is_allowed=lambda address: checked.append(address) or True,
        )
        assert fetch(f"https://{HOST}/owl.wav", "audio 1") == CONTENT
        assert checked == ["127.0.0.1"]

    def test_certificates(self, server: _Server) -> None:
        found = fault(fetcher(server, context=ssl.create_default_context()))
        assert found.kind is Fault.BAD_AUDIO and "certificate" in str(found)
        with running("other.example") as other:
            assert "certificate" in str(fault(fetcher(other)))
        assert not server.asked

    @pytest.mark.parametrize(
        "failure", [OSError("secret"), UnicodeError("secret"), socket.gaierror(-2, "secret")]
    )
    def test_a_host_that_is_not_found(self, server: _Server, failure: Exception) -> None:
        def unknown(host: str, port: int) -> list[Any]:
            raise failure

        assert "not found" in str(fault(fetcher(server, resolve=unknown)))
        assert "not found" in str(fault(fetcher(server, resolve=lambda host, port: [])))


class TestRedirects:
    def lead(self, server: _Server, path: str, to: str, status: int = 302) -> None:
        server.answers[path] = lambda h: h.say(status, Location=to)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_within_the_host(self, server: _Server, status: int) -> None:
        self.lead(server, "/a/1", "2", status)
        self.lead(server, "/a/2", f"https://{HOST}/a/3", status)
        self.lead(server, "/a/3", "/owl.wav", status)
        assert fetcher(server)(f"https://{HOST}/a/1", "audio 1") == CONTENT
        assert [path for path, _ in server.asked] == ["/a/1", "/a/2", "/a/3", "/owl.wav"]

    def test_each_step_is_checked_anew(self, server: _Server) -> None:
        self.lead(server, "/1", "/owl.wav")
        looks = iter(["93.184.215.14", "127.0.0.1"])
        fetch = fetcher(server, is_allowed=lambda address: is_public(next(looks)))
        assert fault(fetch, f"https://{HOST}/1").kind is Fault.NOT_ALLOWED
        assert [path for path, _ in server.asked] == ["/1"]

    @pytest.mark.parametrize(
        "to",
        [
            "https://127.0.0.1/owl.wav",
            "https://localhost/owl.wav",
            "https://other.example/owl.wav",
            "https://allowed.example/owl.wav",
            f"http://{HOST}/owl.wav",
            "file:///etc/passwd",
            "//127.0.0.1/owl.wav",
            f"https://user:word@{HOST}/owl.wav",
            f"https://{HOST}:22/owl.wav",
        ],
    )
    def test_elsewhere(self, server: _Server, to: str) -> None:
        self.lead(server, "/1", to)
        fetch = fetcher(server, (HOST, "allowed.example"))
        assert fault(fetch, f"https://{HOST}/1").kind is Fault.NOT_ALLOWED
        assert [path for path, _ in server.asked] == ["/1"]

    @pytest.mark.parametrize("to", ["/1", ""])
    def test_in_a_circle(self, server: _Server, to: str) -> None:
        self.lead(server, "/1", to)
        found = fault(fetcher(server), f"https://{HOST}/1")
        assert found.kind is Fault.NOT_ALLOWED and len(server.asked) == 4


class TestBounds:
    def test_size_that_is_stated(self, server: _Server) -> None:
        server.answers["/big"] = lambda h: h.say(200, Content_Length=str(10**12))
        began = time.monotonic()
        assert fault(fetcher(server), f"https://{HOST}/big").kind is Fault.TOO_LARGE
        assert time.monotonic() - began < 2

    def test_size_that_is_not_stated(self, server: _Server) -> None:
        def endless(handler: _Handler) -> None:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while True:
                handler.wfile.write(b"1000\r\n" + bytes(4096) + b"\r\n")

        server.answers["/endless"] = endless
        assert fault(fetcher(server), f"https://{HOST}/endless").kind is Fault.TOO_LARGE

    @pytest.mark.parametrize("part", ["head", "body"])
    def test_bytes_that_drip_in(self, server: _Server, part: str) -> None:
        def drip(handler: _Handler) -> None:
            if part == "body":
                handler.send_response(200)
                handler.send_header("Content-Length", "5000")
                handler.end_headers()
            while True:
                handler.wfile.write(b"H")
                time.sleep(0.05)

        server.answers["/drip"] = drip
        began = time.monotonic()
        found = fault(fetcher(server, seconds=0.5), f"https://{HOST}/drip")
        assert "within 0.5 s" in str(found)
        assert time.monotonic() - began < 2

    def test_a_handshake_that_never_ends(self, server: _Server) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            fetch = fetcher(
                server, seconds=0.5, resolve=lambda host, port: [("127.0.0.1", silent.getsockname()[1])]
            )
            began = time.monotonic()
            assert "within 0.5 s" in str(fault(fetch))
            assert time.monotonic() - began < 2

    def test_a_search_for_the_name_counts_as_well(self, server: _Server) -> None:
        def slow(host: str, port: int) -> list[Any]:
            time.sleep(0.3)
            return [("127.0.0.1", port)]

        assert "within 0.2 s" in str(fault(fetcher(server, seconds=0.2, resolve=slow)))
        assert not server.asked

    def test_what_breaks_off(self, server: _Server) -> None:
        def short(handler: _Handler) -> None:
            handler.say(200, b"x" * 10, Content_Length="100")
            handler.close_connection = True

        server.answers["/short"] = short
        assert "broke off" in str(fault(fetcher(server), f"https://{HOST}/short"))

    def test_other_answers(self, server: _Server) -> None:
        assert "status 404" in str(fault(fetcher(server), f"https://{HOST}/missing"))
        server.answers["/zip"] = lambda h: h.say(200, b"x", Content_Encoding="gzip")
        assert "compressed" in str(fault(fetcher(server), f"https://{HOST}/zip"))
        server.answers["/mess"] = lambda h: h.wfile.write(b"no http at all\r\n\r\n") and None
        assert fault(fetcher(server), f"https://{HOST}/mess").kind is Fault.BAD_AUDIO


class TestPublic:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
            "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.0.0.8",
            "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1",
            "2001:db8::1", "3fff::1", "5f00::1", "::127.0.0.1", "100::1", "64:ff9b:1::1", "2001::1",
            "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::",
            "2606:4700::1%1", "", "localhost", "127.1",
        ],
    )  # fmt: skip
    def test_not(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize(
        "address",
        ["93.184.215.14", "8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
    )
    def test_public(self, address: str) -> None:
        assert is_public(address)

    @given(st.ip_addresses(v=4))
    def test_wrapping_an_address_changes_nothing(self, address: ipaddress.IPv4Address) -> None:
        inner = int(address)
        wrapped = [
            (0xFFFF << 32) | inner,
            (0x0064FF9B << 96) | inner,
            (0x2002 << 112) | (inner << 80),
        ]
        assert {is_public(str(ipaddress.IPv6Address(each))) for each in wrapped} == {is_public(str(address))}
