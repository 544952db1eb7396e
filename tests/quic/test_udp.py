"""The real sockets, on loopback, and the batched one's books when the system refuses something."""

import errno
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.support.segments import apart

from softlan.net.address import HostPort, SocketAddress
from softlan.quic.open_udp import open_udp
from softlan.quic.udp import BatchedUdpSocket, PlainUdpSocket, UdpSocket, peer_address, plain_host

V4, V6 = socket.AF_INET, socket.AF_INET6
LOCAL = HostPort("127.0.0.1", 0)


def plain() -> UdpSocket:
    sock = socket.socket(V4, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return PlainUdpSocket(sock)


@pytest.fixture(params=[lambda: open_udp(LOCAL), plain], ids=["batched", "plain"])
def sockets(request: pytest.FixtureRequest) -> Iterator[tuple[UdpSocket, UdpSocket]]:
    with closing(request.param()) as one, closing(request.param()) as other:
        yield one, other


def receive(sock: UdpSocket, count: int) -> list[tuple[bytes, SocketAddress]]:
    """Wait for `count` datagrams."""
    received: list[tuple[bytes, SocketAddress]] = []
    while len(received) < count:
        assert select.select([sock.fileno()], [], [], 5.0)[0], f"only {len(received)} of {count} came"
        received += apart(sock.recv())
    return received


# Both kinds


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
        [0],
    ],
    ids=[
        "one",
        "ten",
        "64",
        "a short one last",
        "a short one first",
        "mixed",
        "alternating",
        "more than GSO takes",
        "0",
    ],
)
def test_a_burst_arrives_whole_and_in_order(sockets: tuple[UdpSocket, UdpSocket], sizes: list[int]) -> None:
    sender, receiver = sockets
    sent = [bytes((number % 256,)) * size for number, size in enumerate(sizes)]
    sender.send(sent, receiver.local_address)
    got = receive(receiver, len(sent))
    assert [data for data, _ in got] == sent
    assert {address for _, address in got} == {sender.local_address}
    out, into = sender.counters, receiver.counters
    assert (out.datagrams_out, out.bytes_out, out.errors) == (len(sent), sum(sizes), 0)
    assert (into.datagrams_in, into.bytes_in, into.errors) == (len(sent), sum(sizes), 0)


def test_several_senders_are_told_apart(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    one, receiver = sockets
    with closing(open_udp(LOCAL)) as two:
        for _ in range(5):
            one.send([b"1" * 1000] * 3, receiver.local_address)
            two.send([b"2" * 1000] * 3, receiver.local_address)
        got = receive(receiver, 30)
        senders = {b"1": one.local_address, b"2": two.local_address}
        assert all(senders[data[:1]] == address for data, address in got)
        assert [data[:1] for data, _ in got].count(b"1") == 15


def test_nothing_there_is_no_error(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    assert sockets[0].recv() == []
    sockets[0].send([], sockets[1].local_address)
    assert sockets[0].counters.errors == 0
    assert sockets[0].counters.datagrams_out == 0


def test_a_datagram_that_no_path_carries_does_not_stop_those_behind_it(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    sender, receiver = sockets
    sender.send([b"a", b"x" * 65508, b"b", b"x" * 70000, b"c"], receiver.local_address)
    assert [data for data, _ in receive(receiver, 3)] == [b"a", b"b", b"c"]
    counters = sender.counters
    assert (counters.datagrams_out, counters.bytes_out, counters.errors) == (3, 3, 2)


def test_a_closed_socket_gives_its_port_back_at_once() -> None:
    """qh3's half of the batched socket holds a duplicate of the descriptor."""
    sock = open_udp(LOCAL)
    address = sock.local_address
    sock.close()
    with closing(open_udp(HostPort("127.0.0.1", address[1]))) as again:
        assert again.local_address == address
    assert sock.counters.errors == 0, "referenced until here, as it may be by connections in a cycle"


# The batched one


class Refusing:
    """A `UdpSocketState` that refuses at will; `script` says what each call does: how many it sends, and the error."""

    def __init__(self, *script: tuple[int, int | None], gso_after: int = 64) -> None:
        self.max_gso_segments = 64
        self.calls: list[list[bytes]] = []
        self._script = list(script)
        self._gso_after = gso_after

    def send(self, datagrams: list[bytes], address: SocketAddress) -> int:
        self.calls.append(list(datagrams))
        sent, number = self._script.pop(0)
        if number is None:
            return sent
        self.max_gso_segments = self._gso_after
        error: Any = OSError(number, "refused")
        error.datagrams_sent = sent
        raise error


@pytest.fixture
def batched() -> Iterator[Callable[[Refusing], BatchedUdpSocket]]:
    sock = open_udp(LOCAL)
    assert isinstance(sock, BatchedUdpSocket)

    def with_state(state: Refusing) -> BatchedUdpSocket:
        sock._state = state  # type: ignore[assignment]
        return sock

    with closing(sock):
        yield with_state


FOUR = [b"1", b"22", b"333", b"4444"]
TO: SocketAddress = ("192.0.2.1", 9)


@pytest.mark.parametrize("number", [errno.EMSGSIZE, errno.EPERM])
def test_only_the_offending_datagram_is_skipped(batched: Any, number: int) -> None:
    state = Refusing((1, number), (2, None))
    sock = batched(state)
    sock.send(FOUR, TO)
    assert state.calls == [FOUR, FOUR[2:]]
    assert (sock.counters.datagrams_out, sock.counters.bytes_out, sock.counters.errors) == (3, 8, 1)
    assert sock.counters.send_calls == 2


def test_the_last_one_may_be_the_offending_one(batched: Any) -> None:
    state = Refusing((3, errno.EMSGSIZE))
    sock = batched(state)
    sock.send(FOUR, TO)
    assert state.calls == [FOUR]
    assert (sock.counters.datagrams_out, sock.counters.bytes_out, sock.counters.errors) == (3, 6, 1)


def test_all_may_be_refused(batched: Any) -> None:
    state = Refusing(*[(0, errno.EMSGSIZE)] * 4)
    sock = batched(state)
    sock.send(FOUR, TO)
    assert [len(call) for call in state.calls] == [4, 3, 2, 1]
    assert (sock.counters.datagrams_out, sock.counters.errors) == (0, 4)


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES])
def test_where_there_is_no_way_the_rest_is_not_tried(batched: Any, number: int) -> None:
    state = Refusing((1, number))
    sock = batched(state)
    sock.send(FOUR, TO)
    assert state.calls == [FOUR]
    assert (sock.counters.datagrams_out, sock.counters.bytes_out, sock.counters.errors) == (1, 1, 1)


def test_a_full_buffer_loses_the_rest(batched: Any) -> None:
    state = Refusing((2, None))
    sock = batched(state)
    sock.send(FOUR, TO)
    assert state.calls == [FOUR]
    assert (sock.counters.datagrams_out, sock.counters.bytes_out, sock.counters.errors) == (2, 3, 1)


def test_a_device_that_does_not_segment_loses_nothing(batched: Any) -> None:
    """The first refusal turns segmentation off (quinn-udp does): then the same datagrams go one by one."""
    state = Refusing((1, errno.EIO), (3, None), gso_after=1)
    sock = batched(state)
    sock.send(FOUR, TO)
    assert state.calls == [FOUR, FOUR[1:]]
    assert (sock.counters.datagrams_out, sock.counters.bytes_out, sock.counters.errors) == (4, 10, 1)


def test_an_answer_to_port_zero_is_not_even_tried() -> None:
    """Anyone can send from there; the error of an answer would turn segmentation off for good."""
    with closing(open_udp(LOCAL)) as sock:
        assert isinstance(sock, BatchedUdpSocket)
        before = sock._state.max_gso_segments
        sock.send([b"x" * 1200] * 3, ("127.0.0.1", 0))
        assert sock._state.max_gso_segments == before
        assert (sock.counters.errors, sock.counters.send_calls) == (1, 0)


def test_a_burst_takes_few_calls() -> None:
    with closing(open_udp(LOCAL)) as sender, closing(open_udp(LOCAL)) as receiver:
        sender.send([b"x" * 1400] * 40, receiver.local_address)
        receive(receiver, 40)
        assert sender.counters.send_calls == 1
        assert receiver.counters.recv_calls < 40


# Addresses


def test_one_socket_serves_both_families() -> None:
    with closing(open_udp(HostPort("", 0))) as both, closing(open_udp(LOCAL)) as four:
        assert both.family == V6
        port = both.local_address[1]
        four.send([b"hello"], ("127.0.0.1", port))
        ((data, address),) = receive(both, 1)
        assert (data, address) == (b"hello", (f"::ffff:{four.local_address[0]}", four.local_address[1], 0, 0))
        assert plain_host(address) == "127.0.0.1"
        both.send([b"back"], address)
        assert receive(four, 1) == [(b"back", ("127.0.0.1", port))]
        with closing(open_udp(HostPort("::1", 0))) as six:
            six.send([b"hello"], ("::1", port, 0, 0))
            assert receive(both, 1) == [(b"hello", six.local_address)]


@pytest.mark.parametrize(
    ("address", "family", "named"),
    [
        (("192.0.2.1", 443), V6, ("::ffff:192.0.2.1", 443, 0, 0)),
        (("192.0.2.1", 443), V4, ("192.0.2.1", 443)),
        (("2001:db8::1", 443, 0, 0), V6, ("2001:db8::1", 443, 0, 0)),
        (("2001:db8::1", 443), V6, ("2001:db8::1", 443, 0, 0)),
        (("fe80::1", 443, 0, 3), V6, ("fe80::1", 443, 0, 3)),
        (("2001:db8::1", 443, 0, 0), V4, None),
    ],
)
def test_an_address_is_named_as_the_socket_does(address: SocketAddress, family: int, named: SocketAddress) -> None:
    assert peer_address(address, family) == named


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        (("fe80::1%eth0", 1, 0, 3), "fe80::1"),
    ],
)
def test_people_read_the_usual_form(address: SocketAddress, host: str) -> None:
    assert plain_host(address) == host
