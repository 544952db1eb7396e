"""Applies a policy to frames: the hot path of everything that must not pass."""

from collections.abc import Container

from softlan.policy.rules import Policy
from softlan.proto.budget import SEAL_OVERHEAD
from softlan.proto.drop import DropReason
from softlan.proto.ethernet import (
    ARP,
    FLOW_CONTROL,
    IPV4,
    IPV6,
    LLC_STP,
    LLDP,
    MIN_ETHERTYPE,
    SLOW_PROTOCOLS,
    TAG_LENGTH,
    TAG_TYPES,
)
from softlan.proto.ip import ENCAPSULATIONS, LLC, MAX_HEADERS, OTHER, TORN, Found, Walked, link, walk_ipv4, walk_ipv6
from softlan.proto.mac import ZERO

RARP = 0x8035

# 802.1D and 802.1Q reserved group addresses, 01:80:c2:00:00:00 to 0f (IEEE 802.1Q-2018, table 8-1), and Cisco's
# for CDP, VTP, UDLD and PVST+.
_SWITCH_GROUPS = frozenset(bytes.fromhex("0180c20000") + bytes((last,)) for last in range(16)) | {
    bytes.fromhex("01000ccccccc"),
    bytes.fromhex("01000ccccccd"),
}
# MAC control (pause), slow protocols (LACP), LLDP.
_SWITCH_TYPES = frozenset((FLOW_CONTROL, SLOW_PROTOCOLS, LLDP))
# In the table of types, next to LLC: an 802.3 frame of the spanning tree protocol.
_STP = 1

_DHCP_SERVER, _DHCP_CLIENT = 67, 68
_DHCPV6_SERVER, _DHCPV6_CLIENT = 547, 546

_ICMP_REDIRECT = 5  # RFC 792
_ROUTER_SOLICITATION, _ROUTER_ADVERTISEMENT, _REDIRECT = 133, 134, 137
# Neighbour-discovery messages of hosts, and where their options start (RFC 4861 sections 4.1, 4.3, 4.4).
_OPTIONS_AT = {_ROUTER_SOLICITATION: 8, 135: 24, 136: 24}
_LINK_LAYER_OPTIONS = (1, 2)
_ARP_LENGTH = 28
_MOST_TAGS = MAX_HEADERS * TAG_LENGTH

_UDP4 = Found.UDP4
_UDP6 = Found.UDP6
_ICMP4 = Found.ICMP4
_UNDETERMINED = Found.UNDETERMINED
_ICMPV6 = (Found.ICMPV6, Found.ICMPV6_PART)


class PolicyEngine:
    """A policy, made ready for a decision on each frame. It keeps no state: one serves any number of members."""

    __slots__ = (
        "_ambiguous",
        "_arp_spoof",
        "_dhcp_server",
        "_dhcpv6_server",
        "_groups",
        "_icmp_redirect",
        "_invalid_source",
        "_ipv6_ra",
        "_jumbo",
        "_nd_redirect",
        "_nd_spoof",
        "_ra_from_lan",
        "_type_unnamed",
        "_types",
    )

    def __init__(self, policy: Policy) -> None:
        self._invalid_source = policy.invalid_source
        self._jumbo = policy.jumbo
        self._dhcp_server = policy.dhcp_server
        self._dhcpv6_server = policy.dhcpv6_server
        self._ipv6_ra = policy.ipv6_ra
        self._icmp_redirect = policy.icmp_redirect
        self._nd_redirect = policy.nd_redirect
        self._nd_spoof = policy.nd_spoof
        self._arp_spoof = policy.arp_spoof
        self._ambiguous = policy.ambiguous
        self._ra_from_lan = policy.ra_from_lan
        self._groups = _SWITCH_GROUPS if policy.switch_control else frozenset()
        # One look-up decides on the type, whatever rules there are; the later ones below win.
        refused = DropReason.ETHERTYPE
        types: dict[int, DropReason | None] = dict.fromkeys(policy.ethertypes or ())
        types |= dict.fromkeys(policy.refused_ethertypes, refused)
        types |= dict.fromkeys((LLC, _STP), None if policy.llc else refused)
        types[TORN] = None
        if policy.switch_control:
            types |= dict.fromkeys((*_SWITCH_TYPES, _STP), DropReason.SWITCH_CONTROL)
        self._types = types
        self._type_unnamed = None if policy.ethertypes is None else refused

    def verdict(
        self, data: bytes, offset: int, own_mac: bytes | None, clients: Container[bytes], room_mtu: int
    ) -> DropReason | None:
        """Say why the Ethernet frame in `data` at `offset` must not pass; None if it may. Never raises.

        `own_mac` is the identity of the client that sent it, None for the gateway. `clients` holds the MACs of the
        room's clients, `room_mtu` is in bytes. The rules apply in the protocol's order; rates come after them.
        """
        length = len(data)
        start = offset + 14
        if length < start:
            return DropReason.RUNT
        if own_mac is not None:
            if not data.startswith(own_mac, offset + 6) and self._invalid_source:
                return DropReason.INVALID_SOURCE
        elif self._invalid_source:
            source = data[offset + 6 : offset + 12]
            if source[0] & 1 or source == ZERO or source in clients:
                return DropReason.INVALID_SOURCE

        kind = data[start - 2] << 8 | data[start - 1]
        end, tags = length, 0
        if kind < MIN_ETHERTYPE or kind in ENCAPSULATIONS:
            kind, start, end, tags = link(data, offset)
            if kind == LLC and LLC_STP in data[start : start + 2]:
                kind = _STP
        if length - offset - 14 - 4 * tags > room_mtu and self._jumbo:
            return DropReason.JUMBO
        if data[offset] & 1 and data[offset : offset + 6] in self._groups:
            return DropReason.SWITCH_CONTROL
        refused = self._types.get(kind, self._type_unnamed)
        if refused is not None:
            return refused

        if own_mac is None:
            if self._ra_from_lan or kind != IPV6:
                return None
            return DropReason.IPV6_RA if _is_router_advertisement(walk_ipv6(data, start, end)) else None
        if kind == IPV4:
            walked = walk_ipv4(data, start, end)
        elif kind == IPV6:
            walked = walk_ipv6(data, start, end)
        elif kind in (ARP, RARP):
            return DropReason.ARP_SPOOF if self._arp_spoof and _arp_spoofed(data, offset, start) else None
        elif kind == TORN:
            return DropReason.AMBIGUOUS if self._ambiguous else None
        else:
            return None
        if walked is OTHER:
            return None
        found, first, second, _ = walked
        if found is _UDP4:
            if first == _DHCP_SERVER or second == _DHCP_CLIENT:
                return DropReason.DHCP_SERVER if self._dhcp_server else None
        elif found is _UDP6:
            if first == _DHCPV6_SERVER or second == _DHCPV6_CLIENT:
                return DropReason.DHCPV6_SERVER if self._dhcpv6_server else None
        elif found is _ICMP4:
            return DropReason.ICMP_REDIRECT if first == _ICMP_REDIRECT and self._icmp_redirect else None
        elif found is _UNDETERMINED:
            return DropReason.AMBIGUOUS if self._ambiguous else None
        else:
            return self._icmpv6(data, offset, walked)
        return None

    def sealed_verdict(
        self, data: bytes, offset: int, own_mac: bytes | None, clients: Container[bytes], room_mtu: int
    ) -> DropReason | None:
        """Say as `verdict` does why the sealed frame in `data` at `offset` must not pass, by what is to be seen of it.

        That is its addresses, its first EtherType and its size (docs/reference/protocol.md, "Overlay datagram"). What
        this stops, `verdict` would stop too, could it look inside; so where a type may lead on to another one that is
        sealed (tags, 802.3), any may be there, and any number of tags that `verdict` would follow.
        """
        payload = len(data) - offset - 14 - SEAL_OVERHEAD
        if payload < 0:
            return DropReason.RUNT
        if self._invalid_source:  # as in `verdict`; a call for it would be one for each frame
            source = data[offset + 6 : offset + 12]
            if own_mac is not None:
                if source != own_mac:
                    return DropReason.INVALID_SOURCE
            elif source[0] & 1 or source == ZERO or source in clients:
                return DropReason.INVALID_SOURCE
        kind = data[offset + 12] << 8 | data[offset + 13]
        if payload > room_mtu and self._jumbo and not (kind in TAG_TYPES and payload <= room_mtu + _MOST_TAGS):
            return DropReason.JUMBO
        if data[offset] & 1 and data[offset : offset + 6] in self._groups:
            return DropReason.SWITCH_CONTROL
        if kind < MIN_ETHERTYPE or kind in ENCAPSULATIONS:
            return None
        return self._types.get(kind, self._type_unnamed)

    def onto_lan(self, data: bytes, offset: int, clients: Container[bytes], room_mtu: int) -> DropReason | None:
        """Say why a frame from the tunnel must not go onto the LAN: a gateway's second look, by a client's rules.

        The gateway does not ask the relay who sent it: the source must be the MAC of a client that it was told of. Nor
        where it should go: players hear each other from the relay, and not over the LAN.
        """
        source = data[offset + 6 : offset + 12]
        if self._invalid_source and len(data) >= offset + 14 and source not in clients:
            return DropReason.INVALID_SOURCE
        reason = self.verdict(data, offset, source, clients, room_mtu)
        if reason is None and data[offset : offset + 6] in clients:
            return DropReason.UNKNOWN_UNICAST
        return reason

    def _icmpv6(self, data: bytes, offset: int, walked: Walked) -> DropReason | None:
        found, kind, start, end = walked
        if kind == _ROUTER_ADVERTISEMENT:
            return DropReason.IPV6_RA if self._ipv6_ra else None
        if kind == _REDIRECT:
            return DropReason.ND_REDIRECT if self._nd_redirect else None
        if kind not in _OPTIONS_AT:
            return None
        if found is Found.ICMPV6_PART:
            # Its options may be in another fragment. Nobody may send or take this (RFC 6980 section 5).
            return DropReason.AMBIGUOUS if self._ambiguous else None
        if self._nd_spoof and _nd_spoofed(data, offset, start + _OPTIONS_AT[kind], end):
            return DropReason.ND_SPOOF
        return None


def _is_router_advertisement(walked: Walked) -> bool:
    return walked[0] in _ICMPV6 and walked[1] == _ROUTER_ADVERTISEMENT


def _arp_spoofed(data: bytes, offset: int, start: int) -> bool:
    """Tell whether ARP at `start` says another sender hardware address than the frame's, or none that can be read."""
    if len(data) < start + _ARP_LENGTH or data[start + 4] != 6:
        return True
    return not data.startswith(data[offset + 6 : offset + 12], start + 8)


def _nd_spoofed(data: bytes, offset: int, at: int, end: int) -> bool:
    """Tell whether options from `at` to `end` say another link-layer address than the frame's, or cannot be read.

    An option is a type, a length in units of 8 bytes, and for types 1 and 2 the address (RFC 4861 section 4.6).
    """
    if at > end:
        return True
    source = data[offset + 6 : offset + 12]
    for _ in range(MAX_HEADERS):
        if at == end:
            return False
        if at + 8 > end:
            return True
        size = data[at + 1] * 8
        if size == 0 or at + size > end:
            return True
        if data[at] in _LINK_LAYER_OPTIONS and (size != 8 or data[at + 2 : at + 8] != source):
            return True
        at += size
    return True
