"""What comes from nobody that a server knows: noise, other versions, floods of handshakes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qh3.quic.packet import encode_quic_version_negotiation
from tests.support.wire import RELAY, Link, Server, World, trust

from softlan.net.address import SocketAddress
from softlan.quic.configuration import client_configuration
from softlan.quic.handler import CloseCause

STRANGER: SocketAddress = ("203.0.113.7", 7)


def stranger(world: World, *datagrams: bytes, source: SocketAddress = STRANGER) -> None:
    for data in datagrams:
        world.wire.inject(data, source, RELAY)
    world.run(within=0.1)


def first_flight(world: World) -> list[bytes]:
    """The datagrams by which a client begins, without a server that would see them."""
    flight: list[bytes] = []
    world.wire.taps.append(lambda data, source, destination: flight.append(data))
    world.connect()
    world.flush()
    world.wire.taps.pop()
    return flight


def assert_open(world: World) -> None:
    """A newcomer gets in."""
    client = world.connect()
    world.run(lambda: client.ready)


# Noise


LONG_HEADERS = st.builds(
    lambda first, version, body: bytes((0x80 | first,)) + version + body,
    st.integers(0, 127),
    st.sampled_from([b"\0\0\0\1", b"\0\0\0\0", b"\x0a\x0a\x0a\x0a"]),
    st.binary(max_size=60) | st.binary(max_size=60).map(lambda start: start.ljust(1250, b"\x08")),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=80) | LONG_HEADERS, max_size=5))
def test_noise_is_counted_and_answered_at_most_with_less_than_it_is(noise: list[bytes]) -> None:
    world = World()
    server = world.serve()
    stranger(world, *noise)
    sent = server.sock.sent
    assert sum(length for length, _ in sent) <= sum(map(len, noise))
    assert server.endpoint.ignored + len(server.endpoint.connections) + len(sent) >= len(noise)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_first_flight_that_was_tampered_with_opens_nothing(data: st.DataObject) -> None:
    world = World()
    server = world.serve()
    flight = bytearray(data.draw(st.sampled_from(first_flight(world))))
    for _ in range(data.draw(st.integers(1, 4))):
        flight[data.draw(st.integers(0, len(flight) - 1))] ^= data.draw(st.integers(1, 255))
    stranger(world, bytes(flight[: data.draw(st.integers(0, len(flight)))]))
    assert not any(peer.ready for peer in server.peers)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_packets_of_a_session_that_were_tampered_with_do_not_harm_it(data: st.DataObject) -> None:
    world = World()
    client, server = world.pair()
    seen: list[bytes] = []

    def see(packet: bytes, source: SocketAddress, destination: SocketAddress) -> bytes:
        seen.append(packet)
        return packet

    world.wire.taps.append(see)
    client.connection.send_datagram(b"x" * data.draw(st.integers(1, 300)))
    world.run(lambda: server.datagrams)
    packet = bytearray(data.draw(st.sampled_from(seen)))
    position = data.draw(st.integers(0, len(packet) - 1))
    packet[position] ^= data.draw(st.integers(1, 255))
    source = data.draw(st.sampled_from([STRANGER, client.sock.public]))
    stranger(world, bytes(packet), bytes(packet[:position]), source=source)
    client.connection.send_datagram(b"after it")
    world.run(lambda: server.datagrams[1:] == [b"after it"])
    assert server.connection.address == client.sock.public


def test_packets_that_are_repeated_by_somebody_else_do_not_move_a_session() -> None:
    """RFC 9000, section 9.3.3: an off-path attacker forwards copies from an address of its own."""
    world = World()
    client, server = world.pair()

    def copy(data: bytes, source: SocketAddress, destination: SocketAddress) -> bytes:
        if destination == RELAY:
            world.wire.inject(data, STRANGER, RELAY, delay=0.05)
        return data

    world.wire.taps.append(copy)
    for _ in range(50):
        client.connection.send_datagram(b"up" * 100)
        server.connection.send_datagram(b"down" * 100)
        world.run(within=0.02)
    world.run(within=0.1)
    assert server.connection.address == client.sock.public
    assert (len(server.datagrams), len(client.datagrams)) == (50, 50)
    assert not [address for _, address in server.sock.sent if address == STRANGER]


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\x40", b"\x40" + bytes(30), b"\xc0", b"\xc0\x00\x00\x00\x01", b"\xc0\x00\x00\x00\x01\x08" + bytes(8)],
    ids=["empty", "one byte", "unknown connection", "long header cut off", "no connection IDs", "half of them"],
)
def test_what_is_too_short_to_start_anything_is_ignored(datagram: bytes) -> None:
    world = World()
    server = world.serve()
    stranger(world, datagram)
    assert (server.endpoint.ignored, server.sock.sent, server.peers) == (1, [], [])
    assert_open(world)


def test_an_initial_in_a_small_datagram_is_ignored() -> None:
    """RFC 9000, section 14.1."""
    world = World()
    server = world.serve()
    stranger(world, first_flight(world)[0][:1199])
    assert (server.endpoint.ignored, server.peers) == (1, [])


def test_an_initial_with_a_short_connection_id_is_ignored() -> None:
    """RFC 9000, section 7.2: it has at least 8 bytes, and it must not shadow what others use."""
    world = World()
    server = world.serve()
    stranger(world, b"\xc0\x00\x00\x00\x01\x04" + b"abcd" + b"\x08" + bytes(8) + b"\x00\x44\x00" + bytes(1200))
    assert (server.endpoint.ignored, server.peers) == (1, [])


def test_a_turn_takes_what_one_call_brings() -> None:
    """So that timers, devices and what is to be sent get their turns during a flood."""
    world = World()
    server = world.serve()
    server.sock.inbox.extend([(b"\x40" + bytes(40), STRANGER)] * 1000)
    server.endpoint.receive(world.now)
    assert server.sock.counters.recv_calls == 1
    assert len(server.sock.inbox) == 1000 - server.sock.counters.datagrams_in > 0


# Versions


def test_another_version_is_told_which_ones_are_spoken() -> None:
    """RFC 9000, section 6.1."""
    world = World()
    server = world.serve()
    other = bytearray(first_flight(world)[0])
    other[1:5] = b"\x0a\x0a\x0a\x0a"
    answers: list[bytes] = []
    world.wire.taps.append(lambda data, source, destination: answers.append(data))
    stranger(world, bytes(other))
    (answer,) = answers
    destination, source = bytes(other[6:14]), bytes(other[15:23])
    assert answer[0] & 0x80
    assert answer[1:] == b"\0\0\0\0\x08" + source + b"\x08" + destination + b"\x00\x00\x00\x01"
    assert server.peers == []


def test_version_negotiation_itself_is_never_answered() -> None:
    """Or two servers could be set to answer each other."""
    world = World()
    server = world.serve()
    packet = encode_quic_version_negotiation(
        source_cid=bytes(8), destination_cid=bytes(8), supported_versions=[1] * 400
    )
    assert len(packet) >= 1200
    stranger(world, packet)
    assert (server.endpoint.ignored, server.sock.sent) == (1, [])


def test_a_client_that_speaks_another_version_learns_it_at_once() -> None:
    world = World()
    world.serve()
    configuration = client_configuration(trust())
    configuration.supported_versions = [0x6B3343CF]  # version 2, RFC 9369
    client = world.connect(configuration=configuration)
    world.run(lambda: client.end, within=1)
    assert client.end == (CloseCause.ERROR, "Could not find a common protocol version")


# Too many at a time


def unfinished(world: World, server: Server, count: int) -> None:
    """Begin `count` handshakes from as many addresses, and go on with none."""
    for number in range(count):
        for data in first_flight(world):
            stranger(world, data, source=(f"203.0.113.{number % 250}", 1024 + number))


def test_addresses_are_validated_when_many_handshakes_are_pending() -> None:
    world = World()
    server = world.serve(retry_above=4)
    unfinished(world, server, 4)
    assert server.endpoint.retries_sent == 0
    unfinished(world, server, 3)
    assert server.endpoint.retries_sent == 6, "one for each datagram of a first flight"
    assert len(server.peers) == 4
    client = world.connect()
    world.run(lambda: client.ready)
    assert len(server.peers) == 5
    world.run(within=40)
    assert len(server.endpoint.connections) == 0, "the unfinished ones end, and so does the silent client"
    assert not server.endpoint._pending
    assert not server.endpoint._by_cid


@pytest.mark.parametrize("seed", range(4))
def test_a_client_gets_in_through_retry_on_a_poor_path(seed: int) -> None:
    world = World(Link(latency=0.02, loss=0.1, reorder=0.1), seed=seed)
    server = world.serve(retry_above=0)
    clients = [world.connect() for _ in range(5)]
    world.run(lambda: all(client.ready for client in clients), within=20)
    assert server.endpoint.retries_sent >= 5
    clients[0].connection.send_datagram(b"x" * 1440)
    world.run(within=1)
    assert all(client.end is None for client in clients)


def test_above_the_limit_newcomers_take_the_place_of_who_does_not_finish() -> None:
    world = World()
    server = world.serve(retry_above=100, max_pending=3)
    unfinished(world, server, 5)
    assert server.endpoint.handshakes_given_up >= 2
    assert server.endpoint.snapshot()["handshakes"] <= 3
    assert_open(world)


def test_finished_handshakes_do_not_count_as_pending() -> None:
    world = World()
    server = world.serve(retry_above=2, max_pending=2)
    for _ in range(5):
        assert_open(world)
    assert (server.endpoint.retries_sent, len(server.peers)) == (0, 5)


def test_a_retry_token_is_for_one_connection_id() -> None:
    """A token that is sent again with another destination opens nothing."""
    world = World()
    server = world.serve(retry_above=0)
    with_token: list[bytes] = []

    def keep(data: bytes, source: SocketAddress, destination: SocketAddress) -> bytes:
        if destination == RELAY and server.endpoint.retries_sent:
            with_token.append(data)
        return data

    world.wire.taps.append(keep)
    client = world.connect()
    world.run(lambda: client.ready)
    source = client.sock.public
    replay = bytearray(with_token[0])
    replay[6:14] = random.Random(1).randbytes(8)
    stranger(world, bytes(replay), source=source)
    stranger(world, with_token[0], source=STRANGER)
    assert len(server.peers) == 1
    assert client.end is None
