import ipaddress

import pytest

from softlan.errors import HostError
from softlan.host.base import HostInterfaces, HostNetwork, HostRoute, Setting
from softlan.host.memory import MemoryNetwork

ip = ipaddress.ip_address


def route(destination: str, gateway: str, interface: str = "eth0") -> HostRoute:
    return HostRoute(ipaddress.ip_network(destination), ip(gateway), interface)


DEFAULT = route("0.0.0.0/0", "192.168.1.1")
OFFICE = route("10.0.0.0/8", "192.168.1.2", "vpn0")
PIN = route("10.1.2.3/32", "192.168.1.1")


def test_the_longest_prefix_wins() -> None:
    network: HostNetwork = MemoryNetwork(DEFAULT, OFFICE)
    assert network.best_route(ip("10.1.2.3")) == route("10.1.2.3/32", "192.168.1.2", "vpn0")
    network.add_route(PIN)
    assert network.best_route(ip("10.1.2.3")) == PIN
    assert network.best_route(ip("8.8.8.8")) == route("8.8.8.8/32", "192.168.1.1")
    assert network.best_route(ip("2001:db8::1")) is None


def test_ours_come_and_go() -> None:
    network = MemoryNetwork(DEFAULT)
    network.add_route(PIN)
    assert network.has_route(PIN)
    with pytest.raises(HostError):
        network.add_route(PIN)
    network.delete_route(PIN)
    network.delete_route(PIN)
    assert not network.has_route(PIN)


def test_others_routes_are_not_deleted() -> None:
    network = MemoryNetwork(DEFAULT)
    network.delete_route(DEFAULT)
    assert network.has_route(DEFAULT)


def test_a_call_fails_when_told_to_before_or_after_it_acts() -> None:
    network = MemoryNetwork(DEFAULT)
    network.fail(1, HostError("add route", "no"))
    network.fail(2, KeyboardInterrupt(), after=True)
    with pytest.raises(HostError):
        network.add_route(PIN)
    assert network.ours == []
    with pytest.raises(KeyboardInterrupt):
        network.add_route(PIN)
    assert network.ours == [PIN]
    assert network.calls == 2


def test_settings_and_addresses_are_as_they_were_set() -> None:
    network = MemoryNetwork(DEFAULT)
    interfaces: HostInterfaces = network
    network.settings["tap", 4, Setting.MTU] = 1500
    network.interface_addresses["tap"] = [ipaddress.ip_interface("10.9.0.7/24")]
    interfaces.await_interface("tap", 4)
    interfaces.write_setting("tap", 4, Setting.MTU, 1400)
    assert interfaces.read_setting("tap", 4, Setting.MTU) == 1400
    assert interfaces.read_setting("gone", 4, Setting.MTU) is None
    with pytest.raises(HostError, match=r"^tap has no IPv6$"):
        interfaces.await_interface("tap", 6)
    with pytest.raises(HostError, match=r"^tap has no IPv6$"):
        interfaces.read_setting("tap", 6, Setting.MTU)
    with pytest.raises(HostError, match=r"^tap has no IPv6$"):
        interfaces.write_setting("tap", 6, Setting.MTU, 1400)
    assert network.addresses("tap") == [ipaddress.ip_interface("10.9.0.7/24")]
    assert network.addresses("gone") == []


def test_an_interface_may_stay_installed_without_settings() -> None:
    network = MemoryNetwork(DEFAULT)
    assert not network.is_installed("tap")
    network.settings["tap", 4, Setting.MTU] = 1500
    assert network.is_installed("tap")
    network.settings.clear()
    assert not network.is_installed("tap")
    network.installed.add("tap")
    assert network.is_installed("tap")


def test_the_usual_route_is_of_others_and_not_through_the_tunnel() -> None:
    network = MemoryNetwork(DEFAULT, route("10.0.0.0/8", "10.9.0.1", "tap"))
    network.add_route(PIN)
    assert network.usual_route(PIN, "tap") == PIN
    network.routes.append(OFFICE)
    usual = network.usual_route(PIN, "tap")
    assert usual is not None
    assert usual.interface == "vpn0"
    network.routes.clear()
    assert network.usual_route(PIN, "tap") is None
