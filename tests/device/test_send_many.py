import errno
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.device.send_many import MOST, SendMany


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=2 * MOST))
def test_each_arrives_as_it_is_in_the_order_of_the_burst(datagrams: list[bytes]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        sender = SendMany(ours)
        left = datagrams
        received = []
        while left:
            sent = sender.send(left)
            assert 0 < sent <= min(MOST, len(left))
            received += [theirs.recv(2001) for _ in range(sent)]
            left = left[sent:]
    assert received == datagrams


def test_sends_what_there_is_room_for_and_says_so(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sender = SendMany(ours)
    burst = [bytes([index]) * 1000 for index in range(MOST)]
    total = 0
    while (sent := sender.send(burst)) == MOST:
        total += sent
    total += sent
    with pytest.raises(BlockingIOError):
        sender.send(burst[sent:])
    assert [theirs.recv(2000) for _ in range(total)] == (burst * (total // MOST + 1))[:total]


def test_a_datagram_that_cannot_be_sent_stops_it_and_is_said_when_it_is_the_first(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    sender = SendMany(ours)
    burst = [b"one", bytes(1 << 20), b"three"]
    assert sender.send(burst) == 1
    with pytest.raises(OSError, match="Message too long") as failure:
        sender.send(burst[1:])
    assert failure.value.errno == errno.EMSGSIZE
    assert sender.send(burst[2:]) == 1
    assert [theirs.recv(100), theirs.recv(100)] == [b"one", b"three"]
