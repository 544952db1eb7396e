"""Whatever an honest peer does, on whatever path: it is never ended for sending what is of no use (`ledger`)."""

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.forger import Forger
from tests.support.wire import RELAY, Link, Recorder, World

from softlan.net.address import SocketAddress
from softlan.quic import outbox
from softlan.quic.ledger import CREDIT

PATHS = {
    "clean": Link(latency=0.02),
    "a fifth is lost": Link(latency=0.02, loss=0.2),
    "poor": Link(latency=0.02, loss=0.05, reorder=0.3, duplicate=0.3),
}
LOADS = {"many small frames": (64, 100, 0.01), "many of one byte": (64, 1, 0.01), "one a second": (1, 60, 1.0)}
SECONDS = {0.01: 6.0, 1.0: 120.0}


def load(world: World, side: Recorder, count: int, size: int, interval: float) -> None:
    def send() -> None:
        for _ in range(count):
            side.connection.send_datagram(bytes(size))

    world.clock.every(interval, send)


def opened(link: Link) -> tuple[World, Recorder, Recorder]:
    world = World(replace(link), seed=3)
    client, server = world.pair()
    client.connection.send_stream(b"hello" * 40)
    world.run(lambda: server.stream)
    return world, client, server


def assert_in_credit(*sides: Recorder, of: float = 0.8) -> None:
    """Nobody was ended, nor near it."""
    for side in sides:
        assert side.end is None
        assert side.connection._ledger.is_open
        assert side.connection._ledger._balance > of * CREDIT


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", LOADS)
@pytest.mark.parametrize("ways", ["up", "down", "both"])
def test_frames_of_any_size_and_rate(path: str, name: str, ways: str) -> None:
    world, client, server = opened(PATHS[path])
    for side, way in ((client, "up"), (server, "down")):
        if ways in (way, "both"):
            load(world, side, *LOADS[name])
    world.run(within=SECONDS[LOADS[name][2]])
    assert_in_credit(client, server)


def talk(world: World, client: Recorder, server: Recorder) -> None:
    world.clock.every(10.0, functools.partial(client.connection.send_stream, bytes(300)))
    world.clock.every(5.0, functools.partial(client.connection.send_datagram, bytes(20)))


def introduce(world: World, client: Recorder, server: Recorder) -> None:
    world.clock.every(0.02, functools.partial(server.connection.send_stream, bytes(200)))


@pytest.mark.parametrize(("what", "seconds"), [(talk, 7200.0), (introduce, 20.0)], ids=["statistics", "peer_joined"])
@pytest.mark.parametrize("path", PATHS)
def test_messages(path: str, what: Callable[[World, Recorder, Recorder], None], seconds: float) -> None:
    world, client, server = opened(PATHS[path])
    what(world, client, server)
    world.run(within=seconds)
    assert_in_credit(client, server)


def test_as_much_of_the_stream_as_there_is_room_for() -> None:
    world, client, server = opened(PATHS["poor"])
    client.connection.send_stream(bytes(400_000))
    server.connection.send_stream(bytes(400_000))
    world.run(lambda: min(len(client.stream), len(server.stream)) >= 400_000, within=120)
    assert_in_credit(client, server, of=0.5)


def test_new_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEY_UPDATE_PACKETS", 100)
    monkeypatch.setattr(outbox, "LOOK_EVERY", 50)
    world, client, server = opened(PATHS["a fifth is lost"])
    world.traffic(client, server)
    world.run(within=10)
    assert_in_credit(client, server)


def test_moves() -> None:
    world, client, server = opened(PATHS["clean"])
    world.traffic(client, server)
    for port in (1, 2, 3):
        client.sock.rebind(("203.0.113.9", port))
        world.run(lambda: server.connection.address == client.sock.public, within=1)
        world.run(within=1)
    assert_in_credit(client, server)


@pytest.mark.parametrize("latency", [0.001, 0.02, 0.1])
@pytest.mark.parametrize("after", [0.0, 0.005, 0.5])
@pytest.mark.parametrize("upwards", [True, False])
def test_an_outage_of_one_way_and_what_is_repeated_meanwhile(latency: float, after: float, upwards: bool) -> None:
    world = World(Link(latency=latency))
    client, server = world.pair()
    client.connection.send_stream(b"hello" * 40)
    load(world, client, 1, 60, 1.0)
    world.run(within=after)

    def cut(data: bytes, source: SocketAddress, destination: SocketAddress) -> bytes | None:
        return None if (destination == RELAY) == upwards else data

    world.wire.taps.append(cut)
    world.run(within=20)
    world.wire.taps.clear()
    world.run(within=5)
    assert_in_credit(client, server)
    count = len(server.datagrams)
    world.run(lambda: len(server.datagrams) > count)


def test_another_library() -> None:
    """aioquic acknowledges, probes and repeats in its own way."""
    world = World(Link(latency=0.02, loss=0.05))
    server = world.serve()
    peer = Forger(world)
    world.run(lambda: peer.ready and server.peers and server.peers[0].ready)
    side = server.peers[0]
    load(world, side, 16, 100, 0.01)
    world.clock.every(0.002, functools.partial(peer.quic.send_datagram_frame, bytes(60)))
    world.run(within=6)
    assert len(side.datagrams) > 2000
    assert len(peer.datagrams) > 8000
    assert_in_credit(side)
