from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.proto.drop import DropReason
from softlan.proto.overlay import Kind, encode
from softlan.relay.filters import Policy

OWN, OTHER, LAN_HOST = (bytes.fromhex(text) for text in ("020000000001", "020000000002", "001b21000009"))
CLIENTS = {OWN: object(), OTHER: object()}
BROADCAST = b"\xff" * 6
TAGS = st.sampled_from([bytes.fromhex(text) for text in ("81000064", "88a80fff", "91000000")])
SNAP = bytes.fromhex("aaaa03 000000")
SNAP_8021H = bytes.fromhex("aaaa03 0000f8")


def judge(frame: bytes, *, own: bytes | None = OWN, room_mtu: int = 1418, **rules: bool) -> DropReason | None:
    """The verdict on a frame from the client with address `own`, or from the gateway."""
    return Policy(**rules).verdict(encode(Kind.ETHERNET, 7, frame), own_mac=own, clients=CLIENTS, room_mtu=room_mtu)


def llc_length(payload: bytes) -> bytes:
    """An 802.3 length field and what it counts."""
    return len(payload).to_bytes(2) + payload


@pytest.mark.parametrize(
    ("source", "from_client", "from_gateway"),
    [
        (OWN, True, False),
        (OTHER, False, False),  # a spoof, or a loop
        (LAN_HOST, False, True),
        (bytes.fromhex("020000000003"), False, True),  # locally administered, but nobody's here
        (bytes(6), False, False),
        (BROADCAST, False, False),
        (bytes.fromhex("01005e000001"), False, False),
        (bytes.fromhex("030000000001"), False, False),
    ],
)
def test_who_may_send_as_whom(source: bytes, from_client: bool, from_gateway: bool) -> None:
    frame = BROADCAST + source + b"\x08\x00" + bytes(46)
    for own, allowed in ((OWN, from_client), (None, from_gateway)):
        assert judge(frame, own=own) is (None if allowed else DropReason.INVALID_SOURCE)
        assert judge(frame, own=own, invalid_source=False) is None


IPV4, STP, LLDP = b"\x08\x00", bytes.fromhex("424203"), b"\x88\xcc"
VLAN, QINQ = bytes.fromhex("81000064"), bytes.fromhex("88a80005 81000064")


@pytest.mark.parametrize(
    ("destination", "rest", "control"),
    [
        # The reserved group addresses, whatever is in the frame.
        *((f"0180c20000{last:02x}", IPV4, True) for last in range(0x10)),
        ("0180c2000010", IPV4, False),
        ("0180c2000020", IPV4, False),  # GARP
        ("0180c2000100", IPV4, False),
        ("0080c2000000", IPV4, False),  # not a group
        ("01000ccccccc", IPV4, True),  # CDP, VTP, DTP, PAgP, UDLD
        ("01000ccccccd", IPV4, True),  # PVST+
        ("01000ccccccb", IPV4, False),
        # EtherTypes, to any address.
        ("001b21000009", b"\x88\x08", True),
        ("001b21000009", b"\x88\x09", True),
        ("001b21000009", LLDP, True),
        ("ffffffffffff", LLDP, True),
        ("ffffffffffff", b"\x88\x07", False),
        ("ffffffffffff", b"\x88\x0a", False),
        ("ffffffffffff", b"\x08\x06", False),
        # The same behind tags, and in SNAP.
        ("001b21000009", VLAN + LLDP, True),
        ("001b21000009", QINQ + b"\x88\x08", True),
        ("001b21000009", b"\x91\x00\x00\x07" + b"\x88\x09", True),
        ("001b21000009", VLAN + IPV4, False),
        ("001b21000009", llc_length(SNAP + LLDP + bytes(40)), True),
        ("001b21000009", llc_length(SNAP_8021H + LLDP + bytes(40)), True),
        ("001b21000009", VLAN + llc_length(SNAP + LLDP + bytes(40)), True),
        (
            "001b21000009",
            llc_length(bytes.fromhex("aaaa03 00000c 2000") + bytes(40)),
            False,
        ),  # Cisco's, but not to them
        # Spanning tree, told by its LLC address.
        ("ffffffffffff", llc_length(STP + bytes(35)), True),
        ("001b21000009", llc_length(STP + bytes(35)), True),
        ("ffffffffffff", VLAN + llc_length(STP + bytes(35)), True),
        ("ffffffffffff", QINQ + llc_length(STP + bytes(35)), True),
        ("ffffffffffff", b"\x05\xff" + STP, True),  # a length that is wrong
        ("ffffffffffff", llc_length(bytes.fromhex("f0f003") + bytes(35)), False),  # NetBEUI
        ("ffffffffffff", llc_length(bytes.fromhex("e0e003ffff") + bytes(35)), False),  # IPX
        ("ffffffffffff", llc_length(b"\xff\xff" + bytes(35)), False),  # IPX, raw
        # Frames that end on the way are nobody's protocol.
        ("ffffffffffff", VLAN, False),
        ("ffffffffffff", b"\x00\x02\x42\x42", False),
    ],
)
def test_switch_control(destination: str, rest: bytes, control: bool) -> None:
    for own, source in ((OWN, OWN), (None, LAN_HOST)):
        frame = bytes.fromhex(destination) + source + rest
        assert judge(frame, own=own) is (DropReason.SWITCH_CONTROL if control else None)
        assert judge(frame, own=own, switch_control=False) is None


@pytest.mark.parametrize(
    ("header", "extra"),
    [
        (IPV4, 0),
        (VLAN + IPV4, 0),
        (QINQ + IPV4, 0),
        (VLAN * 9 + IPV4, 0),
        (b"\x05\xdc" + bytes.fromhex("f0f003"), 3),  # an LLC header is payload
        (VLAN + b"\x05\xdc" + SNAP + IPV4, 8),
        (b"\x05\xdc" + SNAP + VLAN + IPV4, 12),  # and so is a tag in SNAP
    ],
)
def test_the_mtu_counts_what_is_behind_the_header_and_its_tags(header: bytes, extra: int) -> None:
    for mtu in (256, 1418):
        at_the_limit = BROADCAST + OWN + header + bytes(mtu - extra)
        assert judge(at_the_limit, room_mtu=mtu) is None
        assert judge(at_the_limit + b"\0", room_mtu=mtu) is DropReason.JUMBO
        assert judge(at_the_limit + b"\0", room_mtu=mtu, jumbo=False) is None


def test_tags_to_the_end_are_no_payload() -> None:
    for cut in range(4):
        assert judge(BROADCAST + OWN + VLAN * 400 + VLAN[:cut], room_mtu=256) is None


SOURCES = st.sampled_from([OWN, OTHER, LAN_HOST, bytes(6), BROADCAST, bytes.fromhex("010000000001")])
DESTINATIONS = st.sampled_from(
    [
        OWN,
        OTHER,
        LAN_HOST,
        BROADCAST,
        *map(bytes.fromhex, ("0180c2000000", "0180c200000e", "0180c2000010", "01000ccccccc")),
    ]
)
INNER = st.sampled_from(
    [IPV4, b"\x86\xdd", b"\x81\x37", LLDP, b"\x88\x08", b"\x88\x09"]
    + [b"\x01\x00" + llc for llc in (STP, bytes.fromhex("f0f003"), SNAP + IPV4, SNAP + LLDP, SNAP_8021H + b"\x88\x08")]
)


@given(DESTINATIONS, SOURCES, st.lists(TAGS, max_size=3), INNER, st.integers(254, 262), st.booleans())
def test_against_what_the_frame_was_made_of(
    destination: bytes, source: bytes, tags: list[bytes], inner: bytes, fill: int, client: bool
) -> None:
    payload = inner[2:] + bytes(fill)
    frame = destination + source + b"".join(tags) + inner[:2] + payload
    foul: list[Any] = []
    if source in (bytes(6), BROADCAST, bytes.fromhex("010000000001")) or (
        source != OWN if client else source in (OWN, OTHER)
    ):
        foul.append(DropReason.INVALID_SOURCE)
    if len(payload) > 260:
        foul.append(DropReason.JUMBO)
    if destination.hex() in ("0180c2000000", "0180c200000e", "01000ccccccc") or inner in (
        *(LLDP, b"\x88\x08", b"\x88\x09"),
        *(b"\x01\x00" + llc for llc in (STP, SNAP + LLDP, SNAP_8021H + b"\x88\x08")),
    ):
        foul.append(DropReason.SWITCH_CONTROL)
    assert judge(frame, own=OWN if client else None, room_mtu=260) is (foul[0] if foul else None)


@given(st.binary(min_size=14, max_size=600), st.booleans())
def test_any_bytes_get_a_verdict_and_each_rule_gives_only_its_own(frame: bytes, client: bool) -> None:
    own = frame[6:12] if client else None
    rules = {
        "invalid_source": DropReason.INVALID_SOURCE,
        "jumbo": DropReason.JUMBO,
        "switch_control": DropReason.SWITCH_CONTROL,
    }
    whole = judge(frame, own=own, room_mtu=256)
    single = [judge(frame, own=own, room_mtu=256, **{name: name == rule for name in rules}) for rule in rules]
    assert all(verdict in (None, reason) for verdict, reason in zip(single, rules.values(), strict=True))
    assert whole is next((verdict for verdict in single if verdict is not None), None)
