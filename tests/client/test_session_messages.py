"""An endpoint's session with a relay that says what the test wants."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.virtual_room import BROADCAST, LAN_HOST, WELCOME, RoomWorld, ScriptedRelay, Stage, frame

from softlan.client.session import LONGEST_REASON, Ended, EndKind
from softlan.ctrl.framing import encode_frame
from softlan.ctrl.messages import (
    Disconnect,
    Hello,
    PeerJoined,
    PeerLeft,
    Reject,
    RejectCode,
    Role,
    Stats,
    encode,
)
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac
from softlan.proto.overlay import Kind, header
from softlan.quic.connection import Connection
from softlan.quic.handler import CloseCause, CloseCode


def test_the_hello_says_who_we_are() -> None:
    world = Stage(welcome=None)
    (hello,) = world.script.heard
    assert hello == Hello(
        version=1,
        role=Role.CLIENT,
        room="den",
        mac=format_mac(world.player.mac),
        datagram_budget=1440,
        software="a test",
    )
    assert world.player.welcome is None


def test_somebody_unknown_may_leave() -> None:
    world = Stage()
    world.script.say(PeerLeft(peer_id=99, reason="timeout"))
    world.run(lambda: world.player.went)
    assert world.player.went == [(None, PeerLeft(peer_id=99, reason="timeout"))]
    world.script.say(
        PeerJoined(peer_id=3, role=Role.GATEWAY, mac=None),
        PeerLeft(peer_id=4, reason="x"),
        PeerLeft(peer_id=3, reason="x"),
    )
    world.run(lambda: len(world.player.went) == 3)
    assert not world.session.gateway_present


def test_frames_that_overtake_the_welcome_are_counted() -> None:
    world = Stage(welcome=None)
    world.script.connection.send_datagram(header(Kind.ETHERNET, 3) + frame(BROADCAST, LAN_HOST))
    world.run(lambda: world.player.counters.drops == {DropReason.NOT_CONNECTED: 1})
    assert world.player.frames == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(lambda body: b"\x10\x00" + body), max_size=20))
def test_malformed_datagrams_are_counted_and_do_no_harm(noise: list[bytes]) -> None:
    world = Stage()
    for datagram in noise:
        world.script.connection.send_datagram(datagram)
    good = frame(BROADCAST, LAN_HOST)
    world.script.connection.send_datagram(header(Kind.ETHERNET, 3) + good)
    world.run(lambda: good in world.player.frames)
    drops = sum(world.player.counters.drops.values())
    probes = sum(datagram[:2] == b"\x12\x00" and len(datagram) >= 12 for datagram in noise)
    assert drops + len(world.player.frames) - 1 + probes == len(noise)
    assert world.player.ended is None


def test_stats_are_sent_when_they_are_due() -> None:
    world = Stage(welcome=msgspec.structs.replace(WELCOME, stats_interval=2.0))
    world.session.send_frames([frame(BROADCAST, world.player.mac), bytes(5)])
    world.run(within=6.5)
    stats = [message for message in world.script.heard if isinstance(message, Stats)]
    assert len(stats) == 3
    assert stats[-1].counters == {"frames_in": 0, "frames_out": 1, "bytes_in": 0, "bytes_out": 60, "drop_runt": 1}
    assert stats[-1].rtt_ms == pytest.approx(20, abs=3)


def test_unknown_messages_are_ignored_and_counted() -> None:
    world = Stage()
    world.script.write(encode_frame(b'{"type":"weather","sky":"blue"}'))
    world.script.say(PeerJoined(peer_id=3, role=Role.GATEWAY, mac=None))
    world.run(lambda: world.player.came)
    assert world.session.unknown_messages == 1


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\x00\x00\x00\x01x", "a message of 1 bytes"),
        (b"\xff\xff\xff\xff", "a message of 4294967295 bytes"),
        (encode_frame(b"not JSON"), "not a JSON object"),
        (encode_frame(b'{"type":"peer_left"}'), "peer_left: "),
        (encode_frame(encode(WELCOME)), "welcome is out of place"),
        (encode_frame(encode(Reject(code=RejectCode.ROOM_FULL, message="full"))), "reject is out of place"),
        (encode_frame(encode(Stats(counters={}))), "stats is out of place"),
    ],
    ids=["too short", "too long", "no JSON", "no member", "another welcome", "a late reject", "not a relay's"],
)
def test_what_we_do_not_understand_ends_the_session(data: bytes, complaint: str) -> None:
    world = Stage()
    world.script.write(data)
    ended = world.end()
    assert ended.kind is EndKind.LOST
    assert complaint in ended.reason
    world.run(lambda: world.script.end)
    assert world.script.end is not None
    assert world.script.end[1].startswith("bad_message: ")


def test_a_peer_before_the_welcome_is_out_of_place() -> None:
    world = Stage(welcome=None)
    world.script.say(PeerJoined(peer_id=3, role=Role.GATEWAY, mac=None))
    assert "peerjoined is out of place" in world.end().reason


def test_nothing_counts_behind_a_goodbye() -> None:
    world = Stage()
    world.script.say(Disconnect(reason="relay_shutdown", message="see you"), PeerLeft(peer_id=3, reason="timeout"))
    assert world.end() == Ended(EndKind.LOST, "see you")
    assert world.player.went == []


def test_a_relay_that_does_not_answer_the_hello_is_given_up() -> None:
    world = Stage(welcome=None)
    assert world.end() == Ended(EndKind.LOST, "the relay did not answer our hello")
    assert world.now - 1000.0 < 5.5


def test_a_relay_that_ends_the_stream_has_ended_the_session() -> None:
    world = Stage()
    world.script.connection._quic.send_stream_data(0, b"", end_stream=True)
    world.script.connection._owner.mark_dirty(world.script.connection)
    assert world.end() == Ended(EndKind.LOST, "the relay ended the session")


UGLY = "\x1b[2J\x1b]0;owned\x07all is well\nsoftlan: now run this\u202e" + "!" * 400
PLAIN = "?[2J?]0;owned?all is well?softlan: now run this?"


def test_what_a_relay_says_of_an_end_reaches_people_as_one_plain_line() -> None:
    """It goes to terminals, and before the handshake anyone may have written it."""
    refused, told, closed, before = Stage(welcome=None), Stage(), Stage(), RoomWorld()
    refused.script.say(Reject(code=RejectCode.ROOM_FULL, message=UGLY, retry_after=3.0))
    told.script.say(Disconnect(reason="relay_shutdown", message=UGLY))
    closed.script.connection.close(CloseCode.INTERNAL, UGLY)
    stranger = before.start()
    stranger.session.closed(CloseCause.PEER, UGLY, before.now)
    ends = [refused.end(), told.end(), closed.end(), stranger.ended]
    for ended in ends:
        assert ended is not None
        assert PLAIN in ended.reason
        assert ended.reason.isprintable()
        assert len(ended.reason) <= LONGEST_REASON
    assert ends[0] is not None
    assert ends[0].reject == Reject(code=RejectCode.ROOM_FULL, message=ends[0].reason, retry_after=3.0)


@pytest.mark.parametrize("joined", [False, True])
def test_a_relay_that_closes_is_lost(joined: bool) -> None:
    world = Stage(welcome=WELCOME if joined else None)
    world.script.connection.close(CloseCode.INTERNAL, "oops")
    assert world.end() == Ended(EndKind.LOST, "the connection ended: oops")


def test_a_relay_that_carries_no_datagrams_is_no_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "datagram_limit", None)
    world = RoomWorld()
    member = world.start()
    world.run(lambda: member.ended)
    assert member.ended is not None
    assert member.ended.kind is EndKind.UNTRUSTED
    assert "no softlan relay" in member.ended.reason


def test_a_path_that_returns_no_datagrams_is_told_from_a_dead_relay() -> None:
    class Mute(ScriptedRelay):
        echoes = False

    world = Stage(Mute, welcome=None)
    assert world.end() == Ended(EndKind.LOST, "no datagram comes back from the relay; is UDP filtered on the way?")


@pytest.mark.parametrize(
    ("cause", "kind"),
    [(CloseCause.ERROR, EndKind.UNTRUSTED), (CloseCause.PEER, EndKind.UNTRUSTED), (CloseCause.TIMEOUT, EndKind.LOST)],
)
def test_a_handshake_that_fails_is_told_from_one_without_an_answer(cause: CloseCause, kind: EndKind) -> None:
    world = RoomWorld()
    member = world.start()
    member.session.closed(cause, "why", world.now)
    assert member.ended is not None
    assert member.ended.kind is kind
