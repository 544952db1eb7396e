"""A whole relay, and softlan's own sessions with it, in one virtual-time world.

world = RoomWorld(Link(latency=0.02, loss=0.05))
gateway = world.join(role=Role.GATEWAY)
player = world.join()
gateway.session.send_frames([frame(player.mac, LAN_HOST)])
world.run(lambda: player.frames)
"""

from collections.abc import Callable

from tests.support.wire import Link, Recorder, WireSocket, World, trust

from softlan.client.session import Ended, Identity, Session, State
from softlan.ctrl.framing import FrameDecoder, encode_frame
from softlan.ctrl.messages import Message, PeerJoined, PeerLeft, Role, Welcome, decode, encode
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.obs.logging import get_logger
from softlan.proto.budget import MAX_BUDGET
from softlan.proto.keys import SALT_LENGTH, room_keys
from softlan.proto.seal import Opener
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
        self.opener = Opener(identity.frame_key) if identity.frame_key is not None else None
        """Give it to a later session's Member, as a tunnel does."""
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
        self._salts = iter(range(1, 1000))

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
        secret: bytes | None = None,
        opener: Opener | None = None,
        make: Callable[["RoomWorld", Identity, WireSocket], Member] = Member,
    ) -> Member:
        """Begin a session, of a player with a MAC of its own unless told otherwise; a sealed one with a `secret`."""
        if role is Role.CLIENT and mac is None:
            mac = bytes.fromhex("02005e1000") + bytes((next(self._macs),))
        keys = room_keys(secret, room) if secret is not None else None
        identity = Identity(
            role, room, mac, "a test", keys.token if keys else room_token, keys.frame_key if keys else None
        )
        member = make(self, identity, self.sock(link=link))
        member.opener = opener or member.opener
        salt = next(self._salts).to_bytes(SALT_LENGTH, "big")

        def session(connection: Connection) -> Session:
            return Session(
                connection,
                member.identity,
                member,
                member.counters,
                resume=resume,
                max_budget=max_budget,
                salt=salt if keys else None,
                opener=member.opener,
                now=self.now,
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


class ScriptedRelay(Recorder):
    """The relay's side of one connection: echoes probes, reads what is said, and says what it is told to."""

    echoes = True

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.heard: list[Message | None] = []
        self._decoder = FrameDecoder()

    def stream_received(self, data: bytes, end: bool, now: float) -> None:
        super().stream_received(data, end, now)
        self.heard += [decode(payload) for payload in self._decoder.feed(data)]

    def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
        super().datagrams_received(datagrams, now)
        for datagram in datagrams:
            if self.echoes and datagram[0] == 0x12:
                self.connection.send_datagram(datagram)

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.write(encode_frame(encode(message)))

    def write(self, data: bytes) -> None:
        self.connection.send_stream(data)


class Stage(RoomWorld):
    """A `RoomWorld` whose relay is a `ScriptedRelay`, and one player there."""

    def __init__(
        self,
        kind: type[ScriptedRelay] = ScriptedRelay,
        *,
        welcome: Welcome | None = WELCOME,
        secret: bytes | None = None,
    ) -> None:
        World.__init__(self)
        peers = self.scripts = list[ScriptedRelay]()

        def accept(connection: Connection) -> ScriptedRelay:
            peers.append(kind(connection))
            return peers[-1]

        self.server = self.serve(accept)
        self._macs = self._salts = iter(range(1, 250))
        self.player = self.start(secret=secret)
        self.session = self.player.session
        self.run(lambda: peers and (peers[0].heard or self.player.ended))
        self.script = peers[0]
        if welcome is not None:
            self.script.say(welcome)
            self.run(lambda: self.player.welcome)

    def end(self) -> Ended:
        self.run(lambda: self.player.ended)
        assert self.player.ended is not None
        assert self.session.state is State.ENDED
        return self.player.ended
