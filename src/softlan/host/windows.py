"""The routes, addresses and interface settings of a Windows host, over the IP Helper.

Interfaces are named by their GUID: it stays when people rename a connection, and when the machine restarts.
"""

import importlib
import ipaddress
import time
from collections.abc import Callable
from typing import Any

from softlan.errors import HostError
from softlan.host.base import HostRoute, IPAddress, IPInterface, IPNetwork, Setting
from softlan.host.winapi import (
    AF_INET,
    AF_INET6,
    ERROR_ACCESS_DENIED,
    ERROR_FILE_NOT_FOUND,
    ERROR_HOST_UNREACHABLE,
    ERROR_INVALID_PARAMETER,
    ERROR_NETWORK_UNREACHABLE,
    ERROR_NOT_FOUND,
    ERROR_OBJECT_ALREADY_EXISTS,
    MIB_IPFORWARD_ROW2,
    MIB_IPINTERFACE_ROW,
    MIB_IPPROTO_NETMGMT,
    ApiError,
    IpDadStateDeprecated,
    IpDadStatePreferred,
    IpHelper,
    ip_address,
)

PATIENCE = 3.0
"""Seconds for an interface's settings to appear after its cable was connected."""

_PAUSE = 0.05
_GONE = (ERROR_FILE_NOT_FOUND, ERROR_NOT_FOUND)
_NO_INTERFACE = (ERROR_FILE_NOT_FOUND, ERROR_INVALID_PARAMETER, ERROR_NOT_FOUND)
"""What the conversion of a GUID that no interface has may answer."""
_CONNECTION = r"SYSTEM\CurrentControlSet\Control\Network\{4D36E972-E325-11CE-BFC1-08002BE10318}\%s\Connection"
"""Below HKEY_LOCAL_MACHINE, by GUID: what Windows knows of a network adapter until it is removed."""
_QUERY_64 = 0x101  # KEY_QUERY_VALUE | KEY_WOW64_64KEY (winnt.h)
_UNREACHABLE = (ERROR_NOT_FOUND, ERROR_NETWORK_UNREACHABLE, ERROR_HOST_UNREACHABLE)


class WindowsNetwork:
    """A `HostNetwork` and `HostInterfaces`. Changes need an administrator.

    Windows puts no mark on routes that would say whose they are. Ours have the metric 0, which neither ``route add``
    nor the settings' windows give by themselves, and only such are deleted. They go with the next restart.
    """

    def __init__(
        self,
        api: IpHelper | None = None,
        *,
        has_key: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """What is not given is the system's own. `has_key`: whether HKEY_LOCAL_MACHINE has a key; or OSError."""
        self._api = api or IpHelper()
        self._has_key = has_key or _has_key
        self._clock = clock
        self._pause = pause

    # HostNetwork

    def best_route(self, destination: IPAddress) -> HostRoute | None:
        """What Windows would do with a packet to `destination` now (GetBestRoute2)."""
        plain = ipaddress.ip_address(destination.packed)
        try:
            row, source = self._api.best_route(plain)
            if source == plain:
                return None
            return self._route(row, ipaddress.ip_network(plain.packed), source)
        except ApiError as error:
            if error.code in _UNREACHABLE:
                return None
            raise _error("find route", f"cannot find the route to {plain}", error) from error

    def add_route(self, route: HostRoute) -> None:
        """Add `route`, until the next restart at the latest."""
        try:
            self._api.create_route(self._row(route))
        except ApiError as error:
            raise _error("add route", f"cannot add the route {route}", error) from error

    def delete_route(self, route: HostRoute) -> None:
        """Delete `route` if it looks like one of ours."""
        try:
            row = self._api.find_route(self._row(route))
            if row.Metric == 0 and row.Protocol == MIB_IPPROTO_NETMGMT:
                self._api.delete_route(row)
        except ApiError as error:
            if error.code not in _GONE:
                raise _error("delete route", f"cannot delete the route {route}", error) from error

    def has_route(self, route: HostRoute) -> bool:
        """Whether there is a route like `route`, whoever added it."""
        try:
            self._api.find_route(self._row(route))
        except ApiError as error:
            if error.code in _GONE:
                return False
            raise _error("find route", f"cannot look for the route {route}", error) from error
        return True

    def addresses(self, interface: str) -> list[IPInterface]:
        """The interface's addresses, but for those whose duplicates are still looked for or were found."""
        try:
            luid = self._luid(interface)
            rows = [] if luid is None else self._api.addresses()
        except ApiError as error:
            raise _error("list addresses", "cannot list the addresses", error) from error
        return [
            ipaddress.ip_interface((ip_address(row.Address).packed, row.OnLinkPrefixLength))
            for row in rows
            if row.InterfaceLuid.Value == luid and row.DadState in (IpDadStatePreferred, IpDadStateDeprecated)
        ]

    # HostInterfaces

    def await_interface(self, interface: str, version: int) -> None:
        """Wait up to `PATIENCE` for the settings; they come a moment after the interface."""
        deadline = self._clock() + PATIENCE
        while True:
            try:
                self._settings(interface, version)
                return
            except HostError:
                if self._clock() >= deadline:
                    raise
            self._pause(_PAUSE)

    def is_installed(self, interface: str) -> bool:
        """Whether the adapter has its connection in the registry: disabled ones have, removed ones have not."""
        try:
            return self._has_key(_CONNECTION % interface)
        except OSError as error:
            reason = error.strerror or str(error)
            raise HostError("find interface", f"cannot look for {interface} in the registry: {reason}") from error

    def read_setting(self, interface: str, version: int, setting: Setting) -> int | None:
        """What is set now."""
        row = self._settings(interface, version)
        if row is None:
            return None
        if setting is Setting.MTU:
            return int(row.NlMtu)
        if setting is Setting.METRIC:
            return 0 if row.UseAutomaticMetric else int(row.Metric)
        return 0 if row.DisableDefaultRoutes else 1

    def write_setting(self, interface: str, version: int, setting: Setting, value: int) -> None:
        """Set it, and leave the others as they are."""
        row = self._settings(interface, version)
        if row is None:
            raise HostError("write setting", f"there is no interface {interface} any more")
        if setting is Setting.MTU:
            row.NlMtu = value
        elif setting is Setting.METRIC:
            row.UseAutomaticMetric = value == 0
            if value:
                row.Metric = value
        else:
            row.DisableDefaultRoutes = value == 0
        try:
            self._api.set_interface(row)
        except ApiError as error:
            attempt = f"cannot set the IPv{version} {setting.value} of {self._name(interface)} to {value}"
            raise _error("write setting", attempt, error) from error

    def usual_route(self, pin: HostRoute, tunnel_interface: str) -> HostRoute | None:
        """As Windows chooses: the longest prefix, then the smallest sum of the route's metric and its interface's."""
        try:
            return self._usual_route(pin, self._luid(pin.interface), self._luid(tunnel_interface))
        except ApiError as error:
            raise _error("list routes", "cannot list the routes", error) from error

    # Inside

    def _usual_route(self, pin: HostRoute, own: int | None, tunnel: int | None) -> HostRoute | None:
        relay = pin.destination.network_address
        family = _family(relay.version)
        best: tuple[int, int, bool] | None = None
        found: MIB_IPFORWARD_ROW2 | None = None
        for row in self._api.routes(family):
            luid = row.InterfaceLuid.Value
            prefix = _prefix(row)
            if luid == tunnel or relay not in prefix:
                continue
            if luid == own and prefix == pin.destination:
                continue  # the pin itself
            metric = self._metric(luid, family, is_default=not prefix.prefixlen)
            if metric is None:
                continue
            is_ours = (luid, ip_address(row.NextHop)) == (own, pin.gateway or type(relay)(0))
            rank = (-prefix.prefixlen, row.Metric + metric, not is_ours)  # of equals, the one that we have
            if best is None or rank < best:
                best, found = rank, row
        return None if found is None else self._route(found, pin.destination, None)

    def _metric(self, luid: int, family: int, *, is_default: bool) -> int | None:
        """The interface's part of a route's metric; None where its routes are not used now, or default ones are not."""
        try:
            row = self._api.interface(luid, family)
        except ApiError as error:
            if error.code in _GONE:
                return None
            raise
        is_used = row.Connected and not (is_default and row.DisableDefaultRoutes)
        return int(row.Metric) if is_used else None

    def _settings(self, interface: str, version: int) -> MIB_IPINTERFACE_ROW | None:
        """The row of an interface; None when there is no such interface any more."""
        try:
            luid = self._luid(interface)
            return None if luid is None else self._api.interface(luid, _family(version))
        except ApiError as error:
            if error.code == ERROR_NOT_FOUND:
                raise HostError("read setting", f"{self._name(interface)} has no IPv{version} now") from error
            attempt = f"cannot read the IPv{version} settings of {self._name(interface)}"
            raise _error("read setting", attempt, error) from error

    def _luid(self, interface: str) -> int | None:
        try:
            return self._api.luid(interface)
        except ValueError:
            return None
        except ApiError as error:
            if error.code in _NO_INTERFACE:
                return None
            raise

    def _name(self, interface: str) -> str:
        """The interface in words."""
        try:
            return self._api.alias(self._api.luid(interface)) or interface
        except (ApiError, ValueError):
            return interface

    def _row(self, route: HostRoute) -> MIB_IPFORWARD_ROW2:
        """`route` as the API wants it; error 1168 when its interface is gone."""
        luid = self._luid(route.interface)
        if luid is None:
            raise ApiError("ConvertInterfaceGuidToLuid", ERROR_NOT_FOUND)
        return self._api.new_route(luid, route.destination, route.gateway)

    def _route(self, row: MIB_IPFORWARD_ROW2, destination: IPNetwork, source: IPAddress | None) -> HostRoute:
        luid = row.InterfaceLuid.Value
        next_hop = ip_address(row.NextHop)
        guid = self._api.guid(luid)
        return HostRoute(
            destination=destination,
            gateway=None if next_hop.is_unspecified else next_hop,
            interface=guid,
            source=source,
            label=self._name(guid),
        )


def _has_key(path: str) -> bool:
    winreg: Any = importlib.import_module("winreg")
    try:
        winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path, 0, _QUERY_64).Close()
    except FileNotFoundError:
        return False
    return True


def _family(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6


def _prefix(row: MIB_IPFORWARD_ROW2) -> IPNetwork:
    prefix = row.DestinationPrefix
    return ipaddress.ip_network((ip_address(prefix.Prefix).packed, prefix.PrefixLength), strict=False)


def _error(stage: str, attempt: str, error: ApiError) -> HostError:
    if error.code == ERROR_ACCESS_DENIED:
        return HostError(stage, f"{attempt}: it needs an administrator; start softlan with 'Run as administrator'")
    if error.code == ERROR_OBJECT_ALREADY_EXISTS:
        return HostError(stage, f"{attempt}: there is one like it already; remove that with 'route delete' first")
    return HostError(stage, f"{attempt}: {error}")
