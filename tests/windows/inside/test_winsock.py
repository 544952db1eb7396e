"""UDP sockets as Windows makes them, and what is done about it."""

import select
import socket
from contextlib import closing

import pytest

from softlan.net.address import HostPort
from softlan.quic.open_udp import open_udp
from softlan.quic.udp import PlainUdpSocket
from softlan.quic.winsock import IP_DONTFRAGMENT, IPV6_DONTFRAG


@pytest.mark.parametrize("listen", [None, HostPort("127.0.0.1", 0)], ids=["both families", "IPv4"])
def test_nothing_is_ever_fragmented(listen: HostPort | None) -> None:
    with closing(open_udp(listen)) as sock:
        assert isinstance(sock, PlainUdpSocket)
        assert sock._sock.getsockopt(socket.IPPROTO_IP, IP_DONTFRAGMENT)
        if sock.family == socket.AF_INET6:
            assert sock._sock.getsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG)


def test_a_port_that_nobody_has_is_no_error_of_the_next_read() -> None:
    with closing(open_udp(HostPort("127.0.0.1", 0))) as sock:
        with closing(open_udp(HostPort("127.0.0.1", 0))) as gone:
            nobody = gone.local_address
        sock.send([b"x"] * 3, nobody)
        sock.send([b"y"] * 70, sock.local_address)
        received: list[bytes] = []
        while len(received) < 70:
            assert select.select([sock.fileno()], [], [], 5.0)[0]
            received += [data for data, _, _ in sock.recv()]
        assert received == [b"y"] * 70, "in bursts, whole and in order"
        assert sock.counters.errors == 0
