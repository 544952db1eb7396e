import ipaddress
import json

import pytest

from softlan.errors import HostError
from softlan.host.base import HostRoute, Setting
from softlan.host.plan import AddRoute, SetInterface, decode_change, encode_change, pin_relay

ip = ipaddress.ip_address
net = ipaddress.ip_network


def route(
    destination: str, gateway: str | None = None, interface: str = "eth0", source: str | None = None
) -> HostRoute:
    return HostRoute(net(destination), gateway and ip(gateway), interface, source and ip(source))  # type: ignore[arg-type]


def test_an_ipv4_relay_is_pinned_along_its_route_with_its_source() -> None:
    best = route("203.0.113.9/32", "192.168.1.1", source="192.168.1.7")
    assert pin_relay(ip("203.0.113.9"), best, "softlan0") == best


def test_an_ipv6_relay_is_pinned_without_the_source() -> None:
    best = route("2001:db8::9/128", "fe80::1", source="2001:db8:1::7")
    assert pin_relay(ip("2001:db8::9"), best, "softlan0") == route("2001:db8::9/128", "fe80::1")


def test_whatever_the_prefix_of_the_route_the_pin_is_for_the_relay_alone() -> None:
    assert pin_relay(ip("203.0.113.9"), route("0.0.0.0/0", "192.168.1.1"), "softlan0") == route(
        "203.0.113.9/32", "192.168.1.1"
    )


def test_a_relay_on_the_link_itself_is_pinned_to_it() -> None:
    assert pin_relay(ip("192.168.1.9"), route("192.168.1.0/24"), "softlan0") == route("192.168.1.9/32")


@pytest.mark.parametrize(
    ("relay", "best"),
    [
        ("203.0.113.9", None),
        ("127.0.0.1", route("127.0.0.0/8", interface="lo")),
        ("::1", route("::1/128", interface="lo")),
        ("192.168.1.7", route("192.168.1.7/32", interface="lo", source="192.168.1.7")),
        ("fe80::9", route("fe80::/64")),
    ],
    ids=["no route", "loopback", "ipv6 loopback", "own address", "ipv6 link-local"],
)
def test_there_is_nothing_to_pin(relay: str, best: HostRoute | None) -> None:
    assert pin_relay(ip(relay), best, "softlan0") is None


def test_a_route_through_the_tunnel_itself_is_refused() -> None:
    with pytest.raises(HostError) as caught:
        pin_relay(ip("203.0.113.9"), route("0.0.0.0/0", "192.168.7.1", "softlan0"), "softlan0")
    assert caught.value.stage == "pin relay"
    assert str(caught.value).startswith("the route to the relay 203.0.113.9 goes through softlan0 itself: ")


@pytest.mark.parametrize(
    "change",
    [
        AddRoute(route("203.0.113.9/32", "192.168.1.1", "eth0", "192.168.1.7")),
        AddRoute(route("203.0.113.9/32", "fe80::1")),
        AddRoute(route("2001:db8::9/128")),
    ],
    ids=str,
)
def test_a_change_survives_being_written_down(change: AddRoute) -> None:
    assert decode_change(json.loads(json.dumps(encode_change(change)))) == change


def test_what_is_written_down_is_for_people_too() -> None:
    assert encode_change(AddRoute(route("203.0.113.9/32", "192.168.1.1"))) == {
        "kind": "route",
        "destination": "203.0.113.9/32",
        "gateway": "192.168.1.1",
        "interface": "eth0",
        "source": None,
        "label": "",
    }


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "metric"},
        {"kind": None},
        {"destination": "everywhere"},
        {"destination": 7},
        {"gateway": 7},
        {"gateway": "there"},
        {"interface": None},
        {"source": ["192.168.1.7"]},
    ],
    ids=str,
)
def test_anything_else_is_a_value_error(damage: dict[str, object]) -> None:
    encoded: dict[str, object] = dict(encode_change(AddRoute(route("203.0.113.9/32", "192.168.1.1"))))
    with pytest.raises(ValueError):
        decode_change(encoded | damage)


@pytest.mark.parametrize("encoded", [None, 7, "route", [], {}])
def test_no_object_is_a_value_error(encoded: object) -> None:
    with pytest.raises(ValueError):
        decode_change(encoded)


SETTING = SetInterface(
    "{11111111-0000-4000-8000-00000000000C}", 4, Setting.DEFAULT_ROUTES, 0, previous=1, label="Ethernet 7"
)


def test_a_setting_survives_being_written_down_with_what_was_before() -> None:
    written = json.loads(json.dumps(encode_change(SETTING)))
    assert written == {
        "kind": "interface",
        "interface": "{11111111-0000-4000-8000-00000000000C}",
        "version": 4,
        "setting": "default routes",
        "value": 0,
        "previous": 1,
        "label": "Ethernet 7",
    }
    decoded = decode_change(written)
    assert isinstance(decoded, SetInterface)
    assert (decoded, decoded.previous, decoded.label) == (SETTING, 1, "Ethernet 7")
    assert str(decoded) == "IPv4 setting default routes = 0 of Ethernet 7"


@pytest.mark.parametrize(
    "damage",
    [
        {"interface": 7},
        {"version": 5},
        {"version": "4"},
        {"setting": "colour"},
        {"setting": None},
        {"value": None},
        {"value": -1},
        {"value": 1 << 32},
        {"value": True},
        {"previous": None},
        {"previous": "1"},
        {"label": 7},
    ],
    ids=str,
)
def test_any_other_setting_is_a_value_error(damage: dict[str, object]) -> None:
    encoded: dict[str, object] = dict(encode_change(SETTING))
    with pytest.raises(ValueError):
        decode_change(encoded | damage)


def test_what_was_before_does_not_make_another_change() -> None:
    assert SetInterface(SETTING.interface, 4, Setting.DEFAULT_ROUTES, 0) == SETTING
    assert SetInterface(SETTING.interface, 6, Setting.DEFAULT_ROUTES, 0) != SETTING
