"""The IP Helper by ctypes, with the layouts of C behind it: what Windows answers, and what it refuses."""

import ctypes
import ipaddress

import pytest
from tests.windows.inside.bench import CABLE, CABLE_GUID, GUID, TAP_INDEX, WIFI, WIFI_GUID, Host, address

from softlan.host.winapi import (
    AF_INET,
    AF_INET6,
    ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_PARAMETER,
    ERROR_NETWORK_UNREACHABLE,
    ERROR_NOT_FOUND,
    ERROR_OBJECT_ALREADY_EXISTS,
    MIB_IPFORWARD_ROW2,
    MIB_IPINTERFACE_ROW,
    ApiError,
    IpHelper,
    ip_address,
)

RELAY4, RELAY6 = ipaddress.ip_network("203.0.113.9/32"), ipaddress.ip_network("2001:db8:ffff::9/128")
GATEWAY4, GATEWAY6 = address("192.0.2.1"), address("2001:db8:2::1")
NOBODY = 0x0006_0000_6300_0000  # the LUID of an interface that is not there


@pytest.fixture
def api(host: Host) -> IpHelper:
    return IpHelper()


def luid(api: IpHelper, guid: str = GUID) -> int:
    return api.luid(guid)


def code_of(call: object, *arguments: object) -> int:
    """The error that a call fails with."""
    assert callable(call)
    with pytest.raises(ApiError) as caught:
        call(*arguments)
    return caught.value.code


def pin(api: IpHelper) -> MIB_IPFORWARD_ROW2:
    return api.new_route(luid(api, CABLE_GUID), RELAY4, GATEWAY4)


# Interfaces


def test_an_interface_by_each_of_its_names(api: IpHelper) -> None:
    for guid, index, alias in (
        (GUID, TAP_INDEX, "Ethernet 7"),
        (CABLE_GUID, CABLE, "Ethernet"),
        (WIFI_GUID, WIFI, "Wi-Fi"),
    ):
        number = api.luid(guid.lower())
        assert (api.guid(number), api.index(number), api.alias(number)) == (guid, index, alias)
    assert code_of(api.luid, "{00000000-0000-0000-0000-000000000001}") == ERROR_INVALID_PARAMETER
    assert code_of(api.guid, NOBODY) == ERROR_INVALID_PARAMETER


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_settings_are_read(api: IpHelper, family: int) -> None:
    row = api.interface(luid(api), family)
    assert (row.Family, row.InterfaceIndex, row.InterfaceLuid.Value) == (family, TAP_INDEX, luid(api))
    assert (row.NlMtu, row.Metric, row.UseAutomaticMetric, row.DisableDefaultRoutes) == (1500, 35, 1, 0)
    assert (row.Connected, row.SitePrefixLength) == (1, 64)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_settings_are_written_for_one_family_of_one_interface(api: IpHelper, family: int) -> None:
    everything = [(guid, other) for guid in (GUID, CABLE_GUID, WIFI_GUID) for other in (AF_INET, AF_INET6)]
    before = {one: bytes(api.interface(luid(api, one[0]), one[1])) for one in everything}
    row = api.interface(luid(api), family)
    row.NlMtu, row.UseAutomaticMetric, row.Metric, row.DisableDefaultRoutes = 1418, 0, 1, 1
    api.set_interface(row)
    after = {one: bytes(api.interface(luid(api, one[0]), one[1])) for one in everything}
    assert [one for one in everything if before[one] != after[one]] == [(GUID, family)]
    row = MIB_IPINTERFACE_ROW.from_buffer_copy(after[GUID, family])
    assert (row.NlMtu, row.Metric, row.UseAutomaticMetric, row.DisableDefaultRoutes) == (1418, 1, 0, 1)


def test_a_row_as_it_was_read_cannot_be_written(api: IpHelper) -> None:
    """Windows reports a site prefix of 64 bits for IPv4, and takes none: error 87. `set_interface` sees to it."""
    windows = ctypes.WinDLL("iphlpapi.dll")
    row = api.interface(luid(api), AF_INET)
    assert windows.SetIpInterfaceEntry(ctypes.byref(row)) == ERROR_INVALID_PARAMETER
    api.set_interface(row)


@pytest.mark.parametrize(("family", "mtu"), [(AF_INET, 575), (AF_INET6, 1279), (AF_INET, 1501)])
def test_an_mtu_that_windows_does_not_take_is_error_87(api: IpHelper, family: int, mtu: int) -> None:
    row = api.interface(luid(api), family)
    row.NlMtu = mtu
    assert code_of(api.set_interface, row) == ERROR_INVALID_PARAMETER
    assert api.interface(luid(api), family).NlMtu == 1500


def test_a_family_that_an_interface_does_not_have_is_error_1168(api: IpHelper, host: Host) -> None:
    row = api.interface(luid(api), AF_INET6)
    host.family(TAP_INDEX, AF_INET6, False)
    assert code_of(api.interface, luid(api), AF_INET6) == ERROR_NOT_FOUND
    assert code_of(api.set_interface, row) == ERROR_NOT_FOUND
    host.family(TAP_INDEX, AF_INET6, True)
    api.set_interface(row)


def test_an_interface_that_is_not_there_is_error_2_and_none_at_all_error_87(api: IpHelper) -> None:
    assert code_of(api.interface, NOBODY, AF_INET) == ERROR_FILE_NOT_FOUND
    assert code_of(api.interface, 0, AF_INET) == ERROR_INVALID_PARAMETER
    assert code_of(api.interface, luid(api), 3) == ERROR_INVALID_PARAMETER


# Routes


def test_the_best_route_is_the_cables(api: IpHelper) -> None:
    row, source = api.best_route(RELAY4.network_address)
    assert (row.InterfaceIndex, ip_address(row.NextHop), source) == (CABLE, GATEWAY4, address("192.0.2.10"))
    row, source = api.best_route(RELAY6.network_address)
    assert (row.InterfaceIndex, ip_address(row.NextHop), source) == (CABLE, GATEWAY6, address("2001:db8:2::10"))


def test_a_neighbour_is_on_the_link(api: IpHelper) -> None:
    row, source = api.best_route(address("192.0.3.77"))
    assert (row.InterfaceIndex, row.DestinationPrefix.PrefixLength) == (WIFI, 24)
    assert (ip_address(row.NextHop), source) == (address("0.0.0.0"), address("192.0.3.10"))


def test_without_a_way_the_network_is_unreachable(api: IpHelper, host: Host) -> None:
    for index in (CABLE, WIFI):
        host.plug(index, False)
    assert code_of(api.best_route, RELAY4.network_address) == ERROR_NETWORK_UNREACHABLE


@pytest.mark.parametrize(
    ("relay", "gateway"), [(RELAY4, GATEWAY4), (RELAY4, None), (RELAY6, GATEWAY6), (RELAY6, None)], ids=str
)
def test_a_route_comes_and_goes(
    api: IpHelper, relay: ipaddress.IPv4Network | ipaddress.IPv6Network, gateway: object
) -> None:
    before = [bytes(row) for family in (AF_INET, AF_INET6) for row in api.routes(family)]
    row = api.new_route(luid(api, CABLE_GUID), relay, gateway)  # type: ignore[arg-type]
    assert code_of(api.find_route, row) == ERROR_NOT_FOUND
    api.create_route(row)
    found = api.find_route(row)
    assert (found.InterfaceIndex, found.Metric, found.DestinationPrefix.PrefixLength) == (CABLE, 0, relay.prefixlen)
    best, _ = api.best_route(relay.network_address)
    assert bytes(best) == bytes(found)
    api.delete_route(row)
    assert [bytes(row) for family in (AF_INET, AF_INET6) for row in api.routes(family)] == before


def test_a_route_that_is_there_already_is_error_5010(api: IpHelper) -> None:
    api.create_route(pin(api))
    assert code_of(api.create_route, pin(api)) == ERROR_OBJECT_ALREADY_EXISTS
    api.create_route(api.new_route(luid(api, CABLE_GUID), RELAY4, address("192.0.2.2")))  # another next hop
    api.create_route(api.new_route(luid(api, WIFI_GUID), RELAY4, GATEWAY4))  # another interface


def test_a_route_that_is_not_there_cannot_be_deleted_error_1168(api: IpHelper) -> None:
    api.create_route(pin(api))
    api.delete_route(pin(api))
    assert code_of(api.delete_route, pin(api)) == ERROR_NOT_FOUND


@pytest.mark.parametrize("field", ["SitePrefixLength", "Metric", "Protocol"])
def test_what_initialising_a_route_leaves_is_error_87(api: IpHelper, field: str) -> None:
    raw = MIB_IPFORWARD_ROW2()
    ctypes.WinDLL("iphlpapi.dll").InitializeIpForwardEntry(ctypes.byref(raw))
    row = pin(api)
    setattr(row, field, getattr(raw, field))
    assert code_of(api.create_route, row) == ERROR_INVALID_PARAMETER


def test_a_next_hop_of_another_family_is_error_87(api: IpHelper) -> None:
    assert code_of(api.create_route, api.new_route(luid(api, CABLE_GUID), RELAY4, GATEWAY6)) == ERROR_INVALID_PARAMETER


def test_a_route_over_an_interface_that_is_not_there_is_error_1168(api: IpHelper) -> None:
    row = pin(api)
    row.InterfaceLuid.Value = NOBODY
    assert code_of(api.create_route, row) == ERROR_NOT_FOUND


# Addresses


def test_addresses_are_listed_with_those_that_come_later(api: IpHelper, host: Host) -> None:
    def of(index: int) -> list[str]:
        rows = [row for row in api.addresses() if row.InterfaceIndex == index]
        return [f"{ip_address(row.Address)}/{row.OnLinkPrefixLength}" for row in rows]

    assert of(CABLE) == ["192.0.2.10/24", "2001:db8:2::10/64"]
    assert of(TAP_INDEX) == []
    host.address(TAP_INDEX, ipaddress.ip_interface("10.77.0.53/24"))
    assert of(TAP_INDEX) == ["10.77.0.53/24"]
