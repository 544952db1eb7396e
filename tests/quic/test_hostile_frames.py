"""A peer that sends what QUIC allows, or nearly, to make the other side keep or do too much.

Each is ended after little more than its credit. That it is ended, and after how much, is what is looked at; how much
memory and time that is was measured when the bounds were chosen.
"""

from collections.abc import Callable
from typing import Any

import pytest
from aioquic.quic.crypto import next_key_phase
from tests.support.forger import ONE_RTT, Forger, ack_frame, crypto_frame, new_cid_frame, stream_frame, varint
from tests.support.wire import RELAY, Link, Recorder, Server, World

from softlan.quic import inside
from softlan.quic.connection import LINGER_TIME
from softlan.quic.handler import CloseCause, CloseCode
from softlan.quic.ledger import (
    CHUNK,
    CREDIT,
    DEAF,
    DEAF_TIME,
    MAX_RETIRED,
    MAX_UNACKNOWLEDGED,
    NO_USE,
    PROVEN,
    PROVEN_CHUNK,
    RETIRED,
    UNASKED_AT_ONCE,
    UNASKED_PACKET,
)
from softlan.quic.segments import split


def joined() -> tuple[World, Server, Forger, Recorder]:
    world = World(Link(latency=0.0))
    server = world.serve()
    forger = Forger(world)
    world.run(lambda: forger.ready and server.peers and server.peers[0].ready)
    world.run(within=0.1)
    forger.is_mute = True  # aioquic does not know what is sent in its name
    return world, server, forger, server.peers[0]


def numbered(frame: Callable[[int], bytes], count: int) -> Callable[[int], bytes]:
    """Packets of `count` frames each, numbered through."""
    return lambda packet: b"".join(frame(packet * count + number) for number in range(count))


STORMS: dict[str, Callable[[int], bytes]] = {
    "CRYPTO data behind a gap": lambda n: crypto_frame(10 + n * 1100, bytes(1100)),
    "the same CRYPTO data again": lambda _: crypto_frame(10, bytes(1100)),
    "connection IDs that replace each other": numbered(lambda n: new_cid_frame(8 + n, 8 + n), 30),
    "connection IDs that were replaced before": numbered(
        lambda n: new_cid_frame(*((9999, 9999) if n == 0 else (99 + n, 0))), 30
    ),
    "credit for the connection": numbered(lambda n: b"\x10" + varint((1 << 40) + n), 110),
    "complaints of too little credit": lambda _: b"\x14\x00" * 550,
    "challenges": lambda _: (b"\x1a" + bytes(8)) * 120,
    "every second byte of the control stream": numbered(lambda n: stream_frame(0, (1000 + 2 * n) % 120_000, b"x"), 150),
    "data on other streams": lambda n: stream_frame(4 + 4 * (n % 50), n * 1100 // 50, bytes(1100)),
    "data behind gaps on other streams": numbered(
        lambda n: stream_frame(2 + 4 * (n % 100), 1000 + n // 100, b"x"), 150
    ),
    "other streams, begun and ended": numbered(lambda n: stream_frame(2 + 4 * n, 0, b"x", fin=True), 90),
    "resets of other streams": numbered(lambda n: b"\x04" + varint(2 + 4 * n) + b"\0\0", 90),
    "STOP_SENDING": numbered(lambda n: b"\x05" + varint(4 * (n % 50)) + b"\0", 200),
    "padding": lambda _: bytes(1100),
}


@pytest.mark.parametrize("name", STORMS)
def test_a_storm_ends_the_connection_soon(name: str) -> None:
    world, server, forger, peer = joined()
    sent = server.sock.counters.datagrams_out
    total = 0
    for number in range(1000):
        frames = STORMS[name](number)
        total += len(frames)
        forger.send(frames)
        if peer.end is not None:
            break
    assert peer.end is not None
    assert peer.end[0] is CloseCause.ERROR
    assert total <= CREDIT + 40_000, "an audit is now and then"
    assert server.sock.counters.datagrams_out - sent < 1000
    world.run(within=LINGER_TIME + 0.1)
    assert not server.endpoint.connections
    assert not server.endpoint._by_cid


@pytest.mark.parametrize("name", STORMS)
def test_a_storm_in_one_burst_is_over_before_the_burst_is(name: str) -> None:
    """What the socket brings in one call may be a thousand packets; the library does not get them all."""
    world, _, forger, peer = joined()
    packets = [forger.packet(STORMS[name](number)) for number in range(200)]
    connection = peer.connection
    connection.receive(packets, forger.sock.public, world.now)
    assert peer.end is not None
    assert connection._ledger.received < 160


@pytest.mark.parametrize("name", ["challenges", "padding", "other streams, begun and ended"])
def test_noise_and_copies_do_not_pay_for_a_storm(name: str) -> None:
    """Whoever knows a connection ID can send both, as many as they like."""
    world, server, forger, peer = joined()
    sent = server.sock.counters.datagrams_out
    copy = forger.packet(b"\1")
    noise = copy[:9] + bytes(20)
    for number in range(200):
        burst = [forger.packet(STORMS[name](number)), *[noise, copy] * 80]
        peer.connection.receive(burst, forger.sock.public, world.now)
        server.endpoint.mark_dirty(peer.connection)
        server.endpoint.flush(world.now)
        if peer.end is not None:
            break
    assert peer.end == (CloseCause.ERROR, NO_USE)
    assert server.sock.counters.datagrams_out - sent < 1000


def test_noise_and_copies_end_nobody() -> None:
    world, _, forger, peer = joined()
    copy = forger.packet(b"\1")
    for _ in range(100):
        peer.connection.receive([copy[:9] + bytes(20), copy] * 80, forger.sock.public, world.now)
    assert peer.end is None


@pytest.mark.parametrize("writes", [False, True], ids=["alone", "with a message for the peer"])
def test_answers_to_a_burst_of_challenges_are_few(writes: bool) -> None:
    """The library has 40 times as many ready as packets came."""
    world, server, forger, peer = joined()
    packets = [forger.packet(STORMS["challenges"](number)) for number in range(48)]
    sent = server.sock.counters.datagrams_out
    peer.connection.receive(packets, forger.sock.public, world.now)
    if writes:
        peer.connection.send_stream(b"message")
    server.endpoint.mark_dirty(peer.connection)
    server.endpoint.flush(world.now)
    assert peer.end == (CloseCause.ERROR, NO_USE)
    assert server.sock.counters.datagrams_out - sent <= CREDIT // UNASKED_PACKET + 2 * UNASKED_AT_ONCE


def test_retiring_connection_ids_is_bounded_by_their_number() -> None:
    """Each costs the library a look through all that there were: 100 of them a packet would take minutes of CPU."""
    _, _, forger, peer = joined()
    frames = numbered(lambda n: b"\x19" + varint(1 + n), 300)
    packets = [forger.packet(frames(number)) for number in range(32)]
    peer.connection.receive(packets, forger.sock.public, forger.world.now)
    assert peer.end == (CloseCause.ERROR, RETIRED)
    assert peer.connection._ledger._retired <= 300 * 4


def test_what_the_peer_is_told_is_what_it_did() -> None:
    """Not that the fault was ours; the words are for a person, in one line."""
    _, _, forger, peer = joined()
    forger.is_mute = False
    while peer.end is None:
        forger.send(bytes(1100))
    forger.world.run(lambda: forger.end)
    assert forger.end is not None
    assert (forger.end.error_code, forger.end.reason_phrase) == (CloseCode.MALFORMED, NO_USE)
    assert peer.end == (CloseCause.ERROR, NO_USE)


@pytest.mark.parametrize("is_whole", [False, True], ids=["one by one", "in one piece"])
def test_a_peer_that_has_proven_itself_may_give_the_library_more_at_a_time(is_whole: bool) -> None:
    _, _, forger, peer = joined()
    taken: list[int] = []
    lane = peer.connection._lane

    class Counting:
        def receive_many_datagrams(self, datagrams: list[bytes], *rest: Any) -> object:
            taken.append(len(datagrams))
            return lane.receive_many_datagrams(datagrams, *rest)

        def receive_gro_buffer(self, data: bytes, size: int, *rest: Any) -> object:
            taken.append(len(split(data, size)))
            return lane.receive_gro_buffer(data, size, *rest)

        def __getattr__(self, name: str) -> Any:
            return getattr(lane, name)

    def give(packet: bytes) -> int:
        taken.clear()
        packets = [forger.packet(packet) for _ in range(16)]
        if is_whole:
            peer.connection.receive(b"".join(packets), forger.sock.public, forger.world.now, len(packets[0]))
        else:
            peer.connection.receive(packets, forger.sock.public, forger.world.now)
        assert sum(taken) == 16
        return max(taken)

    peer.connection._lane = Counting()
    assert give(b"\x31\x01x") == CHUNK
    for _ in range(PROVEN // 16):
        give(b"\x31\x01x")
    assert give(b"\x31\x01x") == PROVEN_CHUNK
    forger.send(b"\x19" + varint(1))
    assert give(b"\x31\x01x") == CHUNK
    assert peer.end is None


def test_retiring_some_is_as_it_should_be() -> None:
    _, server, forger, peer = joined()
    for number in range(MAX_RETIRED):
        forger.send(b"\x19" + varint(1 + number))
    assert peer.end is None
    assert len(server.endpoint._by_cid) < 12, "and the old ones are forgotten"


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (ack_frame(1 << 40, 1 << 40), "AckOfUnsentPacket"),
        (ack_frame(700, 0, *(0, 0) * 300), "AckOfUnsentPacket"),
        (stream_frame(0, 1 << 30, b"x"), "Limit"),
        (stream_frame(4 * 5000, 0, b"x"), "tream"),
        (stream_frame(1, 0, b"x"), "tream"),
        (b"\x07\x04abcd", "NEW_TOKEN"),
        (b"\x1e", "HANDSHAKE_DONE"),
        (b"\x21", ""),
    ],
    ids=[
        "ACK of none",
        "ACK of gaps",
        "beyond the window",
        "too many streams",
        "our stream",
        "token",
        "done",
        "unknown",
    ],
)
def test_what_the_library_refuses_ends_the_connection(frames: bytes, reason: str) -> None:
    _, _, forger, peer = joined()
    forger.send(frames)
    assert peer.end is not None
    assert peer.end[0] is CloseCause.ERROR
    assert reason in peer.end[1]


def test_gaps_in_packet_numbers_are_acknowledged_within_one_packet() -> None:
    """Of the ranges that were received the library keeps 256, and sends 64."""
    _, server, forger, peer = joined()
    longest = 0
    for _ in range(1500):
        forger.quic._packet_number += 1
        forger.send(b"\1")
        longest = max(longest, server.sock.sent[-1][0])
    assert peer.end is None
    assert longest < 300


def test_key_updates_with_every_packet_are_followed() -> None:
    _, _, forger, peer = joined()
    keys = forger.quic._cryptos[ONE_RTT].send
    packets = []
    for _ in range(300):
        keys, protection = next_key_phase(keys), keys.hp
        keys.hp = protection  # RFC 9001, section 6: the header's key stays
        packets.append(forger.packet(b"\x31\x01x", keys=keys))
    peer.connection.receive(packets, forger.sock.public, forger.world.now)
    assert peer.datagrams == [b"x"] * 300
    assert peer.end is None


def test_a_flood_of_pings_costs_an_acknowledgement_now_and_then() -> None:
    world, server, forger, peer = joined()
    sent = server.sock.counters.datagrams_out
    for _ in range(50):
        for _ in range(64):
            world.wire.inject(forger.packet(b"\1"), forger.sock.public, RELAY)
        world.run(within=0.002)
    assert peer.end is None
    assert server.sock.counters.datagrams_out - sent <= 150


# A peer that acknowledges nothing


def feed(world: World, peer: Recorder, forger: Forger | None, seconds: float, burst: int = 10) -> int:
    """Send to the peer, and a PING from it now and then; how many datagrams were taken."""
    taken = 0
    end = world.now + seconds
    while world.now < end and peer.end is None:
        taken += sum(peer.connection.send_datagram(bytes(1000)) for _ in range(burst))
        if forger is not None:
            forger.send(b"\1")
        world.run(within=0.01)
    return taken


def test_what_is_kept_for_a_peer_that_acknowledges_nothing_is_bounded_and_it_is_sent_away() -> None:
    world, _, forger, peer = joined()
    taken = feed(world, peer, forger, 2 * DEAF_TIME)
    assert taken < MAX_UNACKNOWLEDGED + 1200
    assert inside.unacknowledged(peer.connection._quic) < 2 * MAX_UNACKNOWLEDGED
    assert peer.end == (CloseCause.ERROR, DEAF)


def test_a_cut_path_only_keeps_datagrams_away_until_it_is_mended() -> None:
    world = World(Link(latency=0.01))
    client, server = world.pair()
    world.traffic(client, interval=1.0, size=20)
    world.run(within=1)
    client.sock.link.down = True
    taken = feed(world, server, None, 20.0)
    assert taken < MAX_UNACKNOWLEDGED + 1200
    assert not server.connection.send_datagram(b"lost")
    client.sock.link.down = False
    world.run(lambda: server.connection.send_datagram(b"found") and client.datagrams[-1:] == [b"found"], within=9)
    assert (client.end, server.end) == (None, None)


def test_a_peer_that_only_sends_is_asked_for_acknowledgements() -> None:
    """Ours alone are not acknowledged, and a record is kept of each."""
    world = World(Link(latency=0.001))
    client, server = world.pair()
    for _ in range(4000):
        client.connection.send_datagram(b"up")
        world.run(within=0.003)
    assert inside.unacknowledged(server.connection._quic) < 2100
    assert (client.end, server.end) == (None, None)
