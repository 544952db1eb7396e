"""Sealed frames: AES-256-GCM from endpoint to endpoint, past the relay (docs/reference/protocol.md, "Sealed frames").

```
bytes 0-3     overlay header, kind 1
bytes 4-17    destination, source and EtherType of the frame, in clear
bytes 18-25   counter, big-endian
byte 26...    the rest of the frame, encrypted, and its 16-byte tag
```

The nonce is 4 zero bytes and the counter, the additional data are the first 18 bytes. Each session has a key of its
own (`keys.sender_key`), so its counter begins at 0 and no nonce is used twice.
"""

from array import array
from struct import Struct

from softlan.proto.aead import REFUSED, Cipher, cipher
from softlan.proto.drop import DropReason
from softlan.proto.keys import sender_key
from softlan.proto.overlay import Kind, header, parse

WINDOW = 4096
"""Frames by which one may be late and still be told from a replay: what is express may overtake a stream's queues."""
REMEMBERED = 4096
"""Sessions of others that ended here, or that we left, of which it is still known how far they had come."""

_START = Struct(">18sQ")  # what is in clear, and the counter
_SHORTEST = _START.size + 16

# Made once: a slice with its bounds written out is made anew each time.
_OVERLAY = slice(4)
_ETHERNET = slice(14)
_REST = slice(14, None)
_SEALED_REST = slice(_START.size, None)
_SOURCE = slice(10, 16)
_BEHIND_OVERLAY = slice(4, None)


class Sealer:
    """Seals the frames of one session."""

    __slots__ = ("_counter", "_encrypt", "_header")

    def __init__(self, key: bytes, header: bytes) -> None:
        """`key` is this session's `keys.sender_key`, `header` the overlay header of kind 1 with our peer id."""
        self._counter = 0
        self._encrypt = cipher(key).encrypt
        self._header = header

    def seal(self, frame: bytes) -> bytes:
        """Make the whole datagram of a frame of at least 14 bytes; it is 28 bytes longer."""
        counter = self._counter
        self._counter = counter + 1
        start = self._header + frame[_ETHERNET]
        return start + counter.to_bytes(8, "big") + self._encrypt(counter, frame[_REST], start)


class Opener:
    """Opens the frames of everyone else in a room. Lives longer than a session, since it knows what has been seen.

    Nobody here is trusted but for what a tag proves: whatever a relay says or sends, nothing raises, no frame is
    taken twice, and what is remembered is bounded.
    """

    def __init__(self, frame_key: bytes) -> None:
        """`frame_key` is the room's (`keys.room_keys`)."""
        self._frame_key = frame_key
        self._senders: dict[bytes, _Sender] = {}  # by the first 4 bytes of their datagrams
        self._headers: dict[_Name, bytes] = {}
        self._tops: dict[_Name, int] = {}  # of senders that are not there now, the last one that left at the end

    @property
    def senders(self) -> int:
        """How many are in the room."""
        return len(self._senders)

    def add(self, peer_id: int, mac: bytes | None, salt: bytes) -> None:
        """A sender is in the room: `mac` is a client's, None for the gateway; `salt` is that of its session."""
        start = header(Kind.SEALED, peer_id)
        name = (salt, mac)
        self._forget(start)
        self._forget(self._headers.get(name))  # one session has one window, whatever it is called
        key = sender_key(self._frame_key, salt, mac)
        self._senders[start] = _Sender(cipher(key), mac, name, self._tops.pop(name, -1))
        self._headers[name] = start

    def remove(self, peer_id: int) -> None:
        """A sender has left; fine if it was not there."""
        self._forget(header(Kind.SEALED, peer_id))

    def reset(self) -> None:
        """We are in the room anew: who is there will be said again."""
        for start in list(self._senders):
            self._forget(start)

    def open(self, datagram: bytes) -> bytes | DropReason:
        """Return the frame in a datagram, or why there is none.

        MALFORMED is what is no sealed frame at all, UNKNOWN_SENDER what came from nobody that was added, BAD_SEAL
        what did not come from its sender as it is, INVALID_SOURCE a client's frame with a MAC that is not its own,
        REPLAYED one that was opened before, or is too late to tell.
        """
        sender = self._senders.get(datagram[_OVERLAY])
        if sender is None or len(datagram) < _SHORTEST:
            parsed = parse(datagram)
            return DropReason.UNKNOWN_SENDER if parsed and parsed[0] is Kind.SEALED else DropReason.MALFORMED
        start, counter = _START.unpack_from(datagram)
        try:
            rest = sender.decrypt(counter, datagram[_SEALED_REST], start)
        except REFUSED:
            return DropReason.BAD_SEAL
        mac, seen, top = sender.mac, sender.seen, sender.top
        if mac is not None and start[_SOURCE] != mac:
            return DropReason.INVALID_SOURCE
        if seen is None:
            seen = sender.seen = _window(top)
        if counter > top:
            sender.top = counter
        elif counter <= top - WINDOW or seen[counter % WINDOW] == counter:
            return DropReason.REPLAYED
        seen[counter % WINDOW] = counter
        frame: bytes = start[_BEHIND_OVERLAY] + rest
        return frame

    def _forget(self, start: bytes | None) -> None:
        """Keep of a sender only how far it came: what it sent before will not come again."""
        sender = self._senders.pop(start, None) if start is not None else None
        if sender is None:
            return
        del self._headers[sender.name]
        if sender.top >= 0:  # only who has the room's key can make us remember anything
            tops = self._tops
            tops[sender.name] = sender.top
            if len(tops) > REMEMBERED:
                del tops[next(iter(tops))]


_Name = tuple[bytes, bytes | None]  # a session's salt, and a client's MAC


class _Sender:
    """One session of someone else."""

    __slots__ = ("decrypt", "mac", "name", "seen", "top")

    def __init__(self, cipher: Cipher, mac: bytes | None, name: _Name, top: int) -> None:
        self.decrypt = cipher.decrypt
        self.mac = mac
        self.name = name
        self.top = top
        """The highest counter that was opened; -1 before the first."""
        self.seen: array[int] | None = None
        """By counter modulo WINDOW, the last counter that was opened; made for the first frame."""


def _window(top: int) -> "array[int]":
    """Make a window in which nothing was seen, but everything up to `top`."""
    # 0 belongs to the first place, and 1 does not: so no place holds a counter of its own.
    seen = array("Q", bytes(8 * WINDOW))
    seen[0] = 1
    for counter in range(max(0, top - WINDOW + 1), top + 1):
        seen[counter % WINDOW] = counter
    return seen
