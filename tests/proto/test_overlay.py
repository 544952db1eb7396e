import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.proto.overlay import (
    HEADER_LENGTH,
    VERSION,
    Kind,
    encode,
    encode_probe,
    header,
    parse,
    probe_nonce,
)

peer_ids = st.integers(0, 0xFFFF)
SHORTEST = {Kind.ETHERNET: 4 + 14, Kind.SEALED: 4 + 14 + 8 + 16, Kind.PROBE: 4 + 8}
FRAME = bytes.fromhex("ffffffffffff 020000000001 0806")


@pytest.mark.parametrize(
    ("kind", "peer_id", "expected"),
    [
        (Kind.ETHERNET, 1, "10000001"),
        (Kind.SEALED, 0x1234, "11001234"),
        (Kind.PROBE, 0, "12000000"),
        (Kind.ETHERNET, 65535, "1000ffff"),
    ],
)
def test_header_golden_bytes(kind: Kind, peer_id: int, expected: str) -> None:
    assert header(kind, peer_id) == bytes.fromhex(expected)


def test_an_ethernet_frame_golden_bytes() -> None:
    datagram = encode(Kind.ETHERNET, 7, FRAME)
    assert datagram == bytes.fromhex("10000007 ffffffffffff 020000000001 0806")
    assert parse(datagram) == (Kind.ETHERNET, 7)
    assert datagram[HEADER_LENGTH:] == FRAME


def test_a_probe_golden_bytes() -> None:
    probe = encode_probe(0x0102, 0x1122334455667788, 16)
    assert probe == bytes.fromhex("12000102 1122334455667788 00000000")
    assert parse(probe) == (Kind.PROBE, 0x0102)
    assert probe_nonce(probe) == 0x1122334455667788


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        bytes.fromhex("10"),
        bytes.fromhex("100000"),
        bytes.fromhex("10000007") + FRAME[:13],  # a frame has at least 14 bytes
        bytes.fromhex("00000007") + FRAME,  # version 0
        bytes.fromhex("20000007") + FRAME,  # version 2
        bytes.fromhex("13000007") + bytes(60),  # unknown kind
        bytes.fromhex("1f000007") + bytes(60),
        bytes.fromhex("10010007") + FRAME,  # a flag
        bytes.fromhex("10800007") + FRAME,
        bytes.fromhex("11000007") + bytes(37),  # too short to be sealed
        bytes.fromhex("12000000") + bytes(7),  # a probe without its whole nonce
    ],
)
def test_malformed(datagram: bytes) -> None:
    assert parse(datagram) is None


@given(st.sampled_from(Kind), peer_ids, st.binary(max_size=80))
def test_round_trip_down_to_the_shortest(kind: Kind, peer_id: int, payload: bytes) -> None:
    datagram = encode(kind, peer_id, payload)
    assert datagram.startswith(header(kind, peer_id))
    assert parse(datagram) == ((kind, peer_id) if len(datagram) >= SHORTEST[kind] else None)


@given(st.binary(max_size=100))
def test_parse_says_yes_only_to_what_encode_would_write(datagram: bytes) -> None:
    parsed = parse(datagram)
    if parsed is not None:
        assert encode(*parsed, datagram[HEADER_LENGTH:]) == datagram


@given(st.sampled_from([0x10, 0x11, 0x12, 0x13, 0x20]), st.sampled_from([0, 0, 1]), st.binary(max_size=60))
def test_parse_agrees_with_the_protocol_read_naively(first: int, flags: int, rest: bytes) -> None:
    datagram = bytes((first, flags)) + rest
    good = (
        first >> 4 == VERSION
        and first & 0xF in set(Kind)
        and flags == 0
        and len(datagram) >= SHORTEST[Kind(first & 0xF)]
    )
    assert (parse(datagram) is not None) == good


@given(peer_ids, st.integers(0, 2**64 - 1), st.integers(12, 1500))
def test_probes_have_their_size_and_nonce(peer_id: int, nonce: int, size: int) -> None:
    probe = encode_probe(peer_id, nonce, size)
    assert len(probe) == size
    assert parse(probe) == (Kind.PROBE, peer_id)
    assert probe_nonce(probe) == nonce
    assert not any(probe[12:])


def test_a_probe_needs_room_for_its_nonce() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        encode_probe(0, 1, 11)
