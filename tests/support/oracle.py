"""Random frames, and scapy's opinion of what they carry: the oracle of the header walker.

scapy decodes the fields of each header; the oracle goes from header to header by the rules that `softlan.proto.ip`
documents. It shares neither code nor structure with the walker.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from scapy.fields import ByteField, StrLenField
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.ipsec import AH
from scapy.layers.l2 import LLC, SNAP, Dot1Q, Ether
from scapy.packet import Packet
from tests.support import packets
from tests.support.packets import chain, dot1q, ether, extension, fragment, kind

DEEP = bool(os.environ.get("SOFTLAN_DEEP"))
"""Set SOFTLAN_DEEP=1 for the deep profile: 200,000 examples of each property that asks for `many`."""

many = settings(
    max_examples=200_000 if DEEP else 400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""The settings of a property that is worth many examples."""


@dataclass(frozen=True)
class Built:
    """A random frame."""

    frame: bytes
    evil: bool
    """Whether its innermost part is a server's or a router's message, reachable or not."""


# Building

_PORTS = st.sampled_from([67, 68, 546, 547, 53, 5353, 50000])
_MESSAGES = st.sampled_from([2, 128, 133, 134, 135, 136, 137, 143])
_SMALL = st.integers(0, 12)
_OUIS = st.sampled_from([packets.SNAP_RFC1042, packets.SNAP_RFC1042, packets.SNAP_802_1H])
_ODD_OUIS = st.sampled_from([packets.SNAP_RFC1042, b"\x00\x00\x0c"]) | st.binary(min_size=3, max_size=3)
_TAGS = ["8100", "8100", "88a8", "9100"]
_ODD_LINKS = [*_TAGS, "snap", "snap", "sap", "8870", "88b7", "tags"]
_EXTENSIONS = st.sampled_from(
    [
        packets.HOP_BY_HOP,
        packets.ROUTING,
        packets.DESTINATION,
        packets.MOBILITY,
        packets.HIP,
        packets.SHIM6,
        packets.AH,
        packets.FRAGMENT,
    ]
)


@st.composite
def frames(draw: st.DrawFn) -> Built:
    """Frames of stacked tags, encapsulations, extension headers and fragments; two in three as they should be."""
    return _Builder(draw, odd=draw(st.integers(0, 2)) == 2).frame()


class _Builder:
    """Builds one frame from the inside out; an odd one may have anything wrong with it, anywhere."""

    def __init__(self, draw: st.DrawFn, *, odd: bool) -> None:
        self.draw = draw
        self.odd = odd

    def strange(self, one_in: int) -> bool:
        """Tell whether to do something wrong here."""
        return self.odd and self.draw(st.integers(1, one_in)) == one_in

    def frame(self) -> Built:
        draw = self.draw
        version = draw(st.sampled_from([4, 6]))
        payload, evil = self.packet(version, 0)
        number = packets.IPV4 if version == 4 else packets.IPV6
        if self.strange(8):
            number, evil = draw(st.integers(0x0600, 0xFFFF)), False
        typed = kind(number) + payload
        if self.odd:
            links = draw(st.lists(st.sampled_from(_ODD_LINKS), max_size=4))
            typed += bytes(draw(st.sampled_from([0, 0, 1, 7, 18, 60])))
        else:
            links = draw(st.lists(st.sampled_from(_TAGS), max_size=3))
            if draw(st.integers(0, 3)) == 3:
                links.insert(draw(st.integers(0, len(links))), "snap")
            else:
                typed += bytes(draw(st.sampled_from([0, 0, 1, 7, 18, 60])))
        for token in links:
            typed = self.link(token, typed)
        frame = ether(typed)
        return Built(frame.ljust(60, b"\0") if draw(st.booleans()) else frame, evil)

    def packet(self, version: int, depth: int) -> tuple[bytes, bool]:
        """An IP packet."""
        draw = self.draw
        number, payload, evil = self.inner(version, depth)
        part = draw(st.sampled_from(["no", "no", "no", "no", "no", "first", "later"]))
        if self.odd or part == "no":
            number, payload = self.extended(version, number, payload)
        if part == "first" and self.odd:
            payload = payload[: draw(st.integers(0, 40))]
        offset = 8 * draw(st.integers(1, 0x1FFF)) if part == "later" else 0
        more = part == "first" or self.strange(8)
        wrong = draw(st.sampled_from([-30, -8, -1, 1, 8, 2000])) if self.strange(6) else 0
        says = draw(st.integers(0, 15)) if self.strange(16) else version
        if version == 4:
            options = bytes(4 * draw(st.sampled_from([0, 0, 0, 1, 2, 10])))
            ihl = draw(st.integers(0, 15)) if self.strange(16) else None
            total = max(0, 20 + len(options) + len(payload) + wrong)
            packet = packets.ipv4(
                payload, number, options=options, offset=offset, more=more, total=total, version=says, ihl=ihl
            )
            return packet, evil
        if part != "no":
            payload, number = fragment(number, offset=offset, more=more) + payload, packets.FRAGMENT
        return packets.ipv6(payload, number, length=max(0, len(payload) + wrong), version=says), evil

    def inner(self, version: int, depth: int) -> tuple[int, bytes, bool]:
        """What an IP packet carries: a transport, or another packet. Its number, its bytes, whether it is evil."""
        draw = self.draw
        if depth < 2 and draw(st.integers(0, 7)) == 7:
            nested = draw(st.sampled_from([4, 6]))
            payload, evil = self.packet(nested, depth + 1)
            return (packets.IPIP if nested == 4 else packets.IPV6_IN_IP), payload, evil
        choice = draw(st.sampled_from(["udp", "udp", "udp", "icmpv6", "icmpv6", "icmp", "tcp", "bytes"]))
        if choice == "udp":
            source, destination = draw(_PORTS), draw(_PORTS)
            evil = (source == 67 or destination == 68) if version == 4 else (source == 547 or destination == 546)
            return packets.UDP, packets.udp(source, destination, bytes(draw(_SMALL))), evil
        if choice == "icmpv6":
            message = draw(_MESSAGES)
            return packets.ICMPV6, packets.icmpv6(message, bytes(draw(_SMALL))), version == 6 and message in (134, 137)
        if choice == "icmp":
            message = draw(st.sampled_from([0, 3, 5, 5, 8]))
            return packets.ICMP, packets.icmpv6(message, bytes(draw(_SMALL))), version == 4 and message == 5
        if choice == "tcp":
            return packets.TCP, packets.tcp(draw(_PORTS), draw(_PORTS)), False
        return draw(st.integers(0, 255 if self.odd else 143)), draw(st.binary(max_size=40)), False

    def extended(self, version: int, number: int, payload: bytes) -> tuple[int, bytes]:
        """Put extension headers in front; IPv4 has AH alone."""
        draw = self.draw
        if version == 4:
            if draw(st.integers(0, 7)) == 7:
                payload, number = packets.ah(number, draw(st.integers(0, 6))) + payload, packets.AH
            return number, payload
        for header in draw(st.lists(_EXTENSIONS, max_size=5)):
            if header == packets.AH:
                payload = packets.ah(number, draw(st.integers(0, 6))) + payload
            elif header == packets.FRAGMENT:
                payload = fragment(number, offset=8 * self.strange(8), more=self.strange(8)) + payload
            else:
                payload = extension(number, draw(st.sampled_from([0, 0, 1, 2, 20]))) + payload
            number = header
        if draw(st.integers(0, 7)) == 7:
            count = draw(st.sampled_from([10, 20, 27, 28, 29, 30, 31, 40]))
            payload, number = chain(*[draw(_EXTENSIONS)] * count, then=number, payload=payload)
        return number, payload

    def link(self, token: str, typed: bytes) -> bytes:
        """Put one more link header in front of a type and what follows it."""
        draw = self.draw
        if token in _TAGS:
            return dot1q(draw(st.sampled_from([0, 1, 4095])), tpid=int(token, 16)) + typed
        if token == "tags":
            return dot1q() * draw(st.sampled_from([8, 29, 30, 31, 32, 33])) + typed
        oui = draw(_ODD_OUIS if self.strange(3) else _OUIS)
        if token == "88b7":
            return kind(0x88B7) + oui + typed
        dsap, body = 0xAA, oui + typed
        if token == "sap":
            dsap, body = draw(st.sampled_from([0x06, 0x07, 0x42, 0x98, 0xE0, 0xFF])), typed[2:]
        length = draw(st.sampled_from([0, 1, 8, 1500, 1501, 0x5FF])) if self.strange(5) else None
        if length is None and 3 + len(body) > 0x5FF:
            length = 0
        built = packets.llc(
            body,
            dsap=dsap ^ self.strange(8),
            ssap=dsap ^ self.strange(8),
            control=0x13 if self.strange(8) else 3,
            length=length,
        )
        return kind(0x8870) + built[2:] if token == "8870" else built


# Reading

Reading = tuple[object, ...]
"""("other",), ("undetermined",), ("udp4", source, destination), ("udp6", ...), ("icmp4", type), ("icmpv6", type, length
of the message), ("icmpv6_part", ...)."""

OTHER: Reading = ("other",)
UNDETERMINED: Reading = ("undetermined",)
_DEEPEST = 31


class Uniform(Packet):
    """A header in IPv6's uniform format (RFC 6564); scapy itself has no HIP or shim6."""

    name = "uniform"
    fields_desc = (
        ByteField("nh", 59),
        ByteField("len", 0),
        StrLenField("data", b"", length_from=lambda header: header.len * 8 + 6),
    )


def _split(layer: type[Packet], data: bytes) -> tuple[Packet, bytes]:
    """Let scapy read one header; that, and what follows it."""
    header = layer()
    return header, header.do_dissect(data)


def read(frame: bytes) -> Reading:
    """What scapy and the rules say of a frame."""
    header, rest = _split(Ether, frame)
    return _typed(header.type, rest, _Link(frame))


@dataclass
class _Link:
    """What has been seen on the way to the type."""

    frame: bytes
    tags: int = 0
    headers: int = 0
    unpacked: bool = False
    agreed: bool = True
    beyond: int = 0
    """Bytes at the frame's end that 802.3's length leaves out."""


def _typed(number: int, rest: bytes, seen: _Link) -> Reading:
    if seen.headers > _DEEPEST:
        return UNDETERMINED
    seen.headers += 1
    if number in (0x8100, 0x88A8, 0x9100):
        if len(rest) < 4:
            return UNDETERMINED
        tag, rest = _split(Dot1Q, rest)
        seen.tags += 1
        return _typed(tag.type, rest, seen)
    if number == 0x88B7:
        seen.agreed = False
        return _snap(rest, seen)
    if number == 0x8870 or number < 0x600:
        return _llc(number, rest, seen)
    if number not in (0x0800, 0x86DD):
        return OTHER
    if not seen.agreed or len(rest) < seen.beyond:
        return UNDETERMINED
    packet = rest[: len(rest) - seen.beyond]
    return _Chain().packet(4 if number == 0x0800 else 6, packet)


def _llc(length: int, rest: bytes, seen: _Link) -> Reading:
    if len(rest) < 3:
        return UNDETERMINED
    minimal = 60 + 4 * seen.tags
    if length == len(rest) or (length < len(rest) and len(seen.frame) <= minimal):
        seen.beyond = len(rest) - length
    else:
        seen.agreed = False
    if length > 1500 or seen.unpacked:
        seen.agreed = False
    header, rest = _split(LLC, rest)
    if header.dsap | 1 == 0xAB:
        if (header.dsap, header.ssap, header.ctrl) != (0xAA, 0xAA, 3):
            seen.agreed = False
        return _snap(rest, seen)
    return UNDETERMINED if header.dsap | 1 == 0x07 else OTHER


def _snap(rest: bytes, seen: _Link) -> Reading:
    if len(rest) < 5:
        return UNDETERMINED
    header, rest = _split(SNAP, rest)
    seen.unpacked = True
    if header.OUI not in (0x000000, 0x0000F8):
        if header.code not in (0x0800, 0x86DD, 0x8100, 0x88A8, 0x9100, 0x8870, 0x88B7):
            return OTHER
        seen.agreed = False
    return _typed(header.code, rest, seen)


class _Chain:
    """Reads one packet after the other, outermost first."""

    def __init__(self) -> None:
        self.headers = 0
        self.part = False

    def packet(self, version: int, data: bytes) -> Reading:
        self.headers += 1
        if self.headers > _DEEPEST + 1 or self.part:
            return UNDETERMINED
        return self._ipv4(data) if version == 4 else self._ipv6(data)

    def _ipv4(self, data: bytes) -> Reading:
        if len(data) < 20:
            return UNDETERMINED
        header, _ = _split(IP, data[:20])
        size = header.ihl * 4
        if header.version != 4 or header.ihl < 5 or header.len < size or header.len > len(data):
            return UNDETERMINED
        if header.frag:
            return OTHER
        self.part = bool(header.flags.MF)
        return self._next(4, header.proto, data[size : header.len])

    def _ipv6(self, data: bytes) -> Reading:
        if len(data) < 40:
            return UNDETERMINED
        header, _ = _split(IPv6, data[:40])
        if header.version != 6 or 40 + header.plen > len(data):
            return UNDETERMINED
        return self._next(6, header.nh, data[40 : 40 + header.plen])

    def _next(self, version: int, number: int, data: bytes) -> Reading:
        nested = {4: 4, 41: 6}.get(number)
        if nested is not None:
            return self.packet(nested, data)
        self.headers += 1
        if self.headers > _DEEPEST + 1:
            return UNDETERMINED
        if number == 51:
            return self._extension(version, data, _ah)
        if version == 6 and number == 44:
            return self._fragment(data)
        if version == 6 and number in (0, 43, 60, 135, 139, 140):
            return self._extension(version, data, _uniform)
        return self._transport(version, number, data)

    def _extension(self, version: int, data: bytes, split: Callable[[bytes], tuple[int, bytes] | None]) -> Reading:
        found = None if self.part or len(data) < 8 else split(data)
        return UNDETERMINED if found is None else self._next(version, *found)

    def _fragment(self, data: bytes) -> Reading:
        if self.part or len(data) < 8:
            return UNDETERMINED
        header, rest = _split(IPv6ExtHdrFragment, data)
        if header.offset:
            return OTHER
        self.part = bool(header.m)
        return self._next(6, header.nh, rest)

    def _transport(self, version: int, number: int, data: bytes) -> Reading:
        if number == 17:
            if len(data) < 8:
                return UNDETERMINED
            header, _ = _split(UDP, data)
            return (f"udp{version}", header.sport, header.dport)
        if version == 4 and number == 1:
            return UNDETERMINED if len(data) < 8 else ("icmp4", data[0])
        if version == 6 and number == 58:
            if len(data) < 4:
                return UNDETERMINED
            return ("icmpv6_part" if self.part else "icmpv6", data[0], len(data))
        if version == 6 and number > 145:
            return UNDETERMINED
        return UNDETERMINED if self.part and len(data) < (20 if number == 6 else 8) else OTHER


def _uniform(data: bytes) -> tuple[int, bytes] | None:
    header, rest = _split(Uniform, data)
    return None if len(header.data) < header.len * 8 + 6 else (header.nh, rest)


def _ah(data: bytes) -> tuple[int, bytes] | None:
    if data[1] == 0:  # scapy reads 12 bytes at least
        return data[0], data[8:]
    if len(data) < 12:
        return None
    header, rest = _split(AH, data)
    return None if len(header.icv) < (header.payloadlen - 1) * 4 else (header.nh, rest)
