"""The player moves: its NAT gives it another port or address, it goes from Wi-Fi to cable, its network is another."""

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.ground import Ground, ground
from tests.faults.report import Result
from tests.support.party import run
from tests.support.tools import require_tool

from softlan.demo.netns import Namespace

BACK = 10.0  # seconds from the move
PIN = 10.0  # seconds until the relay's route is pinned along the new way

_NAT_OUTSIDE = ("198.18.0.10", "198.18.0.11")
_NETFILTER, _FLUSH = 12, 1 << 8 | 2  # NETLINK_NETFILTER; NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_RULES = """
table ip nat {
    chain out {
        type nat hook postrouting priority srcnat;
        oifname "wan0" masquerade fully-random
    }
}
"""


def nat_rebound(directory: Path, times: int = 10) -> list[Result]:
    """A NAT forgets its mappings: first the port becomes another, then the address too."""
    require_tool("nft")
    port = Result("NAT gives another port", BACK, "pings, processes, rooms, routes, events; the port is another")
    address = Result("NAT has another address", BACK, "pings, processes, rooms, routes, events; the address is another")
    with ground(directory) as party:
        nat = _put_behind_nat(party)
        party.start()
        for number in range(times):
            before = _mapping(nat)
            moved = time.monotonic()
            _flush_connections(nat)
            _note(party, port, moved)
            if _mapping(nat) == before:
                port.broken.append(f"the NAT still has the mapping {before}")

            old, new = _NAT_OUTSIDE if number % 2 == 0 else _NAT_OUTSIDE[::-1]
            moved = time.monotonic()
            run(nat, "ip", "address", "del", f"{old}/24", "dev", "wan0")
            run(nat, "ip", "address", "add", f"{new}/24", "dev", "wan0")
            nat.default_route("198.18.0.1")
            _note(party, address, moved)
            if _mapping(nat)[0] != new:
                address.broken.append(f"the NAT's mapping is {_mapping(nat)}, its address {new}")
            if port.broken or address.broken:
                break
        address.broken += party.inspect(connections=times > 1)
        address.broken += party.farewell()
    return [port, address]


def _note(party: Ground, result: Result, moved: float, began: float | None = None) -> None:
    healed = party.heal(moved, 3 * BACK)
    result.healed(healed - moved, party.player.heart.still(began or moved, healed))
    result.broken += _wait_settled(party)


def _wait_settled(party: Ground) -> list[str]:
    """What is wrong once the pin, which is looked at every 5 s, has had its time."""
    deadline = time.monotonic() + PIN
    while found := party.inspect():
        if time.monotonic() > deadline:
            break
    return found


def _put_behind_nat(party: Ground) -> Namespace:
    """Put a router with NAT into the player's cable."""
    ways = party.party
    nat = ways.lab.namespace("nat")
    run(ways.inet, "ip", "link", "set", "player0", "netns", nat.name)
    nat.up("player0", "192.0.2.1/24")
    ways.lab.cable((ways.inet, "nat0"), (nat, "wan0"))
    ways.inet.up("nat0", "198.18.0.1/24")
    nat.up("wan0", f"{_NAT_OUTSIDE[0]}/24")
    nat.default_route("198.18.0.1")
    nat.sysctl("ipv4.ip_forward", 1)
    rules = party.services.directory / "nat.nft"
    rules.write_text(_RULES)
    run(nat, "nft", "--file", str(rules))
    return nat


def _flush_connections(nat: Namespace) -> None:
    """Let the NAT forget all that it knows, as after a restart (ctnetlink: a delete that names nothing)."""
    with nat.entered():
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    with sock:
        sock.settimeout(5)
        sock.send(struct.pack("=IHHII", 20, _FLUSH, 5, 1, 0) + struct.pack("=BBH", socket.AF_INET, 0, 0))
        code = struct.unpack_from("=i", sock.recv(4096), 16)[0]
        if code:
            raise OSError(-code, "conntrack flush")


def _mapping(nat: Namespace) -> tuple[str, str]:
    """The address and port that the NAT gave the player's client last."""
    lines = [line.split() for line in run(nat, "cat", "/proc/net/nf_conntrack").splitlines() if "dport=443" in line]
    latest = max(lines, key=lambda words: int(words[4]))  # seconds until it is forgotten
    words = dict(word.split("=") for word in latest if "=" in word)  # the way back comes second
    return words["dst"], words["dport"]


# Another way


def _second_way(party: Ground) -> None:
    """A second interface of the player, `wan1`, to another router; not used while the first has the better metric."""
    ways = party.party
    ways.lab.cable((ways.inet, "second0"), (ways.player, "wan1"))
    ways.inet.up("second0", "192.0.3.1/24")
    ways.player.up("wan1", "192.0.3.10/24")
    run(ways.player, "ip", "route", "add", "default", "via", "192.0.3.1", "dev", "wan1", "metric", "600")


def _off(party: Ground) -> None:
    run(party.player.namespace, "ip", "link", "set", "wan0", "down")


def _on(party: Ground) -> None:
    run(party.player.namespace, "ip", "link", "set", "wan0", "up")
    party.player.namespace.default_route("192.0.2.1")


def _unplugged(party: Ground) -> None:
    """The far end is gone, and the host's network management takes address and routes away."""
    run(party.party.inet, "ip", "link", "set", "player0", "down")
    run(party.player.namespace, "ip", "-4", "address", "flush", "dev", "wan0")


def _plugged(party: Ground) -> None:
    run(party.party.inet, "ip", "link", "set", "player0", "up")
    party.player.namespace.up("wan0", "192.0.2.10/24")
    party.player.namespace.default_route("192.0.2.1")


def _new_address(party: Ground) -> None:
    """The router has given the player another address."""
    player = party.player.namespace
    run(player, "ip", "address", "del", "192.0.2.10/24", "dev", "wan0")
    player.up("wan0", "192.0.2.20/24")
    player.default_route("192.0.2.1")


def _old_address(party: Ground) -> None:
    player = party.player.namespace
    run(player, "ip", "address", "del", "192.0.2.20/24", "dev", "wan0")
    player.up("wan0", "192.0.2.10/24")
    player.default_route("192.0.2.1")


def _new_router(party: Ground) -> None:
    """Another access point of another network: a new address first, then the old one and its router are gone."""
    player, inet = party.player.namespace, party.party.inet
    player.up("wan0", "192.0.4.10/24")
    inet.up("player0", "192.0.4.1/24")
    run(inet, "ip", "address", "del", "192.0.2.1/24", "dev", "player0")
    run(player, "ip", "route", "replace", "default", "via", "192.0.4.1")
    run(player, "ip", "address", "del", "192.0.2.10/24", "dev", "wan0")


def _old_router(party: Ground) -> None:
    player, inet = party.player.namespace, party.party.inet
    player.up("wan0", "192.0.2.10/24")
    inet.up("player0", "192.0.2.1/24")
    run(inet, "ip", "address", "del", "192.0.4.1/24", "dev", "player0")
    run(player, "ip", "route", "replace", "default", "via", "192.0.2.1")
    run(player, "ip", "address", "del", "192.0.4.10/24", "dev", "wan0")


def _router_gone(party: Ground) -> None:
    """The router is replaced by one with another address in the same network; the player's own stays."""
    _replace_router(party, "192.0.2.1", "192.0.2.2")


def _router_back(party: Ground) -> None:
    _replace_router(party, "192.0.2.2", "192.0.2.1")


def _replace_router(party: Ground, old: str, new: str) -> None:
    inet = party.party.inet
    run(inet, "ip", "address", "del", f"{old}/24", "dev", "player0")
    run(inet, "ip", "link", "set", "player0", "address", f"02:00:5e:00:00:0{new[-1]}")
    inet.up("player0", f"{new}/24")
    run(party.player.namespace, "ip", "neighbour", "flush", "dev", "wan0")  # it announces itself (RFC 5227)
    run(party.player.namespace, "ip", "route", "replace", "default", "via", new)


def _far_end_dead(party: Ground) -> None:
    """The first way leads nowhere, though link and address stay; the host has found out, and prefers the second."""
    run(party.party.inet, "ip", "rule", "add", "iif", "player0", "blackhole", "priority", "100")
    run(party.player.namespace, "ip", "route", "replace", "default", "via", "192.0.3.1", "dev", "wan1")


def _far_end_alive(party: Ground) -> None:
    run(party.party.inet, "ip", "rule", "del", "iif", "player0", "blackhole", "priority", "100")
    run(party.player.namespace, "ip", "route", "replace", "default", "via", "192.0.2.1", "dev", "wan0")


MOVES: dict[str, tuple[str, bool, Callable[[Ground], None], Callable[[Ground], None]]] = {
    "wifi-off": ("Wi-Fi switched off, cable there", True, _off, _on),
    "wifi-lost": ("Wi-Fi lost, cable there", True, _unplugged, _plugged),
    "wifi-dead": ("Wi-Fi leads nowhere, cable preferred", True, _far_end_dead, _far_end_alive),
    "new-address": ("another address, the same router", False, _new_address, _old_address),
    "new-router": ("another router at another address", False, _router_gone, _router_back),
    "new-network": ("another network on the same interface", False, _new_router, _old_router),
}


def moved(directory: Path, name: str, times: int = 5) -> Result:
    """Let the player move there and back, some times; with 0 only there."""
    title, has_second_way, there, back = MOVES[name]
    result = Result(title, BACK, "pings, processes, rooms, routes, events; pinned along the new way")
    with ground(directory) as party:
        if has_second_way:
            _second_way(party)
        party.start()
        party.player.routes_before = []  # it has others now
        for move in (there, back) * times or (there,):
            began = time.monotonic()
            move(party)
            _note(party, result, time.monotonic(), began)
            if result.broken:
                break
        result.broken += party.inspect(connections=times > 1)
        result.broken += party.farewell()
        result.broken += [f"left behind: {line}" for line in party.player.pinned()]
    return result
