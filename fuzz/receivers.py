"""Receivers as they are: what a host on the LAN might read in a frame, carefully or not.

The policy has to hold for each of them. They share nothing with the policy's own walker, are not fast, and take more
than any one system does: better a receiver that nobody has than one that somebody has and nobody thought of.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

_TAGS = (0x8100, 0x88A8, 0x9100)
_SWITCH_TYPES = (0x8808, 0x8809, 0x88CC)


@dataclass(frozen=True)
class Receiver:
    """One way to read frames."""

    unpacks: bool
    """Takes LLC/SNAP and its relatives, whatever lengths say (Windows, Wi-Fi bridges)."""
    any_oui: bool
    """Looks at SNAP's last two bytes alone."""
    trims: bool
    """Cuts a packet to its own length, and drops one that is longer than its frame; else it looks for the transport in
    all that is there. ICMPv6 messages end where the packet does in any case: their checksum says so."""
    tunnels: bool
    """Takes IP out of IP, unasked."""

    def read(self, frame: bytes) -> str | None:
        """Say what evil this receiver finds in a frame; None for nothing that would harm it."""
        at = 12
        source = frame[6:12]
        while True:
            if len(frame) < at + 2:
                return None
            kind, at = int.from_bytes(frame[at : at + 2], "big"), at + 2
            if kind in _TAGS:
                at += 2
            elif kind < 0x600 or kind == 0x8870:
                if frame[at] == 0x42 if len(frame) > at else False:
                    return "switch control"
                if not self.unpacks or len(frame) < at + 8:
                    return None
                if frame[at] in (0x06, 0x07):
                    return self.network(0x0800, frame[at + 3 :], source)
                if frame[at] not in (0xAA, 0xAB) or not self.takes(frame[at + 3 : at + 8]):
                    return None
                at += 6
            elif kind == 0x88B7 and self.unpacks and len(frame) >= at + 5:
                if not self.takes(frame[at : at + 5]):
                    return None
                at += 3
            else:
                return self.network(kind, frame[at:], source)

    def takes(self, snap: bytes) -> bool:
        """Tell whether it follows a SNAP header of an OUI and a protocol identifier."""
        if snap[:3] in (b"\0\0\0", b"\0\0\xf8"):
            return True
        return self.any_oui and int.from_bytes(snap[3:], "big") in (0x0800, 0x86DD, 0x0806, *_TAGS)

    def network(self, kind: int, packet: bytes, source: bytes) -> str | None:
        """Read what follows the type."""
        if kind in (0x8863, 0x8864):
            return "pppoe"
        if kind in _SWITCH_TYPES:
            return "switch control"
        if kind in (0x0806, 0x8035):
            return "arp spoof" if len(packet) >= 28 and packet[4] == 6 and packet[8:14] != source else None
        if kind == 0x0800:
            return self.ipv4(packet, source)
        if kind == 0x86DD:
            return self.ipv6(packet, source)
        return None

    def ipv4(self, packet: bytes, source: bytes) -> str | None:
        """Read a packet that is no fragment, or a first one."""
        if len(packet) < 20 or packet[0] >> 4 != 4 or packet[0] & 15 < 5:
            return None
        total = int.from_bytes(packet[2:4], "big")
        if self.trims:
            if total > len(packet):
                return None
            packet = packet[:total]
        if int.from_bytes(packet[6:8], "big") & 0x1FFF:
            return None
        return self.transport(4, packet[9], packet[(packet[0] & 15) * 4 :], source)

    def ipv6(self, packet: bytes, source: bytes) -> str | None:
        """Read a packet that is no fragment, or a first one."""
        if len(packet) < 40 or packet[0] >> 4 != 6:
            return None
        total = 40 + int.from_bytes(packet[4:6], "big")
        if self.trims:
            if total > len(packet):
                return None
            packet = packet[:total]
        return self.transport(6, packet[6], packet[40:], source, len(packet) - total)

    def transport(self, version: int, number: int, data: bytes, source: bytes, excess: int = 0) -> str | None:
        """Follow headers to the transport; `excess` bytes at the end are behind the packet."""
        while True:
            if number == 17 and len(data) >= 4:
                return _ports(version, data)
            if number == 58 and version == 6 and data:
                return _message(data, source, len(data) - max(0, excess))
            if number == 4 and self.tunnels:
                return self.ipv4(data, source)
            if number == 41 and self.tunnels:
                return self.ipv6(data, source)
            if len(data) < 8:
                return None
            if number == 51:
                size = (data[1] + 2) * 4
            elif version == 6 and number == 44:
                if data[2] or data[3] & 0xF8:
                    return None
                size = 8
            elif version == 6 and number in (0, 43, 60, 135, 139, 140, 253, 254):
                size = (data[1] + 1) * 8
            else:
                return None
            number, data = data[0], data[size:]


def _ports(version: int, data: bytes) -> str | None:
    source, destination = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
    if version == 4 and (source == 67 or destination == 68):
        return "dhcp server"
    if version == 6 and (source == 547 or destination == 546):
        return "dhcpv6 server"
    return None


def _message(data: bytes, source: bytes, length: int) -> str | None:
    if data[0] == 134:
        return "router advertisement"
    if data[0] == 137:
        return "redirect"
    if data[0] not in (133, 135, 136):
        return None
    options = data[8 if data[0] == 133 else 24 : max(0, length)]
    while len(options) >= 8 and options[1]:
        if options[0] in (1, 2) and options[1] == 1 and options[2:8] != source:
            return "nd spoof"
        options = options[options[1] * 8 :]
    return None


RECEIVERS = tuple(Receiver(*flags) for flags in product((False, True), repeat=4))


def harm(frame: bytes) -> str | None:
    """Say what evil some receiver finds in a frame."""
    for receiver in RECEIVERS:
        found = receiver.read(frame)
        if found is not None:
            return found
    return None


# Reassembly


@dataclass(frozen=True)
class Piece:
    """A fragment as it comes to reassembly."""

    version: int
    offset: int
    more: bool
    number: int
    data: bytes


def piece(frame: bytes) -> Piece | None:
    """The fragment in a plain Ethernet frame, cut to its own length; in IPv6 behind extension headers, too.

    None for whole packets. Atomic fragments are whole (RFC 6946).
    """
    packet = frame[14:]
    if frame[12:14] == b"\x08\x00" and len(packet) >= 20:
        flags = int.from_bytes(packet[6:8], "big")
        data = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
        return _piece(4, (flags & 0x1FFF) * 8, bool(flags & 0x2000), packet[9], data)
    if frame[12:14] == b"\x86\xdd" and len(packet) >= 40:
        number, data = packet[6], packet[40 : 40 + int.from_bytes(packet[4:6], "big")]
        while len(data) >= 8:
            if number == 44:
                flags = int.from_bytes(data[2:4], "big")
                return _piece(6, flags & 0xFFF8, bool(flags & 1), data[0], data[8:])
            if number not in (0, 43, 60):
                return None
            number, data = data[0], data[(data[1] + 1) * 8 :]
    return None


def _piece(version: int, offset: int, more: bool, number: int, data: bytes) -> Piece | None:
    return Piece(version, offset, more, number, data) if offset or more else None


def reassembled(pieces: Iterable[Piece]) -> Iterator[tuple[int, int, bytes]]:
    """What old stacks make of overlapping fragments (RFC 5722): version, protocol, and the packet's data.

    Whoever came last overwrites, or whoever came first stays. The protocol is that of the fragment which the
    packet starts with.
    """
    pieces = list(pieces)
    for order in (pieces, pieces[::-1]):
        data = bytearray(max((part.offset + len(part.data) for part in order), default=0))
        first = None
        for part in order:
            data[part.offset : part.offset + len(part.data)] = part.data
            first = part if part.offset == 0 else first
        if first is not None:
            yield first.version, first.number, bytes(data)
