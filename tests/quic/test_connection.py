"""One connection: sizes, keys, and how it ends."""

import pytest
from tests.support.wire import Link, World

from softlan.quic import outbox
from softlan.quic.handler import CloseCause, CloseCode
from softlan.quic.inside import Lane

# Sizes


@pytest.mark.parametrize("size", [0, 1, 1439, 1440])
def test_what_fits_a_packet_goes(size: int) -> None:
    world = World()
    client, server = world.pair()
    for side in (client, server):
        assert side.connection.send_datagram(b"x" * size)
    world.run(lambda: server.datagrams == client.datagrams == [b"x" * size])


@pytest.mark.parametrize("size", [1441, 1500, 9000, 70000])
def test_what_does_not_fit_is_refused_and_blocks_nothing(size: int) -> None:
    world = World()
    client, server = world.pair()
    assert client.connection.send_datagram(b"before")
    assert not client.connection.send_datagram(b"x" * size)
    assert client.connection.send_datagram(b"behind")
    world.run(lambda: server.datagrams == [b"before", b"behind"])


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [((), 0), ((0,), 1), ((100, 1440, 7), 3), ((100, 1441, 7), 1), ((1441,), 0)],
)
def test_a_burst_goes_up_to_the_first_that_does_not_fit(sizes: tuple[int, ...], taken: int) -> None:
    world = World()
    client, server = world.pair()
    world.run(within=1)
    burst = [bytes((number,)) * size for number, size in enumerate(sizes)]
    assert client.connection.send_datagrams(burst) == taken
    assert client.connection.send_datagram(b"behind")
    world.run(lambda: b"behind" in server.datagrams)
    assert server.datagrams == [*burst[:taken], b"behind"]


def test_a_burst_that_the_library_refuses_half_way_is_sent_half() -> None:
    world = World()
    client, server = world.pair()

    class Stubborn:
        def __init__(self, lane: Lane) -> None:
            self.lane = lane

        def send_datagram(self, data: bytes) -> None:
            if data == b"three":
                raise ValueError
            self.lane.send_datagram(data)

        def __getattr__(self, name: str) -> object:
            return getattr(self.lane, name)

    client.connection._lane = Stubborn(client.connection._lane)  # type: ignore[assignment]
    assert client.connection.send_datagrams([b"one", b"two", b"three", b"four"]) == 2
    world.run(lambda: len(server.datagrams) == 2)
    world.run(within=1)
    assert server.datagrams == [b"one", b"two"]


def test_full_datagrams_behind_small_ones_and_stream_data_all_go() -> None:
    """Every order of sizes packs: the queue is filled with what leaves the least room in a packet."""
    world = World()
    client, server = world.pair()
    sizes = [1440, 1, 1439, 2, 700, 741, 1440, 1440, 36, 1405] * 20
    for size in sizes:
        assert client.connection.send_datagram(b"x" * size)
        client.connection.send_stream(b"y" * 50)
    world.run(lambda: [len(data) for data in server.datagrams] == sizes and len(server.stream) == 50 * len(sizes))


def test_a_narrow_path_makes_a_narrow_connection() -> None:
    """The first flight is lost, its smaller repetition is not, and the server answers in packets that fit."""
    world = World(Link(mtu=1280))
    server = world.serve()
    client = world.connect()
    world.run(lambda: client.ready and server.peers and server.peers[0].ready)
    assert client.connection.capacity == server.peers[0].connection.capacity == 1168
    assert client.connection.send_datagram(b"x" * 1168)
    world.run(lambda: server.peers[0].datagrams)
    client.connection.refresh_capacity()
    assert client.connection.capacity == 1168, "larger packets were tried in vain"


def test_after_a_lost_first_flight_the_capacity_grows_again() -> None:
    world = World()
    server = world.serve()
    client = world.connect(link=Link(down=True))
    world.run(within=0.5)
    client.sock.link.down = False
    world.run(lambda: client.ready)
    assert client.connection.capacity == 1168
    world.run(within=1)
    client.connection.refresh_capacity()
    assert client.connection.capacity == 1440
    assert server.peers[0].connection.capacity == 1168, "a server keeps what it began with"


@pytest.mark.parametrize("capacity", [1420, 1318, 1248, 1168])
def test_on_a_narrower_path_no_packet_is_larger_than_it_carries(capacity: int) -> None:
    """Packets with several small frames, and the control stream, are the ones that would be too large."""
    world = World(Link(mtu=capacity + 32 + 28))
    client, server = world.pair()
    for side in (client, server):
        side.connection.limit_packets(capacity)
    world.run(within=1)  # the library's own probes of larger sizes are through
    oversized = world.wire.oversized
    client.connection.send_stream(b"x" * 20_000)
    for size in (60, 100, 300, 500, 700, capacity) * 10:
        assert client.connection.send_datagram(b"u" * size)
        assert server.connection.send_datagram(b"d" * size)
    assert not client.connection.send_datagram(b"u" * (capacity + 1))
    world.run(lambda: len(server.stream) == 20_000 and len(server.datagrams) == len(client.datagrams) == 60)
    server.connection.send_stream(b"x" * 20_000)
    world.run(lambda: len(client.stream) == 20_000)
    assert world.wire.oversized == oversized


def test_a_limit_that_is_none_changes_nothing() -> None:
    world = World()
    client, server = world.pair()
    client.connection.limit_packets(1440)
    client.connection.limit_packets(9000)
    assert client.connection.send_datagram(b"x" * 1440)
    world.run(lambda: server.datagrams)


# The stream beside datagrams


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.1])
@pytest.mark.parametrize("interval", [0.001, 0.0003])
def test_the_stream_gets_through_beside_any_load_on_any_path(loss: float, interval: float) -> None:
    """The library counts DATAGRAMs as congestion and does not hold them back: the stream would wait for ever."""
    world = World(Link(latency=0.02, loss=loss))
    client, server = world.pair()
    client.connection.send_stream(b"hello")
    world.run(lambda: server.stream)
    world.traffic(server, interval=interval, size=1200)
    world.run(within=3)
    for number in range(1, 6):
        server.connection.send_stream(b"x" * 400)
        world.run(lambda number=number: len(client.stream) == 400 * number, within=3)  # type: ignore[misc]
        world.run(within=0.5)
    got = [int.from_bytes(data[:4], "big") for data in client.datagrams]
    assert got == sorted(got), "what was held back keeps its place"
    assert len(got) / got[-1] > 0.97 - 1.2 * loss, "and hardly anything of it is lost"


def test_closing_during_a_breath_sends_what_was_held_back() -> None:
    world = World(Link(latency=0.02, loss=0.05))
    client, server = world.pair()
    client.connection.send_stream(b"hello")
    world.run(lambda: server.stream)
    world.traffic(server, interval=0.0005, size=1200)
    world.run(within=2)
    server.connection.send_stream(b"x" * 400)
    world.run(lambda: server.connection._outbox.breath.end is not None, within=1)
    assert server.connection.send_datagrams([b"held", b"last words" * 10]) == 2
    client.sock.link.loss = 0.0
    server.connection.close(CloseCode.NO_ERROR, "bye")
    world.run(lambda: client.end)
    assert client.datagrams[-2:] == [b"held", b"last words" * 10]


# Keys


@pytest.mark.parametrize("seed", range(5))
def test_keys_are_updated_under_way_in_both_directions(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """AES-GCM's limit is 2^23 packets under one key (RFC 9001, section 6.6); the library keeps count of none."""
    monkeypatch.setattr(outbox, "KEY_UPDATE_PACKETS", 60)
    monkeypatch.setattr(outbox, "LOOK_EVERY", 20)
    world = World(Link(latency=0.02, loss=0.05), seed=seed)
    client, server = world.pair()
    phases: set[tuple[int, int]] = set()
    world.traffic(client, server, interval=0.004)
    for _ in range(300):
        world.run(within=0.02)
        core = client.connection._quic._core
        phases.add((core.send_key_phase, core.receive_key_phase))
    assert {(0, 0), (1, 1)} <= phases
    world.flows(client, server)
    assert client.end is None
    assert server.end is None
    for side in (client, server):
        numbers = [int.from_bytes(data[:4], "big") for data in side.datagrams]
        assert len(numbers) > 0.9 * numbers[-1]


def test_an_update_that_cannot_be_yet_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs a confirmed handshake, and the acknowledgement of the last update."""
    monkeypatch.setattr(outbox, "KEY_UPDATE_PACKETS", 1)
    monkeypatch.setattr(outbox, "LOOK_EVERY", 1)
    world = World()
    client, server = world.pair()
    world.traffic(client, server, interval=0.001)
    world.run(within=1)
    world.flows(client, server)
    assert client.end is None
    assert server.end is None


# The end


def test_closing_delivers_what_was_queued_before_it() -> None:
    world = World()
    client, server = world.pair()
    client.connection.send_stream(b"hello")
    world.run(lambda: server.stream)
    server.connection.send_stream(b"reject: room full")
    server.connection.send_datagram(b"last frame")
    server.connection.close(CloseCode.REJECTED, "room_full: the room is full")
    assert not server.connection.send_datagram(b"too late")
    assert server.connection.send_datagrams([b"too late", b"as well"]) == 0
    world.run(lambda: client.end)
    assert (client.stream, client.datagrams) == (b"reject: room full", [b"last frame"])
    assert client.end == (CloseCause.PEER, "room_full: the room is full")
    assert server.end is None, "who closes is not told of it"
    world.run(lambda: not any(endpoint.connections for endpoint in world.turns))


def test_a_close_is_known_after_half_a_round_trip() -> None:
    world = World(Link(latency=0.05))
    client, server = world.pair()
    world.run(within=1)
    start = world.now
    client.connection.close(CloseCode.NO_ERROR, "bye")
    world.run(lambda: server.end)
    assert world.now - start == pytest.approx(0.05)


def test_a_close_that_is_lost_is_repeated_while_the_peer_goes_on() -> None:
    world = World()
    client, server = world.pair()
    client.sock.link.down = True
    client.connection.close(CloseCode.NO_ERROR, "bye")
    world.flush()
    client.sock.link.down = False
    server.connection.send_datagram(b"still here")
    world.run(lambda: server.end == (CloseCause.PEER, "bye"), within=1)


def test_a_long_reason_is_cut() -> None:
    world = World()
    client, server = world.pair()
    client.connection.close(CloseCode.NO_ERROR, "x" * 5000)
    world.run(lambda: server.end)
    assert server.end == (CloseCause.PEER, "x" * 256)


def test_closing_during_the_handshake_tells_the_server() -> None:
    world = World()
    server = world.serve()
    client = world.connect()
    world.run(lambda: server.peers)
    client.connection.close(CloseCode.NO_ERROR, "another address answered first")
    world.run(lambda: server.peers[0].end, within=1)
    world.run(lambda: not server.endpoint.connections and not server.endpoint._pending, within=5)


def test_a_reader_that_is_gone_shows_in_the_unsent_bytes() -> None:
    world = World()
    client, server = world.pair()
    client.connection.send_stream(b"hello")
    world.run(lambda: server.stream)
    server.connection.send_stream(b"x" * 1000)
    world.run(lambda: len(client.stream) == 1000)
    assert server.connection.unsent_stream_bytes == 0
    client.sock.link.down = True
    for _ in range(300):
        server.connection.send_stream(b"x" * 1000)
    world.run(within=1)
    assert 200_000 < server.connection.unsent_stream_bytes < 300_000


def test_a_library_that_cannot_build_a_packet_ends_the_connection_and_says_goodbye() -> None:
    world = World()
    client, server = world.pair()
    server.connection._quic.send_datagram_frame(b"x" * 1460)  # past the check: it fits no packet
    server.connection._owner.mark_dirty(server.connection)
    world.run(lambda: client.end, within=1)
    assert server.end is not None
    assert server.end[0] is CloseCause.ERROR
    assert server.end[1].startswith("cannot send:")
    assert client.end == (CloseCause.PEER, "internal error")
