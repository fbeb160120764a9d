"""Sound from other servers, for `file_url`, without lending anybody our place in the network.

Only hosts that were allowed by name, only over https, and only at addresses of the public internet: a name may be made
to point at this machine or its neighbours. The connection goes to the very address that was checked.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from naturelm.serve.faults import Fault, RequestFault
from naturelm.transfer import TooMuchSent, read_limited, time_limit

_HTTPS = 443
_LONGEST_URL = 4_096
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 3
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Of no host on the internet, and not known as such to `ipaddress` of every Python.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "64:ff9b:1::/48", "2001::/23", "3fff::/20", "5f00::/16")
)

SocketAddress = tuple[Any, ...]
Resolve = Callable[[str, int], Sequence[SocketAddress]]
"""(host, port) to what `socket.connect` takes, as (address, port, ...). Raises OSError."""


@dataclass(frozen=True)
class FetchOptions:
    """most_bytes: of one file. connect_seconds: for one address to answer. seconds: for all of a fetch."""

    most_bytes: int
    connect_seconds: float = 5.0
    seconds: float = 30.0
    port: int = _HTTPS


def resolve(host: str, port: int) -> Sequence[SocketAddress]:
    """All addresses of a host, as the system finds them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(address for *_, address in found))


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, whatever it is wrapped in."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # with a scope, such as fe80::1%eth0, it is of one link alone
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.sixtofour is not None:
            return is_public(str(ip.sixtofour))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.scope_id or ip.teredo is not None or ip.is_site_local:
            return False
    if any(ip in network for network in _SPECIAL) or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return ip.is_global and not (ip.is_private or ip.is_loopback or ip.is_link_local)


class UrlFetcher:
    """Fetches files from the hosts that it was given; everything about the other side is checked and bounded."""

    def __init__(
        self,
        hosts: Sequence[str],
        options: FetchOptions,
        *,
        resolve: Resolve = resolve,
        is_allowed: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """hosts: names, compared whole and without regard to case. is_allowed: of every address that a name has.
        context: of TLS; by default the system's certificate authorities are believed."""
        self._hosts = frozenset(_plain_name(host) for host in hosts)
        self._options = options
        self._resolve = resolve
        self._is_allowed = is_allowed
        if context is None and hosts:  # it takes a while to load them
            context = ssl.create_default_context()
        self._context = context

    def __call__(self, url: str, name: str) -> bytes:
        """What lies there. name: of the sound, for messages. Raises RequestFault.

        Blocks for `seconds` at most, not counting the system's search for the host's addresses.
        """
        if not self._hosts:
            raise RequestFault(
                Fault.NOT_ALLOWED, f"{name}: this server fetches no URLs; send the sound itself"
            )
        until = time.monotonic() + self._options.seconds
        host, target = self._checked(url, name)
        for _ in range(1 + _MOST_REDIRECTS):
            answer = self._fetch(host, target, name, until)
            if isinstance(answer, bytes):
                return answer
            next_host, target = self._checked(urljoin(f"https://{host}{target}", answer), name)
            if next_host != host:
                raise RequestFault(
                    Fault.NOT_ALLOWED, f"{name}: its URL leads on to another host; give the last URL"
                )
        raise RequestFault(
            Fault.NOT_ALLOWED,
            f"{name}: its URL leads on more than {_MOST_REDIRECTS} times; give the last URL",
        )

    def _checked(self, url: str, name: str) -> tuple[str, str]:
        """The host, and the rest as a request names it. Raises RequestFault."""
        if len(url) > _LONGEST_URL or not url.isprintable() or any(sign in url for sign in " \\"):
            raise RequestFault(
                Fault.INVALID, f"{name}: no proper URL; give one such as https://data.example.org/owl.wav"
            )
        try:
            parts = urlsplit(url)
            host, port = _plain_name(parts.hostname or ""), parts.port
            path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
            query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._")
        except ValueError:  # UnicodeError too
            raise RequestFault(Fault.INVALID, f"{name}: no proper URL") from None
        if parts.scheme != "https":
            raise RequestFault(Fault.NOT_ALLOWED, f"{name}: only https URLs are fetched")
        if parts.username is not None or parts.password is not None:
            raise RequestFault(Fault.NOT_ALLOWED, f"{name}: URLs with a user or password are not fetched")
        if host not in self._hosts:
            raise RequestFault(Fault.NOT_ALLOWED, f"{name}: this server does not fetch from that host")
        if port not in (None, self._options.port):
            raise RequestFault(
                Fault.NOT_ALLOWED, f"{name}: only port {self._options.port} is asked; leave the port out"
            )
        return host, f"{path}?{query}" if query else path

    def _fetch(self, host: str, target: str, name: str, until: float) -> bytes | str:
        """The file, or where it is said to be."""
        addresses = self._addresses(host, name)
        late = threading.Event()
        connection = HTTPSConnection(host, self._options.port, context=self._context)
        try:
            raw = self._connect(addresses, until)
            # The handshake comes later, when the alarm is set: it may drip in as well.
            assert self._context is not None
            link = self._context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
            connection.sock = link
            with time_limit(link, max(until - time.monotonic(), 0), late):
                link.settimeout(self._options.seconds)
                link.do_handshake()
                # http.client follows no redirect, and uses no proxy and no credentials of the environment.
                connection.request(
                    "GET", target, headers={"Accept": "*/*", "User-Agent": "naturelm", "Connection": "close"}
                )
                response = connection.getresponse()
                if response.status in _REDIRECTS:
                    return response.getheader("Location") or ""
                self._check_head(response, name)
                declared = response.length
                body = read_limited(response, self._options.most_bytes)
        except TooMuchSent:
            raise RequestFault(
                Fault.TOO_LARGE, f"{name}: is larger than {self._options.most_bytes} bytes"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise RequestFault(
                Fault.BAD_AUDIO, f"{name}: the certificate of its host is not valid for it"
            ) from error
        except (OSError, HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise self._too_slow(name) from error
            raise RequestFault(
                Fault.BAD_AUDIO, f"{name}: its host did not answer as it should; try its URL elsewhere"
            ) from error
        finally:
            connection.close()
        if late.is_set():
            raise self._too_slow(name)
        if declared is not None and len(body) < declared:
            raise RequestFault(Fault.BAD_AUDIO, f"{name}: its host broke off; try again")
        return body

    def _too_slow(self, name: str) -> RequestFault:
        return RequestFault(Fault.BAD_AUDIO, f"{name}: not fetched within {self._options.seconds:g} s")

    def _addresses(self, host: str, name: str) -> Sequence[SocketAddress]:
        """All of a host's addresses, each of them allowed."""
        try:
            addresses = self._resolve(host, self._options.port)
        except (OSError, UnicodeError) as error:
            raise RequestFault(Fault.BAD_AUDIO, f"{name}: its host is not found") from error
        if not addresses:
            raise RequestFault(Fault.BAD_AUDIO, f"{name}: its host is not found")
        if not all(self._is_allowed(str(address[0])) for address in addresses):
            raise RequestFault(
                Fault.NOT_ALLOWED, f"{name}: its host has an address that is not of the public internet"
            )
        return addresses

    def _connect(self, addresses: Sequence[SocketAddress], until: float) -> socket.socket:
        """A connection to the first of the addresses that answers. Raises OSError."""
        failed: OSError = TimeoutError("no time left")
        for address in addresses:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            link = socket.socket(family, socket.SOCK_STREAM)
            try:
                left = min(self._options.connect_seconds, until - time.monotonic())
                if left <= 0:
                    raise TimeoutError("no time left")
                link.settimeout(left)
                link.connect(address)
                return link
            except OSError as error:
                link.close()
                failed = error
        raise failed

    def _check_head(self, response: HTTPResponse, name: str) -> None:
        if response.status != 200:
            raise RequestFault(Fault.BAD_AUDIO, f"{name}: its host gave status {response.status}")
        if response.getheader("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise RequestFault(Fault.BAD_AUDIO, f"{name}: its host sent it compressed, unasked")


def _plain_name(host: str) -> str:
    """A host's name as certificates and resolvers have it. Raises ValueError."""
    return host.encode("idna").decode("ascii").lower() if host else ""
