"""Bounds of a relay, and token buckets to keep them."""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from softlan.proto.budget import DEFAULT_MTU_FLOOR


@dataclass(frozen=True)
class RelayLimits:
    """What one relay grants: the bounds of rooms and control messages.

    Those of QUIC are in `quic/crowd.py`, `line.py` and `ledger.py`, those of frames in the policy.
    """

    max_rooms: int = 256
    """Rooms with at least one member."""
    max_peers: int = 1024
    """Members of all rooms."""
    max_room_peers: int = 64
    """Members of one room, its gateway included."""
    mtu_floor: int = DEFAULT_MTU_FLOOR
    """An endpoint whose own MTU comes below is rejected, unless the room's is no larger."""
    malformed_threshold: int = 32
    """Malformed datagrams that are borne from one session; one more ends it."""
    probes_per_second: float = 20.0
    """Path probes that are echoed to one endpoint."""
    hellos_per_minute: float = 240.0
    """Hellos of one address, good or bad; a whole party may come from behind one NAT."""
    wrong_tokens_per_minute: float = 10.0
    """Different wrong tokens for one room from one address."""
    max_waiting: int = 1024
    """Sessions between their handshake and their hello."""
    hello_timeout: float = 5.0
    """Seconds from the handshake to the hello."""
    messages_per_second: float = 50.0
    """Control messages of one session."""
    messages_burst: int = 200
    """Of these, how many may come at once."""
    control_rate: float = 32 * 1024.0
    """Bytes a second on the control stream of one session."""
    control_burst: int = 128 * 1024
    """Of these, how many may come at once."""
    control_backlog: int = 256 * 1024
    """Bytes of control messages that may wait for a slow reader before it is disconnected."""
    stats_interval: float = 10.0
    """Seconds between two stats messages of an endpoint."""
    allow_universal_macs: bool = False
    """Whether a client may join with a universally administered MAC."""
    redirect: str | None = None
    """`host:port` of another relay to which every newcomer is sent; None to admit them here."""
    log_lines: int = 100
    """Lines of each level from one tick to the next, twice a second; the rest is counted."""


class TokenBucket:
    """A rate with a burst, in the caller's time."""

    __slots__ = ("_burst", "_rate", "_since", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._since = now

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take `amount` if it is there."""
        if now > self._since:
            self._tokens = min(self._burst, self._tokens + (now - self._since) * self._rate)
            self._since = now
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def wait(self, amount: float = 1.0) -> float:
        """Seconds from the last `take` until `amount` is there."""
        return max(0.0, (amount - self._tokens) / self._rate)


def prefix(address: str) -> str:
    """What counts as one address: of IPv6 the /64, which is what a single host has for itself (RFC 6177)."""
    return str(ipaddress.ip_network((address, 64), strict=False)) if ":" in address else address


class AddressLimiter:
    """One bucket for each address, by its `prefix`; bounded, the longest unseen address is forgotten first."""

    MAX_ADDRESSES = 4096

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def retry_after(self, address: str, now: float) -> float | None:
        """None if `address` may go on now, else the seconds that it should wait."""
        address = prefix(address)
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > self.MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(address)
        return None if bucket.take(now) else bucket.wait()
