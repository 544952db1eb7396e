"""When to remind the LAN's switches where the remote players are.

A switch forgets a MAC that it has not seen as a source for its ageing time, 300 s by default (IEEE
802.1Q-2018 section 8.8.3), and floods what is for it from then on. A player that only listens would be
forgotten. The gateway therefore sends, for each remote MAC that has been quiet towards the LAN for
`interval`, a small frame with that MAC as its source.
"""

from softlan.proto.ethernet import LOCAL_EXPERIMENTAL, MIN_LENGTH

AGEING = 300.0
"""A MAC that was never announced is forgotten when it was last heard this many seconds ago."""

NOBODY = bytes.fromhex("02736c000001")
"""Destination of a refresh: a locally administered unicast address that no station has.

As unknown unicast it is flooded, so every switch of the LAN learns, and every network card drops it in
hardware; access points do not send it, since no station has joined with it. A broadcast would reach each
host's processor, and the air at the lowest rate. The client's own MAC as destination would teach only the
first switch, which drops a frame whose destination is behind the port that it came from.
"""

_TAIL = LOCAL_EXPERIMENTAL.to_bytes(2, "big") + b"softlan CAM refresh"


def refresh_frame(mac: bytes) -> bytes:
    """Build the frame that teaches switches `mac`: 60 bytes, EtherType 0x88b5 (IEEE 802a, for local use)."""
    return (NOBODY + mac + _TAIL).ljust(MIN_LENGTH, b"\0")


class _Entry:
    """What is known of one remote MAC."""

    __slots__ = ("heard", "peer", "sent")

    def __init__(self, heard: float, sent: float) -> None:
        self.heard = heard  # when its own traffic last went out to the LAN
        self.sent = sent  # when anything with it as source last did
        self.peer: int | None = None  # who announced it


class CamRefresh:
    """The remote MACs, each with the time it was last shown to the LAN; times are of one monotonic clock.

    At most `capacity` are kept; for a new one, that which was shown longest ago makes room.
    """

    __slots__ = ("_capacity", "_entries", "_interval", "_macs")

    def __init__(self, interval: float = 60.0, capacity: int = 1024) -> None:
        self._interval = interval
        self._capacity = capacity
        self._entries: dict[bytes, _Entry] = {}
        self._macs: dict[int, bytes] = {}  # of those announced, by peer id

    def seen(self, mac: bytes, now: float) -> None:
        """Note that a frame with this source MAC goes out to the LAN: as good as a refresh."""
        entry = self._entries.get(mac)
        if entry is None:
            self._add(mac, _Entry(now, now))
        else:
            entry.heard = entry.sent = now

    def joined(self, peer_id: int, mac: bytes, now: float) -> None:
        """Note an announced client; its first refresh is due at once, as its MAC may have moved to us."""
        self.left(peer_id)
        entry = self._entries.get(mac)
        if entry is None:
            entry = _Entry(now, now - self._interval)
            self._add(mac, entry)
        elif entry.peer is not None:
            del self._macs[entry.peer]
        entry.peer = peer_id
        self._macs[peer_id] = mac

    def left(self, peer_id: int) -> None:
        """Forget a client's MAC; one that is not known is no error."""
        mac = self._macs.pop(peer_id, None)
        if mac is not None:
            del self._entries[mac]

    def clear(self) -> None:
        """Forget every MAC: the tunnel is down, so nobody is behind us."""
        self._entries.clear()
        self._macs.clear()

    def due(self, now: float) -> list[bytes]:
        """The refresh frames to send now; they count as sent. Forgets unannounced MACs of the past."""
        frames: list[bytes] = []
        for mac, entry in list(self._entries.items()):
            if entry.sent + self._interval > now:
                continue
            if entry.peer is None and entry.heard + AGEING <= now:
                del self._entries[mac]
            else:
                entry.sent = now
                frames.append(refresh_frame(mac))
        return frames

    def next_deadline(self) -> float | None:
        """When `due` will have something to do; None while no MAC is known."""
        if not self._entries:
            return None
        return min(entry.sent for entry in self._entries.values()) + self._interval

    def _add(self, mac: bytes, entry: _Entry) -> None:
        entries = self._entries
        if len(entries) >= self._capacity:
            oldest = min(entries, key=lambda known: entries[known].sent)
            peer = entries.pop(oldest).peer
            if peer is not None:
                del self._macs[peer]
        entries[mac] = entry
