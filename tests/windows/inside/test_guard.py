"""The guard on a host that has C layouts, real files and real processes: what it changed, it puts back."""

import ipaddress
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.windows.inside.bench import CABLE, CABLE_GUID, GUID, WIFI, WIFI_GUID, Host, address

from softlan.errors import HostError
from softlan.host.base import HostRoute, Setting
from softlan.host.guard import HostGuard
from softlan.host.plan import AddRoute, SetInterface, pin_relay
from softlan.host.winapi import AF_INET, AF_INET6, IpHelper
from softlan.host.windows import WindowsNetwork

RELAY = address("203.0.113.9")
TUNNEL = [
    SetInterface(GUID, 4, Setting.MTU, 1418),
    SetInterface(GUID, 4, Setting.METRIC, 1),
    SetInterface(GUID, 4, Setting.DEFAULT_ROUTES, 0),
    SetInterface(GUID, 6, Setting.MTU, 1418),
]

CHANGER = """
import pathlib, sys
from softlan.host.guard import HostGuard
from softlan.host.windows import WindowsNetwork
from tests.windows.inside.test_guard import TUNNEL, pin

network = WindowsNetwork()
HostGuard(network, pathlib.Path(sys.argv[1]), interfaces=network).apply([pin(network), *TUNNEL])
print("changed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def network(host: Host) -> WindowsNetwork:
    return WindowsNetwork()


@pytest.fixture
def guard(network: WindowsNetwork, tmp_path: Path) -> HostGuard:
    return HostGuard(network, tmp_path / "state" / "host.json", interfaces=network)


def snapshot() -> list[bytes]:
    """The whole host, byte for byte."""
    api = IpHelper()
    rows = [
        api.interface(api.luid(guid), family)
        for guid in (GUID, CABLE_GUID, WIFI_GUID)
        for family in (AF_INET, AF_INET6)
    ]
    return [bytes(row) for row in (*rows, *api.routes(AF_INET), *api.routes(AF_INET6), *api.addresses())]


def pin(network: WindowsNetwork) -> AddRoute:
    route = pin_relay(RELAY, network.best_route(RELAY), GUID)
    assert route is not None
    return AddRoute(route)


def test_all_of_it_is_made_and_put_back(network: WindowsNetwork, guard: HostGuard, tmp_path: Path) -> None:
    before = snapshot()
    changes = [pin(network), *TUNNEL]
    assert guard.apply(changes) == changes
    assert network.has_route(pin(network).route)
    read = [network.read_setting(change.interface, change.version, change.setting) for change in TUNNEL]
    assert read == [1418, 1, 0, 1418]
    assert snapshot() != before
    assert guard.restore() == []
    assert snapshot() == before
    assert not list((tmp_path / "state").iterdir())


def test_what_is_installed_is_in_the_registry(network: WindowsNetwork) -> None:
    assert network.is_installed(GUID)
    assert network.is_installed(GUID.lower())
    assert not network.is_installed("{0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9}")


def test_a_pin_that_is_somebody_elses_stays(network: WindowsNetwork, guard: HostGuard) -> None:
    api = IpHelper()
    theirs = pin(network)
    row = api.new_route(api.luid(CABLE_GUID), theirs.route.destination, theirs.route.gateway)
    row.Metric = 5
    api.create_route(row)
    before = snapshot()
    assert guard.apply([theirs]) == []
    assert guard.restore() == []
    assert snapshot() == before


def test_one_change_that_fails_takes_all_of_its_call_back(network: WindowsNetwork, guard: HostGuard) -> None:
    before = snapshot()
    with pytest.raises(HostError, match="cannot set the IPv6 mtu of Ethernet 7 to 1000"):
        guard.apply([pin(network), *TUNNEL[:3], SetInterface(GUID, 6, Setting.MTU, 1000)])  # error 87: below 1280
    assert snapshot() == before


def test_what_went_with_its_interface_is_no_complaint(network: WindowsNetwork, guard: HostGuard, host: Host) -> None:
    guard.apply([pin(network)])
    host.plug(CABLE, False)
    assert not network.has_route(HostRoute(ipaddress.ip_network("203.0.113.9/32"), address("192.0.2.1"), CABLE_GUID))
    assert guard.restore() == []


def test_from_the_cable_to_wifi_and_back(network: WindowsNetwork, guard: HostGuard, host: Host) -> None:
    before = snapshot()
    first = pin(network)
    guard.apply([first])
    host.plug(CABLE, False)
    second = pin(network)
    assert (second.route.interface, second.route.gateway) == (WIFI_GUID, address("192.0.3.1"))
    guard.withdraw([first])
    guard.apply([second])
    host.plug(CABLE, True)
    usual = network.usual_route(second.route, GUID)
    assert usual is not None
    assert usual.interface == CABLE_GUID  # which is where it should go now
    assert guard.restore() == []
    assert sorted(snapshot()) == sorted(before)


def test_a_default_route_over_the_tunnel_is_not_pinned(network: WindowsNetwork, host: Host) -> None:
    api = IpHelper()
    for index in (CABLE, WIFI):
        host.plug(index, False)
    row = api.new_route(api.luid(GUID), ipaddress.ip_network("0.0.0.0/0"), address("10.77.0.1"))
    api.create_route(row)
    with pytest.raises(HostError, match="goes through"):
        pin(network)


@pytest.fixture
def changer(host: Host, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has changed the host, and holds on."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHANGER, str(tmp_path / "state" / "host.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "changed\n"
    yield process
    process.kill()
    process.communicate()


def test_a_process_that_was_killed_is_cleaned_up_after(
    network: WindowsNetwork, guard: HostGuard, host: Host, changer: "subprocess.Popen[str]"
) -> None:
    assert guard.recover() == []  # it lives
    assert network.has_route(pin(network).route)
    with pytest.raises(HostError, match=f"process {changer.pid}"):
        guard.apply([pin(network)])
    changer.kill()
    changer.wait(10)
    lines = guard.recover()
    assert len(lines) == 5
    assert lines[0].startswith("removed the route 203.0.113.9/32 via 192.0.2.1")
    assert all("left by an earlier run" in line for line in lines)
    left = snapshot()
    host.reset()
    assert left == snapshot()
    assert guard.recover() == []
