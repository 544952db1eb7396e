"""Two sockets on one port: what is marked comes to the second one, all else to the first, whole and in order."""

import errno
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("the kernel's sorting is Linux's", allow_module_level=True)

from tests.support.segments import apart

from softlan.net.address import HostPort, SocketAddress
from softlan.obs.counters import UdpCounters
from softlan.quic import express as express_module
from softlan.quic.express import CS4, ExpressUdpSocket, StreamUdpSocket, add_express
from softlan.quic.open_udp import open_udp
from softlan.quic.udp import BatchedUdpSocket

V4, V6 = socket.AF_INET, socket.AF_INET6
EVERYWHERE = HostPort("", 0)


class Pair:
    """A port with both sockets, and how it is reached in either family."""

    def __init__(self, listen: HostPort | None = EVERYWHERE, *, is_alone: bool = False) -> None:
        first = open_udp(listen, is_alone=is_alone)
        assert isinstance(first, StreamUdpSocket)
        assert isinstance(first.express, ExpressUdpSocket)
        self.first, self.express = first, first.express
        self.port: int = first.local_address[1]

    def address(self, family: int = V4) -> SocketAddress:
        return ("::1" if family == V6 else "::ffff:127.0.0.1", self.port, 0, 0)

    def waiting(self) -> tuple[list[bytes], list[bytes]]:
        """What is there, in the first and in the second socket."""
        first, second = ([data for data, _ in drained(sock)] for sock in (self.first, self.express))
        return first, second

    def close(self) -> None:
        self.first.close()


def drained(sock: BatchedUdpSocket) -> list[tuple[bytes, SocketAddress]]:
    found: list[tuple[bytes, SocketAddress]] = []
    while select.select([sock.fileno()], [], [], 0)[0]:
        found += apart(sock.recv())
    return found


@pytest.fixture
def here() -> Iterator[Pair]:
    with closing(Pair()) as pair:
        yield pair


@pytest.fixture
def there() -> Iterator[Pair]:
    with closing(Pair()) as pair:
        yield pair


# The kernel's sorting


@pytest.mark.parametrize("family", [V4, V6])
def test_each_socket_gets_what_the_like_one_sent(here: Pair, there: Pair, family: int) -> None:
    here.first.send([b"a stream"] * 3, there.address(family))
    here.express.send([b"a game"] * 2, there.address(family))
    here.express.send([b"a ping"], there.address(family))
    assert there.waiting() == ([b"a stream"] * 3, [b"a game", b"a game", b"a ping"])


@pytest.mark.parametrize(("family", "level", "option"), [
    (V4, socket.IPPROTO_IP, socket.IP_TOS),
    (V6, socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
])  # fmt: skip
def test_no_other_mark_counts_and_ecn_does_not(here: Pair, family: int, level: int, option: int) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for mark in range(256):
            sender.setsockopt(level, option, mark)
            sender.sendto(bytes([mark]), ("::1" if family == V6 else "127.0.0.1", here.port))
            is_express = mark & 0xFC == CS4
            assert here.waiting() == (([], [bytes([mark])]) if is_express else ([bytes([mark])], []))


def test_the_mark_is_for_interactive_gaming_and_the_other_socket_has_none(here: Pair) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        plain.bind(("127.0.0.1", 0))
        address = ("::ffff:127.0.0.1", plain.getsockname()[1], 0, 0)
        for sock, datagrams in (
            (here.express, [b"one"]),
            (here.express, [b"several"] * 3),
            (here.first, [b"one"]),
            (here.first, [b"several"] * 3),
        ):
            sock.send(datagrams, address)
            for data in datagrams:
                found, ancillary, _, _ = plain.recvmsg(100, 100)
                assert found == data
                assert [value[0] for _, _, value in ancillary] == [0b100000_00 if sock is here.express else 0]


def test_an_ipv4_address_is_served_as_well(there: Pair) -> None:
    with closing(Pair(HostPort("127.0.0.1", 0))) as here:
        there.express.send([b"a game"], here.address())
        there.first.send([b"a stream"], here.address())
        assert here.waiting() == ([b"a stream"], [b"a game"])
        here.express.send([b"an answer"] * 2, ("127.0.0.1", there.port))
        assert there.waiting() == ([], [b"an answer"] * 2)


# Whole and in order


@pytest.mark.parametrize("which", ["first", "express"])
@pytest.mark.parametrize(
    "sizes",
    [
        [1],
        [1200] * 10,
        [1472] * 64,
        [1472] * 20 + [99],
        [99] + [1472] * 20,
        [100, 200, 300, 200, 100],
        [1472, 30, 1472, 30],
        [1200] * 70,
        [40] * 200,
        [0],
    ],
    ids=str,
)
def test_a_burst_arrives_whole_and_in_order(here: Pair, there: Pair, which: str, sizes: list[int]) -> None:
    sent = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    sender, receiver = getattr(here, which), getattr(there, which)
    sender.send(sent, there.address())
    found = drained(receiver)
    assert [data for data, _ in found] == sent
    assert {address[:2] for _, address in found} == {("::ffff:127.0.0.1", here.port)}
    assert sender.counters.datagrams_out == receiver.counters.datagrams_in == len(sizes)
    assert sender.counters.bytes_out == receiver.counters.bytes_in == sum(sizes)
    assert sender.counters.errors == 0


def test_a_burst_goes_by_few_calls(here: Pair, there: Pair) -> None:
    here.express.send([bytes(1200)] * 50 + [bytes(7)], there.address())
    assert here.first.counters.send_calls == 1, "and the books are those of both sockets"
    here.express.send([bytes(1200)] * 70, there.address())
    assert here.first.counters.send_calls == 3


def test_of_streams_one_large_packet_is_read_at_a_time(here: Pair, there: Pair) -> None:
    here.first.send([b"1"], there.address())
    here.first.send([b"22"] * 40, there.address())
    here.first.send([b"333"] * 30, there.address())
    assert [data for data, _ in apart(there.first.recv())] == [b"1"] + [b"22"] * 40
    assert there.first.has_more
    assert [data for data, _ in apart(there.first.recv())] == [b"333"] * 30
    assert there.first.has_more, "where one came, there is a stream"
    assert (there.first.recv(), there.first.has_more) == ([], False)


def test_it_is_two_where_no_other_player_waits(here: Pair) -> None:
    with closing(Pair(None, is_alone=True)) as there:
        here.first.send([b"1"] * 40, there.address())
        here.first.send([b"2"], there.address())
        here.first.send([b"3"] * 40, there.address())
        here.first.send([b"4"], there.address())
        here.first.send([b"5"] * 40, there.address())
        assert [data for data, _ in apart(there.first.recv())] == [b"1"] * 40 + [b"2"] + [b"3"] * 40
        assert there.first.has_more
        assert [data for data, _ in apart(there.first.recv())] == [b"4"] + [b"5"] * 40
        assert there.first.has_more
        assert (there.first.recv(), there.first.has_more) == ([], False)


def test_of_what_comes_alone_a_few_are_read_at_a_time(here: Pair, there: Pair) -> None:
    for number in range(20):
        here.first.send([bytes([number])], there.address())
    assert [data[0] for data, _ in apart(there.first.recv())] == list(range(16))
    assert there.first.has_more
    assert [data[0] for data, _ in apart(there.first.recv())] == list(range(16, 20))
    assert not there.first.has_more


def test_an_icmp_error_of_an_earlier_send_costs_nothing_but_a_turn(here: Pair) -> None:
    class Refused:
        def recvmsg(self, *_: int) -> None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    sock, here.first._sock = here.first._sock, Refused()  # type: ignore[assignment]
    try:
        assert here.first.recv() == []
    finally:
        here.first._sock = sock
    assert (here.first.counters.errors, here.first.has_more) == (1, False)


# What does not pass


@pytest.mark.parametrize("sizes", [[100, 60000, 100], [60000, 100], [1473] * 3 + [20]])
def test_a_datagram_that_no_path_carries_does_not_stop_those_behind_it(sizes: list[int]) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as sock, closing(ExpressUdpSocket(sock, UdpCounters())) as express:
        narrow = express._sock = Narrow(1472)  # type: ignore[assignment]
        express.send([bytes(size) for size in sizes], ("192.0.2.1", 443))
        fitting = [size for size in sizes if size <= 1472]
        assert narrow.sent == fitting
        assert (express.counters.datagrams_out, express.counters.errors) == (len(fitting), len(sizes) - len(fitting))


class Narrow:
    """A socket on a path of so many bytes, whose device may not segment."""

    def __init__(self, widest: int, failure: int = errno.EMSGSIZE, *, segments: bool = True) -> None:
        self.sent: list[int] = []
        self.calls: list[str] = []
        self._widest, self._failure, self._segments = widest, failure, segments

    def sendto(self, data: bytes, _: SocketAddress) -> None:
        self.calls.append("one")
        if len(data) > self._widest:
            raise OSError(errno.EMSGSIZE, "Message too long")
        self.sent.append(len(data))

    def sendmsg(self, datagrams: list[bytes], ancillary: list[tuple[int, int, bytes]], *_: Any) -> None:
        self.calls.append("many")
        ((_, _, size),) = ancillary
        if not self._segments or struct.unpack("=H", size)[0] > self._widest:
            raise OSError(self._failure, "no")
        self.sent += map(len, datagrams)

    def close(self) -> None: ...


def test_a_device_that_does_not_segment_is_not_asked_again() -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as sock, closing(ExpressUdpSocket(sock, UdpCounters())) as express:
        device = express._sock = Narrow(1472, errno.EIO, segments=False)  # type: ignore[assignment]
        express.send([bytes(10)] * 3, ("192.0.2.1", 443))
        assert (device.sent, device.calls) == ([10] * 3, ["many", "one", "one", "one"])
        express.send([bytes(10)] * 2, ("192.0.2.1", 443))
        assert device.calls[4:] == ["one", "one"]
        assert (express.counters.datagrams_out, express.counters.errors) == (5, 0)


def test_a_full_buffer_loses_the_burst_and_says_so() -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as sock, closing(ExpressUdpSocket(sock, UdpCounters())) as express:
        device = express._sock = Narrow(1472, errno.EAGAIN, segments=False)  # type: ignore[assignment]
        express.send([bytes(10)] * 3, ("192.0.2.1", 443))
        assert (device.sent, device.calls, express.counters.errors) == ([], ["many"], 1)


def test_to_port_0_goes_nothing(here: Pair) -> None:
    here.express.send([b"x"], ("::ffff:127.0.0.1", 0, 0, 0))
    here.express.send([b"x"] * 2, ("::ffff:127.0.0.1", 0, 0, 0))
    assert here.first.counters.datagrams_out == 0
    assert here.first.counters.errors >= 2
    assert here.express._segments > 1


# Having it, or not


def test_where_the_kernel_does_not_sort_there_is_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []
    real = socket.socket

    def remembered(*arguments: Any) -> socket.socket:
        opened.append(real(*arguments))
        return opened[-1]

    def refuses(*_: object) -> None:
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    monkeypatch.setattr(socket, "socket", remembered)
    monkeypatch.setattr(express_module, "attach", refuses)
    with closing(open_udp(EVERYWHERE)) as sock:
        assert type(sock) is BatchedUdpSocket
        assert sock.express is None
        assert [each.fileno() for each in opened] == [sock.fileno(), -1], "the second one is closed again"
        with closing(open_udp()) as other:
            other.send([b"x"] * 2, ("::ffff:127.0.0.1", sock.local_address[1], 0, 0))
        assert [data for data, _ in drained(sock)] == [b"x"] * 2


def test_closing_gives_the_port_back() -> None:
    with closing(Pair()) as pair:
        pass
    with closing(Pair(HostPort("", pair.port))):
        pass


def test_nobody_else_joins_the_port(here: Pair) -> None:
    with socket.socket(V6, socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
        other.bind(("::", here.port))


def test_an_ipv6_socket_of_one_family_stays_so() -> None:
    with socket.socket(V6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("::", 0))
        _, second = add_express(sock)
        with second:
            assert second.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
            assert second.getsockname() == sock.getsockname()
