"""Names to socket addresses, all of them, in the order to try."""

import functools
import socket
from collections.abc import Iterable
from typing import cast

from softlan.errors import HostError
from softlan.net.address import HostPort, SocketAddress
from softlan.net.passing import in_passing_thread


async def resolve(address: HostPort) -> list[SocketAddress]:
    """Look up every UDP address of a relay, IPv6 and IPv4 by turns (RFC 8305 section 4).

    Within a family, and for the family that starts, the system's order holds (RFC 6724). Literals take the
    same way without a query, and keep their scope ID. Raises HostError, stage `resolve`.
    """
    ask = functools.partial(socket.getaddrinfo, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP)
    try:
        found = await in_passing_thread(lambda: ask(address.host, address.port))
    except (OSError, UnicodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise HostError(
            "resolve", f"cannot resolve {address.host}: {reason}; check the name and this machine's DNS"
        ) from None
    # Typeshed's third form, (int, bytes), is that of a Python built without IPv6.
    return interleave((family, cast(SocketAddress, sockaddr)) for family, _, _, _, sockaddr in found)


def interleave(found: Iterable[tuple[int, SocketAddress]]) -> list[SocketAddress]:
    """Order (family, address) pairs so that families take turns; each address once."""
    families: dict[int, list[SocketAddress]] = {}
    for family, sockaddr in dict.fromkeys(found):
        families.setdefault(family, []).append(sockaddr)
    queues = list(families.values())
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
