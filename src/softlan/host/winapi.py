"""The IP Helper calls of Windows that softlan needs, by ctypes (learn.microsoft.com, netioapi.h).

Importing works on every system; what calls Windows does so elsewhere in one error that says so. All types have a
fixed width: `ctypes.wintypes.DWORD` is 8 bytes on Linux, where the layouts are tested.
"""

import ctypes
import ipaddress
import sys
import uuid
from collections.abc import Callable
from ctypes import POINTER, byref, c_int32, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p, c_wchar
from typing import Any

from softlan.host.base import IPAddress, IPNetwork
from softlan.host.kernel32 import load_dll

AF_UNSPEC = 0
AF_INET = 2
AF_INET6 = 23
MIB_IPPROTO_NETMGMT = 3
IpDadStateDeprecated = 3
IpDadStatePreferred = 4

NO_ERROR = 0
ERROR_FILE_NOT_FOUND = 2
ERROR_ACCESS_DENIED = 5
ERROR_NOT_SUPPORTED = 50
ERROR_INVALID_PARAMETER = 87
ERROR_NOT_FOUND = 1168
ERROR_NETWORK_UNREACHABLE = 1231
ERROR_HOST_UNREACHABLE = 1232
ERROR_OBJECT_ALREADY_EXISTS = 5010


class GUID(ctypes.Structure):
    """An interface's GUID (guiddef.h); the same bytes as `uuid.UUID.bytes_le`."""

    _fields_ = (("Data1", c_uint32), ("Data2", c_uint16), ("Data3", c_uint16), ("Data4", c_uint8 * 8))


class NET_LUID(ctypes.Structure):
    """An interface's number for as long as it is installed (ifdef.h)."""

    _fields_ = (("Value", c_uint64),)


class SOCKADDR_IN(ctypes.Structure):
    """An IPv4 address; `sin_addr` holds its bytes in network order (ws2def.h)."""

    _fields_ = (("sin_family", c_uint16), ("sin_port", c_uint16), ("sin_addr", c_uint32), ("sin_zero", c_uint8 * 8))


class SOCKADDR_IN6(ctypes.Structure):
    """An IPv6 address (ws2ipdef.h)."""

    _fields_ = (
        ("sin6_family", c_uint16),
        ("sin6_port", c_uint16),
        ("sin6_flowinfo", c_uint32),
        ("sin6_addr", c_uint8 * 16),
        ("sin6_scope_id", c_uint32),
    )


class SOCKADDR_INET(ctypes.Union):
    """An address of either family, as `si_family` says (ws2ipdef.h)."""

    _fields_ = (("Ipv4", SOCKADDR_IN), ("Ipv6", SOCKADDR_IN6), ("si_family", c_uint16))


class IP_ADDRESS_PREFIX(ctypes.Structure):
    """An address and the length of its prefix in bits (netioapi.h)."""

    _fields_ = (("Prefix", SOCKADDR_INET), ("PrefixLength", c_uint8))


class MIB_IPINTERFACE_ROW(ctypes.Structure):
    """What Windows keeps about an interface, for each address family (netioapi.h)."""

    _fields_ = (
        ("Family", c_uint16),
        ("InterfaceLuid", NET_LUID),
        ("InterfaceIndex", c_uint32),
        ("MaxReassemblySize", c_uint32),
        ("InterfaceIdentifier", c_uint64),
        ("MinRouterAdvertisementInterval", c_uint32),
        ("MaxRouterAdvertisementInterval", c_uint32),
        ("AdvertisingEnabled", c_uint8),
        ("ForwardingEnabled", c_uint8),
        ("WeakHostSend", c_uint8),
        ("WeakHostReceive", c_uint8),
        ("UseAutomaticMetric", c_uint8),
        ("UseNeighborUnreachabilityDetection", c_uint8),
        ("ManagedAddressConfigurationSupported", c_uint8),
        ("OtherStatefulConfigurationSupported", c_uint8),
        ("AdvertiseDefaultRoute", c_uint8),
        ("RouterDiscoveryBehavior", c_int32),
        ("DadTransmits", c_uint32),
        ("BaseReachableTime", c_uint32),
        ("RetransmitTime", c_uint32),
        ("PathMtuDiscoveryTimeout", c_uint32),
        ("LinkLocalAddressBehavior", c_int32),
        ("LinkLocalAddressTimeout", c_uint32),
        ("ZoneIndices", c_uint32 * 16),
        ("SitePrefixLength", c_uint32),
        ("Metric", c_uint32),
        ("NlMtu", c_uint32),
        ("Connected", c_uint8),
        ("SupportsWakeUpPatterns", c_uint8),
        ("SupportsNeighborDiscovery", c_uint8),
        ("SupportsRouterDiscovery", c_uint8),
        ("ReachableTime", c_uint32),
        ("TransmitOffload", c_uint8),
        ("ReceiveOffload", c_uint8),
        ("DisableDefaultRoutes", c_uint8),
    )


class MIB_IPFORWARD_ROW2(ctypes.Structure):
    """A route (netioapi.h). Its key is the interface, the prefix and the next hop."""

    _fields_ = (
        ("InterfaceLuid", NET_LUID),
        ("InterfaceIndex", c_uint32),
        ("DestinationPrefix", IP_ADDRESS_PREFIX),
        ("NextHop", SOCKADDR_INET),
        ("SitePrefixLength", c_uint8),
        ("ValidLifetime", c_uint32),
        ("PreferredLifetime", c_uint32),
        ("Metric", c_uint32),
        ("Protocol", c_int32),
        ("Loopback", c_uint8),
        ("AutoconfigureAddress", c_uint8),
        ("Publish", c_uint8),
        ("Immortal", c_uint8),
        ("Age", c_uint32),
        ("Origin", c_int32),
    )


class MIB_IPFORWARD_TABLE2(ctypes.Structure):
    """All routes; `Table` has `NumEntries` of them."""

    _fields_ = (("NumEntries", c_uint32), ("Table", MIB_IPFORWARD_ROW2 * 1))


class MIB_UNICASTIPADDRESS_ROW(ctypes.Structure):
    """An address of this machine (netioapi.h)."""

    _fields_ = (
        ("Address", SOCKADDR_INET),
        ("InterfaceLuid", NET_LUID),
        ("InterfaceIndex", c_uint32),
        ("PrefixOrigin", c_int32),
        ("SuffixOrigin", c_int32),
        ("ValidLifetime", c_uint32),
        ("PreferredLifetime", c_uint32),
        ("OnLinkPrefixLength", c_uint8),
        ("SkipAsSource", c_uint8),
        ("DadState", c_int32),
        ("ScopeId", c_uint32),
        ("CreationTimeStamp", c_uint64),
    )


class MIB_UNICASTIPADDRESS_TABLE(ctypes.Structure):
    """All addresses; `Table` has `NumEntries` of them."""

    _fields_ = (("NumEntries", c_uint32), ("Table", MIB_UNICASTIPADDRESS_ROW * 1))


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "InitializeIpInterfaceEntry": (None, (POINTER(MIB_IPINTERFACE_ROW),)),
    "GetIpInterfaceEntry": (c_uint32, (POINTER(MIB_IPINTERFACE_ROW),)),
    "SetIpInterfaceEntry": (c_uint32, (POINTER(MIB_IPINTERFACE_ROW),)),
    "InitializeIpForwardEntry": (None, (POINTER(MIB_IPFORWARD_ROW2),)),
    "GetIpForwardEntry2": (c_uint32, (POINTER(MIB_IPFORWARD_ROW2),)),
    "CreateIpForwardEntry2": (c_uint32, (POINTER(MIB_IPFORWARD_ROW2),)),
    "DeleteIpForwardEntry2": (c_uint32, (POINTER(MIB_IPFORWARD_ROW2),)),
    "GetBestRoute2": (
        c_uint32,
        (
            POINTER(NET_LUID),
            c_uint32,
            POINTER(SOCKADDR_INET),
            POINTER(SOCKADDR_INET),
            c_uint32,
            POINTER(MIB_IPFORWARD_ROW2),
            POINTER(SOCKADDR_INET),
        ),
    ),
    "GetIpForwardTable2": (c_uint32, (c_uint16, POINTER(c_void_p))),
    "GetUnicastIpAddressTable": (c_uint32, (c_uint16, POINTER(c_void_p))),
    "FreeMibTable": (None, (c_void_p,)),
    "ConvertInterfaceGuidToLuid": (c_uint32, (POINTER(GUID), POINTER(NET_LUID))),
    "ConvertInterfaceLuidToGuid": (c_uint32, (POINTER(NET_LUID), POINTER(GUID))),
    "ConvertInterfaceLuidToIndex": (c_uint32, (POINTER(NET_LUID), POINTER(c_uint32))),
    "ConvertInterfaceLuidToAlias": (c_uint32, (POINTER(NET_LUID), POINTER(c_wchar), c_uint64)),
}
_ALIAS_SIZE = 257  # NDIS_IF_MAX_STRING_SIZE and the end


class ApiError(Exception):
    """An IP Helper call failed; `code` is what it returned (winerror.h)."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call} failed with error {code}")
        self.code = code


class IpHelper:
    """The calls, with values for structures where that is all they carry. All raise `ApiError`."""

    def __init__(self, loader: Callable[[str], Any] | None = None) -> None:
        """`loader` opens a DLL by name (`ctypes.WinDLL`, unless a test says otherwise), at the first call."""
        self._loader = loader or load_dll
        self._functions: dict[str, Any] = {}
        self._library: Any = None

    def luid(self, guid: str) -> int:
        """The LUID of the interface with this GUID, written as in ``{3F2504E0-4F89-11D3-9A0C-0305E82C3301}``."""
        found = NET_LUID()
        self._call("ConvertInterfaceGuidToLuid", byref(GUID.from_buffer_copy(uuid.UUID(guid).bytes_le)), byref(found))
        return int(found.Value)

    def guid(self, luid: int) -> str:
        """The reverse of `luid`, in upper case."""
        found = GUID()
        self._call("ConvertInterfaceLuidToGuid", byref(NET_LUID(luid)), byref(found))
        return "{" + str(uuid.UUID(bytes_le=bytes(found))).upper() + "}"

    def index(self, luid: int) -> int:
        """The interface's index, which another interface may have after a restart."""
        found = c_uint32()
        self._call("ConvertInterfaceLuidToIndex", byref(NET_LUID(luid)), byref(found))
        return found.value

    def alias(self, luid: int) -> str:
        """What people call the interface, such as ``Ethernet 2``."""
        found = ctypes.create_unicode_buffer(_ALIAS_SIZE)
        self._call("ConvertInterfaceLuidToAlias", byref(NET_LUID(luid)), found, _ALIAS_SIZE)
        return found.value

    def interface(self, luid: int, family: int) -> MIB_IPINTERFACE_ROW:
        """The interface's settings for `AF_INET` or `AF_INET6`; error 1168 while it has none."""
        row = MIB_IPINTERFACE_ROW()
        self._call("InitializeIpInterfaceEntry", byref(row))
        row.Family, row.InterfaceLuid.Value = family, luid
        self._call("GetIpInterfaceEntry", byref(row))
        return row

    def set_interface(self, row: MIB_IPINTERFACE_ROW) -> None:
        """Write settings that `interface` read; its site prefix length is often one that cannot be written."""
        row.SitePrefixLength = 0 if row.Family == AF_INET else min(row.SitePrefixLength, 128)
        self._call("SetIpInterfaceEntry", byref(row))

    def new_route(self, luid: int, destination: IPNetwork, next_hop: IPAddress | None) -> MIB_IPFORWARD_ROW2:
        """A row for a route to `destination` over this interface, to be created or looked up."""
        row = MIB_IPFORWARD_ROW2()
        self._call("InitializeIpForwardEntry", byref(row))
        row.InterfaceLuid.Value = luid
        row.InterfaceIndex = self.index(luid)
        row.DestinationPrefix.Prefix = socket_address(destination.network_address)
        row.DestinationPrefix.PrefixLength = destination.prefixlen
        # On the link itself the next hop is 0.0.0.0 or ::, and has its family all the same.
        on_link = type(destination.network_address)(0)
        row.NextHop = socket_address(on_link if next_hop is None else next_hop)
        # What the call above leaves in these is not valid.
        row.SitePrefixLength, row.Metric, row.Protocol = 0, 0, MIB_IPPROTO_NETMGMT
        return row

    def create_route(self, row: MIB_IPFORWARD_ROW2) -> None:
        """Add the route, until the next restart; error 5010 when there is one like it."""
        self._call("CreateIpForwardEntry2", byref(row))

    def delete_route(self, row: MIB_IPFORWARD_ROW2) -> None:
        """Delete the route; error 1168 when it is not there."""
        self._call("DeleteIpForwardEntry2", byref(row))

    def find_route(self, row: MIB_IPFORWARD_ROW2) -> MIB_IPFORWARD_ROW2:
        """The route with the key of `row`; error 1168 when it is not there."""
        found = MIB_IPFORWARD_ROW2.from_buffer_copy(row)
        self._call("GetIpForwardEntry2", byref(found))
        return found

    def best_route(self, destination: IPAddress) -> tuple[MIB_IPFORWARD_ROW2, IPAddress]:
        """The route that traffic to `destination` takes now, and its source address."""
        row, source = MIB_IPFORWARD_ROW2(), SOCKADDR_INET()
        target = socket_address(destination)
        self._call("GetBestRoute2", None, 0, None, byref(target), 0, byref(row), byref(source))
        return row, ip_address(source)

    def routes(self, family: int) -> list[MIB_IPFORWARD_ROW2]:
        """All routes of an address family."""
        return self._table("GetIpForwardTable2", family, MIB_IPFORWARD_TABLE2, MIB_IPFORWARD_ROW2)

    def addresses(self) -> list[MIB_UNICASTIPADDRESS_ROW]:
        """All unicast addresses of this machine."""
        return self._table("GetUnicastIpAddressTable", AF_UNSPEC, MIB_UNICASTIPADDRESS_TABLE, MIB_UNICASTIPADDRESS_ROW)

    def _table(self, call: str, family: int, table: Any, row: Any) -> list[Any]:
        """A copy of a table that the system allocates."""
        pointer = c_void_p()
        self._call(call, family, byref(pointer))
        assert pointer.value is not None
        try:
            count = table.from_address(pointer.value).NumEntries
            size = ctypes.sizeof(row)
            data = ctypes.string_at(pointer.value + table.Table.offset, count * size)
            return [row.from_buffer_copy(data, index * size) for index in range(count)]
        finally:
            self._function("FreeMibTable")(pointer)

    def _call(self, name: str, *arguments: Any) -> None:
        code = self._function(name)(*arguments)
        if code:  # the functions that only initialise return nothing
            raise ApiError(name, code)

    def _function(self, name: str) -> Any:
        function = self._functions.get(name)
        if function is None:
            if self._library is None:
                self._library = self._loader("iphlpapi.dll")
            function = getattr(self._library, name, None)
            if function is None:
                raise ApiError(name, ERROR_NOT_SUPPORTED)
            function.restype, function.argtypes = _SIGNATURES[name]
            self._functions[name] = function
        return function


def socket_address(address: IPAddress) -> SOCKADDR_INET:
    """`address` as Windows writes it."""
    found = SOCKADDR_INET()
    if address.version == 4:
        found.Ipv4.sin_family = AF_INET
        found.Ipv4.sin_addr = int.from_bytes(address.packed, sys.byteorder)
    else:
        found.Ipv6.sin6_family = AF_INET6
        found.Ipv6.sin6_addr[:] = address.packed
    return found


def ip_address(address: SOCKADDR_INET) -> IPAddress:
    """The reverse of `socket_address`, without the scope."""
    if address.si_family == AF_INET:
        return ipaddress.ip_address(int(address.Ipv4.sin_addr).to_bytes(4, sys.byteorder))
    return ipaddress.ip_address(bytes(address.Ipv6.sin6_addr))
