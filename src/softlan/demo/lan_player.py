"""The player's side of LAN discovery: looks for a kind of game on one interface, as the game itself would.

Runs as a process of its own, in the player's namespace: ``python -m softlan.demo.lan_player source softlan0
5``. Prints what it found as one JSON object: `sort`, `address` (who answered), `ms` (from the last question
to the answer) and `text`. Exit status 1, with a reason on standard error, when nothing answered within the
seconds given.
"""

import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

from softlan.demo import packets
from softlan.demo.lan_host import udp_socket
from softlan.errors import HostError, SoftlanError

_ASK_AGAIN = 0.5  # seconds; discovery is lossy by nature, and every game repeats it

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Found:
    """What answered."""

    sort: str
    address: str
    ms: float
    text: str


def find_source_server(interface: str, timeout: float) -> Found:
    """Broadcast an A2S_INFO query; the server's challenge and its answer then go by unicast."""
    with udp_socket(interface, 0) as mine:
        broadcast = ("255.255.255.255", packets.SOURCE_PORT)
        challenge, server, broadcast_ms = _ask(mine, packets.info_query(), broadcast, packets.parse_challenge, timeout)
        info, server, unicast_ms = _ask(mine, packets.info_query(challenge), server, packets.parse_info, timeout)
    text = f"{info.name!r}, {info.players} of {info.max_players} players on {info.map}"
    return Found("source", server[0], broadcast_ms + unicast_ms, text)


def find_device(interface: str, timeout: float) -> Found:
    """Search by multicast (SSDP); a device answers by unicast."""
    with udp_socket(interface, 0) as mine:
        group = (packets.SSDP_GROUP, packets.SSDP_PORT)
        location, device, ms = _ask(mine, packets.search_request(), group, packets.parse_search_reply, timeout)
    return Found("ssdp", device[0], ms, location)


def find_world(interface: str, timeout: float) -> Found:
    """Hear a Minecraft world announced by multicast, then ask it for its status over TCP."""
    with udp_socket(interface, packets.MINECRAFT_PORT, packets.MINECRAFT_GROUP) as mine:
        (motd, port), (address, _), _ = _ask(mine, None, None, packets.parse_world, timeout)
    asked = time.monotonic()
    with socket.create_connection((address, port), timeout) as stream:
        stream.sendall(packets.STATUS_QUERY)
        reply = b""
        while (status := packets.parse_status(reply)) is None:
            part = stream.recv(4096)
            if not part:
                raise HostError("discovery", f"the world at {address} closed before it told its status")
            reply += part
    text = f"{motd!r} on port {port}, {status[1]} of {status[2]} players"
    return Found("minecraft", address, (time.monotonic() - asked) * 1000, text)


GAMES: dict[str, Callable[[str, float], Found]] = {
    "source": find_source_server,
    "ssdp": find_device,
    "minecraft": find_world,
}


def _ask(
    mine: socket.socket,
    question: bytes | None,
    target: tuple[str, int] | None,
    parse: Callable[[bytes], _T | None],
    timeout: float,
) -> tuple[_T, tuple[str, int], float]:
    """Send `question` until `parse` accepts an answer: (that, its sender, milliseconds it took)."""
    deadline = time.monotonic() + timeout
    asked = time.monotonic()
    again = asked
    while (now := time.monotonic()) < deadline:
        if question is not None and target is not None and now >= again:
            mine.sendto(question, target)
            asked, again = now, now + _ASK_AGAIN
        mine.settimeout(max(min(again if question else deadline, deadline) - now, 0.001))
        try:
            packet, sender = mine.recvfrom(65535)
        except TimeoutError:
            continue
        if (answer := parse(packet)) is not None:
            return answer, sender, (time.monotonic() - asked) * 1000
    raise HostError("discovery", f"nothing answered within {timeout:g} s")


def main(game: str, interface: str, timeout: str) -> int:
    """Run one discovery and print it."""
    try:
        print(json.dumps(asdict(GAMES[game](interface, float(timeout)))))
    except (SoftlanError, OSError) as error:
        print(f"{game} on {interface}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
