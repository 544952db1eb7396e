"""The gateway's own look at what it is about to put on the LAN: what becomes of safe, unsafe and strangers' frames."""

from typing import Any

import pytest
from tests.support.corpus import EVASIONS, LEGITIMATE, ROOM_MTU, Evasion
from tests.support.packets import BROADCAST, CLIENT, LAN_HOST, OTHER_CLIENT, ROUTER, ether, ipv4, kind, udp

from softlan.gateway.second_look import EARLY_TIME, MAX_EARLY, LookMode, SecondLook
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason

IPV4 = kind(0x0800)
NOW = 100.0


def frame(source: bytes = CLIENT, destination: bytes = LAN_HOST, size: int = 46) -> bytes:
    """Nothing that a rule is about."""
    return destination + source + b"\x88\xb5" + bytes(size)


OFFER = ether(IPV4, ipv4(udp(67, 68)), dst=BROADCAST)


class Bench:
    """A second look, with CLIENT as peer 3 in the room unless somebody is given."""

    def __init__(self, mode: LookMode = LookMode.ON, *, policy: Policy | None = None, log: str = "drops") -> None:
        self.counters = TrafficCounters()
        self.records: list[dict[str, Any]] = []
        engine = PolicyEngine(policy or Policy())
        self.look = SecondLook(mode, engine, self.counters, FrameLog(FrameLogMode(log), self.records.append))
        self.look.joined("den", ROOM_MTU)
        self.look.peer_joined(3, CLIENT)

    def passes(self, *frames: bytes) -> list[bytes]:
        return self.look.passed(list(frames), NOW)

    def later(self) -> dict[DropReason, int]:
        """The drops once nothing is waited for any more."""
        self.look.tick(NOW + EARLY_TIME)
        return self.counters.drops


# On


def test_unsafe_frames_are_dropped_and_the_others_keep_their_order() -> None:
    bench = Bench()
    first, second, third = (frame(size=size) for size in (46, 47, 48))
    passed = bench.passes(first, OFFER, second, OFFER, third)
    assert [id(each) for each in passed] == [id(first), id(second), id(third)], "not even copied"
    assert bench.counters.drops == {DropReason.DHCP_SERVER: 2}


@pytest.mark.parametrize("case", EVASIONS, ids=lambda case: case.name)
def test_it_stops_what_the_relay_stops(case: Evasion) -> None:
    bench = Bench()
    assert bench.passes(case.frame) == []
    assert bench.later() == {case.reason: 1}


def test_it_passes_what_players_need() -> None:
    bench = Bench()
    frames = [case.frame for case in LEGITIMATE if case.frame[6:12] == CLIENT]
    assert len(frames) > 20
    assert bench.passes(*frames) == frames
    assert bench.counters.drops == {}


def test_each_drop_is_logged_with_its_reason() -> None:
    bench = Bench()
    bench.passes(frame(), OFFER)
    [record] = bench.records
    assert {key: record[key] for key in ("direction", "room", "src", "dst", "action", "reason", "ethertype")} == {
        "direction": "to_lan",
        "room": "den",
        "src": "02:00:00:00:00:01",
        "dst": "ff:ff:ff:ff:ff:ff",
        "action": "filtered",
        "reason": "dhcp_server",
        "ethertype": "ipv4",
    }


def test_it_is_counted_also_when_nothing_is_logged() -> None:
    bench = Bench(log="off")
    assert bench.passes(OFFER) == []
    assert (bench.counters.drops, bench.records) == ({DropReason.DHCP_SERVER: 1}, [])


def test_the_policy_is_the_gateways_own() -> None:
    bench = Bench(policy=Policy(dhcp_server=False))
    assert bench.passes(OFFER) == [OFFER]


def test_the_rooms_mtu_is_what_the_relay_said_last() -> None:
    bench = Bench()
    largest, too_large = frame(size=ROOM_MTU), frame(size=ROOM_MTU + 1)
    assert bench.passes(largest, too_large) == [largest]
    assert bench.counters.drops == {DropReason.JUMBO: 1}
    bench.look.joined("den", ROOM_MTU - 1)
    bench.look.peer_joined(3, CLIENT)
    assert bench.passes(largest) == []


@pytest.mark.parametrize("size", [0, 6, 11, 12, 13])
def test_what_is_too_short_for_a_frame_is_dropped(size: int) -> None:
    bench = Bench()
    assert bench.passes(frame()[:size]) == []
    assert bench.counters.drops == {DropReason.RUNT: 1}


# Whose frames


@pytest.mark.parametrize("source", [OTHER_CLIENT, ROUTER, bytes(6), BROADCAST], ids=bytes.hex)
def test_only_members_may_be_a_frames_source(source: bytes) -> None:
    bench = Bench()
    assert bench.passes(frame(source)) == []
    assert bench.later() == {DropReason.INVALID_SOURCE: 1}


def test_nobody_may_before_anybody_has_joined() -> None:
    bench = Bench()
    bench.look.peer_left(3)
    assert bench.passes(frame(), frame(OTHER_CLIENT)) == []


def test_one_who_left_is_a_stranger_and_the_others_stay() -> None:
    bench = Bench()
    bench.look.peer_joined(4, OTHER_CLIENT)
    ones, others = frame(CLIENT), frame(OTHER_CLIENT)
    assert bench.passes(ones, others) == [ones, others]
    bench.look.peer_left(3)
    assert bench.passes(ones, others) == [others]
    bench.look.peer_joined(5, CLIENT)
    assert bench.passes(ones, others) == [ones, others]


def test_one_who_was_never_there_may_leave() -> None:
    bench = Bench()
    bench.look.peer_left(99)
    assert bench.passes(frame()) == [frame()]


def test_a_peer_that_comes_again_with_another_address_has_but_that_one() -> None:
    bench = Bench()
    bench.look.peer_joined(3, OTHER_CLIENT)
    assert bench.passes(frame(CLIENT), frame(OTHER_CLIENT)) == [frame(OTHER_CLIENT)]


def test_a_new_session_knows_only_those_whom_it_is_told_of() -> None:
    bench = Bench()
    bench.look.joined("den", ROOM_MTU)
    bench.look.peer_joined(1, OTHER_CLIENT)
    assert bench.passes(frame(CLIENT), frame(OTHER_CLIENT)) == [frame(OTHER_CLIENT)]
    bench.look.peer_left(3)  # an id of the session before
    assert bench.passes(frame(OTHER_CLIENT)) == [frame(OTHER_CLIENT)]
    bench.look.peer_joined(5, CLIENT)
    bench.look.joined("den", ROOM_MTU)
    bench.look.peer_joined(1, CLIENT)
    bench.look.peer_left(1)
    assert bench.passes(frame(CLIENT)) == []


def test_an_address_that_moves_to_another_peer_stays_while_that_one_does() -> None:
    bench = Bench()
    bench.look.peer_joined(4, CLIENT)  # told before the old one has left
    bench.look.peer_left(3)
    assert bench.passes(frame()) == [frame()]
    bench.look.peer_left(4)
    assert bench.passes(frame()) == []


# Frames that overtake the news of their sender


def test_frames_that_come_before_the_news_of_their_sender_wait_for_it() -> None:
    bench = Bench()
    early, stranger = [frame(OTHER_CLIENT, size=size) for size in (46, 47)], frame(ROUTER)
    own = frame(CLIENT)
    assert bench.passes(early[0], stranger, own, early[1]) == [own]
    assert bench.counters.drops == {}
    bench.look.tick(NOW + EARLY_TIME - 0.01)
    assert bench.look.peer_joined(4, OTHER_CLIENT) == early
    assert bench.look.peer_joined(4, OTHER_CLIENT) == [], "once"
    assert bench.passes(*early) == early
    assert bench.later() == {DropReason.INVALID_SOURCE: 1}, "the stranger's"
    [record] = bench.records
    assert (record["src"], record["action"], record["reason"]) == ("3c:97:0e:00:00:01", "filtered", "invalid_source")


def test_what_waited_is_looked_at_like_everything_else() -> None:
    bench = Bench()
    offer = OFFER[:6] + OTHER_CLIENT + OFFER[12:]
    assert bench.passes(offer) == []
    assert bench.passes(*bench.look.peer_joined(4, OTHER_CLIENT)) == []
    assert bench.later() == {DropReason.DHCP_SERVER: 1}


def test_they_wait_for_a_moment_only() -> None:
    bench = Bench()
    bench.passes(frame(OTHER_CLIENT))
    assert bench.later() == {DropReason.INVALID_SOURCE: 1}
    assert bench.look.peer_joined(4, OTHER_CLIENT) == []


def test_no_more_than_so_many_wait_and_the_others_are_dropped_at_once() -> None:
    bench = Bench()
    bench.passes(*[frame(OTHER_CLIENT)] * (MAX_EARLY + 3))
    assert bench.counters.drops == {DropReason.INVALID_SOURCE: 3}
    assert len(bench.look.peer_joined(4, OTHER_CLIENT)) == MAX_EARLY


@pytest.mark.parametrize("source", [BROADCAST, bytes.fromhex("030000000001")], ids=bytes.hex)
def test_nobody_waits_for_a_group_to_come(source: bytes) -> None:
    bench = Bench()
    bench.passes(frame(source))
    assert bench.counters.drops == {DropReason.INVALID_SOURCE: 1}


def test_what_waits_when_the_session_ends_is_counted() -> None:
    bench = Bench()
    bench.passes(frame(OTHER_CLIENT))
    bench.look.joined("den", ROOM_MTU)
    assert bench.counters.drops == {DropReason.INVALID_SOURCE: 1}
    assert bench.look.peer_joined(4, OTHER_CLIENT) == []


# Log, off


def test_in_log_mode_all_passes_and_what_would_not_is_logged() -> None:
    bench = Bench(LookMode.LOG)
    frames = [frame(), OFFER, frame(ROUTER)]
    assert bench.passes(*frames) == frames
    assert bench.counters.drops == {}, "nothing was dropped"
    assert [(record["action"], record["reason"]) for record in bench.records] == [
        ("forwarded", "dhcp_server"),
        ("forwarded", "invalid_source"),
    ]


def test_off_looks_at_nothing() -> None:
    bench = Bench(LookMode.OFF, log="all")
    frames = [OFFER, frame(ROUTER), b""]
    assert bench.passes(*frames) == frames
    assert (bench.counters.drops, bench.records) == ({}, [])
