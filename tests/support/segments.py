"""What GRO leaves together, apart; and together again what it would leave so."""

from softlan.net.address import SocketAddress
from softlan.quic.segments import Segments, split

MOST = 64  # segments that the kernel leaves together: UDP_GRO_CNT_MAX


def apart(received: list[Segments]) -> list[tuple[bytes, SocketAddress]]:
    """Each datagram with its sender."""
    return [(data, address) for whole, size, address in received for data in split(whole, size)]


def together(datagrams: list[tuple[bytes, SocketAddress]]) -> list[Segments]:
    """In a row those of one sender and size, and a shorter one behind them."""
    received: list[Segments] = []
    room = 0
    for data, address in datagrams:
        if room and received[-1][2] == address and 0 < len(data) <= received[-1][1]:
            whole, size, _ = received[-1]
            received[-1] = (whole + data, size, address)
            room = room - 1 if len(data) == size else 0
        else:
            received.append((data, len(data), address))
            room = MOST - 1 if data else 0
    return received
