"""What the relay keeps of those who have been there: nothing, without waiting for the garbage collector."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
from tests.support.packets import TCP, ipv4, tcp
from tests.support.relay_fakes import Peer, RelayBench, mac

from softlan.ctrl.messages import Disconnect, Stats
from softlan.proto.mac import format_mac
from softlan.proto.overlay import Kind, encode
from softlan.quic.handler import CloseCause
from softlan.relay.room import Member, Room
from softlan.relay.switch import Switch

BROADCAST = b"\xff" * 6


@pytest.fixture
def uncollected() -> Iterator[None]:
    """A relay runs with the garbage collector all but off, and so does this test."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def address(number: int) -> bytes:
    return bytes((2, 0, 0, 0)) + number.to_bytes(2)


def frame(peer: Peer, to: bytes, own: bytes) -> bytes:
    return encode(Kind.ETHERNET, peer.peer_id, to + own + b"\x08\0" + ipv4(tcp(1, 2), TCP))


def leave(bench: RelayBench, peer: Peer) -> None:
    peer.say(Disconnect(reason="quit", message=""))


def fall_silent(bench: RelayBench, peer: Peer) -> None:
    peer.session.closed(CloseCause.TIMEOUT, "idle", bench.now)


def be_malformed(bench: RelayBench, peer: Peer) -> None:
    peer.send(*[b""] * 100)


def say_nonsense(bench: RelayBench, peer: Peer) -> None:
    peer.say_json("{]")


WAYS: list[Callable[[RelayBench, Peer], None]] = [leave, fall_silent, be_malformed, say_nonsense]


@pytest.mark.usefixtures("uncollected")
def test_of_a_thousand_members_who_have_left_nothing_is_kept() -> None:
    """They had flows among each other and with those who stay; rooms come and go with them."""
    bench = RelayBench(max_rooms=1000, max_peers=2000, hellos_per_minute=10**6)
    stays = bench.join(7, "den")
    gateway = bench.join(None, "den")
    gone: list[weakref.ref[object]] = []
    members = before = count(Member)
    rooms = count(Room), count(Switch)
    for start in range(0, 1000, 20):
        crowd = []
        for number in range(start, start + 20):
            room = "den" if number % 2 else f"room-{number // 4}"
            crowd.append((number + 256, bench.join(1, room, mac=format_mac(address(number + 256)))))
        for number, peer in crowd:
            peer.send(*[frame(peer, to, address(number)) for other, _ in crowd for to in [address(other)] * 2])
            peer.send(*[frame(peer, mac(7), address(number)), frame(peer, BROADCAST, address(number))])
            stays.send(*[frame(stays, address(number), mac(7))] * 2)
            gateway.send(frame(gateway, address(number), bytes.fromhex("001b21000001")))
            peer.say(Stats(rtt_ms=1.0, counters={"frames_in": 1}))
        members = max(members, count(Member))
        gone += [weakref.ref(thing) for _, peer in crowd for thing in (peer.session, peer.connection)]
        for number, peer in crowd:
            WAYS[number // 2 % len(WAYS)](bench, peer)
        del crowd, peer
        for peer in (stays, gateway):
            peer.read()
            peer.connection.datagrams.clear()
        del peer
        bench.log.events.clear()
        bench.now += 0.5
        bench.relay.tick(bench.now)
    assert members >= before + 20, "members can be counted"
    assert [one for one in gone if one() is not None] == []
    assert count(Member) == before
    assert (count(Room), count(Switch)) == rooms
    assert len(bench.relay.sessions) == 2


def count(kind: type) -> int:
    return sum(isinstance(thing, kind) for thing in gc.get_objects())
