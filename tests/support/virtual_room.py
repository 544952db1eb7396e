"""A whole relay, and softlan's own sessions with it, in one virtual-time world.

world = RoomWorld(Link(latency=0.02, loss=0.05))
gateway = world.join(role=Role.GATEWAY)
player = world.join()
gateway.session.send_frames([frame(player.mac, LAN_HOST)])
world.run(lambda: player.frames)
"""

from collections.abc import Callable

from tests.support.wire import Link, WireSocket, World, trust

from softlan.client.session import Ended, Identity, Session
from softlan.ctrl.messages import PeerJoined, PeerLeft, Role, Welcome
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.obs.logging import get_logger
from softlan.proto.budget import MAX_BUDGET
from softlan.quic.configuration import client_configuration
from softlan.quic.connection import Connection
from softlan.relay.limits import RelayLimits
from softlan.relay.relay import Relay
from softlan.relay.settings import RoomBook, RoomSettings

LAN_HOST = bytes.fromhex("001b2101bb01")
BROADCAST = b"\xff" * 6
WELCOME = Welcome(
    version=1,
    mode="ethernet",
    peer_id=7,
    room="den",
    room_mtu=1418,
    effective_mtu=1418,
    datagram_budget=1440,
    gateway_present=False,
    resume="secret",
    stats_interval=10.0,
)


def frame(destination: bytes, source: bytes, payload: bytes = b"payload", ethertype: int = 0x88B5) -> bytes:
    """An Ethernet frame, at least 60 bytes long."""
    return (destination + source + ethertype.to_bytes(2, "big") + payload).ljust(60, b"\0")


class Member:
    """An endpoint of a `RoomWorld`: a session, and a `session.Listener` that remembers everything."""

    def __init__(self, world: "RoomWorld", identity: Identity, sock: WireSocket) -> None:
        self.mac = identity.mac or b""
        self.identity = identity
        self.counters = TrafficCounters()
        self.sock = sock
        self.session: Session
        self.ready = False
        self.welcome: Welcome | None = None
        self.ended: Ended | None = None
        self.ended_at: float | None = None
        self.came: list[PeerJoined] = []
        self.went: list[tuple[PeerJoined | None, PeerLeft]] = []
        self.frames: list[bytes] = []
        self._world = world

    # session.Listener

    def session_ready(self, session: Session) -> None:
        self.ready = True
        session.say_hello(self._world.now)

    def session_joined(self, session: Session, welcome: Welcome) -> None:
        self.welcome = welcome

    def session_ended(self, session: Session, ended: Ended) -> None:
        assert self.ended is None, "the end is told once"
        self.ended, self.ended_at = ended, self._world.now

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        self.came.append(peer)

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        self.went.append((peer, left))

    def frames_received(self, frames: list[bytes], now: float) -> None:
        self.frames += frames


class RoomWorld(World):
    """A `World` with a relay in it."""

    def __init__(
        self,
        link: Link | None = None,
        *,
        seed: int = 1,
        limits: RelayLimits | None = None,
        room_mtu: int = 1418,
    ) -> None:
        super().__init__(link, seed=seed)
        self.relay = Relay(
            limits or RelayLimits(),
            RoomBook(RoomSettings(room_mtu)),
            FrameLog.off(),
            get_logger("relay"),
        )
        self.server = self.serve(lambda connection: self.relay.accept(connection, self.now))
        self.clock.every(0.5, lambda: self.relay.tick(self.now))
        self._macs = iter(range(1, 250))

    def start(
        self,
        role: Role = Role.CLIENT,
        *,
        room: str = "den",
        mac: bytes | None = None,
        link: Link | None = None,
        resume: str | None = None,
        max_budget: int = MAX_BUDGET,
        room_token: str | None = None,
        make: Callable[["RoomWorld", Identity, WireSocket], Member] = Member,
    ) -> Member:
        """Begin a session, of a player with a MAC of its own unless told otherwise."""
        if role is Role.CLIENT and mac is None:
            mac = bytes.fromhex("02005e1000") + bytes((next(self._macs),))
        member = make(self, Identity(role, room, mac, "a test", room_token), self.sock(link=link))

        def session(connection: Connection) -> Session:
            return Session(
                connection, member.identity, member, member.counters, resume=resume, max_budget=max_budget, now=self.now
            )

        endpoint = self.endpoint(member.sock)
        address: SocketAddress = self.server.sock.public
        connection = endpoint.connect(client_configuration(trust()), address, session, self.now)
        assert isinstance(connection.handler, Session)
        member.session = connection.handler
        self.clock.every(0.1, lambda: member.session.tick(self.now))
        return member

    def join(self, role: Role = Role.CLIENT, **how: object) -> Member:
        """`start`, and let time pass until it is in the room."""
        member = self.start(role, **how)  # type: ignore[arg-type]
        self.run(lambda: member.welcome)
        return member
