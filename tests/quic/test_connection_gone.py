"""A connection that is over leaves nothing in memory, also where the garbage collector never looks (`net.loop`)."""

import gc
import tracemalloc
import weakref
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from tests.support.wire import Link, Recorder, World

from softlan.net.address import SocketAddress
from softlan.quic.handler import CloseCause, CloseCode
from softlan.quic.ledger import NO_USE


@pytest.fixture(autouse=True)
def nobody_collects() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def close(world: World, client: Recorder, server: Recorder) -> None:
    server.connection.close(CloseCode.DISCONNECT, "bye")


def leave(world: World, client: Recorder, server: Recorder) -> None:
    client.connection.close(CloseCode.NO_ERROR, "quit")


def vanish(world: World, client: Recorder, server: Recorder) -> None:
    client.sock.link.down = True


def fail(world: World, client: Recorder, server: Recorder) -> None:
    server.connection.fail(NO_USE, world.now, is_peers=True)


@pytest.mark.parametrize("end", [close, leave, vanish, fail])
def test_nothing_of_either_side_stays(end: Callable[[World, Recorder, Recorder], None]) -> None:
    world = World()
    server = world.serve()
    client = world.connect()
    world.run(lambda: server.peers and server.peers[0].ready)
    client.connection.send_stream(b"hello")
    client.connection.send_datagram(bytes(1000))
    server.peers[0].connection.send_datagram(bytes(1000))
    world.run(within=1)
    refs = [
        weakref.ref(part)
        for side in (client, server.peers[0])
        for part in (side, side.connection, side.connection._quic)
    ]
    end(world, client, server.peers[0])
    world.run(within=40)
    assert not any(endpoint.connections for endpoint in world.turns)
    server.peers.clear()
    del client
    assert [ref() for ref in refs] == [None] * len(refs)


def test_handshakes_that_come_and_go_take_no_memory() -> None:
    world = World(Link(latency=0.001))
    server = world.serve()
    sock = world.sock()
    endpoint = world.endpoint(sock)
    server.sock.sent = sock.sent = deque(maxlen=1)  # type: ignore[assignment]

    def some(count: int) -> int:
        for _ in range(count):
            client = world.connect(endpoint)
            world.run(lambda client=client: client.ready)  # type: ignore[misc]
            client.connection.close(CloseCode.NO_ERROR, "quit")
            world.run(within=5)
        server.peers.clear()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        some(60)  # some timers wait until they are due, or too many
        before = some(20)
        after = some(20)
    finally:
        tracemalloc.stop()
    assert after - before < 20 * 2000, "what pytest keeps of the library's log; it was 42 kB each"


def test_who_still_holds_it_may_call_all_it_has() -> None:
    """A room sends to its members in other members' turns."""
    world = World()
    client, server = world.pair()
    client.connection.send_stream(b"hello")
    world.run(lambda: server.stream)
    certificate, rtt = client.connection.peer_certificate, client.connection.rtt
    client.connection.close(CloseCode.NO_ERROR, "quit")
    world.run(lambda: not any(endpoint.connections for endpoint in world.turns))
    address: SocketAddress = ("203.0.113.9", 1)
    for side in (client, server):
        connection = side.connection
        assert not connection.send_datagram(b"late")
        connection.send_stream(b"late")
        connection.close(CloseCode.NO_ERROR, "again")
        connection.limit_packets(1168)
        connection.refresh_capacity()
        connection.receive([b"\x40" * 50] * 3, connection.address, world.now)
        connection.receive([b"\x40" * 50], address, world.now)
        connection.handle_timer(world.now)
        connection.fail("late", world.now)
        connection.abandon("late", world.now)
        assert (connection.unsent_stream_bytes, connection.datagram_limit, connection.deadline()) == (0, None, None)
        assert not connection.send_datagram(b"")
    world.run(within=1)
    assert client.connection.peer_certificate == certificate is not None
    assert client.connection.rtt == rtt is not None
    assert server.end == (CloseCause.PEER, "quit")
    assert client.end is None
