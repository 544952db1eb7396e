"""Every sentence has its cause, and the figures that always move are in no sentence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.client.diagnostics import RECENT, SLOW, Level, Snapshot, diagnose, total_drops
from softlan.proto.drop import DropReason

HEALTHY = Snapshot(
    room="DEN",
    relay="192.0.2.7",
    gateway=True,
    rtt_ms=23.4,
    budget=1440,
    pin="192.0.2.7/32 via 10.9.0.1 dev eth0",
    interface="softlan0",
    mtu=1418,
    addresses=("10.0.0.5/24", "fe80::1/64"),
    broadcast_in=1.0,
    broadcast_out=2.0,
    counters={"frames_in": 12, "frames_out": 7},
)


def said(snapshot: Snapshot) -> dict[str, tuple[Level, str]]:
    return {sentence.topic: (sentence.level, sentence.text) for sentence in diagnose(snapshot).sentences}


def test_all_is_well() -> None:
    assert said(HEALTHY) == {
        "relay": (Level.GOOD, "In room DEN, through the relay 192.0.2.7."),
        "gateway": (Level.GOOD, "The LAN's gateway is in the room."),
        "route": (Level.GOOD, "The way to the relay is pinned: 192.0.2.7/32 via 10.9.0.1 dev eth0."),
        "path": (Level.GOOD, "The path to the relay carries datagrams of 1440 bytes."),
        "interface": (Level.GOOD, "softlan0 is connected, with an MTU of 1418."),
        "address": (Level.GOOD, "softlan0 has 10.0.0.5/24."),
        "broadcast": (Level.GOOD, "Broadcasts flow both ways: games can find each other."),
    }
    assert diagnose(HEALTHY).line == (
        "DEN | relay 23 ms | budget 1440 | LAN | route pinned | softlan0 10.0.0.5 | broadcasts both ways | in 12 out 7"
    )


NEWS = {
    "not in the room yet": (
        {"relay": None, "was_joined": False},
        "relay",
        Level.NOTE,
        "Not in the room yet",
        "DEN | connecting |",
    ),
    "relay lost": ({"relay": None}, "relay", Level.BAD, "out of reach", "DEN | relay out of reach |"),
    "no gateway": ({"gateway": False}, "gateway", Level.BAD, "no LAN", "| no gateway |"),
    "not pinned": ({"pin": None}, "route", Level.BAD, "not pinned", "| route not pinned |"),
    "nothing to pin": ({"pin": None, "needs_pin": False}, "route", Level.GOOD, "needs no pin", "| LAN | softlan0 "),
    "slow": ({"rtt_ms": SLOW}, "path", Level.NOTE, "150 ms", "relay 150 ms"),
    "not measured": ({"rtt_ms": None, "budget": None}, "path", Level.NOTE, "not measured", "| relay | LAN |"),
    "TAP not up": ({"mtu": None}, "interface", Level.NOTE, "not connected yet", "softlan0 not connected"),
    "no address": ({"addresses": ("fe80::1/64",)}, "address", Level.NOTE, "DHCP may take", "no address yet"),
    "no DHCP": ({"addresses": ("169.254.7.7/16",)}, "address", Level.BAD, "no DHCP server", "no address yet"),
    "IPv6 as well": (
        {"addresses": ("10.0.0.5/24", "2001:db8::5/64")},
        "address",
        Level.GOOD,
        "10.0.0.5/24 and 2001:db8::5/64",
        "softlan0 10.0.0.5 |",
    ),
    "only ours": ({"broadcast_in": None}, "broadcast", Level.NOTE, "none came from the room", "| broadcasts out |"),
    "only theirs": ({"broadcast_out": RECENT + 1}, "broadcast", Level.NOTE, "this PC sent none", "| broadcasts in |"),
    "silence": (
        {"broadcast_in": RECENT + 1, "broadcast_out": None},
        "broadcast",
        Level.NOTE,
        "neither way",
        "| broadcasts none |",
    ),
    "drops": (
        {"counters": {"drop_jumbo": 2, "drop_runt": 1}, "device_drops": {"queue_full": 9}},
        "drops",
        Level.NOTE,
        "more than the interface could take at once, larger than the room's MTU, too short",
        "| dropped queue_full 9 jumbo 2 runt 1",
    ),
}


@pytest.mark.parametrize("name", NEWS)
def test_one_thing_is_different(name: str) -> None:
    change, topic, level, words, line = NEWS[name]
    snapshot = replace(HEALTHY, **change)  # type: ignore[arg-type]
    found_level, text = said(snapshot)[topic]
    assert (found_level, words in text) == (level, True), text
    assert line in diagnose(snapshot).line


def test_without_a_relay_nothing_is_said_of_what_only_it_can_know() -> None:
    assert set(said(replace(HEALTHY, relay=None))) == {"relay", "interface", "address"}


def test_the_line_without_a_relay_or_an_interface_has_no_broadcasts() -> None:
    assert diagnose(replace(HEALTHY, relay=None)).line == "DEN | relay out of reach | softlan0 10.0.0.5 | in 12 out 7"
    assert "broadcasts" not in diagnose(replace(HEALTHY, mtu=None)).line


def test_the_line_has_room_for_three_reasons_and_stays_short() -> None:
    drops = {"drop_jumbo": 4, "drop_runt": 3, "drop_malformed": 2, "drop_over_budget": 1, "drop_not_connected": 1}
    counters = {"frames_in": 1_234_567, "frames_out": 1_234_567}
    busy = replace(HEALTHY, interface="Ethernet 12", addresses=("192.168.178.123/24",), rtt_ms=123.0, counters=counters)
    assert len(diagnose(busy).line) < 140
    line = diagnose(replace(busy, counters=counters | drops)).line
    assert line.endswith("| dropped jumbo 4 runt 3 malformed 2 other 2")


def test_news_are_the_sentences_that_were_not_there() -> None:
    first = diagnose(HEALTHY)
    assert first.news(None) == first.sentences
    assert first.news(first) == ()
    (news,) = diagnose(replace(HEALTHY, gateway=False)).news(first)
    assert news.topic == "gateway"


@given(
    rtt=st.floats(0, SLOW - 1),
    frames_in=st.integers(0, 1 << 40),
    frames_out=st.integers(0, 1 << 40),
    ago=st.floats(0, RECENT),
)
def test_figures_that_always_move_are_no_news(rtt: float, frames_in: int, frames_out: int, ago: float) -> None:
    counters = {"frames_in": frames_in, "frames_out": frames_out}
    later = replace(HEALTHY, rtt_ms=rtt, counters=counters, broadcast_in=ago, broadcast_out=ago)
    assert diagnose(later).news(diagnose(HEALTHY)) == ()


def test_each_topic_is_said_once() -> None:
    topics = [sentence.topic for sentence in diagnose(HEALTHY).sentences]
    assert len(topics) == len(set(topics))


def test_what_another_player_should_not_send_is_said_in_words() -> None:
    drops = {"drop_dhcp_server": 3, "drop_ipv6_ra": 2, "drop_nd_redirect": 1}
    (said,) = [each for each in diagnose(Snapshot("den", counters=drops)).sentences if each.topic == "drops"]
    reasons = "another player's DHCP server, another player's router, another player's IPv6 redirect"
    assert (said.level, said.text) == (Level.NOTE, f"Some frames were dropped: {reasons}.")


ELSEWHERE = frozenset(reason for reason in DropReason if reason.value.startswith("rate_")) | {
    *(DropReason.NO_GATEWAY, DropReason.EGRESS_BUDGET),  # a relay's, as are rates
    *(DropReason.UNKNOWN_UNICAST, DropReason.UNSUPPORTED_OFFLOAD),  # a gateway's
}


@pytest.mark.parametrize("reason", sorted(set(DropReason) - ELSEWHERE, key=lambda reason: reason.value))
def test_every_reason_that_a_player_can_have_has_words(reason: DropReason) -> None:
    (said,) = [
        each
        for each in diagnose(Snapshot("den", counters={f"drop_{reason.value}": 1})).sentences
        if each.topic == "drops"
    ]
    words = said.text.removeprefix("Some frames were dropped: ").removesuffix(".")
    assert words != reason.value
    assert " " in words or reason is DropReason.MALFORMED


def test_drops_of_tunnel_and_device_are_added() -> None:
    assert total_drops({"frames_in": 3, "drop_runt": 1, "drop_jumbo": 0}, {"runt": 2}) == {"runt": 3}
