"""What must not pass: the relay's layer-2 policy (PROTOCOL: What the relay does with a datagram, steps 2 to 4)."""

from collections.abc import Mapping
from dataclasses import dataclass

from softlan.proto.drop import DropReason
from softlan.proto.ethernet import (
    FLOW_CONTROL,
    LLC_STP,
    LLDP,
    MIN_ETHERTYPE,
    SLOW_PROTOCOLS,
    TAG_LENGTH,
    TAG_TYPES,
    parse,
)
from softlan.proto.ethernet import HEADER_LENGTH as ETHERNET_HEADER
from softlan.proto.mac import ZERO
from softlan.proto.overlay import HEADER_LENGTH as OVERLAY_HEADER

_FRAME = OVERLAY_HEADER
_SOURCE = slice(_FRAME + 6, _FRAME + 12)
_TYPE = _FRAME + 12

# 802.1D and 802.1Q reserved group addresses: 01:80:c2:00:00:00 to 0f (IEEE 802.1Q-2018, table 8-1).
_RESERVED_GROUP = bytes.fromhex("0180c20000")
# Cisco's CDP/VTP/UDLD and PVST+ addresses.
_CISCO_GROUPS = frozenset((bytes.fromhex("01000ccccccc"), bytes.fromhex("01000ccccccd")))
# MAC control (pause), slow protocols (LACP), LLDP.
_CONTROL_TYPES = frozenset((FLOW_CONTROL, SLOW_PROTOCOLS, LLDP))


@dataclass(frozen=True)
class Policy:
    """The rules of one room. Each can be switched off."""

    invalid_source: bool = True
    """Drop frames whose source is a group or zero, or not the client's own, or from the LAN with a client's."""
    jumbo: bool = True
    """Drop frames whose payload is above the room's MTU."""
    switch_control: bool = True
    """Drop what switches tell each other: spanning tree, LLDP, LACP, pause frames, CDP."""

    def verdict(
        self, datagram: bytes, *, own_mac: bytes | None, clients: Mapping[bytes, object], room_mtu: int
    ) -> DropReason | None:
        """Why the frame in an overlay datagram must not pass; None if it may.

        `own_mac` is a client's identity, None for the gateway; `clients` is keyed by the MACs of the room's clients.
        """
        source = datagram[_SOURCE]
        if self.invalid_source and (
            source != own_mac if own_mac is not None else source[0] & 1 or source == ZERO or source in clients
        ):
            return DropReason.INVALID_SOURCE
        if len(datagram) > _FRAME + ETHERNET_HEADER + room_mtu and self.jumbo and _payload(datagram) > room_mtu:
            return DropReason.JUMBO
        if self.switch_control and _is_switch_control(datagram):
            return DropReason.SWITCH_CONTROL
        return None


def _payload(datagram: bytes) -> int:
    """Bytes behind the Ethernet header and its tags; tags inside of SNAP are payload."""
    kind = _TYPE
    while (datagram[kind] << 8 | datagram[kind + 1]) in TAG_TYPES and kind + TAG_LENGTH + 1 < len(datagram):
        kind += TAG_LENGTH
    return len(datagram) - kind - 2


def _is_switch_control(datagram: bytes) -> bool:
    if datagram[_FRAME] & 1:
        destination = datagram[_FRAME : _FRAME + 6]
        if destination in _CISCO_GROUPS or (destination[:5] == _RESERVED_GROUP and destination[5] <= 0x0F):
            return True
    ethertype = datagram[_TYPE] << 8 | datagram[_TYPE + 1]
    if ethertype >= MIN_ETHERTYPE and ethertype not in TAG_TYPES:
        return ethertype in _CONTROL_TYPES
    view = parse(datagram[_FRAME:])
    if view is None:
        return False
    return view.ethertype in _CONTROL_TYPES or (view.llc is not None and LLC_STP in view.llc)
