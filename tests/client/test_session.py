"""An endpoint's session with a real relay, in virtual time."""

import functools

import pytest
from tests.support.virtual_room import BROADCAST, LAN_HOST, RoomWorld, frame
from tests.support.wire import Link

from softlan.client.session import Ended, EndKind, State
from softlan.ctrl.messages import RejectCode, Role
from softlan.proto.drop import DropReason
from softlan.proto.mac import format_mac
from softlan.quic.moving import PATH_LOST
from softlan.relay.limits import RelayLimits

# In and out


def test_a_session_finds_its_way_into_the_room() -> None:
    world = RoomWorld()
    member = world.start()
    states = [member.session.state]

    def note() -> bool:
        if member.session.state is not states[-1]:
            states.append(member.session.state)
        return member.session.state is State.JOINED

    world.run(note)
    assert states == [State.HANDSHAKE, State.SIZING, State.HELLO, State.JOINED]
    assert world.now - 1000.0 == pytest.approx(0.06, abs=0.02), "handshake, sizing, hello: a round trip each"
    assert member.welcome is not None
    assert (member.welcome.peer_id, member.welcome.room, member.welcome.gateway_present) == (1, "den", False)
    assert member.session.rtt_ms == pytest.approx(20, abs=3)


def test_a_reject_is_the_end_with_its_reason() -> None:
    world = RoomWorld(limits=RelayLimits(max_room_peers=1))
    world.join()
    late = world.start()
    world.run(lambda: late.ended)
    assert late.ended is not None
    assert late.ended.kind is EndKind.REJECTED
    assert late.ended.reject is not None
    assert late.ended.reject.code is RejectCode.ROOM_FULL
    assert late.ended.reason == late.ended.reject.message == "room den is full (1)"


def test_leaving_is_told_before_the_connection_closes() -> None:
    world = RoomWorld()
    stays, goes = world.join(), world.join()
    goes.session.leave("quit", "the program was ended")
    world.run(lambda: stays.went, within=0.1)
    ((who, left),) = stays.went
    assert (who, left.reason) == (stays.came[0], "disconnect:quit")
    assert goes.ended is None, "who leaves is not told of it"
    goes.session.leave("quit", "again")
    world.run(within=1)
    assert len(stays.went) == 1


@pytest.mark.parametrize("when", [State.HANDSHAKE, State.SIZING])
def test_leaving_is_possible_at_any_time(when: State) -> None:
    world = RoomWorld()
    member = world.start()
    world.run(lambda: member.session.state is when)
    member.session.leave("quit", "another address answered first")
    world.run(within=10)
    assert not world.relay.sessions
    assert len(world.server.endpoint.connections) == 0
    assert member.ended is None


def test_a_new_session_with_the_resume_string_takes_the_place_of_the_old_one() -> None:
    world = RoomWorld()
    other, first = world.join(), world.join()
    assert first.welcome is not None
    again = world.join(mac=first.mac, resume=first.welcome.resume)
    assert again.welcome is not None
    assert again.welcome.peer_id == first.welcome.peer_id
    assert again.welcome.resume != first.welcome.resume
    world.run(lambda: first.ended)
    assert first.ended == Ended(EndKind.REPLACED, "another connection of yours took over")
    assert [left.reason for _, left in other.went] == ["replaced"]
    assert [peer.mac for peer in other.came] == [format_mac(first.mac)] * 2


def test_who_was_replaced_knows_it_even_if_the_message_is_lost() -> None:
    """The relay closes behind it, and repeats nothing then."""
    world = RoomWorld()
    first = world.join()
    assert first.welcome is not None
    world.wire.taps.append(
        lambda data, source, target: None if target == first.sock.public and len(data) > 100 else data
    )
    world.start(mac=first.mac, resume=first.welcome.resume)
    world.run(lambda: first.ended)
    assert first.ended == Ended(EndKind.REPLACED, "replaced")


# Who is there


def test_everyone_is_known_by_name_when_they_leave() -> None:
    world = RoomWorld()
    player = world.join()
    gateway, other = world.join(Role.GATEWAY), world.join()
    world.run(lambda: len(player.came) == 2)
    assert [(peer.role, peer.mac) for peer in player.session.peers.values()] == [
        (Role.GATEWAY, None),
        (Role.CLIENT, format_mac(other.mac)),
    ]
    assert player.session.gateway_present
    gateway.session.leave("quit", "")
    other.session.leave("quit", "")
    world.run(lambda: len(player.went) == 2)
    assert [who and (who.role, who.mac) for who, _ in player.went] == [
        (Role.GATEWAY, None),
        (Role.CLIENT, format_mac(other.mac)),
    ]
    assert player.session.peers == {}
    assert not player.session.gateway_present


def test_a_newcomer_is_told_who_is_there() -> None:
    world = RoomWorld()
    world.join(Role.GATEWAY)
    others = [world.join() for _ in range(40)]
    late = world.join(link=Link(mtu=1400))
    world.run(lambda: len(late.came) == 41, within=1)
    assert late.welcome is not None
    assert late.welcome.gateway_present
    assert {peer.mac for peer in late.came if peer.mac} == {format_mac(other.mac) for other in others}


# Frames


def test_frames_go_both_ways_and_are_counted() -> None:
    world = RoomWorld(Link(mtu=1400))
    gateway, player = world.join(Role.GATEWAY), world.join()
    down = [frame(player.mac, LAN_HOST, bytes(size)) for size in (46, 100, 1000)] * 10
    up = [frame(LAN_HOST, player.mac, bytes(size)) for size in (46, 100, 1000)] * 10
    gateway.session.send_frames(down)
    player.session.send_frames(up)
    world.run(lambda: len(player.frames) == len(gateway.frames) == 30, within=0.1)
    assert (player.frames, gateway.frames) == (down, up)
    expected = (30, 30, sum(map(len, down)), sum(map(len, up)))
    assert (
        player.counters.frames_in,
        player.counters.frames_out,
        player.counters.bytes_in,
        player.counters.bytes_out,
    ) == expected
    assert player.counters.drops == gateway.counters.drops == {}


def test_what_cannot_go_is_dropped_here_with_its_reason() -> None:
    world = RoomWorld(Link(mtu=1400))
    narrow, wide = world.join(), world.join(link=Link())
    assert narrow.welcome is not None
    assert narrow.welcome.effective_mtu == 1296
    fits = frame(BROADCAST, narrow.mac, bytes(1300))
    tagged = BROADCAST + narrow.mac + b"\x81\x00\x00\x05\x88\xb5" + bytes(1296)
    narrow.session.send_frames(
        [
            bytes(13),
            frame(BROADCAST, narrow.mac, bytes(1301)),
            frame(BROADCAST, narrow.mac, bytes(1418)),
            frame(BROADCAST, narrow.mac, bytes(1419)),
            fits,
            tagged,
        ]
    )
    assert narrow.counters.drops == {DropReason.RUNT: 1, DropReason.OVER_BUDGET: 2, DropReason.JUMBO: 1}
    world.run(lambda: wide.frames == [fits, tagged])
    assert narrow.counters.frames_out == 2


def test_a_tag_is_no_payload() -> None:
    world = RoomWorld(room_mtu=1000)
    player, other = world.join(), world.join()
    twice = BROADCAST + player.mac + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x88\xb5"
    player.session.send_frames([twice + bytes(1000), twice + bytes(1001)])
    assert player.counters.drops == {DropReason.JUMBO: 1}
    world.run(lambda: other.frames == [twice + bytes(1000)])


def test_outside_of_the_room_frames_are_dropped_and_counted() -> None:
    world = RoomWorld()
    member = world.start()
    member.session.send_frames([frame(BROADCAST, member.mac)] * 3)
    member.session.send_frames([])
    assert member.counters.drops == {DropReason.NOT_CONNECTED: 3}
    world.run(lambda: member.welcome)
    member.session.leave("quit", "")
    member.session.send_frames([frame(BROADCAST, member.mac)])
    assert member.counters.drops == {DropReason.NOT_CONNECTED: 4}


# A player that moves


def test_a_player_whose_address_changes_stays_in_the_room() -> None:
    """Its NAT forgets it, or it leaves the house with its phone as the way out."""
    world = RoomWorld()
    player, other = world.join(), world.join()
    for member, peer in ((player, other), (other, player)):
        burst = [frame(peer.mac, member.mac, bytes(1000))]
        world.clock.every(0.01, functools.partial(member.session.send_frames, burst))
    world.run(within=1)
    player.sock.rebind(("203.0.113.9", 1234))
    for _ in range(5):
        before = len(player.frames), len(other.frames)
        world.run(within=1)
        assert len(other.frames) - before[1] >= 95
    assert len(player.frames) - before[0] >= 95
    assert player.ended is None
    assert other.went == []


@pytest.mark.parametrize("way", ["there and back", "on a path of middle width"])
def test_where_that_is_impossible_it_is_told_within_a_moment(way: str) -> None:
    """The library cannot follow to an address that it has left, nor with packets of a limited size."""
    world = RoomWorld(Link(mtu=1400) if way != "there and back" else Link())
    player = world.join()
    home = player.sock.public
    player.sock.rebind(("203.0.113.9", 1234))
    if way == "there and back":
        world.run(within=5)
        player.sock.rebind(home)
    world.run(lambda: player.ended, within=5)
    assert player.ended == Ended(EndKind.LOST, f"the connection ended: {PATH_LOST}")
    again = world.join(mac=player.mac)
    assert again.welcome is not None
