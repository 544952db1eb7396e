"""A peer that moves: NAT rebinding and roaming (RFC 9000, section 9), and those who only make it look so.

What bites in the library is dealt with here:

* A path that is begun and never validated, or an old one that the peer returns to, blocks all sending for good. So
  a path is begun only when the peer is heard from elsewhere, and no longer from where it was; and where the
  validation does not end, the connection does.
* A lost challenge is not repeated while more than two packets are in flight to the old address, and a PING that goes
  there puts the timer off. So the library may send only now and again, and the packet with the challenge is sent
  `COPIES` times, which the peer takes for a duplicate of the network's.
* The library keeps four paths in the life of a connection, the first among them, and forgets none. So three moves are
  followed; with the fourth the connection ends, and the peer comes back with a new one.
* DATAGRAMs queued while a new path is unvalidated would break the migration, so they are held back meanwhile.

Who watches a path can copy its packets, and let the copies arrive first and from another address (RFC 9000,
section 9.3.3). The packets that were copied still come from the peer's own, and so it stays where it is.
"""

from qh3.quic.connection import QuicConnection

from softlan.net.address import SocketAddress
from softlan.quic import inside

HOLD_TIME = 2.0  # seconds for the validation: some attempts, on a path that loses packets
QUIET_TIME = 0.05  # seconds without a packet from the old address; what overtakes others is not earlier by more
TRY_EVERY = 0.1  # seconds
COPIES = 3  # some 150 bytes in all; at least two packets came, and three times as much may be sent (section 8.1)
PATH_LOST = "the peer has moved, and its new address could not be validated"

Packets = list[tuple[bytes, SocketAddress]]


class Moving:
    """Where one peer is going, as far as its server can tell."""

    __slots__ = ("_challenge", "_copies", "_heard_at", "_quic", "_stray", "next_try", "target", "until")

    def __init__(self, quic: QuicConnection) -> None:
        self.target: SocketAddress | None = None
        """Where the peer has moved, while that is validated."""
        self.until = 0.0
        """When the validation has failed."""
        self.next_try = 0.0
        """While it is validated: when to let the library send again."""
        self._quic = quic
        self._stray: SocketAddress | None = None  # another address, from which the last packets came
        self._heard_at = 0.0
        self._challenge: Packets = []
        self._copies = 0

    def heard_at_home(self) -> None:
        """Something came from where the peer was; to be told only after `take_from_elsewhere`."""
        self._stray = None

    def take_from_elsewhere(
        self, data: bytes, address: SocketAddress, home: SocketAddress, now: float
    ) -> Packets | None:
        """Take what came from another address than `home`. If the peer has just moved: what is to be sent first.

        Until then it is taken as if it came from home. The library counts a path's bytes only when a packet is
        authentic and new, so nobody else's packets move the peer.
        """
        if address == self.target:
            self._quic.receive_datagram(data, address, now)
            return None
        if address == self._stray and now >= self._heard_at + QUIET_TIME:
            # The challenge must be the first thing that is queued, or it is sent to the old address.
            early: Packets = self._quic.datagrams_to_send(now)
            self.target, self.until, self.next_try = address, now + HOLD_TIME, now
            self._challenge, self._copies = [], COPIES
            return early
        before = self.bytes_received()
        self._quic.receive_datagram(data, home, now)
        if address != self._stray and self.bytes_received() > before:
            self._stray, self._heard_at = address, now
        return None

    def is_due(self, now: float) -> bool:
        """While the peer moves: whether the library may send now."""
        path = inside.active_path(self._quic)
        if path is not None and path.remote != self.target and now < self.next_try:
            return False
        self.next_try = now + TRY_EVERY
        return True

    def copies(self, out: Packets) -> Packets:
        """The packet with the challenge once more, if it is not among what is sent now."""
        challenge = [packet for packet in out if packet[1] == self.target]
        if challenge:
            self._challenge = challenge[:1]
        elif self._copies > 1:
            self._copies -= 1
            return self._challenge
        return []

    def has_arrived(self, out: Packets) -> SocketAddress | None:
        """The new address, once it is validated: the library sends there. `out` is what it sends now."""
        path = inside.active_path(self._quic)
        if path is not None:
            arrived = path.remote == self.target
        else:
            arrived = any(address == self.target for _, address in out)
        if not arrived:
            return None
        target, self.target, self._stray = self.target, None, None
        return target

    def bytes_received(self) -> int:
        """Bytes of authentic, new packets that came over the path in use."""
        path = inside.active_path(self._quic)
        return path.received if path else 0
