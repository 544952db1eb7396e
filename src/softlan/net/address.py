"""Addresses as people write them: a relay's, and where to listen."""

import ipaddress
import re
from dataclasses import dataclass

from softlan.errors import UsageError

DEFAULT_PORT = 443

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""What the socket module takes: (host, port), for IPv6 with flow and scope ID."""

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class HostPort:
    """A host and a UDP port, not resolved yet."""

    host: str
    """A DNS name, an IPv4 or an IPv6 literal without brackets; empty for all interfaces."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_relay(text: str) -> HostPort:
    """Read a relay's address: a DNS name, an IPv4 or an IPv6 literal, each with or without a port.

    An IPv6 literal needs brackets (RFC 3986 section 3.2.2) only when a port follows; it may have a scope,
    as in `fe80::1%eth0`. The port is 443 unless given. Raises UsageError.
    """
    host, port = _split(text.strip(), "relay address", "relay.example.net, 192.0.2.7:4433 or [2001:db8::7]:443")
    if not _is_literal(host):
        host = _name(host)
    if port == 0:
        raise UsageError("relay address: port 0 cannot be reached; give 1 to 65535")
    return HostPort(host, port)


def parse_listen(text: str) -> HostPort:
    """Read where to listen: `443/udp`, `443`, `:443`, `0.0.0.0:443`, `[::]:443`, `127.0.0.1:4433`.

    Without a host it is empty, and means all interfaces, IPv6 and IPv4. Port 0 means any free one.
    Raises UsageError.
    """
    examples = "443/udp, 0.0.0.0:443 or [::]:443"
    address, slash, protocol = text.strip().partition("/")
    if slash and protocol.lower() != "udp":
        raise UsageError(f"listen address: softlan speaks QUIC over UDP, not {protocol[:20]!r}; write {examples}")
    if _PORT.fullmatch(address):
        address = ":" + address
    if address.startswith(":") and not address.startswith("::"):
        return HostPort("", _port(address[1:], "listen address"))
    host, port = _split(address, "listen address", examples)
    if not _is_literal(host):
        raise UsageError(f"listen address: {host[:60]!r} is not an IP address; write {examples}")
    return HostPort(host, port)


def _split(text: str, what: str, examples: str) -> tuple[str, int]:
    """Cut a port off; the host may still be anything but empty."""
    if "/" in text or "@" in text:
        raise UsageError(f"{what}: {text[:60]!r} is not a host and a port; write {examples}")
    host, port = text, DEFAULT_PORT
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise UsageError(f"{what}: {text[:60]!r} has its brackets wrong; write {examples}")
        if rest:
            port = _port(rest[1:], what)
        if not _is_literal(host):
            raise UsageError(f"{what}: {host[:60]!r} is not an IPv6 address; write {examples}")
    elif text.count(":") == 1:
        host, _, digits = text.partition(":")
        port = _port(digits, what)
    elif ":" in text and not _is_literal(text):
        raise UsageError(f"{what}: {text[:60]!r} is not an IPv6 address; with a port, write it as [2001:db8::7]:443")
    if not host:
        raise UsageError(f"{what}: the host is missing; write {examples}")
    return host, port


def _port(digits: str, what: str) -> int:
    if not _PORT.fullmatch(digits) or int(digits) > 65535:
        raise UsageError(f"{what}: {digits[:20]!r} is not a port; give a number up to 65535")
    return int(digits)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not set(host.partition("%")[2]) & set("[]%")  # the scope is an interface's name or number


def _name(host: str) -> str:
    """Check a DNS name (RFC 1123 section 2.1) and return it in ASCII (IDNA)."""
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise UsageError(f"relay address: {host[:60]!r} is not a host name") from None
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UsageError(f"relay address: {host[:60]!r} is not a host name")
    if labels[-1].isdigit():
        # Resolvers read 10.1 as 10.0.0.1, and whoever wrote it meant something else.
        raise UsageError(f"relay address: {host[:60]!r} is not an IPv4 address; it has four numbers up to 255")
    return name
