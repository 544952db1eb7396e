"""Ports and addresses that can be had, and one line for those that cannot."""

import errno
import socket
from contextlib import closing
from typing import Any

import pytest

from softlan.errors import HostError
from softlan.net.address import HostPort
from softlan.quic.open_udp import open_udp

V4, V6 = socket.AF_INET, socket.AF_INET6
LOCAL = HostPort("127.0.0.1", 0)


def test_a_port_in_use_is_one_line() -> None:
    with closing(open_udp(LOCAL)) as sock:
        port = sock.local_address[1]
        with pytest.raises(HostError, match=rf"^cannot listen on 127.0.0.1, UDP port {port}: the port is in use; stop"):
            open_udp(HostPort("127.0.0.1", port))
    with closing(open_udp(HostPort("", 0))) as both:
        port = both.local_address[1]
        with pytest.raises(HostError, match=rf"^cannot listen on every address, UDP port {port}: the port is in use"):
            open_udp(HostPort("", port))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_somebody_elses_address_is_one_line(host: str) -> None:
    with pytest.raises(HostError, match=rf"^cannot listen on {host}.*: this machine has no such address") as caught:
        open_udp(HostPort(host, 0))
    assert caught.value.stage == "bind"


def test_a_system_without_ipv6_is_served_over_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int, *arguments: Any) -> socket.socket:
        if family == V6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *arguments)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with closing(open_udp(HostPort("", 0))) as sock:
        assert sock.family == V4
