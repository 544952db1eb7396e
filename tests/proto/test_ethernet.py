import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from softlan.proto import ethernet
from softlan.proto.ethernet import describe_type, parse

DST, SRC = "02:00:00:00:00:02", "02:00:00:00:00:01"
ADDRESSES = bytes.fromhex("020000000002 020000000001")
# Types that scapy would not dissect further, so that its payload is the raw bytes.
ethertypes = st.integers(0x0600, 0xFFFF).filter(lambda kind: kind not in ethernet.TAG_TYPES)


def frame(*parts: str) -> bytes:
    return ADDRESSES + bytes.fromhex("".join(parts))


def test_a_plain_frame() -> None:
    view = parse(frame("0800", "4500"))
    assert view is not None
    assert view.destination == bytes.fromhex("020000000002")
    assert view.source == bytes.fromhex("020000000001")
    assert (view.tags, view.ethertype, view.llc, view.payload_offset) == ((), ethernet.IPV4, None, 14)


@pytest.mark.parametrize(
    ("parts", "tags", "ethertype", "llc", "offset", "described"),
    [
        (["0806"], (), 0x0806, None, 14, "arp"),
        (["86dd"], (), 0x86DD, None, 14, "ipv6"),
        (["8137"], (), 0x8137, None, 14, "ipx"),
        (["88cc"], (), 0x88CC, None, 14, "0x88cc"),
        (["0600"], (), 0x0600, None, 14, "0x0600"),
        (["8100 6005", "0800"], (0x6005,), 0x0800, None, 18, "ipv4"),
        (["88a8 0064", "8100 0005", "0806"], (100, 5), 0x0806, None, 22, "arp"),
        (["9100 0001", "9100 0002", "8100 0000", "86dd"], (1, 2, 0), 0x86DD, None, 26, "ipv6"),
        (["0026", "424203"], (), None, (0x42, 0x42), 14, "llc 42"),
        (["0003", "e0e003"], (), None, (0xE0, 0xE0), 14, "llc e0"),
        (["8100 0005", "0026", "424203"], (5,), None, (0x42, 0x42), 18, "llc 42"),
        (["001e", "ffff001e"], (), None, (0xFF, 0xFF), 14, "ipx raw"),
        (["0008", "aaaa03 000000 0800"], (), 0x0800, (0xAA, 0xAA), 22, "ipv4"),
        (["0008", "aaaa03 0000f8 8137"], (), 0x8137, (0xAA, 0xAA), 22, "ipx"),
        (["0008", "aaaa03 00000c 2000"], (), None, (0xAA, 0xAA), 14, "snap 00000c 2000"),
        (["8100 0000", "0008", "aaaa03 000000 86dd"], (0,), 0x86DD, (0xAA, 0xAA), 26, "ipv6"),
        (["000c", "aaaa03 000000 8100", "0005 0800"], (5,), 0x0800, (0xAA, 0xAA), 26, "ipv4"),
        (["0010", "aaaa03 000000 0026", "424203"], (), None, (0x42, 0x42), 22, "llc 42"),
        # Where receivers differ, the view looks inside: a wrong length, a SNAP header not by the book.
        (["05ff", "aaaa03 000000 0800"], (), 0x0800, (0xAA, 0xAA), 22, "ipv4"),
        (["0000", "aaaa03 000000 0800"], (), 0x0800, (0xAA, 0xAA), 22, "ipv4"),
        (["0008", "aaab13 000000 0800"], (), 0x0800, (0xAA, 0xAB), 22, "ipv4"),
    ],
)
def test_headers(
    parts: list[str],
    tags: tuple[int, ...],
    ethertype: int | None,
    llc: tuple[int, int] | None,
    offset: int,
    described: str,
) -> None:
    view = parse(frame(*parts))
    assert view is not None
    assert (view.tags, view.ethertype, view.llc, view.payload_offset) == (tags, ethertype, llc, offset)
    assert describe_type(view) == described


@pytest.mark.parametrize(
    "parts",
    [
        ["8100 0005 88a8 0006 8100 0007", "0800"],
        ["0008", "aaaa03 000000 0800"],
        ["8100 0000", "0008", "aaaa03 0000f8 86dd"],
        ["0008", "aaaa03 00000c 2000"],
        ["0026", "424203"],
    ],
)
def test_a_header_that_breaks_off_anywhere_is_none(parts: list[str]) -> None:
    whole = frame(*parts)
    assert parse(whole) is not None
    for length in range(len(whole)):
        assert parse(whole[:length]) is None


def test_tags_may_be_stacked_without_end() -> None:
    view = parse(ADDRESSES + bytes.fromhex("81000001") * 2000 + bytes.fromhex("0800"))
    assert view is not None
    assert view.ethertype == ethernet.IPV4
    assert view.tags == (1,) * 2000


header_pieces = st.lists(
    st.sampled_from(
        [
            "8100",
            "88a8",
            "9100",
            "0000",
            "0005",
            "0800",
            "86dd",
            "aaaa03",
            "000000",
            "0000f8",
            "424203",
            "ffff",
            "aa",
        ]
    ).map(bytes.fromhex)
    | st.binary(max_size=4),
    max_size=12,
).map(b"".join)


@given(st.binary(max_size=80) | header_pieces.map(lambda rest: ADDRESSES + rest))
def test_any_bytes_give_a_view_or_none(data: bytes) -> None:
    view = parse(data)
    if view is None:
        return
    assert view.frame is data
    assert view.destination + view.source == data[:12]
    assert 14 <= view.payload_offset <= len(data)
    assert view.ethertype is not None or view.llc is not None
    assert view.ethertype is None or view.ethertype >= 0x0600
    assert view.ethertype not in ethernet.TAG_TYPES
    assert describe_type(view).isprintable()


tag_stacks = st.lists(
    st.tuples(st.sampled_from([Dot1Q, Dot1AD]), st.integers(0, 7), st.integers(0, 1), st.integers(0, 4095)),
    max_size=4,
)


def scapy_tags(packet: Packet) -> tuple[int, ...]:
    """The TCIs that scapy finds, outermost first."""
    tags: list[int] = []
    layer = packet
    while layer:
        if isinstance(layer, Dot1Q | Dot1AD):
            tags.append(layer.prio << 13 | layer.dei << 12 | layer.vlan)
        layer = layer.payload
    return tuple(tags)


@given(tag_stacks, ethertypes, st.binary(min_size=1, max_size=40))
def test_scapy_reads_the_same_tags_and_type(
    stack: list[tuple[type[Packet], int, int, int]], ethertype: int, payload: bytes
) -> None:
    packet: Packet = Ether(dst=DST, src=SRC)
    for layer, priority, eligible, vlan in stack:
        packet /= layer(prio=priority, dei=eligible, vlan=vlan)
    packet.lastlayer().type = ethertype
    data = bytes(packet / Raw(payload))
    view = parse(data)
    assert view is not None
    assert view.tags == scapy_tags(Ether(data)) == tuple(p << 13 | d << 12 | v for _, p, d, v in stack)
    assert view.ethertype == ethertype
    assert data[view.payload_offset :] == payload


saps = st.integers(0, 255).filter(lambda sap: sap != ethernet.LLC_SNAP)


@given(saps, st.integers(0, 255), st.binary(max_size=40))
def test_scapy_reads_the_same_llc(dsap: int, ssap: int, payload: bytes) -> None:
    data = bytes(Dot3(dst=DST, src=SRC) / LLC(dsap=dsap, ssap=ssap, ctrl=3) / Raw(payload))
    oracle = Dot3(data)[LLC]
    view = parse(data)
    assert view is not None
    assert view.llc == (oracle.dsap, oracle.ssap)


@given(st.sampled_from([0x000000, 0x0000F8]), ethertypes, st.booleans(), st.binary(max_size=40))
def test_scapy_reads_the_same_snap_of_rfc_1042_and_802_1h(
    oui: int, ethertype: int, tagged: bool, payload: bytes
) -> None:
    snap = LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=oui, code=ethertype) / Raw(payload)
    if tagged:
        data = bytes(Ether(dst=DST, src=SRC) / Dot1Q(vlan=0, type=len(snap)) / snap)
    else:
        data = bytes(Dot3(dst=DST, src=SRC) / snap)
    view = parse(data)
    assert view is not None
    assert view.ethertype == ethertype
    assert view.llc == (0xAA, 0xAA)
    assert data[view.payload_offset :] == payload
    if not tagged:
        assert (Dot3(data)[SNAP].OUI, Dot3(data)[SNAP].code) == (oui, ethertype)


@given(st.sampled_from([0x00000C, 0x080007]), st.integers(0, 0xFFFF))
def test_snap_of_another_organisation_has_no_ethertype(oui: int, code: int) -> None:
    data = bytes(Dot3(dst=DST, src=SRC) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=oui, code=code))
    view = parse(data)
    assert view is not None
    assert view.ethertype is None
    assert describe_type(view) == f"snap {oui:06x} {code:04x}"
