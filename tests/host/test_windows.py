import ipaddress

import pytest
from tests.support.iphlpapi import CABLE, HOME, TAP, StandIn, luid_of

from softlan.errors import HostError
from softlan.host import winapi
from softlan.host.base import HostInterfaces, HostNetwork, HostRoute, Setting
from softlan.host.windows import PATIENCE, WindowsNetwork

ip = ipaddress.ip_address
net = ipaddress.ip_network
GONE = "{11111111-0000-4000-8000-000000000009}"
RELAY, RELAY6 = ip("203.0.113.5"), ip("2001:db8:5::5")
PIN = HostRoute(net("203.0.113.5/32"), ip("192.168.1.1"), HOME)
PIN6 = HostRoute(net("2001:db8:5::5/128"), ip("fe80::1"), HOME)
ON_LINK = HostRoute(net("192.168.1.9/32"), None, HOME)
ON_LINK6 = HostRoute(net("fd01::9/128"), None, HOME)


class Clock:
    """Time that passes only in pauses; `then` happens after so many of them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses = 0
        self.then = lambda: None

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.pauses += 1
        if self.pauses == 10:
            self.then()


@pytest.fixture
def machine() -> StandIn:
    machine = StandIn()
    machine.add_route("0.0.0.0/0", "192.168.1.1", HOME)
    machine.add_route("192.168.1.0/24", None, HOME)
    machine.add_route("::/0", "fe80::1", HOME)
    machine.sources[luid_of(HOME)] = ip("192.168.1.7")
    return machine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network(machine: StandIn, clock: Clock) -> WindowsNetwork:
    return WindowsNetwork(winapi.IpHelper(machine.load), clock=clock, pause=clock.pause)


def ours(machine: StandIn) -> list[winapi.MIB_IPFORWARD_ROW2]:
    return [row for row in machine.routes if row.Metric == 0]


def test_it_is_what_the_guard_asks_for(network: WindowsNetwork) -> None:
    as_network: HostNetwork = network
    as_interfaces: HostInterfaces = network
    assert as_network is as_interfaces


# Routes


def test_the_best_route_names_its_interface_by_guid_and_for_people(network: WindowsNetwork) -> None:
    best = network.best_route(RELAY)
    assert best == HostRoute(PIN.destination, PIN.gateway, HOME, ip("192.168.1.7"))
    assert str(best) == "203.0.113.5/32 via 192.168.1.1 dev Wi-Fi"


def test_what_is_on_the_link_has_no_gateway(network: WindowsNetwork) -> None:
    best = network.best_route(ip("192.168.1.9"))
    assert best is not None
    assert best.gateway is None


def test_no_route_and_the_machine_itself_are_none(machine: StandIn, network: WindowsNetwork) -> None:
    assert network.best_route(ip("192.168.1.7")) is None
    machine.routes.clear()
    assert network.best_route(RELAY) is None
    assert network.best_route(RELAY6) is None


@pytest.mark.parametrize("route", [PIN, PIN6, ON_LINK, ON_LINK6], ids=str)
def test_a_route_comes_and_goes(machine: StandIn, network: WindowsNetwork, route: HostRoute) -> None:
    before = list(machine.routes)
    assert not network.has_route(route)
    network.add_route(route)
    (row,) = ours(machine)
    assert row.InterfaceLuid.Value == luid_of(HOME)
    assert row.InterfaceIndex == 10
    assert row.NextHop.si_family == row.DestinationPrefix.Prefix.si_family
    assert (row.SitePrefixLength, row.Protocol) == (0, winapi.MIB_IPPROTO_NETMGMT)
    assert network.has_route(route)
    network.delete_route(route)
    assert not network.has_route(route)
    network.delete_route(route)
    assert machine.routes == before


def test_anothers_route_is_seen_and_neither_made_again_nor_deleted(machine: StandIn, network: WindowsNetwork) -> None:
    machine.add_route("203.0.113.5/32", "192.168.1.1", HOME, metric=1)
    assert network.has_route(PIN)
    with pytest.raises(HostError, match="there is one like it already; remove that with 'route delete' first"):
        network.add_route(PIN)
    network.delete_route(PIN)
    assert network.has_route(PIN)


def test_a_route_of_an_interface_that_is_gone_is_gone(machine: StandIn, network: WindowsNetwork) -> None:
    network.add_route(PIN)
    machine.present.remove(HOME)
    assert not network.has_route(PIN)
    network.delete_route(PIN)
    with pytest.raises(HostError):
        network.add_route(PIN)


@pytest.mark.parametrize(
    ("call", "use"),
    [
        ("GetBestRoute2", lambda network: network.best_route(RELAY)),
        ("CreateIpForwardEntry2", lambda network: network.add_route(PIN)),
        ("GetIpForwardEntry2", lambda network: network.delete_route(PIN)),
        ("GetIpForwardEntry2", lambda network: network.has_route(PIN)),
        ("GetUnicastIpAddressTable", lambda network: network.addresses(TAP)),
        ("GetIpForwardTable2", lambda network: network.usual_route(PIN, TAP)),
        ("GetIpInterfaceEntry", lambda network: network.read_setting(TAP, 4, Setting.MTU)),
        ("SetIpInterfaceEntry", lambda network: network.write_setting(TAP, 4, Setting.MTU, 1400)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_call_that_fails_is_one_line(machine: StandIn, network: WindowsNetwork, call: str, use: object) -> None:
    assert callable(use)
    machine.failures[call] = winapi.ERROR_ACCESS_DENIED
    with pytest.raises(HostError, match=r"^cannot [^\n]*: it needs an administrator; "):
        use(network)
    machine.failures[call] = 1450
    with pytest.raises(HostError, match=rf"^cannot [^\n]*: {call} failed with error 1450$"):
        use(network)


# The way that Windows would choose without the pin


def test_without_another_way_the_usual_one_is_the_pins(network: WindowsNetwork) -> None:
    network.add_route(PIN)
    assert network.usual_route(PIN, TAP) == PIN
    assert network.usual_route(PIN6, TAP) == PIN6


def test_a_cable_is_preferred_as_soon_as_it_is_there(machine: StandIn, network: WindowsNetwork) -> None:
    network.add_route(PIN)
    machine.add_route("0.0.0.0/0", "10.0.0.1", CABLE)
    cable = HostRoute(PIN.destination, ip("10.0.0.1"), CABLE)
    assert network.usual_route(PIN, TAP) == cable
    machine.interfaces[luid_of(CABLE), winapi.AF_INET].Connected = 0
    assert network.usual_route(PIN, TAP) == PIN
    del machine.interfaces[luid_of(CABLE), winapi.AF_INET]
    assert network.usual_route(PIN, TAP) == PIN


def test_default_routes_that_an_interface_does_not_use_do_not_count(machine: StandIn, network: WindowsNetwork) -> None:
    network.add_route(PIN)
    machine.add_route("0.0.0.0/0", "10.0.0.1", CABLE)
    machine.interfaces[luid_of(CABLE), winapi.AF_INET].DisableDefaultRoutes = 1
    assert network.usual_route(PIN, TAP) == PIN
    machine.add_route("203.0.113.0/24", "10.0.0.2", CABLE)
    usual = network.usual_route(PIN, TAP)
    assert usual is not None
    assert usual.gateway == ip("10.0.0.2")


def test_the_tunnel_is_no_way_to_its_relay(machine: StandIn, network: WindowsNetwork) -> None:
    network.add_route(PIN)
    machine.add_route("203.0.113.0/24", "10.9.0.1", TAP, metric=1)
    assert network.usual_route(PIN, TAP) == PIN
    machine.routes.clear()
    assert network.usual_route(PIN, TAP) is None


def test_of_equal_ways_the_one_that_is_pinned_is_kept(machine: StandIn, network: WindowsNetwork) -> None:
    machine.routes.clear()
    machine.add_route("0.0.0.0/0", "192.168.1.2", HOME)
    machine.add_route("0.0.0.0/0", "192.168.1.1", HOME)
    assert network.usual_route(PIN, TAP) == PIN


def test_a_longer_prefix_beats_a_better_metric(machine: StandIn, network: WindowsNetwork) -> None:
    machine.add_route("203.0.113.0/24", "10.0.0.2", CABLE, metric=5000)
    usual = network.usual_route(PIN, TAP)
    assert usual is not None
    assert (usual.gateway, usual.interface) == (ip("10.0.0.2"), CABLE)


# Settings


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("setting", "before", "value"),
    [(Setting.MTU, 1500, 1400), (Setting.METRIC, 0, 1), (Setting.DEFAULT_ROUTES, 1, 0)],
)
def test_a_setting_is_read_and_written_alone(
    machine: StandIn, network: WindowsNetwork, version: int, setting: Setting, before: int, value: int
) -> None:
    found = {key: bytes(row) for key, row in machine.interfaces.items()}
    others = [other for other in Setting if other is not setting]
    rest = [network.read_setting(TAP, version, other) for other in others]
    assert network.read_setting(TAP, version, setting) == before
    network.write_setting(TAP, version, setting, value)
    assert network.read_setting(TAP, version, setting) == value
    assert [network.read_setting(TAP, version, other) for other in others] == rest
    network.write_setting(TAP, version, setting, before)
    changed = luid_of(TAP), winapi.AF_INET if version == 4 else winapi.AF_INET6
    assert network.read_setting(TAP, version, setting) == before
    assert {key: bytes(row) for key, row in machine.interfaces.items() if key != changed} == {
        key: row for key, row in found.items() if key != changed
    }


def test_an_interface_that_is_gone_has_no_settings(network: WindowsNetwork) -> None:
    assert network.read_setting(GONE, 4, Setting.MTU) is None
    assert network.read_setting("softlan0", 4, Setting.MTU) is None
    with pytest.raises(HostError, match="there is no interface"):
        network.write_setting(GONE, 4, Setting.MTU, 1400)


def test_an_adapter_is_installed_as_long_as_the_registry_has_its_connection(machine: StandIn) -> None:
    network = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
    keys = {rf"SYSTEM\CurrentControlSet\Control\Network\{network}\{TAP}\Connection"}
    windows = WindowsNetwork(winapi.IpHelper(machine.load), has_key=keys.__contains__)
    assert windows.is_installed(TAP)
    assert not windows.is_installed(GONE)


def test_a_registry_that_cannot_be_read_is_an_error_in_words(machine: StandIn) -> None:
    def refuse(path: str) -> bool:
        raise PermissionError(13, "Access is denied")

    with pytest.raises(HostError, match=r"^cannot look for \{.*\} in the registry: Access is denied$"):
        WindowsNetwork(winapi.IpHelper(machine.load), has_key=refuse).is_installed(TAP)


def test_a_family_that_an_interface_lacks_is_an_error_in_words(machine: StandIn, network: WindowsNetwork) -> None:
    del machine.interfaces[luid_of(TAP), winapi.AF_INET6]
    with pytest.raises(HostError, match=r"^Ethernet 7 has no IPv6 now$"):
        network.read_setting(TAP, 6, Setting.MTU)
    with pytest.raises(HostError, match=r"^Ethernet 7 has no IPv6 now$"):
        network.write_setting(TAP, 6, Setting.MTU, 1400)


def test_settings_that_come_late_are_waited_for(machine: StandIn, network: WindowsNetwork, clock: Clock) -> None:
    late = machine.interfaces.pop((luid_of(TAP), winapi.AF_INET))
    clock.then = lambda: machine.interfaces.update({(luid_of(TAP), winapi.AF_INET): late})
    network.await_interface(TAP, 4)
    assert clock.pauses == 10
    network.await_interface(TAP, 4)
    assert clock.pauses == 10


def test_settings_that_never_come_are_waited_for_no_longer_than_that(
    machine: StandIn, network: WindowsNetwork, clock: Clock
) -> None:
    del machine.interfaces[luid_of(TAP), winapi.AF_INET]
    with pytest.raises(HostError, match=r"^Ethernet 7 has no IPv4 now$"):
        network.await_interface(TAP, 4)
    assert PATIENCE <= clock.now - 100.0 < PATIENCE + 0.1


# Addresses


def test_addresses_are_those_of_the_interface_that_can_be_used(machine: StandIn, network: WindowsNetwork) -> None:
    machine.add_address("192.168.1.7/24", HOME)
    assert network.addresses(TAP) == []
    machine.add_address("10.9.0.7/24", TAP)
    machine.add_address("fe80::7/64", TAP, winapi.IpDadStateDeprecated)
    machine.add_address("10.9.0.8/24", TAP, 1)  # IpDadStateTentative
    assert network.addresses(TAP) == [ipaddress.ip_interface("10.9.0.7/24"), ipaddress.ip_interface("fe80::7/64")]
    assert network.addresses(GONE) == []
    assert machine._kept == {}, "every table was given back"
