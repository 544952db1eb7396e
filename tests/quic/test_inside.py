"""What is looked up behind the library's public API, and that it works as well when that has changed.

Every test of the lane runs twice: on the core itself, and on the public calls in its shape.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from qh3 import quic_events as events
from qh3.quic.connection import QuicConnection
from tests.support.wire import Link, Recorder, World, credentials, trust

from softlan.net.address import SocketAddress
from softlan.quic import inside, outbox
from softlan.quic.configuration import client_configuration, server_configuration
from softlan.quic.handler import CloseCause, CloseCode

CLIENT: SocketAddress = ("198.51.100.1", 50000)
SERVER: SocketAddress = ("192.0.2.1", 443)


@pytest.fixture(params=["core", "public"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which lane connections get from now on."""
    use(monkeypatch, request.param)
    return str(request.param)


def use(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let connections have this lane from now on."""
    assert inside._IS_KNOWN or kind == "public", "the library that is installed can be driven directly"
    monkeypatch.setattr(inside, "_IS_KNOWN", kind == "core")


# A session on both lanes


class Transcript:
    """A handler that keeps everything in the order in which it came."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def handshake_completed(self, now: float) -> None:
        self.said.append(("ready", None))

    def stream_received(self, data: bytes, end: bool, now: float) -> None:
        self.said.append(("stream", data))

    def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
        assert datagrams, "an empty burst is none"
        self.said += [("datagram", data) for data in datagrams]

    def closed(self, cause: CloseCause, reason: str, now: float) -> None:
        self.said.append(("closed", (cause, reason)))


def opened(link: Link | None = None) -> tuple[World, Recorder, Recorder]:
    """A pair whose control stream has been opened, so that both can write to it."""
    world = World(link)
    client, server = world.pair()
    client.connection.send_stream(b"hello")
    world.run(lambda: server.stream)
    server.stream = b""
    return world, client, server


def numbered(count: int, sizes: tuple[int, ...]) -> list[bytes]:
    return [n.to_bytes(4, "big").ljust(sizes[n % len(sizes)], b".") for n in range(count)]


def test_the_lane_is_what_its_name_says(kind: str) -> None:
    client, server = World().pair()
    for side in (client, server):
        assert (type(side.connection._lane) is inside._PublicLane) == (kind == "public")


def test_frames_and_the_stream_go_both_ways(kind: str) -> None:
    world, client, server = opened(Link(latency=0.02))
    frames = numbered(500, (60, 1440, 4, 700))
    text = bytes(range(256)) * 100
    for at in range(0, len(frames), 10):
        for side in (client, server):
            for frame in frames[at : at + 10]:
                assert side.connection.send_datagram(frame)
            side.connection.send_stream(text[at * 50 : at * 50 + 500])
        world.run(within=0.002)
    world.run(lambda: all(len(side.stream) == 25_000 and len(side.datagrams) == 500 for side in (client, server)))
    for side in (client, server):
        assert side.datagrams == frames
        assert side.stream == text[:25_000]
        assert side.end is None


def test_a_poor_path_loses_frames_and_nothing_else(kind: str) -> None:
    world, client, server = opened(Link(latency=0.02, loss=0.1, duplicate=0.05, reorder=0.1))
    world.traffic(client, server, size=300)
    text = bytes(range(256)) * 200
    for side in (client, server):
        side.connection.send_stream(text)
    world.run(lambda: client.stream == server.stream == text, within=30)
    world.flows(client, server)
    for side in (client, server):
        numbers = [int.from_bytes(data[:4], "big") for data in side.datagrams]
        assert len(set(numbers)) == len(numbers), "none comes twice"
        assert len(numbers) > 0.7 * max(numbers)


def test_a_word_and_a_burst_from_both_sides_at_once_do_not_block_each_other(kind: str) -> None:
    """More than the first window: with DATAGRAMs and stream data waiting for it, the library acknowledges nothing."""
    world, client, server = opened()
    frames = numbered(100, (60, 1168))
    for side in (client, server):
        for frame in frames:
            assert side.connection.send_datagram(frame)
        side.connection.send_stream(b"word")
    world.run(lambda: client.datagrams == server.datagrams == frames, within=1)
    world.run(lambda: client.stream == server.stream == b"word", within=2)


def test_several_packets_of_one_wake_up_come_as_one_burst(kind: str) -> None:
    world = World()
    client, server = world.pair()
    frames = numbered(10, (1440,))
    for frame in frames:
        client.connection.send_datagram(frame)
    world.run(lambda: server.datagrams)
    assert server.datagrams == frames
    assert server.bursts in ([10], [4, 4, 2]), "by the public calls, what the library takes at a time"


@pytest.mark.parametrize("seed", range(2))
def test_keys_are_updated_under_way(kind: str, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(outbox, "KEY_UPDATE_PACKETS", 60)
    monkeypatch.setattr(outbox, "LOOK_EVERY", 20)
    world = World(Link(latency=0.02, loss=0.05), seed=seed)
    client, server = world.pair()
    world.traffic(client, server, interval=0.004)
    phases: set[tuple[int, int]] = set()
    for _ in range(100):
        world.run(within=0.02)
        core = client.connection._quic._core
        phases.add((core.send_key_phase, core.receive_key_phase))
    assert {(0, 0), (1, 1)} <= phases
    world.flows(client, server)
    assert (client.end, server.end) == (None, None)


def test_a_peer_that_moves_is_followed(kind: str) -> None:
    world = World(Link(latency=0.03))
    client, server = world.pair()
    world.traffic(client, server)
    world.run(within=0.5)
    client.sock.rebind(("203.0.113.9", 1234))
    world.run(lambda: server.connection.address == ("203.0.113.9", 1234), within=2)
    world.flows(client, server)


@pytest.mark.parametrize("who", ["client", "server"])
def test_an_end_is_told_with_its_reason_and_what_was_queued_before_it_comes(kind: str, who: str) -> None:
    world, client, server = opened()
    here, there = (client, server) if who == "client" else (server, client)
    for frame in (b"one", b"two"):
        here.connection.send_datagram(frame)
    here.connection.send_stream(b"goodbye")
    here.connection.close(CloseCode.DISCONNECT, "enough")
    assert not here.connection.send_datagram(b"too late")
    world.run(lambda: there.end)
    assert (there.datagrams, there.stream) == ([b"one", b"two"], b"goodbye")
    assert there.end == (CloseCause.PEER, "enough")
    assert here.end is None
    world.run(within=10)
    for side in (client, server):
        assert side.connection.finished


def test_silence_is_a_time_out(kind: str) -> None:
    world = World()
    client, server = world.pair()
    client.sock.link.down = True
    world.run(lambda: client.end and server.end, within=120)
    for side in (client, server):
        assert side.end is not None
        assert side.end[0] is CloseCause.TIMEOUT


def test_what_is_no_packet_harms_nothing(kind: str) -> None:
    world = World()
    client, server = world.pair()
    cid = next(iter(server.connection.cids))
    junk = [b"\x40" + cid + bytes(size) for size in (0, 1, 20, 1400)] + [b"\x7f" + cid + b"\xff" * 100]
    for data in junk:
        world.wire.inject(data, client.sock.public, server.sock.public)
    client.connection.send_datagram(b"behind it")
    world.run(lambda: server.datagrams == [b"behind it"])
    for data in junk:  # and one at a time
        world.wire.inject(data, client.sock.public, server.sock.public)
        world.run(within=0.01)
    client.connection.send_datagram(b"and again")
    world.run(lambda: server.datagrams == [b"behind it", b"and again"])
    assert (client.end, server.end) == (None, None)


def conversation() -> list[list[tuple[str, Any]]]:
    """What both sides of one and the same session heard, in order: every mix of frames, stream and an end."""
    world, client, server = opened()
    world.run(within=1)
    heard = []
    for side in (client, server):
        transcript = Transcript()
        side.connection.handler = transcript
        heard.append(transcript.said)
    for mix in ("d", "s", "ds", "sd", "dsd", "dddd", "sds", "dsdsdsdd", "D" * 5, "DsD", "sDDs", "DdDdsD"):
        for side in (client, server):
            for number, letter in enumerate(mix):
                data = f"{mix} {number};".encode()
                if letter == "s":
                    side.connection.send_stream(data)
                else:
                    side.connection.send_datagram(data.ljust(1440 if letter == "D" else 60, b"."))
        world.run(within=0.1)
    server.connection.send_datagram(b"last")
    server.connection.close(CloseCode.DISCONNECT, "enough")
    world.run(within=1)
    return heard


def test_both_lanes_hear_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    for kind in ("core", "public"):
        with monkeypatch.context() as patch:
            use(patch, kind)
            heard.append(conversation())
    core, public = heard
    assert core == public
    assert {what for what, _ in core[0]} == {"datagram", "stream", "closed"}
    assert len(core[0]) >= 40


# The lane by itself


class Two:
    """Two of the library's connections with no wire between them, their handshake done."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.client = QuicConnection(configuration=client_configuration(trust()))
        self.client.connect(SERVER, self.now)
        self.server = QuicConnection(
            configuration=server_configuration(credentials()),
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        for _ in range(10):
            self.exchange()
        self.lanes = inside.lane(self.client), inside.lane(self.server)
        for quic in (self.client, self.server):
            names = [type(event) for event in drained(quic)]
            assert events.HandshakeCompleted in names

    def exchange(self) -> None:
        """Carry what both have to say, by the public calls."""
        self.now += 0.01
        for source, target, address in ((self.client, self.server, CLIENT), (self.server, self.client, SERVER)):
            for data, _ in source.datagrams_to_send(self.now):
                target.receive_datagram(data, address, self.now)

    def packets(self) -> list[bytes]:
        """What the client's lane has to send now."""
        lane = self.lanes[0]
        out = []
        while (packet := lane.poll_transmit(self.now)) is not None:
            assert packet[1] == SERVER
            out.append(packet[0])
        return out

    def heard(self) -> list[object]:
        """What the server's lane brings, as a connection reads it: frames, and from the first other thing on the
        library's events, in its words.
        """
        out: list[object] = []
        while (event := self.lanes[1].next_event()) is not None:
            if event[0] != "datagram":
                inside.put_back(self.server, event)
                break
            out.append(event[1])
        for each in drained(self.server):
            if isinstance(each, events.DatagramFrameReceived):
                out.append(each.data)
            elif isinstance(each, events.StreamDataReceived):
                out.append((each.stream_id, each.data))
            else:
                out.append(type(each))
        return out


def drained(quic: QuicConnection) -> list[Any]:
    found = []
    while (event := quic.next_event()) is not None:
        found.append(event)
    return found


def test_a_frame_goes_from_lane_to_lane(kind: str) -> None:
    two = Two()
    for frames in ([b"one"], [b"two", b"three"], [b"", b"x" * 1400]):
        for frame in frames:
            two.lanes[0].send_datagram(frame)
        for packet in two.packets():
            two.lanes[1].receive_datagram(packet, CLIENT, two.now, len(packet))
        assert two.heard() == frames
        assert two.packets() == []
        two.now += 0.01


def test_many_packets_are_taken_at_once(kind: str) -> None:
    two = Two()
    frames = numbered(20, (1400,))
    for frame in frames:
        two.lanes[0].send_datagram(frame)
    packets = two.packets()
    assert len(packets) == 20
    two.lanes[1].receive_many_datagrams(packets, CLIENT, two.now)
    assert two.heard() == frames
    assert two.heard() == []


def test_what_was_put_back_and_all_behind_it_keep_their_order(kind: str) -> None:
    """Packets of one thing each, so that their order is known."""
    two = Two()
    packets: list[bytes] = []
    for letter in "ddsdsddd":
        if letter == "s":
            two.client.send_stream_data(0, b"text")
        else:
            two.lanes[0].send_datagram(b"frame %d" % len(packets))
        [packet] = two.packets()
        packets.append(packet)
        two.now += 0.001
    two.lanes[1].receive_many_datagrams(packets, CLIENT, two.now)
    assert two.heard() == [
        b"frame 0",
        b"frame 1",
        (0, b"text"),
        b"frame 3",
        (0, b"text"),
        b"frame 5",
        b"frame 6",
        b"frame 7",
    ]
    assert two.heard() == []
    two.lanes[0].send_datagram(b"the lane goes on")
    for packet in two.packets():
        two.lanes[1].receive_datagram(packet, CLIENT, two.now, len(packet))
    assert two.heard() == [b"the lane goes on"]


def test_stream_data_in_one_packet_with_frames_is_not_lost(kind: str) -> None:
    two = Two()
    two.lanes[0].send_datagram(b"frame")
    two.client.send_stream_data(0, b"text")
    two.lanes[0].send_datagram(b"another")
    two.lanes[1].receive_many_datagrams(two.packets(), CLIENT, two.now)
    heard = two.heard()
    assert [each for each in heard if isinstance(each, bytes)] == [b"frame", b"another"]
    assert [each for each in heard if not isinstance(each, bytes)] == [(0, b"text")]


def test_timers_are_the_connections(kind: str) -> None:
    two = Two()
    for lane, quic in zip(two.lanes, (two.client, two.server), strict=True):
        timer = lane.get_timer()
        assert timer is not None
        assert timer[1] == quic.get_timer()
        assert timer[1] > two.now
    before = two.client.get_timer()
    two.lanes[0].send_datagram(b"a probe may be due, if it is lost")
    two.packets()
    timer = two.lanes[0].get_timer()
    assert timer is not None
    assert before is not None
    assert timer[1] < before


def test_a_close_ends_the_other_side(kind: str) -> None:
    two = Two()
    two.client.close(error_code=4, reason_phrase="enough")
    assert inside.ending(two.client) is inside.Ending.CLOSING
    for packet in two.packets():
        two.lanes[1].receive_datagram(packet, CLIENT, two.now, len(packet))
    assert two.heard() == [], "the library says so some round trips later"
    assert inside.ending(two.server) is inside.Ending.DRAINING
    assert inside.close_reason(two.server) == "enough"
    for quic in (two.client, two.server):
        when = quic.get_timer()
        assert when is not None
        quic.handle_timer(when)
        [end] = drained(quic)
        assert isinstance(end, events.ConnectionTerminated)
        assert end.reason_phrase == "enough"


def test_a_key_update_passes(kind: str) -> None:
    two = Two()
    for _ in range(3):
        two.exchange()  # the handshake is confirmed
    two.client.request_key_update()
    for number in range(5):
        two.lanes[0].send_datagram(b"frame %d" % number)
        for packet in two.packets():
            two.lanes[1].receive_datagram(packet, CLIENT, two.now, len(packet))
        assert two.heard() == [b"frame %d" % number]
        two.exchange()
    assert two.client._core.send_key_phase == two.server._core.receive_key_phase == 1


def test_before_the_handshake_there_is_a_lane_that_has_nothing() -> None:
    """A server's connection has no core before its first packet: then the public calls are all there is."""
    quic = QuicConnection(
        configuration=server_configuration(credentials()), original_destination_connection_id=bytes(8)
    )
    lane = inside.lane(quic)
    assert lane.get_timer() is None
    assert lane.poll_transmit(1000.0) is None
    assert not inside.has_begun(quic)


# What is read, of the library that is installed


def sides() -> tuple[Recorder, Recorder]:
    world = World(Link(latency=0.02))
    client, server = world.pair()
    world.run(within=1)
    return client, server


def test_of_an_established_connection_everything_is_known() -> None:
    client, server = sides()
    for side, peer in ((client, server), (server, client)):
        quic = side.connection._quic
        path = inside.active_path(quic)
        assert path is not None
        assert path.remote == peer.sock.public
        assert path.payload == 1472
        assert path.received > 1000
        rtt = inside.round_trip(quic)
        assert rtt is not None
        assert 0.04 <= rtt < 0.1
        assert inside.datagram_limit(quic) == 65535
        assert inside.has_begun(quic)
        assert inside.ending(quic) is None
        assert not inside.is_congested(quic)


def test_what_is_in_flight_congests() -> None:
    client, _ = sides()
    quic = client.connection._quic
    for _ in range(2000):
        client.connection.send_datagram(bytes(1440))
    quic.datagrams_to_send(2000.0)
    assert inside.is_congested(quic)


@pytest.mark.parametrize("size", [1200, 1280, 1400])
def test_packets_are_limited(size: int) -> None:
    two = Two()
    assert inside.limit_payload(two.client, size)
    for _ in range(50):
        two.client.send_datagram_frame(bytes(300))
    two.client.send_stream_data(0, bytes(20_000))
    sizes = [len(data) for data, _ in two.client.datagrams_to_send(two.now)]
    assert max(sizes) <= size
    assert max(sizes) > size - 350, "and filled up to that"


# What is said when the library has changed inside


class Changed(SimpleNamespace):
    """A connection that has nothing of what is looked for."""


def test_without_its_core_a_connection_just_works_on() -> None:
    quic: Any = Changed()
    assert inside.has_begun(quic) is False
    assert inside.ending(quic) is None
    assert inside.close_reason(quic) == "closed by the other side"
    assert inside.active_path(quic) is None
    assert inside.round_trip(quic) is None
    assert inside.is_congested(quic) is False
    assert inside.datagram_limit(quic) == 65535
    assert inside.limit_payload(quic, 1200) is False
    assert isinstance(inside.lane(quic), inside._PublicLane)


@pytest.mark.parametrize(
    "core",
    [
        Changed(),
        Changed(state="connected", active_path=None, smoothed_rtt=None),
        Changed(congestion_window=0, bytes_in_flight=0),  # full, but of which packets?
        Changed(active_path=(0, CLIENT, SERVER, 0, 0, 1472)),  # its window is not known
    ],
)
def test_with_another_core_too(core: Changed) -> None:
    quic: Any = Changed(_core=core)
    assert inside.has_begun(quic) is True
    assert inside.ending(quic) is None
    assert inside.round_trip(quic) is None
    assert inside.is_congested(quic) is False


def test_a_state_of_another_name_is_no_end() -> None:
    for state in ("first_flight", "connected", "terminated", None, 7):
        assert inside.ending(Changed(_core=Changed(state=state))) is None


@pytest.mark.parametrize("limit", [None, 0])
def test_a_peer_that_offers_no_datagrams_has_no_limit(limit: int | None) -> None:
    assert inside.datagram_limit(Changed(_remote_max_datagram_frame_size=limit)) is None


@pytest.mark.parametrize("event", [None, Changed(), Changed(reason_phrase="")])
def test_an_end_without_a_reason_has_one_for_people(event: object) -> None:
    assert inside.close_reason(Changed(_close_event=event)) == "closed by the other side"
    given: Any = Changed(_close_event=Changed(reason_phrase="enough"))
    assert inside.close_reason(given) == "enough"


def test_nothing_is_put_back_where_nothing_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "public")
    inside.put_back(Changed(), ("drained",))


def test_a_path_that_is_not_known_keeps_the_session_with_small_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it: every look inside fails, and frames still flow, and the end is told."""
    monkeypatch.setattr(inside, "_IS_KNOWN", False)
    for name, fallback in {"active_path": None, "round_trip": None, "is_congested": False, "ending": None}.items():
        monkeypatch.setattr(inside, name, lambda quic, fallback=fallback: fallback)
    monkeypatch.setattr(inside, "limit_payload", lambda quic, size: False)
    world, client, server = opened(Link(latency=0.02))
    assert client.connection.capacity == server.connection.capacity == 1168
    frames = numbered(40, (60, 1168))
    for side in (client, server):
        for frame in frames:
            assert side.connection.send_datagram(frame)
        side.connection.send_stream(b"hello")
    world.run(lambda: client.datagrams == server.datagrams == frames and client.stream == server.stream == b"hello")
    server.connection.close(CloseCode.DISCONNECT, "enough")
    world.run(lambda: client.end, within=30)
    assert client.end is not None
    assert client.end[1] == "enough"
