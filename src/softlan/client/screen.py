"""A player's own look at what comes out of a sealed room, where the relay cannot see what players send each other.

By the rules that the relay has for clients in a room that is not sealed: no DHCP, no router advertisements and no false
ARP or neighbour discovery from another player. What comes from the LAN is judged as the LAN's.
"""

from collections.abc import Container

from softlan.client.attempts import FrameSink
from softlan.client.look import Look
from softlan.ctrl.messages import PeerJoined, PeerLeft, Welcome
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.policy.engine import PolicyEngine
from softlan.proto.drop import DropReason


class Screen:
    """A `FrameSink` in front of a player's, which gets what passes.

    A frame's source is who sealed it (`proto.seal.Opener`), but for the gateway, which speaks for the whole LAN and
    could take any name. Who is a client is the relay's word; a lie about it only makes the rules stricter, since
    nobody's key fits one who is said to be what it is not.
    """

    def __init__(
        self, sink: FrameSink, mac: bytes, policy: PolicyEngine, counters: TrafficCounters, frame_log: FrameLog
    ) -> None:
        """`mac` is ours: what comes from the LAN cannot have it."""
        self._sink = sink
        verdict, ours = policy.verdict, frozenset((mac,))

        def onto_host(data: bytes, offset: int, clients: Container[bytes], room_mtu: int) -> DropReason | None:
            source = data[offset + 6 : offset + 12]
            return verdict(data, offset, source if source in clients else None, ours, room_mtu)

        self._look = Look(onto_host, counters, frame_log, "to_host")

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        """Pass it on; who else is in the room will be said."""
        self._look.joined(welcome.room, welcome.room_mtu)
        self._sink.joined(welcome, relay)

    def lost(self) -> None:
        """Pass it on."""
        self._sink.lost()

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Judge its frames as a client's, if it is one."""
        mac = peer.mac_bytes
        if mac is None:
            self._look.peer_left(peer.peer_id)
        else:
            self._look.peer_joined(peer.peer_id, mac)
        self._sink.peer_joined(peer, now)

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Nothing comes from it any more."""
        self._look.peer_left(left.peer_id)
        self._sink.peer_left(peer, left, now)

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """Pass on what the rules let pass."""
        if frames := self._look.passed(frames, now):
            self._sink.frames_received(frames, now)

    def tick(self, now: float) -> None:
        """Pass it on."""
        self._sink.tick(now)
