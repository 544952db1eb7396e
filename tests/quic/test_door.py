"""Who gets in: shares of networks, handshakes that are not finished, floods from addresses that are made up."""

import functools
import itertools
import tracemalloc
from collections import deque

import pytest
from tests.support.forger import INITIAL, Forger, crypto_frame
from tests.support.wire import RELAY, Link, Recorder, Server, World

from softlan.net.address import SocketAddress
from softlan.quic import door as door_module
from softlan.quic import endpoint as endpoint_module
from softlan.quic.connection import Connection
from softlan.quic.endpoint import HANDSHAKE_TIME, Endpoint
from softlan.quic.handler import CloseCause
from softlan.quic.ledger import HANDSHAKE_BYTES
from softlan.quic.line import BEGIN_AT_ONCE, BEGIN_EVERY, MAX_WAITING

_NUMBERS = itertools.count()


@functools.cache
def first_datagram() -> bytes:
    """By which a client begins, in a world of its own."""
    world = World()
    flight: list[bytes] = []
    world.wire.taps.append(lambda data, source, destination: flight.append(data))
    world.connect()
    world.flush()
    return flight[0]


def flood(world: World, server: Server, count: int, networks: int = 200) -> None:
    """Initials from as many addresses, each with connection IDs of its own, and time for those that wait."""
    first = first_datagram()
    for number in range(count):
        data = first[:6] + next(_NUMBERS).to_bytes(8, "big") + first[14:]
        server.sock.inbox.append((data, (f"203.{number % networks}.113.{number % 251}", 1024 + number % 60000)))
        if len(server.sock.inbox) >= 32:
            world.run(lambda: len(server.endpoint._line) < MAX_WAITING - 32, within=2)
            server.endpoint.receive(world.now)
    while server.sock.inbox:
        server.endpoint.receive(world.now)
    world.run(lambda: not server.endpoint._line, within=2)


def arrive(world: World, server: Server, count: int) -> None:
    """Initials from 200 networks, all at the same moment."""
    first = first_datagram()
    for number in range(count):
        data = first[:6] + next(_NUMBERS).to_bytes(8, "big") + first[14:]
        server.sock.inbox.append((data, (f"203.{number % 200}.113.1", 1024)))
    while server.sock.inbox:
        server.endpoint.receive(world.now)


def at(world: World, address: SocketAddress, count: int) -> list[Recorder]:
    """Clients behind one address."""
    return [world.connect(world.endpoint(world.sock((address[0], address[1] + n)))) for n in range(count)]


def assert_nothing_is_kept(server: Server) -> None:
    endpoint = server.endpoint
    assert endpoint._door is not None
    crowd = endpoint._door.crowd
    assert not endpoint.connections
    assert [len(kept) for kept in (endpoint._by_cid, endpoint._pending, crowd._inside, crowd._all)] == [0] * 4
    assert len(endpoint._heap) <= 64


def test_a_party_of_64_behind_one_address_gets_in_at_once() -> None:
    world = World(Link(latency=0.02))
    server = world.serve()
    players = at(world, ("198.18.0.1", 2000), 64)
    world.run(lambda: all(player.ready for player in players), within=1)
    world.run(lambda: not server.endpoint.snapshot()["handshakes"], within=1)
    counters = server.endpoint.snapshot()
    assert counters["connections"] == 64
    for player in players:  # and once more, before the first connections are missed
        player.sock.link.down = True
    again = at(world, ("198.18.0.1", 9000), 64)
    world.run(lambda: all(player.ready for player in again), within=1)


def test_a_burst_of_them_waits_in_line_and_those_inside_do_not() -> None:
    """A ClientHello costs 2.5 ms. Packets of a session that come with a burst of them are answered in the same turn."""
    world = World()
    client, peer = world.pair()
    endpoint, sock = client.connection._owner, peer.sock
    server = peer.connection._owner
    assert isinstance(server, Endpoint)
    world.run(within=1)
    first = first_datagram()
    for number in range(30):
        data = first[:6] + next(_NUMBERS).to_bytes(8, "big") + first[14:]
        sock.inbox.append((data, (f"203.{number}.113.1", 1024)))
    client.connection.send_datagram(b"in the same burst")
    endpoint.flush(world.now)  # type: ignore[attr-defined]
    start = world.now
    world.run(lambda: peer.datagrams)
    assert len(server.connections) <= 1 + 2 * BEGIN_AT_ONCE
    world.run(lambda: len(server.connections) == 31, within=30 / BEGIN_AT_ONCE * BEGIN_EVERY + 0.01)
    assert world.now - start >= 28 / BEGIN_AT_ONCE * BEGIN_EVERY * 0.9
    assert not server._line
    assert server.next_deadline() is not None


def test_who_waits_is_not_overtaken_by_who_comes_when_the_door_opens() -> None:
    world = World()
    server = world.serve(retry_above=1000)
    endpoint, first = server.endpoint, first_datagram()

    def come(number: int) -> tuple[str, int]:
        data = first[:6] + next(_NUMBERS).to_bytes(8, "big") + first[14:]
        address = (f"203.{number}.113.1", 1024)
        server.sock.inbox.append((data, address))
        return address

    waiting = [come(number) for number in range(2 * BEGIN_AT_ONCE)][-1]
    endpoint.receive(world.now)
    assert not any(connection.address == waiting for connection in endpoint.connections)
    for number in range(BEGIN_AT_ONCE):
        come(100 + number)
    endpoint.receive(world.now + BEGIN_EVERY)
    assert any(connection.address == waiting for connection in endpoint.connections)
    assert len(endpoint._line) == BEGIN_AT_ONCE


def test_the_line_is_no_longer_than_it_may_be() -> None:
    world = World()
    server = world.serve(retry_above=1000)
    arrive(world, server, 600)
    assert len(server.endpoint._line) == MAX_WAITING
    assert server.endpoint.snapshot()["too_many_handshakes"] == 600 - BEGIN_AT_ONCE - MAX_WAITING
    client = world.connect()
    world.run(lambda: client.ready, within=3)


def test_made_up_addresses_do_not_fill_the_line() -> None:
    world = World()
    server = world.serve()
    arrive(world, server, 300)
    assert len(server.endpoint._line) == 64 - BEGIN_AT_ONCE
    assert server.endpoint.retries_sent == 300 - 64


def test_who_does_not_finish_makes_room_for_who_comes_later() -> None:
    world = World()
    server = world.serve(max_pending=20, retry_above=1000)
    flood(world, server, 60)
    counters = server.endpoint.snapshot()
    assert (counters["handshakes"], counters["handshakes_given_up"]) == (20, 40)
    assert [peer.end for peer in server.peers] == [(CloseCause.TIMEOUT, "too many handshakes")] * 40 + [None] * 20
    client = world.connect()
    world.run(lambda: client.ready, within=1)


def test_the_network_that_has_most_makes_room_first() -> None:
    world = World()
    server = world.serve(max_pending=20, retry_above=1000, retry_above_network=1000)
    flood(world, server, 3, networks=3)
    flood(world, server, 40, networks=1)
    assert [peer.end is None for peer in server.peers[:4]] == [False, True, True, False]
    assert server.endpoint.snapshot()["handshakes"] == 20


def test_one_network_gets_its_share_and_others_still_get_in() -> None:
    world = World()
    server = world.serve(max_connections_network=5)
    first = at(world, ("198.18.0.1", 2000), 5)
    world.run(lambda: all(client.ready for client in first))
    (sixth,) = at(world, ("198.18.0.99", 2000), 1)
    (other,) = at(world, ("198.18.1.1", 2000), 1)
    world.run(lambda: other.ready)
    world.run(within=1)
    assert not sixth.ready
    assert server.endpoint.snapshot()["too_many_connections_of_network"] > 0
    first[0].connection.close(0, "bye")  # type: ignore[arg-type]
    world.run(lambda: sixth.ready, within=8)


def test_there_is_an_end_to_connections_in_all() -> None:
    world = World()
    server = world.serve(max_connections=3)
    clients = [client for n in range(4) for client in at(world, (f"198.18.{n}.1", 2000), 1)]
    world.run(lambda: sum(client.ready for client in clients) == 3)
    world.run(within=1)
    assert server.endpoint.snapshot()["too_many_connections"] > 0
    assert len(server.endpoint.connections) == 3


def test_handshakes_of_one_network_prove_their_address_and_are_bounded() -> None:
    world = World()
    server = world.serve(retry_above_network=2, max_pending_network=4)
    flood(world, server, 50, networks=1)
    counters = server.endpoint.snapshot()
    assert (counters["handshakes"], counters["retries"]) == (2, 48)
    (client,) = at(world, ("203.0.113.5", 70), 1)
    world.run(lambda: client.ready, within=2)


def test_an_unfinished_handshake_ends_in_time_and_leaves_nothing() -> None:
    world = World()
    server = world.serve()
    flood(world, server, 40)
    assert len(server.endpoint.connections) == 40
    world.run(within=HANDSHAKE_TIME - 0.5)
    assert len(server.endpoint.connections) == 40
    world.run(within=0.6)
    assert server.endpoint.snapshot()["handshakes_given_up"] == 40
    assert {peer.end for peer in server.peers} == {(CloseCause.TIMEOUT, "the handshake took too long")}
    assert_nothing_is_kept(server)


def test_a_handshake_that_is_kept_alive_ends_in_time_too() -> None:
    """The library would begin its timeout anew with every packet."""
    world = World(Link(latency=0.0))
    server = world.serve()
    forger = Forger(world)
    world.run(lambda: server.peers)
    forger.is_mute = True
    for _ in range(8):
        world.run(within=HANDSHAKE_TIME / 8)
        forger.send(b"\1", epoch=INITIAL)
    world.run(within=0.1)
    assert server.endpoint.handshakes_given_up == 1
    assert server.peers[0].end == (CloseCause.TIMEOUT, "the handshake took too long")


def test_a_handshake_that_is_too_long_ends_at_once() -> None:
    """The library keeps half a megabyte of CRYPTO data behind a gap, and 24 bytes for each of them."""
    world = World(Link(latency=0.0))
    server = world.serve()
    forger = Forger(world)
    world.run(lambda: server.peers)
    forger.is_mute = True
    sent = 0
    while not server.peers[0].end:
        forger.send(crypto_frame(5000 + sent, bytes(1000)), epoch=INITIAL)
        sent += 1000
        assert sent < 2 * HANDSHAKE_BYTES
    assert server.peers[0].end == (CloseCause.TIMEOUT, "the handshake was too long")
    assert_nothing_is_kept(server)


def test_a_flood_from_made_up_addresses_is_answered_with_less_and_kept_nowhere() -> None:
    world = World()
    server = world.serve()
    flood(world, server, 200)
    server.sock.sent = deque(maxlen=1)  # type: ignore[assignment]
    tracemalloc.start()
    flood(world, server, 500)
    before, _ = tracemalloc.get_traced_memory()
    received, sent = server.sock.counters.bytes_in, server.sock.counters.bytes_out
    flood(world, server, 5000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    counters = server.endpoint.snapshot()
    assert counters["handshakes"] == 64
    assert counters["retries"] == 5700 - 64
    assert after - before < 100_000, "20 bytes for each"
    assert server.sock.counters.bytes_out - sent < (server.sock.counters.bytes_in - received) / 5
    client = world.connect()
    world.run(lambda: client.ready, within=3)
    world.run(within=HANDSHAKE_TIME)
    assert len(server.endpoint.connections) == 1


def test_handshakes_that_come_and_go_leave_no_timers() -> None:
    world = World()
    server = world.serve()
    for _ in range(20):
        flood(world, server, 64)
        world.run(within=HANDSHAKE_TIME + 0.1)
    assert server.endpoint.handshakes_given_up == 20 * 64
    assert_nothing_is_kept(server)


@pytest.mark.parametrize("name", ["read_long_header", "Server", "accept"])
def test_a_panic_at_the_door_costs_one_datagram(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    class Panic(BaseException):
        """As `pyo3_runtime.PanicException`, which is no Exception either."""

    def panic(*_: object, **__: object) -> None:
        raise Panic

    world = World()
    server = world.serve()
    client = world.connect()
    world.run(lambda: client.ready)
    world.run(within=1)
    assert server.endpoint._door is not None
    with monkeypatch.context() as patch:
        if name == "accept":
            patch.setattr(server.endpoint._door, "accept", panic)
        else:
            patch.setattr(endpoint_module if name == "read_long_header" else door_module, name, panic)
        client.connection.send_datagram(b"in the same burst")
        world.wire.inject(first_datagram(), ("203.0.113.7", 7), RELAY, delay=0.01)
        world.run(lambda: server.peers[0].datagrams)
        world.run(within=0.1)
    counters = server.endpoint.snapshot()
    assert (counters["faults"], counters["connections"], counters["handshakes"]) == (1, 1, 0)
    (late,) = at(world, ("198.18.0.1", 2000), 1)
    world.run(lambda: late.ready)


def test_a_panic_of_a_timer_or_of_a_deadline_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    client, server = world.pair()
    other = world.connect()
    world.run(lambda: other.ready)

    class Panic(BaseException):
        """As the library's."""

    real = Connection.deadline

    def deadline(self: Connection) -> float | None:
        if self is server.connection:
            raise Panic
        return real(self)

    monkeypatch.setattr(Connection, "deadline", deadline)
    client.connection.send_datagram(b"x")
    world.run(lambda: server.end)
    other.connection.send_datagram(b"still here")
    world.run(within=0.1)
    assert server.end == (CloseCause.ERROR, "internal error")
    assert other.end is None
