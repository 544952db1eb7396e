"""How frames become datagrams and back: in a room where they are plain, and in one where they are sealed.

A session has one of the two, and leaves to it all that happens frame by frame.
"""

from collections import deque
from collections.abc import Callable

from softlan.ctrl.messages import BadMessage, PeerJoined
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.proto.budget import SEAL_OVERHEAD
from softlan.proto.drop import Action, DropReason
from softlan.proto.ethernet import HEADER_LENGTH as ETHERNET_HEADER
from softlan.proto.ethernet import parse as parse_ethernet
from softlan.proto.keys import SALT_LENGTH, sender_key
from softlan.proto.overlay import HEADER_LENGTH, Kind, header
from softlan.proto.seal import Opener, Sealer

HELD = 32
"""Datagrams that wait for the news of their sender, in all."""
HOLD_TIME = 1.0  # seconds; the stream repeats what was lost within that
MOST_SENDERS = 4096
"""Others in a sealed room; each takes 1 KiB, 3 with `cryptography`'s cipher, and 33 more once it was heard.

A relay can make up as many as there are peer ids."""

_SEALED_START = HEADER_LENGTH + ETHERNET_HEADER


class PlainFrames:
    """Frames of a room that is not sealed, and what both kinds of room have in common."""

    def __init__(self, send: Callable[[list[bytes]], int], counters: TrafficCounters, log: FrameLog, room: str) -> None:
        """`send` queues datagrams in their order, up to the first that fits no packet, and says how many."""
        self.salt: str | None = None
        """What our hello tells the others of our key, in hex; None where frames are plain."""
        self._send = send
        self._counters = counters
        self._log = log
        self._room = room
        self._header = b""
        self._longest = 0
        self._limit = 0  # bytes of a frame that our budget carries
        self._overhead = HEADER_LENGTH  # bytes of a datagram beside its frame

    def joined(self, peer_id: int, budget: int, room_mtu: int) -> None:
        """We are in the room; `budget` is that of our datagrams, in bytes."""
        self._header = header(Kind.ETHERNET, peer_id)
        self._longest = ETHERNET_HEADER + room_mtu
        self._limit = budget - HEADER_LENGTH

    def peer_joined(self, peer: PeerJoined, now: float) -> list[bytes]:
        """Someone is in the room; the frames that had come before the news of it."""
        return []

    def peer_left(self, peer_id: int) -> None:
        """Someone has left."""

    def tick(self, now: float) -> None:
        """What is due by time."""

    def send(self, frames: list[bytes], now: float) -> None:
        """Queue a burst for the room. What cannot go is counted with its reason."""
        if max(map(len, frames), default=0) > min(self._limit, self._longest) or (
            min(map(len, frames), default=ETHERNET_HEADER) < ETHERNET_HEADER
        ):
            frames = [frame for frame in frames if self._fits(frame, now)]
        if not frames:
            return
        datagrams = self._datagrams(frames)
        taken = self._send(datagrams)
        if taken < len(frames):
            frames = self._sent_singly(frames, datagrams, taken, now)
        self._counters.frames_out += len(frames)
        self._counters.bytes_out += sum(map(len, frames))
        if self._log.all:
            for frame in frames:
                self._record(frame, "to_room", Action.FORWARDED, now)

    def received(self, datagrams: list[bytes], now: float) -> tuple[list[bytes], list[bytes]]:
        """The frames of a burst, counted; and those datagrams that are no frames of this kind of room."""
        frames: list[bytes] = []
        others: list[bytes] = []
        size = 0
        log_all = self._log.all
        for datagram in datagrams:
            length = len(datagram)
            # Version 1, kind Ethernet, no flags: nearly every datagram.
            if datagram[:2] == b"\x10\x00" and length >= HEADER_LENGTH + ETHERNET_HEADER:
                frames.append(datagram[HEADER_LENGTH:])
                size += length
                if log_all:
                    self._record(frames[-1], "from_room", Action.FORWARDED, now, peer=_sender(datagram))
            else:
                others.append(datagram)
        counters = self._counters
        counters.frames_in += len(frames)
        counters.bytes_in += size - HEADER_LENGTH * len(frames)
        return frames, others

    def _datagrams(self, frames: list[bytes]) -> list[bytes]:
        """What carries them."""
        prefix = self._header
        return [prefix + frame for frame in frames]

    def _fits(self, frame: bytes, now: float) -> bool:
        """Whether the room and our budget carry a frame; one that they do not is counted."""
        if len(frame) > self._longest and self._is_jumbo(frame):
            self._refuse(frame, DropReason.JUMBO, now)
        elif len(frame) > self._limit:
            self._refuse(frame, DropReason.OVER_BUDGET, now)
        elif len(frame) < ETHERNET_HEADER:
            self._refuse(frame, DropReason.RUNT, now)
        else:
            return True
        return False

    def _sent_singly(self, frames: list[bytes], datagrams: list[bytes], taken: int, now: float) -> list[bytes]:
        """The frames that are sent of a burst of which `taken` were, when the rest is tried one by one."""
        sent = frames[:taken]
        for frame, datagram in zip(frames[taken:], datagrams[taken:], strict=True):
            if self._send([datagram]):
                sent.append(frame)
            else:
                self._refuse(frame, DropReason.OVER_BUDGET, now)
        return sent

    def _refuse(self, frame: bytes, reason: DropReason, now: float) -> None:
        self._counters.drop(reason)
        if self._log.drops:
            self._record(frame, "to_room", reason.action, now, reason)

    def _record(
        self,
        frame: bytes,
        direction: str,
        action: Action,
        now: float,
        reason: DropReason | None = None,
        peer: int | None = None,
        sealed: bool = False,
    ) -> None:
        self._log.record(
            now,
            frame=frame,
            action=action,
            reason=reason,
            direction=direction,
            room=self._room,
            peer=peer,
            budget=self._limit + self._overhead if reason is DropReason.OVER_BUDGET else None,
            overhead=self._overhead,
            sealed=sealed,
        )

    def _is_jumbo(self, frame: bytes) -> bool:
        """Whether the payload is above the room's MTU; tags are not payload."""
        view = parse_ethernet(frame)
        tags = len(view.tags) if view is not None else 0
        return len(frame) - 4 * tags > self._longest


class SealedFrames(PlainFrames):
    """Frames of a sealed room.

    The news of a sender comes on the control stream, and its first datagrams may overtake it: a sender that is not
    known yet, or that came back with a new key. They are held for a moment, and opened when the news is there; what
    it does not come for is counted then. What is held when the session ends is forgotten.
    """

    def __init__(
        self,
        send: Callable[[list[bytes]], int],
        counters: TrafficCounters,
        log: FrameLog,
        room: str,
        frame_key: bytes,
        mac: bytes | None,
        salt: bytes | None,
        opener: Opener | None,
    ) -> None:
        """`mac` is ours, None for a gateway. Raises ValueError without a salt: one that is used again gives keys away.

        Without an `opener` that has seen earlier sessions, their frames could be shown to us once more.
        """
        super().__init__(send, counters, log, room)
        if salt is None or len(salt) != SALT_LENGTH:
            raise ValueError(f"a session in a sealed room needs a salt of {SALT_LENGTH} bytes")
        self.salt = salt.hex()
        self._overhead += SEAL_OVERHEAD
        self._key = sender_key(frame_key, salt, mac)
        self._mac = mac
        self._seal: Sealer | None = None
        self._opener = Opener(frame_key) if opener is None else opener
        # By header, the oldest first: until when they wait, and what speaks against them.
        self._held: dict[bytes, deque[tuple[float, DropReason, bytes]]] = {}

    def joined(self, peer_id: int, budget: int, room_mtu: int) -> None:
        """We are in the room: what is sent is sealed, and who else is there will be said.

        Raises ValueError the second time: another counter that begins at 0 would use nonces twice.
        """
        if self._seal is not None:
            raise ValueError("a session joins once")
        super().joined(peer_id, budget - SEAL_OVERHEAD, room_mtu)
        self._seal = Sealer(self._key, header(Kind.SEALED, peer_id))
        self._opener.reset()

    def peer_joined(self, peer: PeerJoined, now: float) -> list[bytes]:
        """Someone is in the room; the frames that had come before the news of it.

        Nobody else has our MAC, and no room has two gateways: who is said to be what we are would show us our own
        frames. Raises BadMessage when they are more than can be kept.
        """
        self._opener.remove(peer.peer_id)
        mac = peer.mac_bytes
        if peer.seal is None or mac == self._mac:
            return []
        if self._opener.senders >= MOST_SENDERS:
            raise BadMessage(f"peer_joined: more than {MOST_SENDERS} others are too many for one room")
        self._opener.add(peer.peer_id, mac, bytes.fromhex(peer.seal))
        waiting = self._held.pop(header(Kind.SEALED, peer.peer_id), ())
        return self._opened([datagram for _, _, datagram in waiting], now, have_waited=True)[0]

    def peer_left(self, peer_id: int) -> None:
        """Someone has left."""
        self._opener.remove(peer_id)

    def tick(self, now: float) -> None:
        """Give up what has waited long enough."""
        for held in list(self._held.values()):
            while held and now >= held[0][0]:
                self._give_up(held, now)

    def received(self, datagrams: list[bytes], now: float) -> tuple[list[bytes], list[bytes]]:
        """The frames of a burst, counted; and those datagrams that are no frames of this kind of room."""
        return self._opened(datagrams, now)

    def _datagrams(self, frames: list[bytes]) -> list[bytes]:
        return [] if self._seal is None else list(map(self._seal.seal, frames))

    def _opened(
        self, datagrams: list[bytes], now: float, *, have_waited: bool = False
    ) -> tuple[list[bytes], list[bytes]]:
        frames: list[bytes] = []
        others: list[bytes] = []
        size = 0
        open_, log_all = self._opener.open, self._log.all
        for datagram in datagrams:
            frame = open_(datagram)
            if isinstance(frame, bytes):
                frames.append(frame)
                size += len(frame)
                if log_all:
                    self._record(frame, "from_room", Action.FORWARDED, now, peer=_sender(datagram))
            elif frame is DropReason.MALFORMED:
                others.append(datagram)
            elif have_waited or frame not in (DropReason.UNKNOWN_SENDER, DropReason.BAD_SEAL):
                self._drop(datagram, frame, now)
            else:
                self._hold(datagram, frame, now)
        counters = self._counters
        counters.frames_in += len(frames)
        counters.bytes_in += size
        return frames, others

    def _hold(self, datagram: bytes, reason: DropReason, now: float) -> None:
        """Let it wait. If too many do, one goes of the peer that has the most: nobody takes everyone's place."""
        held = self._held
        if sum(map(len, held.values())) >= HELD:
            self._give_up(max(held.values(), key=len), now)
        held.setdefault(datagram[:HEADER_LENGTH], deque()).append((now + HOLD_TIME, reason, datagram))

    def _give_up(self, held: deque[tuple[float, DropReason, bytes]], now: float) -> None:
        _, reason, datagram = held.popleft()
        if not held:
            del self._held[datagram[:HEADER_LENGTH]]
        self._drop(datagram, reason, now)

    def _drop(self, datagram: bytes, reason: DropReason, now: float) -> None:
        self._counters.drop(reason)
        if self._log.drops:
            # What is not opened is noise: only its length is told.
            shown = datagram[HEADER_LENGTH:_SEALED_START] + bytes(len(datagram) - _SEALED_START - SEAL_OVERHEAD)
            self._record(shown, "from_room", reason.action, now, reason, _sender(datagram), sealed=True)


def _sender(datagram: bytes) -> int:
    """The peer id in a datagram's header."""
    return datagram[2] << 8 | datagram[3]
