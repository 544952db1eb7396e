"""Datagrams as GRO leaves them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.segments import MOST, apart, together

from softlan.net.address import SocketAddress
from softlan.quic.segments import are_of_one, sort, split

HERE: SocketAddress = ("192.0.2.1", 443)
THERE: SocketAddress = ("192.0.2.2", 443)


@given(st.lists(st.tuples(st.binary(max_size=4), st.sampled_from([HERE, THERE])), max_size=12))
@example([(b"x", HERE)] * (2 * MOST + 1))
def test_what_is_put_together_comes_apart_as_it_was(datagrams: list[tuple[bytes, SocketAddress]]) -> None:
    assert apart(together(datagrams)) == datagrams


@pytest.mark.parametrize(
    ("data", "size", "datagrams"),
    [
        (b"", 0, [b""]),
        (b"alone", 5, [b"alone"]),
        (b"alone", 0, [b"alone"]),
        (b"onetwosix", 3, [b"one", b"two", b"six"]),
        (b"onetwosi", 3, [b"one", b"two", b"si"]),
    ],
)
def test_only_the_last_may_be_shorter(data: bytes, size: int, datagrams: list[bytes]) -> None:
    assert split(data, size) == datagrams


CID = b"8 bytes."

packets = st.builds(
    lambda first, cid, rest: bytes((first,)) + cid + rest,
    st.sampled_from([0x40, 0x5F, 0x7F, 0x80, 0xC0]) | st.just(0x41),
    st.just(CID) | st.sampled_from([CID[:-1] + b"?", b"?" + CID[1:]]),
    st.binary(max_size=3),
)


@given(st.lists(packets, min_size=1, max_size=6), st.binary(max_size=11))
@example([b"\x40" + CID, b"\x41" + CID], b"\x40" + CID)
@example([b"\x40" + CID], b"\x40" + CID[:-1])
@example([b"\x40" + CID, b"\xc0" + CID], b"")
def test_they_are_of_one_connection_if_each_says_so(several: list[bytes], last: bytes) -> None:
    size = max(map(len, several))
    several = [packet.ljust(size, b".") for packet in several] + ([last[:size]] if last else [])
    expected = all(packet[0] < 0x80 and packet[1:9] == several[0][1:9] for packet in several)
    assert are_of_one(b"".join(several), size) == expected


senders = st.sampled_from([HERE, THERE])
lengths = st.sampled_from([0, 3, 9, 12])


@given(st.lists(st.tuples(packets, senders, lengths), max_size=12), st.booleans())
def test_sorting_keeps_order_and_makes_few_runs(kinds: list[tuple[bytes, SocketAddress, int]], has_gro: bool) -> None:
    datagrams = [
        (packet.ljust(12, b".")[:length] + bytes((number,)) * bool(length), address)
        for number, (packet, address, length) in enumerate(kinds)
    ]
    runs = sort(together(datagrams) if has_gro else [(data, len(data), address) for data, address in datagrams])
    sorted_ = [
        (data, address)
        for whole, size, address in runs
        for data in (split(whole, size) if isinstance(whole, bytes) else whole)
    ]
    assert sorted(sorted_) == sorted(datagrams)
    for sender in (HERE, THERE):
        came = [data for data, address in datagrams if address == sender]
        went = [data for data, address in sorted_ if address == sender]
        for cid in {data[1:9] for data in came}:
            assert [data for data in went if data[1:9] == cid] == [data for data in came if data[1:9] == cid]
        for index, data in enumerate(came):
            assert data[:1] < b"\x80" or went[index] == data, "nothing goes past what has a long header"
    if not has_gro:
        short = [(data[1:9], address) for data, address in datagrams if data[:1] < b"\x80"]
        assert len(runs) >= len(datagrams) - len(short) + len(set(short))
        assert len(short) < len(datagrams) or len(runs) == len(set(short))


def test_of_a_burst_of_many_players_each_has_one_run() -> None:
    one, other = b"\x40" + CID, b"\x40" + CID[::-1]
    burst = [(data, len(data), address) for data in (one, other, one) for address in (HERE, THERE, THERE)]
    assert sort(burst) == [
        ([one, one], 1, HERE),
        ([one] * 4, 1, THERE),
        ([other], 1, HERE),
        ([other] * 2, 1, THERE),
    ]
    assert sort([(one * 3, 9, HERE), (one, 9, HERE), (one + other, 9, HERE)]) == [
        (one * 3, 9, HERE),
        ([one], 1, HERE),
        ([one], 1, HERE),
        ([other], 1, HERE),
    ]
