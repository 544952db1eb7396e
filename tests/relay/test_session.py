import json

import pytest
from tests.support.relay_fakes import FakeConnection, Peer, RelayBench, mac

from softlan.ctrl.framing import encode_frame
from softlan.ctrl.messages import Disconnect, PeerLeft, Reject, Stats, Welcome, encode
from softlan.proto.drop import DropReason
from softlan.proto.overlay import Kind, encode_probe
from softlan.proto.overlay import encode as encode_overlay
from softlan.quic.handler import CloseCause, CloseCode
from softlan.relay.session import State

HELLO = {"type": "hello", "version": 1, "role": "client", "room": "den", "mac": "02:00:00:00:00:01"}
HELLO |= {"datagram_budget": 1440}


def changed(**changes: object) -> str:
    """A hello with members changed; None leaves one out."""
    return json.dumps({name: value for name, value in (HELLO | changes).items() if value is not None})


@pytest.fixture
def bench() -> RelayBench:
    return RelayBench()


@pytest.fixture
def pair(bench: RelayBench) -> tuple[Peer, Peer]:
    """Two clients of one room, with nothing left to read."""
    first, second = bench.join(1), bench.join(2)
    first.read(), second.read()
    return first, second


def rejected(peer: Peer, code: str) -> Reject:
    """That the peer was told no, once, and then closed on."""
    [reject] = peer.read()
    assert isinstance(reject, Reject)
    assert reject.code.value == code
    assert peer.session.state is State.CLOSED
    assert peer.connection.closed is not None
    assert peer.connection.closed[1] == f"{code}: {reject.message}"
    assert not peer.bench.relay.sessions, "nothing is kept of a peer that is not let in"
    return reject


# Before the hello


def test_a_peer_without_datagrams_is_closed(bench: RelayBench) -> None:
    connection = FakeConnection()
    connection.datagram_limit = None
    bench.connect(connection)
    assert connection.closed == (CloseCode.DATAGRAM_UNSUPPORTED, "datagram_unsupported")
    assert not bench.relay.sessions


def test_the_hello_is_due_five_seconds_after_the_handshake(bench: RelayBench) -> None:
    peer = bench.connect(handshake=False)
    bench.now += 60
    bench.relay.tick(bench.now)  # the handshake is the library's to time
    peer.session.handshake_completed(bench.now)
    bench.relay.tick(bench.now + 4.9)
    assert peer.connection.closed is None
    bench.relay.tick(bench.now + 5.0)
    assert peer.connection.closed == (
        CloseCode.HELLO_TIMEOUT,
        "hello_timeout: say hello within 5 s of the handshake",
    )
    assert not bench.relay.sessions


def test_who_has_said_hello_has_all_the_time(bench: RelayBench) -> None:
    peer = bench.join(1)
    bench.relay.tick(bench.now + 1e6)
    assert peer.connection.closed is None


def test_a_hello_byte_by_byte(bench: RelayBench) -> None:
    peer = bench.connect()
    for byte in encode_frame(changed().encode()):
        assert peer.read() == []
        peer.write(bytes((byte,)))
    [welcome] = peer.read()
    assert isinstance(welcome, Welcome)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (changed(version=2), "unsupported_version"),
        (changed(version=2, role=7, room=[]), "unsupported_version"),
        (changed(room="a/b"), "bad_room"),
        (changed(mac=None), "bad_mac"),
        (changed(mac="01:00:5e:00:00:01"), "bad_mac"),
        (changed(mac="00:1b:21:00:00:01"), "bad_mac"),
        (changed(role="gateway"), "bad_mac"),
        (changed(role="player"), "bad_message"),
        (changed(datagram_budget=299), "bad_message"),
        (changed(datagram_budget=None), "bad_message"),
        (changed(software="x" * 65), "bad_message"),
        (changed(type="stats", counters={}), "bad_message"),
        (changed(type="chat"), "bad_message"),  # unknown types are for later
        (changed(type="welcome"), "bad_message"),
        ('{"type": "disconnect", "reason": "quit", "message": ""}', "bad_message"),
        ("[]", "bad_message"),
        ("hello", "bad_message"),
    ],
)
def test_a_bad_hello_is_rejected(bench: RelayBench, text: str, code: str) -> None:
    peer = bench.connect()
    peer.say_json(text)
    rejected(peer, code)
    assert peer.connection.closed is not None
    expected = CloseCode.BAD_MESSAGE if code == "bad_message" else CloseCode.REJECTED
    assert peer.connection.closed[0] is expected
    assert bench.relay.snapshot(bench.now) == []


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\0\0\0\1", b"\0\0\x40\x01", b"\xff\xff\xff\xff"])
def test_a_bad_length_is_rejected_as_soon_as_it_is_there(bench: RelayBench, length: bytes) -> None:
    peer = bench.connect()
    peer.write(length)
    assert "16384" in rejected(peer, "bad_message").message


def test_what_follows_a_rejected_hello_is_not_looked_at(bench: RelayBench) -> None:
    peer = bench.connect()
    peer.write(encode_frame(changed(room="").encode()) + encode_frame(changed().encode()), end=True)
    rejected(peer, "bad_room")
    assert bench.relay.snapshot(bench.now) == []


def test_probes_are_echoed_before_the_hello_and_nothing_else_is(bench: RelayBench) -> None:
    peer = bench.connect()
    probe = encode_probe(0, 7, 1440)
    peer.send(b"", encode_overlay(Kind.ETHERNET, 0, bytes(60)), probe)
    assert peer.connection.datagrams == [probe]
    peer.send(*[probe] * 30)
    assert len(peer.connection.datagrams) == 20
    peer.hello(1)
    peer.send(*[probe] * 30)
    assert len(peer.connection.datagrams) == 20, "the welcome is no new allowance"
    bench.now += 0.5
    peer.send(*[probe] * 30)
    assert len(peer.connection.datagrams) == 30


# In the room


@pytest.mark.parametrize("text", ['{"type": "chat", "text": "hi"}', '{"type": ""}'])
def test_an_unknown_type_is_ignored_and_counted(pair: tuple[Peer, Peer], text: str) -> None:
    peer, other = pair
    for _ in range(3):
        peer.say_json(text)
    [room] = peer.bench.relay.snapshot(peer.bench.now)
    assert [each["unknown_messages"] for each in room["members"]] == [3, 0]
    assert peer.connection.closed is None
    assert peer.read() == other.read() == []


@pytest.mark.parametrize(
    "text",
    [
        changed(),  # a second hello
        '{"type": "welcome"}',
        '{"type": "peer_left", "peer_id": 2, "reason": "timeout"}',
        '{"type": "stats"}',
        '{"type": "stats", "counters": {"x": -1}}',
        '{"type": "disconnect", "reason": "NOT A CODE", "message": ""}',
        '{"type": 7}',
        "{]",
    ],
)
def test_a_bad_message_ends_the_session(pair: tuple[Peer, Peer], text: str) -> None:
    peer, other = pair
    peer_id = peer.peer_id
    peer.say_json(text)
    assert peer.connection.closed is not None
    code, phrase = peer.connection.closed
    assert code is CloseCode.BAD_MESSAGE
    assert phrase.startswith("bad_message: ")
    assert len(phrase) > len("bad_message: "), "it says what was wrong"
    assert other.read() == [PeerLeft(peer_id=peer_id, reason="protocol_error")]


def test_a_bad_length_ends_the_session(pair: tuple[Peer, Peer]) -> None:
    peer, other = pair
    peer.write(b"\0\0\0\0")
    assert peer.connection.closed is not None
    assert peer.connection.closed[0] is CloseCode.BAD_MESSAGE
    assert [message.reason for message in other.read() if isinstance(message, PeerLeft)] == ["protocol_error"]


def test_the_latest_stats_are_kept(bench: RelayBench) -> None:
    peer = bench.join(1)
    bench.now += 10
    peer.say(Stats(counters={"frames_out": 1}, rtt_ms=20.0))
    bench.now += 10
    peer.say(Stats(counters={"frames_out": 2}, rtt_ms=25.5))
    [room] = bench.relay.snapshot(bench.now + 1)
    [member] = room["members"]
    assert (member["reported"], member["rtt_ms"], member["last_seen"]) == ({"frames_out": 2}, 25.5, 1.0)


def test_the_reason_of_a_disconnect_is_passed_on(pair: tuple[Peer, Peer]) -> None:
    peer, other = pair
    peer_id = peer.peer_id
    peer.say(Disconnect(reason="quit", message="bye"))
    assert peer.connection.closed == (CloseCode.NO_ERROR, "goodbye")
    assert other.read() == [PeerLeft(peer_id=peer_id, reason="disconnect:quit")]
    # What may have followed it in the same packet is of no interest.
    peer.session.stream_received(b"", True, peer.bench.now)
    assert other.read() == []


def test_the_end_of_the_control_stream_is_a_goodbye(pair: tuple[Peer, Peer]) -> None:
    peer, other = pair
    peer_id = peer.peer_id
    peer.write(encode_frame(encode(Stats(counters={}))), end=True)
    assert peer.connection.closed == (CloseCode.NO_ERROR, "the control stream ended")
    assert other.read() == [PeerLeft(peer_id=peer_id, reason="disconnect:closed")]


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (CloseCause.PEER, "disconnect:closed"),
        (CloseCause.TIMEOUT, "timeout"),
        (CloseCause.ERROR, "protocol_error"),
    ],
)
def test_a_lost_connection_is_told_to_the_others(pair: tuple[Peer, Peer], cause: CloseCause, reason: str) -> None:
    peer, other = pair
    peer_id = peer.peer_id
    peer.session.closed(cause, "in words", peer.bench.now)
    assert other.read() == [PeerLeft(peer_id=peer_id, reason=reason)]
    assert peer.session.state is State.CLOSED
    assert peer.bench.relay.sessions == {other.session}


def test_a_connection_lost_before_the_hello_is_nobodys_business(bench: RelayBench) -> None:
    other = bench.join(1)
    other.read()
    for handshake in (False, True):
        bench.connect(handshake=handshake).session.closed(CloseCause.TIMEOUT, "Idle timeout", bench.now)
    assert other.read() == []
    assert bench.relay.sessions == {other.session}


def test_malformed_datagrams_are_borne_up_to_the_threshold(bench: RelayBench) -> None:
    peer, other = bench.join(1), bench.join(2)
    other.read()
    peer_id = peer.peer_id
    frame = encode_overlay(Kind.ETHERNET, peer_id, mac(2) + mac(1) + b"\x88\xb5" + bytes(46))
    peer.send(*[b"\xff"] * 32, frame)
    assert peer.connection.closed is None
    assert other.connection.datagrams == [frame]
    assert peer.session.member is not None
    assert peer.session.member.counters.drops == {DropReason.MALFORMED: 32}
    peer.send(b"\xff")
    assert peer.connection.closed == (CloseCode.MALFORMED, "malformed: too many malformed datagrams")
    assert other.read() == [PeerLeft(peer_id=peer_id, reason="malformed")]
    assert bench.relay.sessions == {other.session}


def test_what_was_malformed_is_remembered_of_who_comes_back(bench: RelayBench) -> None:
    other = bench.join(2)
    for _ in range(3):
        peer = bench.join(1)
        peer.send(*[b"\xff"] * 10)
        peer.say(Disconnect(reason="quit", message=""))
    peer = bench.join(1)
    peer.send(b"\xff", b"\xff")
    assert peer.connection.closed is None
    peer.send(b"\xff")
    assert peer.connection.closed == (CloseCode.MALFORMED, "malformed: too many malformed datagrams")

    again = bench.join(1)
    frame = encode_overlay(Kind.ETHERNET, again.peer_id, mac(2) + mac(1) + b"\x88\xb5" + bytes(46))
    other.connection.datagrams.clear()
    again.send(frame)
    assert other.connection.datagrams == [frame]
    assert again.connection.closed is None, "it may be mended"
    again.send(b"\xff")
    assert again.connection.closed is not None, "or not"
    bench.now += 700
    assert bench.join(1).session.state is State.JOINED
    peer = bench.join(3)
    peer.send(*[b"\xff"] * 32)
    assert peer.connection.closed is None, "somebody else"


def test_nobody_is_sent_away_for_what_another_one_did_with_its_mac(bench: RelayBench) -> None:
    bench.join(2)
    spoiler = bench.join(1, host="203.0.113.5")
    spoiler.send(*[b"\xff"] * 32)
    spoiler.say(Disconnect(reason="quit", message=""))
    player = bench.join(1)
    player.send(*[b"\xff"] * 32)
    assert player.connection.closed is None


# More than anyone has to say


STATS = Stats(counters={"frames_in": 1})


def flooded(peer: Peer) -> bool:
    """Whether it was sent away, and told why."""
    if peer.connection.closed is None:
        return False
    [farewell] = [message for message in peer.read() if isinstance(message, Disconnect)]
    assert farewell.reason == "rate_limited"
    assert peer.connection.closed == (CloseCode.DISCONNECT, "rate_limited")
    assert peer.session not in peer.bench.relay.sessions
    return True


@pytest.mark.parametrize("text", [encode(STATS).decode(), '{"type": "chat"}'], ids=["stats", "unknown"])
def test_so_many_control_messages_at_once_and_one_more_is_the_end(pair: tuple[Peer, Peer], text: str) -> None:
    peer, other = pair
    peer_id = peer.peer_id
    for _ in range(199):  # and its hello
        peer.say_json(text)
    assert not flooded(peer)
    peer.say_json(text)
    assert flooded(peer)
    assert other.read() == [PeerLeft(peer_id=peer_id, reason="protocol_error")]
    assert len(list(peer.bench.log.named("session.flooded"))) == 1


def test_in_one_packet_too(pair: tuple[Peer, Peer]) -> None:
    peer, _ = pair
    peer.write(encode_frame(encode(STATS)) * 1000)
    assert flooded(peer)


def test_and_fifty_a_second_for_as_long_as_one_likes(pair: tuple[Peer, Peer]) -> None:
    peer, _ = pair
    for _ in range(600):
        peer.bench.now += 0.0201
        peer.say(STATS)
    assert not flooded(peer)


def test_bytes_count_also_where_no_message_is_complete(pair: tuple[Peer, Peer]) -> None:
    peer, _ = pair
    large = encode_frame(b'{"type": "of_tomorrow", "x": "' + b"x" * 16000 + b'"}')
    for _ in range(8):
        peer.write(large)
    assert not flooded(peer)
    for start in range(len(large)):
        peer.write(large[start : start + 1])
    assert flooded(peer)


def test_honest_stats_of_every_ten_seconds_are_far_from_that(bench: RelayBench) -> None:
    peer = bench.join(1)
    most = Stats(counters={f"{'x' * 50}{number:03}": 2**40 for number in range(200)}, rtt_ms=1.5)
    for _ in range(1000):
        bench.now += 10
        peer.say(most)
    assert not flooded(peer)


def test_a_storm_of_bad_hellos_is_told_to_wait() -> None:
    bench = RelayBench(hellos_per_minute=5.0)
    codes = []
    for _ in range(20):
        peer = bench.connect()
        peer.say_json(changed(room="a/b"))
        [reject] = peer.read()
        assert isinstance(reject, Reject)
        codes.append(reject.code.value)
        if len(codes) > 5:
            assert reject.retry_after == pytest.approx(12.0)
    assert codes == ["bad_room"] * 5 + ["rate_limited"] * 15
    assert not bench.relay.sessions
