"""Who waits to begin a connection.

A ClientHello costs some 2.5 ms, for which all others wait. So a few are taken at a time, which leaves half of the time
to those who are inside, and a burst of them waits in line: a party of 64 takes a third of a second.
"""

from collections import deque

from softlan.net.address import SocketAddress
from softlan.quic.crowd import network_of

BEGIN_AT_ONCE = 2
BEGIN_EVERY = 0.01  # seconds
MAX_WAITING = 256  # datagrams, of which a ClientHello may need two; who comes when there are more has to repeat them
MAX_WAITING_NETWORK = 160


class Line:
    """First datagrams of connections, in the order of their coming."""

    __slots__ = ("_begun", "_begun_at", "_networks", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, SocketAddress]] = deque()
        self._networks: dict[bytes, int] = {}
        self._begun = 0  # since then:
        self._begun_at = -BEGIN_EVERY

    def __len__(self) -> int:
        return len(self._waiting)

    def is_open(self, now: float) -> bool:
        """Whether a handshake may begin now."""
        if now >= self._begun_at + BEGIN_EVERY:
            self._begun_at, self._begun = now, 0
        return self._begun < BEGIN_AT_ONCE

    def began(self) -> None:
        """One has."""
        self._begun += 1

    def opens(self) -> float | None:
        """When the next one may begin; None if nobody waits."""
        return self._begun_at + BEGIN_EVERY if self._waiting else None

    def join(self, data: bytes, address: SocketAddress) -> bool:
        """Let one wait; False if the line is too long."""
        network = network_of(address)
        count = self._networks.get(network, 0)
        if len(self._waiting) >= MAX_WAITING or count >= MAX_WAITING_NETWORK:
            return False
        self._networks[network] = count + 1
        self._waiting.append((data, address))
        return True

    def leave(self) -> tuple[bytes, SocketAddress]:
        """The first one's turn has come."""
        data, address = self._waiting.popleft()
        network = network_of(address)
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]
        return data, address
