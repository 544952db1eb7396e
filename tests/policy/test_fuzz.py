"""A short, repeatable run of the fuzz targets, and what old stacks make of fragments that the policy lets pass."""

import pytest
from fuzz.receivers import RECEIVERS, Piece, harm, piece, reassembled
from fuzz.targets import TARGETS, run_short
from hypothesis import given
from hypothesis import strategies as st
from tests.support import packets
from tests.support.corpus import EVASIONS, LEGITIMATE, ROOM_MTU, Evasion
from tests.support.oracle import Built, frames, many
from tests.support.packets import CLIENT, ether, extension, fragment, icmpv6, ipv4, ipv6, kind, udp

from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason

DEFAULT = PolicyEngine(Policy())


def passes(frame: bytes) -> bool:
    return DEFAULT.verdict(frame, 0, CLIENT, {CLIENT}, ROOM_MTU) is None


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_neighbours_keep_the_promises(name: str) -> None:
    rounds = {"walker": 2, "policy": 2, "config": 30}.get(name, 100)
    assert run_short(name, rounds, seed=1) > 1000


def name_of(case: Evasion) -> str:
    return case.name


# Stopped for what they might be: nobody takes ARP or options that cannot be read.
UNREADABLE = {
    "arp with another address length",
    "half an arp",
    "advertisement with an option of length 0",
    "advertisement with an option that breaks off",
    "advertisement with a long address",
    "advertisement without a target",
}
NAMED = {
    DropReason.DHCP_SERVER: "dhcp server",
    DropReason.DHCPV6_SERVER: "dhcpv6 server",
    DropReason.IPV6_RA: "router advertisement",
    DropReason.ND_REDIRECT: "redirect",
    DropReason.ND_SPOOF: "nd spoof",
    DropReason.ARP_SPOOF: "arp spoof",
    DropReason.ETHERTYPE: "pppoe",
}


@pytest.mark.parametrize("case", [case for case in EVASIONS if case.reason in NAMED], ids=name_of)
def test_receivers_find_the_harm_that_the_policy_names(case: Evasion) -> None:
    """So that their silence on other frames means something."""
    assert harm(case.frame) == (None if case.name in UNREADABLE else NAMED[case.reason])


HIDDEN = ("in snap", "oversize llc", "oui extended", "behind an experimental", "longer than its frame", "llc's own sap")


@pytest.mark.parametrize(
    "case",
    [case for case in EVASIONS if case.reason is DropReason.AMBIGUOUS and any(word in case.name for word in HIDDEN)],
    ids=name_of,
)
def test_some_receiver_reads_what_hides(case: Evasion) -> None:
    assert harm(case.frame) in ("router advertisement", "dhcp server")


@pytest.mark.parametrize("frame", [case.frame for case in LEGITIMATE], ids=[case.name for case in LEGITIMATE])
def test_receivers_find_no_harm_in_good_frames(frame: bytes) -> None:
    assert [receiver.read(frame) for receiver in RECEIVERS] == [None] * len(RECEIVERS)


@many
@given(frames())
def test_no_receiver_finds_harm_in_what_passes(built: Built) -> None:
    if passes(built.frame):
        assert harm(built.frame) is None


# Fragments

_EVIL = {4: [udp(67, 68), udp(1, 68)], 6: [udp(547, 546), icmpv6(134, bytes(12)), icmpv6(137, bytes(36))]}
_INNOCENT = [udp(5353, 5353, bytes(16)), icmpv6(128, bytes(12)), packets.tcp(1, 2)]
_NUMBERS = {4: [packets.UDP, packets.TCP, packets.AH, packets.IPV6_IN_IP]}
_NUMBERS[6] = [*_NUMBERS[4], packets.ICMPV6, packets.DESTINATION, packets.HOP_BY_HOP, packets.FRAGMENT, packets.ROUTING]


@st.composite
def pieces_of(draw: st.DrawFn, version: int) -> bytes:
    """One fragment of any kind: good and evil transports, with and without headers, anywhere near the start."""
    number = draw(st.sampled_from(_NUMBERS[version]))
    data = draw(st.sampled_from([*_EVIL[version], *_INNOCENT]))
    if draw(st.booleans()):
        data = extension(draw(st.sampled_from([packets.UDP, packets.ICMPV6]))) + data
    data = data[: draw(st.sampled_from([2, 4, 7, 8, 12, 16, 24, 64]))]
    offset, more = draw(st.sampled_from([0, 0, 8, 16, 24])), draw(st.booleans())
    if version == 4:
        options = bytes(draw(st.sampled_from([0, 0, 4, 8])))
        return ether(kind(packets.IPV4), ipv4(data, number, offset=offset, more=more, options=options))
    payload, header = fragment(number, offset=offset, more=more) + data, packets.FRAGMENT
    if draw(st.integers(0, 3)) == 3:
        payload, header = extension(header) + payload, packets.DESTINATION
    return ether(kind(packets.IPV6), ipv6(payload, header))


@many
@given(st.sampled_from([4, 6]).flatmap(lambda version: st.lists(pieces_of(version), min_size=2, max_size=4)))
def test_fragments_that_pass_make_nothing_evil_however_they_overlap(sent: list[bytes]) -> None:
    arrived = [part for part in map(piece, filter(passes, sent)) if part is not None]
    for version, number, data in reassembled(arrived):
        for receiver in RECEIVERS:
            assert receiver.transport(version, number, data, CLIENT) is None


def test_overlap_is_what_turns_innocent_fragments_evil() -> None:
    """RFC 5722's attack works on the stacks above, so that their harmlessness means something."""
    first = ether(kind(packets.IPV6), ipv6(fragment(packets.DESTINATION, more=True) + extension(17) + udp(1, 2), 44))
    second = ether(kind(packets.IPV6), ipv6(fragment(packets.DESTINATION, offset=8) + udp(547, 546), 44))
    assert not passes(first)
    assert passes(second)
    parts = [piece(first), piece(second)]
    assert parts == [
        Piece(6, 0, True, packets.DESTINATION, extension(17) + udp(1, 2)),
        Piece(6, 8, False, packets.DESTINATION, udp(547, 546)),
    ]
    found = {RECEIVERS[0].transport(*packet, CLIENT) for packet in reassembled([part for part in parts if part])}
    assert found == {"dhcpv6 server", None}
