"""A peer that moves: NAT rebinding and roaming (RFC 9000, section 9), strays and forgeries."""

import itertools

import pytest
from tests.support.wire import RELAY, Link, World

from softlan.net.address import SocketAddress
from softlan.quic.breath import HOLD_LIMIT
from softlan.quic.handler import CloseCause
from softlan.quic.moving import HOLD_TIME, PATH_LOST, QUIET_TIME

ELSEWHERE: SocketAddress = ("203.0.113.9", 1234)


@pytest.mark.parametrize(
    "link", [Link(latency=0.03), Link(latency=0.03, loss=0.05, reorder=0.1)], ids=["clean", "poor"]
)
@pytest.mark.parametrize("size", [60, 1400])
def test_a_new_address_under_load_keeps_the_session(link: Link, size: int) -> None:
    world = World(link, seed=2)  # on the poor link, one such move in twenty takes longer than frames are held back
    client, server = world.pair()
    world.traffic(client, server, size=size)
    world.run(within=1)
    client.sock.rebind(ELSEWHERE)
    world.run(lambda: server.connection.address == ELSEWHERE, within=HOLD_TIME)
    world.flows(client, server)
    world.run(within=2)
    world.flows(client, server)
    assert client.end is None
    assert server.end is None


def test_a_move_costs_little_more_than_what_was_on_the_way() -> None:
    world = World(Link(latency=0.03))
    client, server = world.pair()
    world.traffic(client, server)
    world.run(within=1)
    client.sock.rebind(ELSEWHERE)
    world.run(within=2)
    got = [int.from_bytes(data[:4], "big") for data in client.datagrams]
    assert got == sorted(got), "what was held back keeps its place"
    assert len(set(range(got[-1] + 1)) - set(got)) <= 30, "0.12 s of 200 datagrams a second, and some more"
    assert [int.from_bytes(data[:4], "big") for data in server.datagrams] == list(range(len(server.datagrams)))


def test_frames_queued_before_the_move_is_seen_do_not_hinder_it() -> None:
    """In one turn another session may have queued for this one before its first packet from a new address is taken."""
    world = World()
    client, server = world.pair()
    client.sock.rebind(ELSEWHERE)
    for _ in range(5):
        client.connection.send_datagram(b"up")
        client.connection._owner.flush(world.now)  # type: ignore[attr-defined]
        world.clock.now += 0.02
        world.clock.run_due()
        for _ in range(10):
            server.connection.send_datagram(b"x" * 1440)
        server.connection._owner.receive(world.now)  # type: ignore[attr-defined]
    world.run(lambda: server.connection.address == ELSEWHERE, within=1)
    server.connection.send_datagram(b"found you")
    world.run(lambda: b"found you" in client.datagrams, within=1)


def test_a_quiet_client_that_moves_is_found_by_its_keep_alives() -> None:
    world = World(Link(latency=0.03))
    client, server = world.pair()
    world.run(within=5)
    client.sock.rebind(ELSEWHERE)
    client.connection.send_datagram(b"are you there?")
    world.run(lambda: server.connection.address == ELSEWHERE, within=1)


def test_three_moves_are_survived() -> None:
    world = World()
    client, server = world.pair()
    world.traffic(client, server)
    for port in (1, 2, 3):
        client.sock.rebind((ELSEWHERE[0], port))
        world.run(lambda: server.connection.address == client.sock.public, within=1)
        world.flows(client, server)


def test_one_packet_from_elsewhere_moves_nobody() -> None:
    world = World()
    client, server = world.pair()
    world.traffic(client, server)
    home = client.sock.public
    for port in range(1, 30):
        world.run(within=0.1)
        client.sock.rebind((ELSEWHERE[0], port))
        client.connection.send_datagram(b"stray")
        world.flush()
        client.sock.rebind(home)
    world.flows(client, server)
    assert server.connection.address == home
    assert server.datagrams.count(b"stray") == 29


def test_a_forged_packet_from_elsewhere_holds_nothing_up() -> None:
    """Whoever sees a connection ID can send something to it; only what is authentic counts."""
    world = World()
    client, server = world.pair()
    world.traffic(server)
    (cid, *_) = server.connection.cids

    def forge() -> None:
        world.wire.inject(b"\x40" + cid + bytes(60), ELSEWHERE, RELAY)

    world.clock.every(0.01, forge)
    world.run(within=1)
    count = len(client.datagrams)
    world.run(within=1)
    assert len(client.datagrams) >= count + 195


@pytest.mark.parametrize("moves", [["away", "home"], ["away"] * 4 + ["home"]], ids=["there and back", "too often"])
def test_where_the_library_cannot_follow_the_peer_is_told_to_come_again(moves: list[str]) -> None:
    """It keeps four paths in all, and does not go back to an old one: a new session is then the way out."""
    world = World()
    client, server = world.pair()
    world.traffic(client, server)
    home = client.sock.public
    for port, move in enumerate(moves, start=1):
        world.run(within=0.5)
        client.sock.rebind(home if move == "home" else (ELSEWHERE[0], port))
    world.run(lambda: client.end, within=HOLD_TIME + 0.5)
    assert client.end == (CloseCause.PEER, PATH_LOST)
    assert server.end == (CloseCause.TIMEOUT, "the peer has moved, and its new address could not be validated")


def test_and_at_once_where_packets_are_limited() -> None:
    world = World()
    client, server = world.pair()
    server.connection.limit_packets(1318)
    world.traffic(client, server, size=1300)
    world.run(within=0.5)
    client.sock.rebind(ELSEWHERE)
    world.run(lambda: client.end, within=0.2)
    assert client.end == (CloseCause.PEER, PATH_LOST)
    assert server.end is not None
    assert server.end[0] is CloseCause.TIMEOUT


def test_what_is_held_back_during_a_move_is_bounded() -> None:
    world = World()
    client, server = world.pair()
    client.sock.rebind(ELSEWHERE)
    client.connection.send_datagram(b"one")
    world.run(lambda: server.datagrams)
    world.run(within=QUIET_TIME)
    client.connection.send_datagram(b"two")
    world.run(lambda: server.datagrams[1:])
    client.sock.link.down = True
    for _ in range(3 * HOLD_LIMIT):
        assert server.connection.send_datagram(b"x" * 1000)
    assert len(server.connection._outbox.held) == HOLD_LIMIT


# Those who only make it look so (RFC 9000, section 9.3.3): copies that arrive first, and from elsewhere


def race(world: World, ahead: float, sources: list[SocketAddress]) -> None:
    """From now on let a copy of all that is for the relay arrive `ahead` of it, from `sources` in turn."""
    turn = itertools.cycle(sources)
    copied: set[bytes] = set()

    def tap(data: bytes, source: SocketAddress, destination: SocketAddress) -> bytes:
        if destination == RELAY and data not in copied:
            copied.add(data)
            world.wire.inject(data, next(turn), RELAY, delay=max(0.0, 0.03 - ahead))
        return data

    world.wire.taps.append(tap)


@pytest.mark.parametrize("sources", [[ELSEWHERE], [("203.0.113.9", port) for port in range(50)]], ids=["one", "many"])
@pytest.mark.parametrize("ahead", [0.001, 0.01, 0.03])
@pytest.mark.parametrize("interval", [0.001, 0.005, 0.3])
def test_copies_that_overtake_do_not_move_a_session(
    sources: list[SocketAddress], ahead: float, interval: float
) -> None:
    world = World(Link(latency=0.03))
    client, server = world.pair()
    home = client.sock.public
    world.run(within=1)
    race(world, ahead, sources)
    world.traffic(client, server, interval=interval, size=200)
    world.run(within=4)
    assert (client.end, server.end) == (None, None)
    assert server.connection.address == home
    assert {address for _, address in server.sock.sent} == {home}, "nothing goes to those who only forward"
    assert len(client.datagrams) >= 4 / interval - 40 / interval * 0.01 - 5
    assert len(server.datagrams) >= 4 / interval - 40 / interval * 0.01 - 5


def test_who_forwards_and_never_answers_gets_less_than_three_times_what_it_sent() -> None:
    """RFC 9000, section 9.3.2: the peer is not heard at home, so it seems to have moved to a victim."""
    world = World(Link(latency=0.03))
    client, server = world.pair()
    world.run(within=1)
    forwarded: list[int] = []

    def divert(data: bytes, source: SocketAddress, destination: SocketAddress) -> bytes | None:
        if destination != RELAY:
            return data
        forwarded.append(len(data))
        world.wire.inject(data, ELSEWHERE, RELAY)
        return None

    world.wire.taps.append(divert)
    world.traffic(server, interval=0.001, size=1400)
    world.traffic(client, interval=0.2, size=20)
    world.run(lambda: server.end, within=4)
    reflected = sum(length for length, address in server.sock.sent if address == ELSEWHERE)
    assert 0 < reflected <= 3 * sum(forwarded)
