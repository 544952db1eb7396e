"""Many attempts, one session: dead addresses, late relays, lost packets, narrow paths; in virtual time."""

import datetime
import hashlib

import pytest
from tests.support.virtual_room import RoomWorld
from tests.support.wire import RELAY, SERVER_NAME, Link, WireSocket, credentials, trust

from softlan.client.attempts import AGAIN, ATTEMPT_DELAY, PATIENCE, SECOND_LOOK, Attempts
from softlan.client.session import EndKind, Identity, Session
from softlan.ctrl.messages import PeerJoined, PeerLeft, RejectCode, Role, Welcome
from softlan.errors import HostError
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.quic.configuration import client_configuration
from softlan.quic.connection import Connection
from softlan.quic.door import Door
from softlan.quic.handler import CloseCause
from softlan.quic.trust import Credentials, Trust, _make_development
from softlan.relay.limits import RelayLimits

DEAD: SocketAddress = ("192.0.2.66", 443)
ALSO: SocketAddress = ("192.0.2.2", 443)
MAC = bytes.fromhex("02005e100001")


class Sink:
    """A `FrameSink` that counts."""

    def __init__(self) -> None:
        self.ticks = 0
        self.came: list[PeerJoined] = []
        self.went: list[PeerLeft] = []
        self.frames: list[bytes] = []

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        raise AssertionError("the tunnel tells it")

    def lost(self) -> None:
        raise AssertionError("the tunnel tells it")

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        self.came.append(peer)

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        self.went.append(left)

    def frames_received(self, frames: list[bytes], now: float) -> None:
        self.frames += frames

    def tick(self, now: float) -> None:
        self.ticks += 1


class Try:
    """Attempts at a `RoomWorld`'s relay."""

    def __init__(
        self,
        world: RoomWorld,
        *targets: SocketAddress,
        link: Link | None = None,
        home: SocketAddress | None = None,
        pinned: Trust | None = None,
        narrow: bool = False,
        mac: bytes = MAC,
        refuses: bool = False,
    ) -> None:
        self.world = world
        self.sink = Sink()
        self.welcome: Welcome | None = None
        self.sock: WireSocket = world.sock(home, link)
        self._identity = Identity(Role.CLIENT, "den", mac, "a test")
        self._refuses = refuses
        self.started = world.now
        self.attempts = Attempts(
            world.endpoint(self.sock),
            targets,
            pinned or trust(),
            self._open,
            self._joined,
            self.sink,
            relay="relay.example:443",
            narrow=narrow,
            clock=lambda: world.now,
        )
        self.failure: HostError | None = None
        world.clock.every(0.1, self._tick)
        self._tick()

    def _open(self, connection: Connection, attempts: Attempts, now: float) -> Session:
        return Session(connection, self._identity, attempts, TrafficCounters(), now=now)

    def _joined(self, session: Session, welcome: Welcome) -> None:
        self.welcome = welcome
        if self._refuses:
            raise HostError("tap", "no more interfaces")

    def _tick(self) -> None:
        try:
            self.attempts.tick(self.world.now)
        except HostError as error:
            self.failure = error

    def result(self, within: float = 20.0) -> float:
        """Wait for the room, or the end; how long that took."""
        self.world.run(lambda: self.welcome or self.attempts.ended, within=within)
        return self.world.now - self.started

    def join(self, within: float = 20.0) -> int:
        """Wait for the room; the budget there."""
        self.result(within)
        assert self.welcome is not None, self.attempts.ended
        return self.welcome.datagram_budget


def alias(world: RoomWorld, address: SocketAddress, shown: Credentials | None = None) -> None:
    """The relay has another address, and may have another certificate there."""
    side = Door(shown or credentials(), lambda connection: world.relay.accept(connection, world.now))
    world.endpoint(world.sock(address, Link(latency=0.0)), side)


def certificate(*names: str) -> Credentials:
    """Another relay's."""
    return _make_development([*names, SERVER_NAME], datetime.datetime.now(datetime.UTC))


def pin(shown: Credentials) -> Trust:
    return Trust(SERVER_NAME, fingerprint=hashlib.sha256(shown.leaf_der).hexdigest())


# One or the other


def test_an_address_that_answers_is_enough() -> None:
    world = RoomWorld()
    once = Try(world, RELAY)
    assert once.result() < 0.2
    assert once.attempts.winner is not None
    assert once.attempts.lasted == 0.0
    world.run(within=5)
    assert once.attempts.lasted == pytest.approx(5.0)
    assert once.sink.ticks == pytest.approx(50, abs=1)
    assert len(world.relay.sessions) == 1


def test_a_dead_address_costs_a_moment() -> None:
    world = RoomWorld()
    once = Try(world, DEAD, RELAY)
    assert ATTEMPT_DELAY <= once.result() < ATTEMPT_DELAY + 0.3
    world.run(within=5)
    assert once.attempts.ended is None
    assert not [address for _, address in once.sock.sent[-5:] if address == DEAD], "the other attempt is over"


def test_of_two_that_answer_one_says_hello() -> None:
    world = RoomWorld(Link(latency=0.2))
    alias(world, ALSO)
    once = Try(world, RELAY, ALSO)
    once.join()
    world.run(within=3)
    assert once.attempts.winner is not None
    assert once.attempts.winner.connection.address == RELAY
    assert [session.member is not None for session in world.relay.sessions] == [True]
    assert once.attempts.ended is None


def test_without_an_answer_it_is_over_in_a_while() -> None:
    world = RoomWorld()
    once = Try(world, DEAD, ALSO)
    assert once.result() == pytest.approx(PATIENCE, abs=0.2)
    assert once.attempts.ended is not None
    assert (once.attempts.ended.kind, once.attempts.ended.reason) == (EndKind.LOST, "no answer from relay.example:443")


def test_without_an_address_it_is_over_at_once() -> None:
    once = Try(RoomWorld())
    assert once.result() < 0.2
    assert once.attempts.ended is not None
    assert once.attempts.ended.reason == "no usable address for relay.example:443"


# Who it is


def test_an_impostor_is_told_at_once() -> None:
    world = RoomWorld()
    once = Try(world, RELAY, pinned=pin(certificate()))
    assert once.result() < 0.3
    assert once.attempts.ended is not None
    assert once.attempts.ended.kind is EndKind.UNTRUSTED
    assert once.attempts.ended.reason.startswith("the relay could not be verified: it shows another certificate")


@pytest.mark.parametrize("targets", [(RELAY, DEAD), (DEAD, RELAY)])
def test_an_impostor_is_told_even_if_another_address_is_dead(targets: tuple[SocketAddress, ...]) -> None:
    world = RoomWorld()
    once = Try(world, *targets, pinned=pin(certificate()))
    once.result()
    assert once.attempts.ended is not None
    assert once.attempts.ended.kind is EndKind.UNTRUSTED


def test_an_impostor_at_one_address_does_not_keep_us_from_the_relay_at_the_other() -> None:
    world = RoomWorld()
    alias(world, ALSO, certificate())
    once = Try(world, ALSO, RELAY)
    assert once.result() < 0.4, "the next address is tried as soon as one has failed"
    assert once.welcome is not None


def test_a_rejected_hello_is_the_end_of_all_attempts() -> None:
    world = RoomWorld(limits=RelayLimits(max_room_peers=1))
    world.join()
    alias(world, ALSO)
    once = Try(world, DEAD, RELAY, ALSO)
    once.result()
    assert once.attempts.ended is not None
    assert once.attempts.ended.reject is not None
    assert once.attempts.ended.reject.code is RejectCode.ROOM_FULL


def test_what_the_local_side_complains_about_comes_out_at_the_next_tick() -> None:
    world = RoomWorld()
    once = Try(world, RELAY, refuses=True)
    world.run(lambda: once.failure, within=1)
    assert str(once.failure) == "no more interfaces"
    once.attempts.leave("quit", "")
    world.flush()
    world.run(lambda: not world.relay.sessions, within=1)


# Late relays and lost packets


@pytest.mark.parametrize("away", [0.3, 0.9, 1.7, 2.2, 2.8, 3.1, 3.3, 3.6, 4.1])
def test_a_relay_that_comes_back_is_found_soon_and_at_full_width(away: float) -> None:
    """As when it is restarted: the library repeats its first flight seldom, and smaller."""
    world = RoomWorld(Link(latency=0.02))
    once = Try(world, RELAY, link=Link(latency=0.02, down=True))
    world.run(within=away)
    once.sock.link.down = False
    assert once.join() == 1440
    assert world.now - once.started < away + AGAIN + SECOND_LOOK + 0.5


@pytest.mark.parametrize("seed", range(10))
def test_lost_packets_delay_it_a_little(seed: int) -> None:
    world = RoomWorld(Link(latency=0.03, loss=0.1, reorder=0.1), seed=seed)
    once = Try(world, RELAY)
    assert once.join() == 1440
    assert world.now - once.started < 5.0


def test_an_answer_that_is_lost_does_not_take_long_either() -> None:
    """The library's server repeats its own flight after seconds only."""
    world = RoomWorld(Link(latency=0.02))
    world.wire.taps.append(lambda data, source, _: None if source == RELAY and world.now < 1000.9 else data)
    once = Try(world, RELAY)
    assert once.result() < 3.5
    assert once.welcome is not None


@pytest.mark.parametrize(("latency", "budget"), [(0.3, 1440), (0.6, 1168), (1.0, 1168)])
def test_a_slow_path_is_waited_for(latency: float, budget: int) -> None:
    """Where a round trip takes longer than the library waits for its first flight, it takes that for lost."""
    world = RoomWorld(Link(latency=latency))
    once = Try(world, RELAY)
    assert once.join() == budget
    world.run(within=10)
    assert once.attempts.ended is None


# Narrow paths


def test_ipv6_leaves_less_room_and_that_is_known_beforehand() -> None:
    world = RoomWorld()
    relay, home = ("2001:db8::1", 443, 0, 0), ("2001:db8:1::10", 50000, 0, 0)
    alias(world, relay)
    once = Try(world, relay, home=home)
    assert once.join() == 1420
    assert world.now - once.started < 0.2, "nothing larger was tried"
    once.sock.rebind(("2001:db8:2::20", 50000, 0, 0))
    world.run(within=10)
    assert once.attempts.ended is None, "and as it needs no limit, the library can follow"


def test_the_narrowest_path_is_believed_at_the_second_look() -> None:
    world = RoomWorld(Link(latency=0.02, mtu=1280))
    once = Try(world, RELAY)
    assert once.join() == 1168
    assert world.now - once.started < 4.0
    assert once.attempts.narrow
    once.attempts.leave("quit", "")
    world.flush()
    again = Try(world, RELAY, narrow=True)
    assert again.join() == 1168
    assert again.result() < 2.0, "and then at the first"


def test_a_narrow_path_that_became_wide_is_noticed() -> None:
    world = RoomWorld()
    once = Try(world, RELAY, narrow=True)
    assert once.join() == 1440
    assert not once.attempts.narrow


def test_a_candidate_that_is_lost_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = RoomWorld(Link(latency=0.02))
    once = Try(world, RELAY, link=Link(latency=0.02, mtu=1280))
    world.run(lambda: once.attempts._candidate)
    candidate = once.attempts._candidate
    assert candidate is not None
    candidate.closed(CloseCause.ERROR, "broken", world.now)
    assert once.join() == 1168


def test_a_relay_with_a_large_certificate_is_reached_over_a_path_of_middle_width() -> None:
    """Its handshake packets may be larger than the client's first flight, all that tells it of the path's width."""
    large = certificate(*(f"relay-{number:02}.party.example" for number in range(28)))
    world = RoomWorld()
    alias(world, ALSO, large)
    middle = Link(latency=0.02, mtu=1350)
    direct = world.connect(to=ALSO, link=middle, configuration=client_configuration(pin(large)))
    once = Try(world, ALSO, link=middle, pinned=pin(large))
    assert once.join() == 1168
    assert not direct.ready, "else this certificate is not of the awkward size"
