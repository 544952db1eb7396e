"""Sealed rooms at a real relay, in virtual time: over paths that lose and reorder, and over sessions that end."""

import datetime
import functools
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.virtual_room import BROADCAST, LAN_HOST, Member, RoomWorld, frame
from tests.support.wire import SERVER_NAME, Link, Recorder, WireSocket, credentials

from softlan.client.session import EndKind, Identity
from softlan.ctrl.messages import RejectCode, Role
from softlan.proto.drop import DropReason
from softlan.proto.keys import room_keys
from softlan.proto.overlay import Kind, header
from softlan.proto.seal import WINDOW
from softlan.quic.connection import Connection
from softlan.quic.door import Door
from softlan.quic.trust import Credentials, development_credentials

SECRET, OTHER_SECRET = bytes(range(32)), bytes(32)


def test_a_sealed_room_carries_frames_both_ways_and_to_everyone() -> None:
    world = RoomWorld()
    gateway, one, two = (world.join(role, secret=SECRET) for role in (Role.GATEWAY, Role.CLIENT, Role.CLIENT))
    down = [frame(one.mac, LAN_HOST, b"%d" % number) for number in range(100)]
    up = [frame(LAN_HOST, one.mac, b"%d" % number) for number in range(100)]
    called = [frame(BROADCAST, two.mac, b"who is there?")]
    gateway.session.send_frames(down)
    one.session.send_frames(up)
    world.run(lambda: one.frames == down and gateway.frames == up, within=0.2)
    two.session.send_frames(called)
    world.run(lambda: one.frames == down + called and gateway.frames == up + called, within=0.2)
    assert two.frames == []
    assert [member.counters.drops for member in (gateway, one, two)] == [{}, {}, {}]


def test_a_seal_costs_24_bytes_of_the_mtu() -> None:
    world = RoomWorld()
    one, two = world.join(secret=SECRET), world.join(secret=SECRET)
    assert one.welcome is not None
    assert one.welcome.sealed
    assert (one.welcome.room_mtu, one.welcome.effective_mtu) == (1418, 1394)
    # With one tag, as ever.
    tagged = BROADCAST + one.mac + b"\x81\x00\x00\x05\x88\xb5" + bytes(1394)
    one.session.send_frames([tagged, tagged + b"\0"])
    world.run(lambda: two.frames == [tagged])
    assert one.counters.drops == {DropReason.OVER_BUDGET: 1}


def test_whoever_comes_first_decides_whether_the_room_is_sealed() -> None:
    world = RoomWorld()
    world.join(secret=SECRET)
    world.join(room="attic")
    for room, secret in (("den", None), ("den", OTHER_SECRET), ("attic", SECRET)):
        late = world.start(room=room, secret=secret)
        world.run(lambda late=late: late.ended)  # type: ignore[misc]
        assert late.ended is not None
        assert late.ended.reject is not None
        assert (late.ended.kind, late.ended.reject.code) == (EndKind.REJECTED, RejectCode.UNAUTHORIZED)


def test_a_plain_frame_in_a_sealed_room_is_stopped_by_the_relay() -> None:
    world = RoomWorld()
    one, two = world.join(secret=SECRET), world.join(secret=SECRET)
    assert one.welcome is not None
    one.session.connection.send_datagram(header(Kind.ETHERNET, one.welcome.peer_id) + frame(BROADCAST, one.mac))
    world.run(within=1)
    assert two.frames == []
    assert two.counters.drops == {}, "it did not come as far as that"
    assert one.ended is None


@pytest.mark.parametrize("seed", range(4))
def test_loss_and_reordering_on_the_way_cost_nothing_more(seed: int) -> None:
    """What is lost is lost; all else arrives once, whatever the order, and nothing is taken for a forgery."""
    world = RoomWorld(Link(latency=0.02, loss=0.05, reorder=0.2, duplicate=0.05), seed=seed)
    one, two = world.join(secret=SECRET), world.join(secret=SECRET)
    world.run(lambda: one.came and two.came)
    sent: list[bytes] = []

    def send() -> None:
        burst = [frame(two.mac, one.mac, b"%d" % (len(sent) + number)) for number in range(12)]
        sent.extend(burst)
        one.session.send_frames(burst)

    world.clock.every(0.005, send)
    world.run(within=2.5)
    assert len(sent) > WINDOW
    assert len(two.frames) == len(set(two.frames)) == two.counters.frames_in
    assert set(two.frames) <= set(sent)
    assert two.frames != sorted(two.frames, key=sent.index), "some were overtaken"
    assert len(two.frames) > 0.8 * len(sent)  # of 5 % at each of two links, packets with several frames
    assert two.counters.drops == {}


def test_first_frames_reach_whoever_the_news_of_their_sender_has_not_reached_yet() -> None:
    """The packet with the news is lost on the way; the stream repeats it, and the frames wait for that."""
    world = RoomWorld()
    two = world.join(secret=SECRET)
    world.run(within=1)  # the last acknowledgements

    lost: list[int] = []

    def lose_the_news(data: bytes, source: object, target: object) -> bytes | None:
        if target == two.sock.public and not lost:
            lost.append(len(data))
            return None
        return data

    world.wire.taps.append(lose_the_news)
    one = world.join(secret=SECRET)
    assert lost
    assert not two.came
    called = [frame(BROADCAST, one.mac, b"%d" % number) for number in range(10)]
    one.session.send_frames(called)
    world.run(lambda: two.frames == called, within=1.5)
    assert two.came
    assert two.counters.drops == {}


# Who has less than the secret


@pytest.mark.parametrize("has_certificate", [False, True], ids=["its own", "the relay's, but not its key"])
def test_the_token_is_not_told_to_who_poses_as_the_relay(tmp_path: Path, has_certificate: bool) -> None:
    """With a certificate of the same name; or with the right one, which is no secret."""
    own = development_credentials(tmp_path, SERVER_NAME, datetime.datetime.now(datetime.UTC))
    impostors: list[Recorder] = []

    def accept(connection: Connection) -> Recorder:
        impostors.append(Recorder(connection))
        return impostors[-1]

    world = RoomWorld()
    shown = Credentials(credentials().chain, own.key) if has_certificate else own
    world.server.endpoint._door = Door(shown, accept)
    member = world.start(secret=SECRET)
    world.run(lambda: member.ended)
    world.run(within=3)
    assert member.ended is not None
    assert member.ended.kind is EndKind.UNTRUSTED
    assert not member.ready
    assert impostors, "it was spoken to"
    assert [(each.ready, each.stream, each.datagrams) for each in impostors] == [(False, b"", [])] * len(impostors)


def test_the_token_alone_opens_the_room_and_no_frame() -> None:
    """A relay that saw the token may join with it elsewhere. There it is a member who hears noise, and makes some."""

    def thief(world: RoomWorld, identity: Identity, sock: WireSocket) -> Member:
        return Member(world, replace(identity, room_token=room_keys(SECRET, "den").token), sock)

    world = RoomWorld()
    one, two = world.join(secret=SECRET), world.join(secret=SECRET)
    other = world.join(secret=OTHER_SECRET, make=thief)
    world.run(lambda: len(one.came) == len(two.came) == len(other.came) == 2)
    called = [frame(BROADCAST, one.mac, b"for members only")]
    one.session.send_frames(called)
    other.session.send_frames([frame(BROADCAST, other.mac, b"said by nobody")])
    world.run(lambda: two.frames == called)
    world.run(within=2)
    assert other.frames == one.frames == []
    assert two.frames == called
    assert [each.counters.drops for each in (one, two, other)] == [{DropReason.BAD_SEAL: 1}] * 3


# Sessions that end


def chatter(world: RoomWorld, sender: Member, receiver: Member) -> None:
    """From now on, `sender` says something now and then."""
    world.clock.every(0.01, functools.partial(sender.session.send_frames, [frame(receiver.mac, sender.mac)]))


def test_who_comes_back_has_a_new_key_and_goes_on() -> None:
    world = RoomWorld()
    one, two = world.join(secret=SECRET), world.join(secret=SECRET)
    chatter(world, two, one)
    world.run(lambda: one.frames)
    assert one.welcome is not None
    again = world.join(secret=SECRET, mac=one.mac, resume=one.welcome.resume, opener=one.opener)
    chatter(world, again, two)
    world.run(lambda: len(again.frames) > 20 and len(two.frames) > 20, within=1)
    salts = [peer.seal for peer in two.came]
    assert len(salts) == len(set(salts)) == 2
    assert [peer.seal for peer in one.came] == [peer.seal for peer in again.came], "who stayed keeps its key"
    assert {reason for member in (two, again) for reason in member.counters.drops} == set()


def test_an_old_session_that_is_played_back_is_refused() -> None:
    """By a relay, to a player that has heard it before, and has a new session of its own by now."""
    world = RoomWorld()
    one, two = world.join(secret=SECRET), world.join(secret=SECRET)
    world.run(lambda: one.came)
    heard: list[bytes] = []
    received = one.session.datagrams_received

    def record(datagrams: list[bytes], now: float) -> None:
        heard.extend(data for data in datagrams if data[0] == 0x11)
        received(datagrams, now)

    one.session.datagrams_received = record  # type: ignore[method-assign]
    two.session.send_frames([frame(one.mac, two.mac, b"%d" % number) for number in range(50)])
    world.run(lambda: len(one.frames) == 50)
    one.session.leave("quit", "")
    again = world.join(secret=SECRET, mac=one.mac, opener=one.opener)
    world.run(lambda: again.came)
    for datagram in heard:
        again.session.datagrams_received([datagram], world.now)
    assert again.frames == []
    assert again.counters.drops == {DropReason.REPLAYED: 50}
