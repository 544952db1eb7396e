import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from softlan.net.buffers import set_buffers

FORCED = {socket.SO_RCVBUF: 33, socket.SO_SNDBUF: 32}
LIMITS = {socket.SO_RCVBUF: "rmem_max", socket.SO_SNDBUF: "wmem_max"}


class Unprivileged(socket.socket):
    """A socket of a process without CAP_NET_ADMIN."""

    def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
        if level == socket.SOL_SOCKET and option in FORCED.values():
            raise PermissionError
        super().setsockopt(level, option, value)


class Broken(socket.socket):
    def setsockopt(self, *_: object) -> None:
        raise OSError


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def sizes(sock: socket.socket) -> list[int]:
    return [sock.getsockopt(socket.SOL_SOCKET, option) // 2 for option in FORCED]


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="twice the size is what Linux says")


def test_each_way_has_its_size(sock: socket.socket) -> None:
    set_buffers(sock, receive=40_000, send=60_000)
    assert sizes(sock) == [40_000, 60_000]


def test_what_is_not_named_stays(sock: socket.socket) -> None:
    receive, _ = sizes(sock)
    set_buffers(sock, send=60_000)
    assert sizes(sock) == [receive, 60_000]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN")
def test_root_has_more_than_the_limit(sock: socket.socket) -> None:
    receive, send = (int(Path("/proc/sys/net/core", name).read_text()) + 4096 for name in LIMITS.values())
    set_buffers(sock, receive=receive, send=send)
    assert sizes(sock) == [receive, send]


def test_others_have_what_the_limit_grants() -> None:
    limits = [int(Path("/proc/sys/net/core", name).read_text()) for name in LIMITS.values()]
    with Unprivileged(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        set_buffers(sock, receive=limits[0] + 4096, send=limits[1] + 4096)
        assert sizes(sock) == limits


def test_that_it_cannot_be_had_is_no_error() -> None:
    with Broken(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        before = sizes(sock)
        set_buffers(sock, receive=40_000, send=60_000)
        assert sizes(sock) == before
