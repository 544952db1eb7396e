"""Connections over one socket: handshakes, routing, bursts, timers, faults."""

import functools

import pytest
from tests.support.wire import RELAY, Link, Recorder, World

from softlan.net.address import SocketAddress
from softlan.quic.connection import Connection
from softlan.quic.endpoint import ACK_DELAY
from softlan.quic.handler import CloseCause, CloseCode

POOR = Link(latency=0.02, loss=0.05, duplicate=0.05, reorder=0.1)


def test_a_handshake_takes_one_round_trip() -> None:
    world = World(Link(latency=0.05))
    server = world.serve()
    client = world.connect()
    world.run(lambda: client.ready)
    assert world.now - 1000.0 == pytest.approx(0.1)
    world.run(lambda: server.peers[0].ready)
    assert world.now - 1000.0 == pytest.approx(0.15, abs=0.01)
    assert (client.connection.capacity, server.peers[0].connection.capacity) == (1440, 1440)
    assert client.connection.rtt == pytest.approx(0.1, abs=0.01)


def test_datagrams_and_the_stream_go_both_ways() -> None:
    world = World()
    client, server = world.pair()
    client.connection.send_stream(b"hello")
    client.connection.send_datagram(b"up")
    world.run(lambda: server.stream == b"hello" and server.datagrams == [b"up"])
    server.connection.send_stream(b"welcome")
    server.connection.send_datagram(b"down")
    world.run(lambda: client.stream == b"welcome" and client.datagrams == [b"down"])


def test_a_burst_leaves_in_one_call_and_few_packets() -> None:
    world = World()
    client, server = world.pair()
    world.run(within=1)
    counters = client.sock.counters
    calls, packets = counters.send_calls, counters.datagrams_out
    burst = [bytes((number,)) * 100 for number in range(64)]
    for data in burst:
        assert client.connection.send_datagram(data)
    world.run(lambda: len(server.datagrams) == 64)
    assert server.datagrams == burst
    assert counters.send_calls == calls + 1
    assert counters.datagrams_out - packets <= 5, "64 times 103 bytes fit five packets"
    assert max(server.bursts) == 64, "and are handed on as one burst"


def test_many_clients_share_a_socket() -> None:
    world = World()
    server = world.serve()
    clients = [world.connect() for _ in range(30)]
    world.run(lambda: all(client.ready for client in clients))
    for number, client in enumerate(clients):
        client.connection.send_datagram(b"from %d" % number)
    world.run(lambda: all(peer.datagrams for peer in server.peers))
    assert sorted(peer.datagrams[0] for peer in server.peers) == sorted(b"from %d" % n for n in range(30))
    for peer in server.peers:
        peer.connection.send_datagram(b"to " + peer.datagrams[0])
    world.run(lambda: all(client.datagrams for client in clients))
    assert [client.datagrams for client in clients] == [[b"to from %d" % n] for n in range(30)]


def test_two_connections_of_one_client_socket_are_told_apart() -> None:
    """As when a relay is reached over two of its addresses."""
    world = World()
    server = world.serve()
    endpoint = world.endpoint(world.sock())
    first, second = world.connect(endpoint), world.connect(endpoint)
    world.run(lambda: first.ready and second.ready and len(server.peers) == 2)
    first.connection.send_datagram(b"first")
    second.connection.send_datagram(b"second")
    world.run(lambda: all(peer.datagrams for peer in server.peers))
    for peer in server.peers:
        peer.connection.send_datagram(peer.datagrams[0])
    world.run(lambda: first.datagrams and second.datagrams)
    assert (first.datagrams, second.datagrams) == ([b"first"], [b"second"])


def test_packets_of_two_connections_that_come_in_turns_are_told_apart() -> None:
    """And from what is of neither, though it looks like it."""
    world = World()
    server = world.serve()
    endpoint = world.endpoint(world.sock())
    sides = [world.connect(endpoint), world.connect(endpoint)]
    world.run(lambda: all(side.ready for side in sides) and len(server.peers) == 2)
    world.run(within=1)
    caught: list[tuple[bytes, SocketAddress]] = []
    world.wire.taps.append(lambda data, source, destination: caught.append((data, source)))  # type: ignore[func-returns-value]
    bursts = []
    for name, side in zip(b"ab", sides, strict=True):
        assert side.connection.send_datagrams([bytes((name, number)) * 700 for number in range(9)]) == 9
        world.flush()
        bursts.append(caught[:])
        caught.clear()
    world.wire.taps[:] = [lambda data, source, destination: caught.append((data, source)) or data]  # type: ignore[func-returns-value]
    ignored = server.endpoint.ignored
    for number, packets in enumerate(zip(*bursts, strict=True)):
        for data, source in packets if number % 3 else packets[::-1]:
            for stray in (data, b"", data[:5], bytes((data[0] | 0x80,)) + data[1:], data[:8] + b"?" + data[9:]):
                world.wire.inject(stray, source, RELAY)
    world.run(within=1)
    assert [peer.datagrams for peer in server.peers] == [
        [bytes((name, number)) * 700 for number in range(9)] for name in b"ab"
    ]
    versions_told = sum(data[0] >= 0x80 for data, source in caught if source == RELAY)  # to what asks for another one
    assert server.endpoint.ignored - ignored + versions_told == 4 * 18
    assert all(peer.end is None for peer in server.peers)


@pytest.mark.parametrize("seed", range(8))
def test_a_poor_path_costs_datagrams_and_nothing_else(seed: int) -> None:
    world = World(POOR, seed=seed)
    server = world.serve()
    client = world.connect()
    world.run(lambda: client.ready, within=20)
    text = bytes(range(256)) * 200
    client.connection.send_stream(text)
    sent = [number.to_bytes(2, "big") * 500 for number in range(400)]
    for number, data in enumerate(sent):
        world.clock.call_at(world.now + number / 200, functools.partial(client.connection.send_datagram, data))
    world.run(lambda: server.peers[0].stream == text, within=20)
    world.run(within=3)
    got = server.peers[0].datagrams
    assert len(set(got)) == len(got), "a datagram comes once"
    assert set(got) <= set(sent)
    assert 0.85 < len(got) / len(sent) < 1.0
    assert client.end is None
    assert server.peers[0].end is None


# Timers


def test_silence_ends_a_connection_after_thirty_seconds() -> None:
    world = World()
    client, server = world.pair()
    client.connection.send_datagram(b"last words")
    world.run(within=1)
    client.sock.link.down = True
    start = world.now - 1
    world.run(lambda: client.end and server.end, within=40)
    assert client.end == server.end == (CloseCause.TIMEOUT, "Idle timeout")
    assert server.ended_at is not None
    assert server.ended_at - start == pytest.approx(30, abs=0.2)
    for endpoint in world.turns:
        assert not endpoint.connections
        assert not endpoint._by_cid
        assert not endpoint._pending


def test_a_handshake_without_an_answer_ends_too() -> None:
    world = World()
    client = world.connect()  # to nobody
    world.run(lambda: client.end, within=60)
    assert client.end is not None
    assert client.end[0] is CloseCause.TIMEOUT


@pytest.mark.parametrize("link", [Link(latency=0.02), POOR], ids=["clean", "poor"])
def test_a_quiet_connection_wakes_nobody(link: Link) -> None:
    world = World(link)
    client, server = world.pair()
    for _ in range(300):
        client.connection.send_datagram(b"x" * 1200)
        server.connection.send_datagram(b"y" * 1200)
    world.run(within=5)
    world.turns = dict.fromkeys(world.turns, 0)
    world.run(within=20)
    assert client.end is None
    assert sum(world.turns.values()) <= 4, "an idle timer or two that look again"


def test_who_only_receives_acknowledges_now_and_then() -> None:
    world = World()
    client, server = world.pair()
    world.run(within=1)
    sock = server.sock
    before = len(sock.sent)
    for number in range(1000):
        world.clock.call_at(world.now + number / 10_000, lambda: client.connection.send_datagram(b"x" * 1000))
    world.run(lambda: len(server.datagrams) == 1000)
    assert len(sock.sent) - before <= 0.1 / ACK_DELAY + 3, "1000 packets in 0.1 s, an acknowledgement every 10 ms"
    assert client.connection.rtt is not None
    assert client.connection.rtt < 0.03, "and the delay does not spoil the measurement"


def test_an_answer_does_not_wait_for_the_acknowledgement() -> None:
    world = World(Link(latency=0.01))
    answered: list[float] = []

    class Echo(Recorder):
        def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
            answered.append(now)
            for data in datagrams:
                self.connection.send_datagram(data)

    world.serve(Echo)
    client = world.connect()
    world.run(lambda: client.ready)
    world.run(within=1)
    start = world.now
    client.connection.send_datagram(b"ping")
    world.run(lambda: client.datagrams)
    assert world.now - start == pytest.approx(0.02)
    assert answered == [pytest.approx(start + 0.01)]


# Faults


def test_a_handler_that_raises_ends_its_own_session_alone() -> None:
    world = World()
    peers: list[Recorder] = []

    class Fragile(Recorder):
        def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
            super().datagrams_received(datagrams, now)
            if b"crash" in datagrams:
                raise ZeroDivisionError

    def accept(connection: Connection) -> Recorder:
        peers.append(Fragile(connection))
        return peers[-1]

    endpoint = world.serve(accept).endpoint
    clients = [world.connect() for _ in range(3)]
    world.run(lambda: all(client.ready for client in clients))
    for client in clients:
        client.connection.send_datagram(b"crash" if client is clients[1] else b"fine")
    world.run(lambda: clients[1].end)
    assert clients[1].end == (CloseCause.PEER, "internal error")
    (broken,) = (peer for peer in peers if peer.end)
    assert broken.end == (CloseCause.ERROR, "internal error")
    world.run(lambda: len(endpoint.connections) == 2)
    for client in (clients[0], clients[2]):
        client.connection.send_datagram(b"more")
    world.run(lambda: [len(peer.datagrams) for peer in peers if peer is not broken] == [2, 2])


def test_a_handler_that_fails_at_its_own_end_is_put_away_all_the_same() -> None:
    world = World()

    class Hopeless(Recorder):
        def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
            raise ZeroDivisionError

        def closed(self, cause: CloseCause, reason: str, now: float) -> None:
            raise ZeroDivisionError

    endpoint = world.serve(Hopeless).endpoint
    client = world.connect()
    world.run(lambda: client.ready)
    client.connection.send_datagram(b"x")
    world.run(lambda: client.end)
    world.run(lambda: not endpoint.connections)


def test_a_peer_that_breaks_the_protocol_ends_itself_and_not_who_sends_to_it() -> None:
    """A burst may hold one peer's fault and, behind it, another's frames for that peer."""
    world = World()
    peers: list[Recorder] = []

    class Forwarder(Recorder):
        def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
            super().datagrams_received(datagrams, now)
            for peer in peers:
                if peer is not self:
                    for data in datagrams:
                        peer.connection.send_datagram(data)

    def accept(connection: Connection) -> Recorder:
        peers.append(Forwarder(connection))
        return peers[-1]

    world.serve(accept)
    bad, good, other = (world.connect() for _ in range(3))
    world.run(lambda: bad.ready and good.ready and other.ready)
    bad.connection._quic._core.send_crypto(3, 0, b"\x01\x00\x00\x00")  # a ClientHello, now
    bad.connection._owner.mark_dirty(bad.connection)
    good.connection.send_datagram(b"for all")
    world.run(lambda: other.datagrams and bad.end)
    assert [peer.end is None for peer in peers] == [False, True, True]
    assert bad.end is not None
    assert bad.end[0] is CloseCause.PEER
    good.connection.send_datagram(b"again")
    world.run(lambda: other.datagrams == [b"for all", b"again"])


def test_what_is_sent_after_the_end_goes_nowhere_and_raises_nothing() -> None:
    world = World()
    client, server = world.pair()
    server.connection.close(CloseCode.DISCONNECT, "bye")
    world.run(lambda: client.end)
    for connection in (client.connection, server.connection):
        assert not connection.send_datagram(b"late")
        connection.send_stream(b"late")
        connection.close(CloseCode.NO_ERROR, "again")
    world.run(within=5)
    assert server.datagrams == []
    assert client.end == (CloseCause.PEER, "bye")


def test_a_client_ignores_whoever_is_not_its_relay() -> None:
    """RFC 9000, section 9: packets from an unknown server address are discarded, even if they are authentic."""
    world = World()
    client, server = world.pair()
    moved: SocketAddress = ("192.0.2.99", 443)
    server.sock.rebind(moved)
    for _ in range(5):
        server.connection.send_datagram(b"from elsewhere")
        world.run(within=0.2)
    assert client.datagrams == []
    server.sock.rebind(RELAY)
    server.connection.send_datagram(b"from home")
    world.run(lambda: client.datagrams == [b"from home"])


class Panic(BaseException):
    """What a panic of native code arrives as: no Exception."""


@pytest.mark.parametrize("where", ["transmit", "receive", "handle_timer"])
def test_a_panic_in_one_connection_leaves_the_others_their_turn(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    server = world.serve()
    clients = [world.connect() for _ in range(3)]
    world.run(lambda: len(server.peers) == 3 and all(peer.ready for peer in server.peers))
    stricken = server.peers[0].connection

    def panic(*args: object) -> None:
        raise Panic

    monkeypatch.setattr(stricken, where, panic)
    for _ in range(2):
        for client in clients:
            client.connection.send_datagram(b"up")
        for peer in server.peers:
            peer.connection.send_datagram(b"down")
        world.run(within=0.2)
    served = [client for client in clients if client.datagrams == [b"down"] * 2]
    assert len(served) >= 2
    assert sum(peer.datagrams == [b"up"] * 2 for peer in server.peers) >= 2
