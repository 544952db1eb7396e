"""A stand-in for iphlpapi.dll in Python, for where there is no Windows: it reads and writes the real structures.

Its errors are those of learn.microsoft.com; the one in C, which Windows' own Python runs against, knows more of them.
"""

import ctypes
import ipaddress
import uuid
from types import SimpleNamespace
from typing import Any

from softlan.host import winapi
from softlan.host.base import IPAddress

HOME = "{11111111-0000-4000-8000-00000000000A}"
CABLE = "{11111111-0000-4000-8000-00000000000B}"
TAP = "{11111111-0000-4000-8000-00000000000C}"
NAMES = {HOME: "Wi-Fi", CABLE: "Ethernet", TAP: "Ethernet 7"}


def luid_of(guid: str) -> int:
    return (6 << 48) | (int(guid[-2], 16) << 24)


def pack(structure: Any) -> bytes:
    return bytes(structure)


class StandIn:
    """A machine with Wi-Fi, a cable and a TAP. `calls` are the names of those that were made."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: dict[str, int] = {}
        self.present = [HOME, CABLE, TAP]
        self.interfaces: dict[tuple[int, int], winapi.MIB_IPINTERFACE_ROW] = {}
        self.routes: list[winapi.MIB_IPFORWARD_ROW2] = []
        self.unicast: list[winapi.MIB_UNICASTIPADDRESS_ROW] = []
        self.sources: dict[int, IPAddress] = {}
        self._kept: dict[int, Any] = {}
        for guid, metric in ((HOME, 50), (CABLE, 25), (TAP, 35)):
            for family in (winapi.AF_INET, winapi.AF_INET6):
                row = winapi.MIB_IPINTERFACE_ROW(Family=family, SitePrefixLength=64, Metric=metric, NlMtu=1500)
                row.InterfaceLuid.Value, row.UseAutomaticMetric, row.Connected = luid_of(guid), 1, 1
                self.interfaces[luid_of(guid), family] = row

    def load(self, name: str) -> Any:
        assert name == "iphlpapi.dll"
        return SimpleNamespace(**{call: self._function(call) for call in winapi._SIGNATURES})

    def add_route(self, destination: str, next_hop: str | None, guid: str, metric: int = 256) -> None:
        network = ipaddress.ip_network(destination)
        row = winapi.MIB_IPFORWARD_ROW2(Metric=metric)
        row.InterfaceLuid.Value = luid_of(guid)
        row.DestinationPrefix.Prefix = winapi.socket_address(network.network_address)
        row.DestinationPrefix.PrefixLength = network.prefixlen
        row.NextHop = winapi.socket_address(
            ipaddress.ip_address(next_hop) if next_hop else type(network.network_address)(0)
        )
        self.routes.append(row)

    def add_address(self, address: str, guid: str, state: int = winapi.IpDadStatePreferred) -> None:
        interface = ipaddress.ip_interface(address)
        row = winapi.MIB_UNICASTIPADDRESS_ROW(OnLinkPrefixLength=interface.network.prefixlen, DadState=state)
        row.Address = winapi.socket_address(interface.ip)
        row.InterfaceLuid.Value = luid_of(guid)
        self.unicast.append(row)

    def _function(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.failures:
                return self.failures[name]
            values = [getattr(argument, "_obj", argument) for argument in arguments]
            return int(getattr(self, f"_{name}")(*values) or 0)

        return call

    def _ConvertInterfaceGuidToLuid(self, guid: Any, luid: Any) -> int:
        text = "{" + str(uuid.UUID(bytes_le=pack(guid))).upper() + "}"
        luid.Value = luid_of(text)
        return 0 if text in self.present else winapi.ERROR_INVALID_PARAMETER

    def _ConvertInterfaceLuidToGuid(self, luid: Any, guid: Any) -> None:
        (text,) = [text for text in NAMES if luid_of(text) == luid.Value]
        ctypes.memmove(ctypes.addressof(guid), uuid.UUID(text).bytes_le, 16)

    def _ConvertInterfaceLuidToIndex(self, luid: Any, index: Any) -> None:
        index.value = luid.Value >> 24 & 0xFFFF

    def _ConvertInterfaceLuidToAlias(self, luid: Any, alias: Any, size: int) -> None:
        assert size == len(alias)
        alias.value = next(name for text, name in NAMES.items() if luid_of(text) == luid.Value)

    def _InitializeIpInterfaceEntry(self, row: Any) -> None:
        ctypes.memset(ctypes.addressof(row), 0xFF, ctypes.sizeof(row))

    def _GetIpInterfaceEntry(self, row: Any) -> int:
        found = self.interfaces.get((row.InterfaceLuid.Value, row.Family))
        if found is None:
            return winapi.ERROR_NOT_FOUND
        ctypes.memmove(ctypes.addressof(row), pack(found), ctypes.sizeof(row))
        return 0

    def _SetIpInterfaceEntry(self, row: Any) -> int:
        if row.SitePrefixLength > (0 if row.Family == winapi.AF_INET else 128):
            return winapi.ERROR_INVALID_PARAMETER
        key = row.InterfaceLuid.Value, row.Family
        if key not in self.interfaces:
            return winapi.ERROR_NOT_FOUND
        self.interfaces[key] = winapi.MIB_IPINTERFACE_ROW.from_buffer_copy(row)
        return 0

    def _InitializeIpForwardEntry(self, row: Any) -> None:
        ctypes.memset(ctypes.addressof(row), 0xFF, ctypes.sizeof(row))

    def _find(self, row: Any) -> winapi.MIB_IPFORWARD_ROW2 | None:
        def key(route: Any) -> tuple[object, ...]:
            prefix = route.DestinationPrefix
            hop = winapi.ip_address(route.NextHop)
            return route.InterfaceLuid.Value, winapi.ip_address(prefix.Prefix), prefix.PrefixLength, hop

        return next((route for route in self.routes if key(route) == key(row)), None)

    def _GetIpForwardEntry2(self, row: Any) -> int:
        found = self._find(row)
        if found is None:
            return winapi.ERROR_NOT_FOUND
        ctypes.memmove(ctypes.addressof(row), pack(found), ctypes.sizeof(row))
        return 0

    def _CreateIpForwardEntry2(self, row: Any) -> int:
        if self._find(row) is not None:
            return winapi.ERROR_OBJECT_ALREADY_EXISTS
        family = row.DestinationPrefix.Prefix.si_family
        if row.NextHop.si_family != family or row.Metric > 9999 or row.Protocol < 1:
            return winapi.ERROR_INVALID_PARAMETER
        if row.SitePrefixLength > row.DestinationPrefix.PrefixLength or row.InterfaceIndex > 0xFFFF:
            return winapi.ERROR_INVALID_PARAMETER
        self.routes.append(winapi.MIB_IPFORWARD_ROW2.from_buffer_copy(row))
        return 0

    def _DeleteIpForwardEntry2(self, row: Any) -> int:
        found = self._find(row)
        if found is None:
            return winapi.ERROR_NOT_FOUND
        self.routes = [route for route in self.routes if route is not found]
        return 0

    def _GetBestRoute2(
        self, luid: Any, index: int, source: Any, destination: Any, options: int, row: Any, best_source: Any
    ) -> int:
        assert (luid, index, source, options) == (None, 0, None, 0)
        wanted = winapi.ip_address(destination)
        best, best_rank = None, (0, 0)
        for route in self.routes:
            prefix = route.DestinationPrefix
            network = ipaddress.ip_network((winapi.ip_address(prefix.Prefix).packed, prefix.PrefixLength))
            if wanted not in network:
                continue
            metric = self.interfaces[route.InterfaceLuid.Value, prefix.Prefix.si_family].Metric
            rank = (-network.prefixlen, route.Metric + metric)
            if best is None or rank < best_rank:
                best, best_rank = route, rank
        if best is None:
            return winapi.ERROR_NETWORK_UNREACHABLE
        ctypes.memmove(ctypes.addressof(row), pack(best), ctypes.sizeof(row))
        chosen = self.sources.get(best.InterfaceLuid.Value, type(wanted)(0))
        ctypes.memmove(ctypes.addressof(best_source), pack(winapi.socket_address(chosen)), ctypes.sizeof(best_source))
        return 0

    def _GetIpForwardTable2(self, family: int, table: Any) -> None:
        rows = [route for route in self.routes if route.DestinationPrefix.Prefix.si_family == family]
        self._give(table, winapi.MIB_IPFORWARD_ROW2, rows)

    def _GetUnicastIpAddressTable(self, family: int, table: Any) -> None:
        assert family == winapi.AF_UNSPEC
        self._give(table, winapi.MIB_UNICASTIPADDRESS_ROW, self.unicast)

    def _give(self, table: Any, kind: Any, rows: list[Any]) -> None:
        data = len(rows).to_bytes(8, "little") + b"".join(map(pack, rows))
        buffer = ctypes.create_string_buffer(data, len(data))
        table.value = ctypes.addressof(buffer)
        self._kept[table.value] = buffer

    def _FreeMibTable(self, table: Any) -> None:
        buffer = self._kept.pop(table.value)
        ctypes.memset(buffer, 0xEE, len(buffer))
