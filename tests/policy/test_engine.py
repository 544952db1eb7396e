import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import packets
from tests.support.corpus import EVASIONS, LEGITIMATE, ROOM_MTU, Evasion, Legitimate
from tests.support.oracle import Built, frames, many, read
from tests.support.packets import CLIENT, LAN_HOST, OTHER_CLIENT, arp, dot1q, ether, ipv4, ipv6, kind, llc, snap, udp

from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.drop import Action, DropReason

CLIENTS = {CLIENT: None, OTHER_CLIENT: None}
V4, V6 = kind(packets.IPV4), kind(packets.IPV6)
OVERLAY = b"\x10\x00\x00\x01"

DEFAULT = PolicyEngine(Policy())

# The rule that has to be on for a reason to be given.
RULES = {
    DropReason.INVALID_SOURCE: "invalid_source",
    DropReason.JUMBO: "jumbo",
    DropReason.SWITCH_CONTROL: "switch_control",
    DropReason.DHCP_SERVER: "dhcp_server",
    DropReason.DHCPV6_SERVER: "dhcpv6_server",
    DropReason.IPV6_RA: "ipv6_ra",
    DropReason.AMBIGUOUS: "ambiguous",
    DropReason.ARP_SPOOF: "arp_spoof",
    DropReason.ND_SPOOF: "nd_spoof",
    DropReason.ND_REDIRECT: "nd_redirect",
    DropReason.ICMP_REDIRECT: "icmp_redirect",
}
WALKED = ("dhcp_server", "dhcpv6_server", "ipv6_ra", "nd_redirect", "icmp_redirect", "ambiguous")
LAWLESS = Policy(**dict.fromkeys(RULES.values(), False), refused_ethertypes=frozenset())  # type: ignore[arg-type]


def from_client(frame: bytes, engine: PolicyEngine = DEFAULT, mtu: int = ROOM_MTU) -> DropReason | None:
    return engine.verdict(frame, 0, CLIENT, CLIENTS, mtu)


def from_gateway(frame: bytes, engine: PolicyEngine = DEFAULT, mtu: int = ROOM_MTU) -> DropReason | None:
    return engine.verdict(frame, 0, None, CLIENTS, mtu)


def from_lan(frame: bytes) -> bytes:
    """The same frame as a LAN host sends it."""
    return frame[:6] + LAN_HOST + frame[12:]


def name_of(case: Evasion | Legitimate) -> str:
    return case.name


evasions = pytest.mark.parametrize("case", EVASIONS, ids=name_of)
legitimate = pytest.mark.parametrize("case", LEGITIMATE, ids=name_of)


@evasions
def test_evasions_are_stopped(case: Evasion) -> None:
    assert from_client(case.frame) is case.reason
    assert case.reason.action is Action.FILTERED


@legitimate
def test_what_players_need_passes(case: Legitimate) -> None:
    assert from_client(case.frame) is None


@pytest.mark.parametrize("case", [*EVASIONS, *LEGITIMATE], ids=name_of)
def test_a_datagram_is_judged_as_its_frame(case: Evasion | Legitimate) -> None:
    assert DEFAULT.verdict(OVERLAY + case.frame, 4, CLIENT, CLIENTS, ROOM_MTU) is from_client(case.frame)


@pytest.mark.parametrize("case", [*EVASIONS, *LEGITIMATE], ids=name_of)
def test_what_the_lan_sends_reaches_the_clients(case: Evasion | Legitimate) -> None:
    """The LAN's servers and routers are who they are; only rules for both sides hold."""
    reason = case.reason if isinstance(case, Evasion) else None
    both = reason in (DropReason.JUMBO, DropReason.SWITCH_CONTROL, DropReason.ETHERTYPE)
    assert from_gateway(from_lan(case.frame)) is (reason if both else None)


@pytest.mark.parametrize("case", [case for case in EVASIONS if case.reason is not DropReason.JUMBO], ids=name_of)
def test_no_cut_makes_an_evasion_pass(case: Evasion) -> None:
    assert all(from_client(case.frame[:length]) is not None for length in range(len(case.frame)))


@many
@given(frames())
def test_no_cut_makes_an_unsafe_frame_pass(built: Built) -> None:
    frame = built.frame
    # Other rules than those of the walker are left out: SNAP of somebody's own, say, is no IP.
    if not built.evil or DEFAULT.verdict(frame, 0, CLIENT, CLIENTS, 9000) is None:
        return
    verdict = DEFAULT.verdict
    for length in range(len(frame)):
        assert verdict(frame[:length], 0, CLIENT, CLIENTS, 9000) is not None


@given(frames())
def test_verdicts_follow_from_what_scapy_reads(built: Built) -> None:
    found = read(built.frame)
    engine = PolicyEngine(dataclasses.replace(LAWLESS, **dict.fromkeys(WALKED, True)))
    expected = None
    if found[0] == "undetermined" or (found[0] == "icmpv6_part" and found[1] in (133, 135, 136)):
        expected = DropReason.AMBIGUOUS
    elif found[0] == "udp4" and (found[1] == 67 or found[2] == 68):
        expected = DropReason.DHCP_SERVER
    elif found[0] == "udp6" and (found[1] == 547 or found[2] == 546):
        expected = DropReason.DHCPV6_SERVER
    elif found == ("icmp4", 5):
        expected = DropReason.ICMP_REDIRECT
    elif found[0] in ("icmpv6", "icmpv6_part"):
        expected = {134: DropReason.IPV6_RA, 137: DropReason.ND_REDIRECT}.get(int(str(found[1])))
    assert from_client(built.frame, engine) is expected


# Each rule, on and off


@evasions
def test_a_rule_that_is_off_stops_nothing(case: Evasion) -> None:
    if case.reason is DropReason.ETHERTYPE:
        policy = Policy(refused_ethertypes=frozenset())
    else:
        policy = dataclasses.replace(Policy(), **{RULES[case.reason]: False})  # type: ignore[arg-type]
    assert from_client(case.frame, PolicyEngine(policy)) is not case.reason


@evasions
def test_without_rules_all_passes(case: Evasion) -> None:
    assert from_client(case.frame, PolicyEngine(LAWLESS)) is None


@given(st.binary(max_size=80), st.sampled_from([None, CLIENT]))
def test_any_bytes_get_a_verdict(data: bytes, own_mac: bytes | None) -> None:
    for offset in (0, 4):
        reason = DEFAULT.verdict(data, offset, own_mac, CLIENTS, ROOM_MTU)
        assert (reason is DropReason.RUNT) == (len(data) < offset + 14)
        assert PolicyEngine(LAWLESS).verdict(data, offset, own_mac, CLIENTS, ROOM_MTU) in (None, DropReason.RUNT)


# The source


@pytest.mark.parametrize("source", [bytes(6), b"\xff" * 6, bytes.fromhex("01005e000002"), CLIENT, OTHER_CLIENT])
def test_the_gateway_may_not_send_as_nobody_as_a_group_or_as_a_client(source: bytes) -> None:
    frame = ether(kind(0x88B5), bytes(46), src=source)
    assert from_gateway(frame) is DropReason.INVALID_SOURCE
    assert from_gateway(frame, PolicyEngine(Policy(invalid_source=False))) is None


def test_a_client_that_bridges_speaks_for_its_own_frames_only() -> None:
    """With invalid_source off, ARP and neighbour discovery are held against the frame's source, whoever that is."""
    engine = PolicyEngine(Policy(invalid_source=False))
    assert from_client(ether(kind(packets.ARP), arp(LAN_HOST), src=LAN_HOST), engine) is None
    assert from_client(ether(kind(packets.ARP), arp(CLIENT), src=LAN_HOST), engine) is DropReason.ARP_SPOOF


# Switch control


@pytest.mark.parametrize(
    ("destination", "reserved"),
    [
        *((f"0180c20000{last:02x}", True) for last in range(16)),
        ("0180c2000010", False),
        ("0180c2000100", False),
        ("01000ccccccb", False),
        ("01000ccccccc", True),
        ("01000ccccccd", True),
        ("01000cccccce", False),
    ],
)
def test_groups_of_switches(destination: str, reserved: bool) -> None:
    frame = ether(kind(0x88B5), dst=bytes.fromhex(destination))
    assert from_client(frame) is (DropReason.SWITCH_CONTROL if reserved else None)


def test_spanning_tree_is_told_by_either_sap() -> None:
    assert from_client(ether(llc(b"", dsap=0x42, ssap=0xE0))) is DropReason.SWITCH_CONTROL
    assert from_client(ether(llc(b"", dsap=0xE0, ssap=0x42))) is DropReason.SWITCH_CONTROL
    assert from_client(ether(llc(b"", dsap=0xE0, control=0x42))) is None


# ARP and neighbour discovery


def test_arp_is_read_whole_or_not_at_all() -> None:
    frame = ether(kind(packets.ARP), arp(CLIENT))
    assert from_client(frame) is None
    assert from_client(frame[:-1]) is DropReason.ARP_SPOOF


def advertisement(*options: bytes) -> bytes:
    return ether(V6, ipv6(packets.neighbour_advertisement(*options), packets.ICMPV6))


OWN, NONCE = packets.link_layer_option(2, CLIENT), bytes.fromhex("0e01b1b2b3b4b5b6")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([OWN, NONCE], None),
        ([NONCE, OWN], None),
        ([packets.link_layer_option(1, CLIENT)], None),
        ([b"\x0e\x02" + bytes(14), OWN], None),
        ([NONCE] * 31, None),
        ([NONCE] * 32, DropReason.ND_SPOOF),  # nobody sends so many
        ([b"\x0e\x02" + bytes(6)], DropReason.ND_SPOOF),  # it breaks off
        ([NONCE, b"\x0e\x00" + bytes(6)], DropReason.ND_SPOOF),
        ([OWN, NONCE, packets.link_layer_option(1, LAN_HOST)], DropReason.ND_SPOOF),
    ],
)
def test_options_of_neighbour_discovery(options: list[bytes], reason: DropReason | None) -> None:
    assert from_client(advertisement(*options)) is reason


# Size


@pytest.mark.parametrize("tags", [0, 1, 2])
def test_tags_are_no_payload(tags: int) -> None:
    fits = ether(dot1q() * tags, kind(0x88B5), bytes(ROOM_MTU))
    for verdict in (from_client, from_gateway):
        src = CLIENT if verdict is from_client else LAN_HOST
        assert verdict(fits[:6] + src + fits[12:]) is None
        assert verdict(fits[:6] + src + fits[12:] + b"\0") is DropReason.JUMBO


def test_llc_is_payload() -> None:
    assert from_client(ether(llc(bytes(ROOM_MTU - 3), dsap=0xE0))) is None
    assert from_client(ether(llc(bytes(ROOM_MTU - 2), dsap=0xE0))) is DropReason.JUMBO
    assert from_client(ether(snap(dot1q(), V4, bytes(ROOM_MTU - 12)))) is DropReason.AMBIGUOUS
    assert from_client(ether(snap(dot1q(), V4, bytes(ROOM_MTU - 11)))) is DropReason.JUMBO


# The order of the rules: the first that applies gives its reason


def test_the_order_is_the_protocols() -> None:
    bpdu = llc(bytes(2000), dsap=0x42, length=0)
    assert from_client(ether(bpdu, src=OTHER_CLIENT)) is DropReason.INVALID_SOURCE
    assert from_client(ether(bpdu)) is DropReason.JUMBO
    reserved = bytes.fromhex("0180c2000000")
    assert from_client(ether(kind(0x8863), dst=reserved)) is DropReason.SWITCH_CONTROL
    only_ipv6 = PolicyEngine(Policy(ethertypes=frozenset((0x86DD,))))
    offer = ether(V4, ipv4(udp(67, 68)))
    assert from_client(offer, only_ipv6) is DropReason.ETHERTYPE
    assert from_client(ether(llc(b"", dsap=0x42)), PolicyEngine(Policy(llc=False))) is DropReason.SWITCH_CONTROL


# EtherTypes


def test_an_allow_list_is_for_what_is_behind_tags_and_snap() -> None:
    engine = PolicyEngine(Policy(ethertypes=frozenset((0x0800, 0x0806, 0x8863))))
    packet = ipv4(udp(1, 2))
    for verdict, src in ((from_client, CLIENT), (from_gateway, LAN_HOST)):
        assert verdict(ether(V4, packet, src=src), engine) is None
        assert verdict(ether(dot1q(5), V4, packet, src=src), engine) is None
        assert verdict(ether(snap(V4, packet), src=src), engine) is None
        assert verdict(ether(V6, ipv6(udp(1, 2)), src=src), engine) is DropReason.ETHERTYPE
        assert verdict(ether(dot1q(5), V6, ipv6(udp(1, 2)), src=src), engine) is DropReason.ETHERTYPE
        assert verdict(ether(kind(0x8863), bytes(46), src=src), engine) is DropReason.ETHERTYPE


def test_frames_without_an_ethertype_have_a_rule_of_their_own() -> None:
    ipx = ether(llc(bytes(30), dsap=0xE0))
    assert from_client(ipx, PolicyEngine(Policy(ethertypes=frozenset((0x0800,))))) is None
    assert from_client(ipx, PolicyEngine(Policy(llc=False))) is DropReason.ETHERTYPE
    assert from_client(ether(snap(V4, ipv4(udp(1, 2)))), PolicyEngine(Policy(llc=False))) is None


def test_a_header_that_breaks_off_is_ambiguous_whatever_types_are_allowed() -> None:
    torn = ether(dot1q())
    assert from_client(torn, PolicyEngine(Policy(ethertypes=frozenset()))) is DropReason.AMBIGUOUS
    assert from_client(torn, PolicyEngine(Policy(ambiguous=False))) is None
    assert from_gateway(from_lan(torn)) is None


# Router advertisements of the LAN


@pytest.mark.parametrize("case", [case for case in EVASIONS if case.reason is DropReason.IPV6_RA], ids=name_of)
def test_the_lans_router_advertisements_can_be_kept_out(case: Evasion) -> None:
    engine = PolicyEngine(Policy(ra_from_lan=False))
    nested_in_ipv4 = "IPv4" in case.name
    assert from_gateway(from_lan(case.frame), engine) is (None if nested_in_ipv4 else DropReason.IPV6_RA)


@pytest.mark.parametrize(
    "case", [case for case in EVASIONS if case.reason is not DropReason.IPV6_RA], ids=lambda c: c.name
)
def test_and_nothing_else_of_the_lans_with_them(case: Evasion) -> None:
    frame = from_lan(case.frame)
    assert from_gateway(frame, PolicyEngine(Policy(ra_from_lan=False))) is from_gateway(frame)


# Sealed frames: the relay sees addresses, the first type and the size


def seal(frame: bytes) -> bytes:
    """A sealed frame of the same addresses, type and size; what is inside cannot be told."""
    return frame[:14] + b"\xaa" * (8 + len(frame) - 14 + 16)


def sealed_from_client(frame: bytes, engine: PolicyEngine = DEFAULT, mtu: int = ROOM_MTU) -> DropReason | None:
    return engine.sealed_verdict(OVERLAY + seal(frame), 4, CLIENT, CLIENTS, mtu)


@legitimate
def test_what_players_need_passes_sealed(case: Legitimate) -> None:
    assert sealed_from_client(case.frame) is None
    assert DEFAULT.sealed_verdict(seal(from_lan(case.frame)), 0, None, CLIENTS, ROOM_MTU) is None


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        LAWLESS,
        Policy(ethertypes=frozenset((0x0800, 0x0806)), llc=False),
        Policy(ethertypes=frozenset()),
        Policy(refused_ethertypes=frozenset((0x8100, 0x0800))),
    ],
    ids=["default", "lawless", "some types", "no types", "types refused"],
)
@pytest.mark.parametrize("mtu", [ROOM_MTU, 60])
def test_a_seal_stops_nothing_that_would_pass_without(policy: Policy, mtu: int) -> None:
    engine = PolicyEngine(policy)
    stacked = [ether(dot1q() * tags, V4, bytes(mtu), src=CLIENT) for tags in (0, 1, 2, 31, 32)]
    for frame in (*(case.frame for case in (*EVASIONS, *LEGITIMATE)), *stacked):
        for each, own_mac in ((frame, CLIENT), (from_lan(frame), None)):
            visible = engine.sealed_verdict(seal(each), 0, own_mac, CLIENTS, mtu)
            whole = engine.verdict(each, 0, own_mac, CLIENTS, mtu)
            assert visible is None or whole is not None
            if visible is not None and whole is not DropReason.RUNT:
                assert visible is whole


@given(frames(), st.sampled_from([None, CLIENT, OTHER_CLIENT]), st.sampled_from([40, ROOM_MTU]))
def test_a_seal_stops_nothing_that_would_pass_without_whatever_it_is(
    built: Built, own_mac: bytes | None, mtu: int
) -> None:
    visible = DEFAULT.sealed_verdict(seal(built.frame), 0, own_mac, CLIENTS, mtu)
    assert visible is None or visible is DEFAULT.verdict(built.frame, 0, own_mac, CLIENTS, mtu)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (ether(V4, bytes(46), src=OTHER_CLIENT), DropReason.INVALID_SOURCE),
        (ether(V4, bytes(ROOM_MTU)), None),
        (ether(V4, bytes(ROOM_MTU + 1)), DropReason.JUMBO),
        (ether(dot1q(), V4, bytes(ROOM_MTU + 124)), None),  # it could be as many tags
        (ether(dot1q(), V4, bytes(ROOM_MTU + 125)), DropReason.JUMBO),
        (ether(V4, bytes(46), dst=bytes.fromhex("0180c2000000")), DropReason.SWITCH_CONTROL),
        (ether(V4, bytes(46), dst=bytes.fromhex("01000ccccccc")), DropReason.SWITCH_CONTROL),
        (ether(kind(0x8808), bytes(46)), DropReason.SWITCH_CONTROL),
        (ether(kind(0x8809), bytes(46)), DropReason.SWITCH_CONTROL),
        (ether(kind(0x88CC), bytes(46)), DropReason.SWITCH_CONTROL),
        (ether(kind(0x8863), bytes(46)), DropReason.ETHERTYPE),
        # These it cannot know: what is behind a tag, in 802.3, in IP.
        (ether(dot1q(), kind(0x8863), bytes(46)), None),
        (ether(llc(bytes(40), dsap=0x42)), None),
        (ether(V4, ipv4(udp(67, 68))), None),
        (ether(kind(packets.ARP), arp(LAN_HOST)), None),
    ],
)
def test_what_can_be_seen_of_a_sealed_frame(frame: bytes, reason: DropReason | None) -> None:
    assert sealed_from_client(frame) is reason


@pytest.mark.parametrize("source", [bytes(6), b"\xff" * 6, bytes.fromhex("01005e000002"), CLIENT, OTHER_CLIENT])
def test_nor_may_the_gateway_send_sealed_as_nobody_as_a_group_or_as_a_client(source: bytes) -> None:
    frame = seal(ether(V4, bytes(46), src=source))
    assert DEFAULT.sealed_verdict(frame, 0, None, CLIENTS, ROOM_MTU) is DropReason.INVALID_SOURCE
    lax = PolicyEngine(Policy(invalid_source=False))
    assert lax.sealed_verdict(frame, 0, None, CLIENTS, ROOM_MTU) is None


@given(st.binary(max_size=80), st.sampled_from([None, CLIENT]))
def test_any_sealed_bytes_get_a_verdict(data: bytes, own_mac: bytes | None) -> None:
    for offset in (0, 4):
        reason = DEFAULT.sealed_verdict(data, offset, own_mac, CLIENTS, ROOM_MTU)
        assert (reason is DropReason.RUNT) == (len(data) < offset + 38)
        assert PolicyEngine(LAWLESS).sealed_verdict(data, offset, own_mac, CLIENTS, ROOM_MTU) in (
            None,
            DropReason.RUNT,
        )


# The gateway's second look


@pytest.mark.parametrize("case", [*EVASIONS, *LEGITIMATE], ids=name_of)
def test_the_gateway_judges_a_clients_frame_as_the_relay_does(case: Evasion | Legitimate) -> None:
    clients = {CLIENT: None}
    assert DEFAULT.onto_lan(case.frame, 0, clients, ROOM_MTU) is from_client(case.frame)
    assert DEFAULT.onto_lan(OVERLAY + case.frame, 4, clients, ROOM_MTU) is from_client(case.frame)


def test_the_gateway_lets_only_known_clients_onto_the_lan() -> None:
    frame = ether(V4, ipv4(udp(1, 2)))
    assert DEFAULT.onto_lan(frame, 0, CLIENTS, ROOM_MTU) is None
    assert DEFAULT.onto_lan(frame, 0, {OTHER_CLIENT: None}, ROOM_MTU) is DropReason.INVALID_SOURCE
    assert PolicyEngine(Policy(invalid_source=False)).onto_lan(frame, 0, {}, ROOM_MTU) is None
    assert DEFAULT.onto_lan(frame[:13], 0, CLIENTS, ROOM_MTU) is DropReason.RUNT
    assert DEFAULT.onto_lan(b"", 0, CLIENTS, ROOM_MTU) is DropReason.RUNT


def test_what_one_player_says_to_another_is_not_for_the_lan() -> None:
    frame = OTHER_CLIENT + ether(V4, ipv4(udp(1, 2)))[6:]
    assert from_client(frame) is None
    assert DEFAULT.onto_lan(frame, 0, {CLIENT: None, OTHER_CLIENT: None}, ROOM_MTU) is DropReason.UNKNOWN_UNICAST
    assert DEFAULT.onto_lan(frame, 0, {CLIENT: None}, ROOM_MTU) is None
