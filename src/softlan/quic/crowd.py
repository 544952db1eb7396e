"""Who is at the door and who is inside, counted for all and for each network that they come from.

An address costs an attacker nothing, a network does. So neighbours share what is granted: of IPv4 a /24, the smallest
network that the internet routes; of IPv6 a /48, what one site may have for itself (RFC 6177). A party behind one NAT
is one address, so the shares of a network are made for a party and its repeated attempts.
"""

import socket
from dataclasses import dataclass

from softlan.net.address import SocketAddress


@dataclass(frozen=True)
class Caps:
    """What a server grants. Of a party of 64, all may come at once, and once more before the first ones are missed."""

    retry_above: int = 64
    """With more handshakes under way, addresses are validated by Retry first (RFC 9000, section 8.1.2)."""
    retry_above_network: int = 16
    """The same for those of one network."""
    max_pending: int = 512
    """Handshakes under way; with one more, the oldest of the network that has most is given up."""
    max_pending_network: int = 96
    max_connections: int = 2048
    """Connections, with those that are beginning or ending."""
    max_connections_network: int = 256


def network_of(address: SocketAddress) -> bytes:
    """The network that counts: the first 3 bytes of an IPv4 address, the first 6 of an IPv6 one."""
    host = address[0]
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)[:3]
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed[12:15] if packed.startswith(_MAPPED) else packed[:6]


_MAPPED = b"\0" * 10 + b"\xff\xff"  # ::ffff:0:0/96, IPv4 on a socket of both families


class Crowd:
    """The connections of a server by network. Whoever enters must leave."""

    __slots__ = ("_all", "_inside", "_pending", "pending")

    def __init__(self) -> None:
        self.pending = 0
        """Handshakes under way."""
        self._inside: dict[object, tuple[bytes, bool]] = {}  # network, and whether its handshake is under way
        self._all: dict[bytes, int] = {}
        self._pending: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._inside)

    def pending_of(self, network: bytes) -> int:
        """Handshakes under way of one network."""
        return self._pending.get(network, 0)

    def connections_of(self, network: bytes) -> int:
        """Connections of one network."""
        return self._all.get(network, 0)

    def busiest(self) -> bytes:
        """The network with most handshakes under way."""
        return max(self._pending, key=self._pending.__getitem__, default=b"")

    def is_pending(self, who: object, network: bytes) -> bool:
        """Whether `who` is of `network`, and its handshake under way."""
        return self._inside.get(who) == (network, True)

    def enter(self, who: object, network: bytes) -> None:
        """A handshake begins."""
        self._inside[who] = network, True
        self.pending += 1
        _add(self._pending, network, 1)
        _add(self._all, network, 1)

    def settle(self, who: object) -> None:
        """A handshake is done, or there is no longer one; nothing happens if that was known."""
        network, is_pending = self._inside.get(who, (b"", False))
        if is_pending:
            self._inside[who] = network, False
            self.pending -= 1
            _add(self._pending, network, -1)

    def leave(self, who: object) -> None:
        """A connection is forgotten; nothing happens if it never came in."""
        self.settle(who)
        network, _ = self._inside.pop(who, (None, False))
        if network is not None:
            _add(self._all, network, -1)


def _add(counts: dict[bytes, int], network: bytes, change: int) -> None:
    count = counts.get(network, 0) + change
    if count:
        counts[network] = count
    else:
        del counts[network]
