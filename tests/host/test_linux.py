import asyncio
import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.device.namespaces import Namespace, namespaces, unprivileged, wire

from softlan.demo.processes import wait_for
from softlan.errors import HostError
from softlan.host.base import HostNetwork, HostRoute
from softlan.host.guard import HostGuard
from softlan.host.linux import ROUTE_PROTOCOL, LinuxNetwork
from softlan.host.plan import AddRoute, pin_relay

pytestmark = pytest.mark.netns

ip = ipaddress.ip_address
RELAYS = ["203.0.113.9", "2001:db8::9"]
ON_LINK = ["192.168.1.9", "fd01::9"]


@pytest.fixture
def player() -> Iterator[Namespace]:
    """A machine with a default route out of `net0` for both families, and a `softlan0` that is up."""
    with namespaces(1) as (namespace,):
        wire(namespace, "net0", namespace, "far0")
        wire(namespace, "softlan0", namespace, "far1")
        for command in (
            "addr add 192.168.1.7/24 dev net0",
            "addr add 192.168.1.8/24 dev net0",
            "addr add fd01::7/64 dev net0",
            "route add default via 192.168.1.1 dev net0 src 192.168.1.8 metric 100",
            "-6 route add default via fd01::1 dev net0 metric 100",
            "addr add 192.168.7.7/24 dev softlan0",
            "addr add fd07::7/64 dev softlan0",
        ):
            namespace.ip(*command.split())
        with namespace.entered():
            yield namespace


@pytest.fixture
def network(player: Namespace) -> LinuxNetwork:
    return LinuxNetwork()


def pin(network: HostNetwork, relay: str) -> HostRoute:
    route = pin_relay(ip(relay), network.best_route(ip(relay)), "softlan0")
    assert route is not None
    return route


def table(namespace: Namespace) -> list[dict[str, object]]:
    routes: list[dict[str, object]] = []
    for family in ("-4", "-6"):
        routes += json.loads(namespace.ip("-j", "-N", family, "route", "show", "table", "main"))
    return routes


def ours(namespace: Namespace) -> list[dict[str, object]]:
    return [route for route in table(namespace) if route.get("protocol") == str(ROUTE_PROTOCOL)]


def leaves_by(namespace: Namespace, address: str) -> tuple[object, object]:
    """What `ip` says of the way to `address`: gateway and interface."""
    (route,) = json.loads(namespace.ip("-j", "route", "get", address))
    return route.get("gateway"), route["dev"]


def test_the_best_route_is_the_one_that_is_taken(player: Namespace, network: LinuxNetwork) -> None:
    known: HostNetwork = network
    assert known.best_route(ip("203.0.113.9")) == HostRoute(
        ipaddress.ip_network("203.0.113.9/32"), ip("192.168.1.1"), "net0", ip("192.168.1.8")
    )
    assert known.best_route(ip("2001:db8::9")) == HostRoute(
        ipaddress.ip_network("2001:db8::9/128"), ip("fd01::1"), "net0", ip("fd01::7")
    )
    assert known.best_route(ip("192.168.1.9")) == HostRoute(
        ipaddress.ip_network("192.168.1.9/32"), None, "net0", ip("192.168.1.7")
    )
    player.ip("route", "add", "default", "via", "192.168.7.1", "dev", "softlan0", "metric", "1")
    best = known.best_route(ip("203.0.113.9"))
    assert best is not None
    assert (best.gateway, best.interface) == (ip("192.168.7.1"), "softlan0")


@pytest.mark.parametrize(
    "address",
    ["192.168.1.7", "127.0.0.1", "::1", "fd01::7", "198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8:1::1"],
)
def test_what_does_not_leave_the_machine_has_no_route(player: Namespace, network: LinuxNetwork, address: str) -> None:
    for command in (
        "blackhole 198.51.100.1",
        "prohibit 198.51.100.2",
        "unreachable 198.51.100.3",
        "blackhole 2001:db8:1::1",
    ):
        player.ip("route", "add", *command.split())
    assert network.best_route(ip(address)) is None


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::9"])
def test_without_any_route_there_is_none(player: Namespace, network: LinuxNetwork, address: str) -> None:
    player.ip("-4", "route", "del", "default")
    player.ip("-6", "route", "del", "default")
    assert network.best_route(ip(address)) is None


@pytest.mark.parametrize("relay", RELAYS + ON_LINK)
def test_a_pinned_relay_stays_where_it_was(player: Namespace, network: LinuxNetwork, relay: str) -> None:
    before, way = table(player), leaves_by(player, relay)
    route = pin(network, relay)
    assert not network.has_route(route)
    network.add_route(route)
    assert network.has_route(route)
    (shown,) = ours(player)
    assert (shown["dst"], shown.get("gateway"), shown["dev"]) == (relay, *way)
    for command in (
        "-4 route add default via 192.168.7.1 dev softlan0 metric 1",
        "-6 route add default via fd07::1 dev softlan0 metric 1",
        "-4 route add 128.0.0.0/1 via 192.168.7.1 dev softlan0",
        "-4 route add 192.168.1.0/25 dev softlan0",
        "-6 route add fd01::/80 dev softlan0",
    ):
        player.ip(*command.split())
    assert leaves_by(player, relay) == way
    network.delete_route(route)
    assert not network.has_route(route)
    assert leaves_by(player, relay)[1] == "softlan0"
    assert [entry for entry in table(player) if entry["dev"] != "softlan0"] == [
        entry for entry in before if entry["dev"] != "softlan0"
    ]


def test_it_looks_as_an_operator_would_have_set_it(player: Namespace, network: LinuxNetwork) -> None:
    for relay in RELAYS + ON_LINK:
        network.add_route(pin(network, relay))
    assert player.ip("-4", "route", "show", "proto", "98").splitlines() == [
        "192.168.1.9 dev net0 scope link src 192.168.1.7 ",
        "203.0.113.9 via 192.168.1.1 dev net0 src 192.168.1.8 onlink ",
    ]
    assert player.ip("-6", "route", "show", "proto", "98").splitlines() == [
        "2001:db8::9 via fd01::1 dev net0 metric 1024 pref medium",
        "fd01::9 dev net0 metric 1024 pref medium",
    ]


def test_a_gateway_outside_the_subnet_can_be_kept(player: Namespace, network: LinuxNetwork) -> None:
    player.ip("route", "add", "198.51.100.0/24", "via", "172.31.1.1", "dev", "net0", "onlink")
    route = pin(network, "198.51.100.9")
    network.add_route(route)
    assert leaves_by(player, "198.51.100.9") == ("172.31.1.1", "net0")
    assert network.has_route(route)


def test_an_ipv6_gateway_of_an_ipv4_route_is_kept(player: Namespace, network: LinuxNetwork) -> None:
    player.ip("-4", "route", "add", "198.51.100.0/24", "via", "inet6", "fd01::1", "dev", "net0")
    route = pin(network, "198.51.100.9")
    assert route.gateway == ip("fd01::1")
    network.add_route(route)
    assert network.has_route(route)
    network.delete_route(route)
    assert ours(player) == []


def test_the_usual_way_is_the_one_without_pin_and_tunnel(player: Namespace, network: LinuxNetwork) -> None:
    pinned = pin(network, RELAYS[0])
    assert network.usual_route(pinned, "softlan0") == pinned, "the default route's way"
    network.add_route(pinned)
    assert network.usual_route(pinned, "softlan0") == pinned
    six = pin(network, RELAYS[1])
    network.add_route(six)
    assert network.usual_route(six, "softlan0") == six
    for command, gateway in (
        ("route add 203.0.113.0/24 via 192.168.1.2 dev net0 metric 5", "192.168.1.2"),
        ("route add 203.0.113.0/24 via 192.168.1.3 dev net0 metric 4", "192.168.1.3"),
        ("route add 203.0.113.0/25 via 192.168.7.1 dev softlan0", "192.168.1.3"),
        ("route add blackhole 203.0.113.0/26", "192.168.1.3"),
        ("route add 203.0.113.0/28 via 192.168.1.4 dev net0", "192.168.1.4"),
    ):
        player.ip(*command.split())
        usual = network.usual_route(pinned, "softlan0")
        assert usual is not None
        assert (str(usual.gateway), usual.interface) == (gateway, "net0")


def test_a_way_without_a_carrier_is_not_usual(player: Namespace, network: LinuxNetwork) -> None:
    pinned = pin(network, RELAYS[0])
    network.add_route(pinned)
    player.ip("link", "set", "far0", "down")
    # The kernel tells the other end a moment later.
    wait_for("no way without a carrier", lambda: network.usual_route(pinned, "softlan0") is None or None, 5)


@pytest.mark.parametrize("relay", RELAYS)
def test_anothers_identical_route_is_seen_but_not_deleted(player: Namespace, network: LinuxNetwork, relay: str) -> None:
    gateway, interface = leaves_by(player, relay)
    source = ["src", "192.168.1.8"] if ":" not in relay else []
    player.ip("route", "add", relay, "via", str(gateway), "dev", str(interface), *source, "proto", "static")
    before = table(player)
    route = pin(network, relay)
    assert network.has_route(route)
    with pytest.raises(HostError, match="there is another one to the same destination"):
        network.add_route(route)
    network.delete_route(route)
    assert table(player) == before


@pytest.mark.parametrize("relay", RELAYS)
def test_deleting_what_is_gone_is_no_error(player: Namespace, network: LinuxNetwork, relay: str) -> None:
    route = pin(network, relay)
    network.delete_route(route)
    network.add_route(route)
    player.ip("link", "del", "net0")
    assert not network.has_route(route)
    network.delete_route(route)


def test_says_what_is_wrong(player: Namespace, network: LinuxNetwork) -> None:
    route = pin(network, RELAYS[0])
    with unprivileged():
        assert network.best_route(ip(RELAYS[0])) is not None
        for change in (network.add_route, network.delete_route):
            with pytest.raises(HostError, match=r"^cannot (add|delete) the route .*: it needs CAP_NET_ADMIN; "):
                change(route)
    gone = HostRoute(route.destination, route.gateway, "gone0")
    with pytest.raises(HostError, match=r"^cannot add the route 203.* dev gone0: No such device$"):
        network.add_route(gone)


async def test_works_inside_a_running_loop(player: Namespace, network: LinuxNetwork) -> None:
    assert asyncio.get_running_loop().is_running()
    route = pin(network, RELAYS[0])
    network.add_route(route)
    network.delete_route(route)
    assert ours(player) == []


def test_a_large_table_is_read_to_its_end(player: Namespace, network: LinuxNetwork) -> None:
    commands = "".join(f"route add 10.{index // 256}.{index % 256}.0/24 dev net0\n" for index in range(3000))
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
    route = pin(network, RELAYS[0])
    assert not network.has_route(route)
    network.add_route(route)
    assert network.has_route(route)


PROGRAM = """
import ipaddress, pathlib, sys, time
from softlan.host.guard import HostGuard
from softlan.host.linux import LinuxNetwork
from softlan.host.plan import AddRoute, pin_relay

network = LinuxNetwork()
guard = HostGuard(network, pathlib.Path(sys.argv[1]))
for text in sys.argv[2:]:
    relay = ipaddress.ip_address(text)
    guard.apply([AddRoute(pin_relay(relay, network.best_route(relay), "softlan0"))])
print("pinned", flush=True)
sys.stdin.read()
"""


def test_after_kill_9_the_next_start_restores_the_routes(
    player: Namespace, network: LinuxNetwork, tmp_path: Path
) -> None:
    before = table(player)
    journal = tmp_path / "host.json"
    command = [sys.executable, "-c", PROGRAM, str(journal), *RELAYS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "pinned\n"
        assert {route["dst"] for route in ours(player)} == set(RELAYS)
        guard = HostGuard(network, journal)
        assert guard.recover() == [], "it still runs"
        assert len(ours(player)) == 2
        child.kill()
    assert len(ours(player)) == 2
    undone = guard.recover()
    assert len(undone) == 2
    assert all(line.startswith("removed the route ") for line in undone)
    assert table(player) == before
    assert not journal.exists()


def test_the_guard_pins_and_restores_for_real(player: Namespace, network: LinuxNetwork, tmp_path: Path) -> None:
    before = table(player)
    guard = HostGuard(network, tmp_path / "host.json")
    guard.apply(AddRoute(pin(network, relay)) for relay in RELAYS)
    assert len(ours(player)) == 2
    assert guard.restore() == []
    assert table(player) == before


def test_the_addresses_of_an_interface(player: Namespace, network: LinuxNetwork) -> None:
    assert network.addresses("gone0") == []
    for command in ("addr add 192.168.1.9/32 peer 10.0.0.1 dev net0", "addr add fd01::8/64 dev net0 nodad"):
        player.ip(*command.split())
    found = {str(address) for address in network.addresses("net0") if not address.is_link_local}
    assert {"192.168.1.7/24", "192.168.1.8/24", "192.168.1.9/32", "fd01::8/64"} <= found
    assert found <= {"192.168.1.7/24", "192.168.1.8/24", "192.168.1.9/32", "fd01::8/64", "fd01::7/64"}
    player.ip("addr", "flush", "dev", "net0")
    assert network.addresses("net0") == []
