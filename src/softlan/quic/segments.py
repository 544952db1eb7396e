"""Datagrams as the kernel's generic receive offload (GRO) leaves them: one behind the other, in one piece.

Most of what a relay gets comes like this, and the QUIC core takes it like this. To cut each datagram out of it first
would cost as much again as reading them.
"""

from softlan.net.address import SocketAddress
from softlan.quic.configuration import CONNECTION_ID_LENGTH

Segments = tuple[bytes, int, SocketAddress]
"""One or more datagrams of one sender, one behind the other; how long each of them is but the last, which may be
shorter; and the sender."""

LONG_HEADER = 0x80
"""Set in the first byte of a packet that may not be for a known connection ID of ours (RFC 9000, section 17.2)."""
CID = slice(1, 1 + CONNECTION_ID_LENGTH)
"""Where that ID is in a packet with a short header (section 17.3.1)."""

_LONG_HEADER = bytes((LONG_HEADER,))


def split(data: bytes, size: int) -> list[bytes]:
    """Each datagram by itself."""
    return [data[at : at + size] for at in range(0, len(data), size)] if 0 < size < len(data) else [data]


def sort(received: list[Segments]) -> list[tuple[list[bytes] | bytes, int, SocketAddress]]:
    """Sort a burst into what can be given to one connection in one call.

    That is either `Segments` whose packets all have short headers and the same connection ID, or a list (and 1) of
    packets that came alone, with the same ID and sender. What has a long header is by itself. Of one sender, order is
    kept among packets of the same ID, and towards those with a long header.
    """
    runs: list[tuple[list[bytes] | bytes, int, SocketAddress]] = []
    open_runs: dict[SocketAddress, dict[bytes, list[bytes]]] = {}
    run: list[bytes] = []
    last_cid: bytes | None = None  # nearly always, all are of one connection
    last_address = None
    for data, size, address in received:
        cid = data[CID]
        is_alone = size == len(data)
        if is_alone and data[:1] < _LONG_HEADER:
            if cid != last_cid or (address is not last_address and address != last_address):
                last_cid, last_address = cid, address
                of_sender = open_runs.setdefault(address, {})
                if cid not in of_sender:
                    of_sender[cid] = []
                    runs.append((of_sender[cid], 1, address))
                run = of_sender[cid]
            run.append(data)
            continue
        open_runs.pop(address, None)
        last_cid = None
        if is_alone:
            runs.append(([data], 1, address))
        elif are_of_one(data, size):
            runs.append((data, size, address))
        else:
            runs += sort([(each, len(each), address) for each in split(data, size)])
    return runs


def are_of_one(data: bytes, size: int) -> bool:
    """Whether all are packets with a short header and the same connection ID."""
    first = data[::size]
    if max(first) >= LONG_HEADER:
        return False
    for at in range(CID.start, CID.stop):
        column = data[at::size]
        if column != column[:1] * len(first):
            return False
    return True
