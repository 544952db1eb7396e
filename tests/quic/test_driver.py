"""What the loop is told by an endpoint's turns, over real sockets on loopback."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from softlan.net.address import HostPort
from softlan.quic.driver import EndpointDriver
from softlan.quic.endpoint import Endpoint
from softlan.quic.open_udp import open_udp

FULL = 32
"""As many lone datagrams as a turn takes from a socket at most, or fewer."""


@pytest.fixture
async def driver() -> AsyncIterator[EndpointDriver]:
    driver = EndpointDriver(Endpoint(open_udp(HostPort("127.0.0.1", 0))), asyncio.get_running_loop())
    yield driver
    driver.close()


def send(driver: EndpointDriver, count: int, mark: int = 0) -> None:
    """Noise, with a mark in the IP header's field for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, mark)
        for _ in range(count):
            sock.sendto(b"noise" * 8, ("127.0.0.1", driver.endpoint.sock.local_address[1]))


@pytest.mark.parametrize("count", [0, 1, 7])
async def test_a_turn_tells_how_many_datagrams_there_were(driver: EndpointDriver, count: int) -> None:
    send(driver, count)
    assert driver._readable() == count
    assert driver.endpoint.ignored == count


@pytest.mark.skipif(sys.platform != "linux", reason="a second socket is Linux's")
async def test_of_what_is_express_as_well(driver: EndpointDriver) -> None:
    from softlan.quic.express import CS4

    send(driver, 3, CS4)
    assert driver._readable() == 0
    assert driver._express_readable() == 3


async def test_or_that_there_may_be_more(driver: EndpointDriver) -> None:
    send(driver, FULL)
    told = driver._readable()
    assert told < 0
    assert driver.endpoint.ignored == -told
