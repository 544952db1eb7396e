"""Reads a frame's headers, from the Ethernet type down to its transport, as a filter must: never by guess.

`walk` goes through tags, LLC and SNAP, IPv4 with options, IPv6 with extension headers, and says what is carried.
It never raises. Where receivers could read a frame in two ways, or what would decide is not there, it says
UNDETERMINED, and a filter that must not be evaded drops that (RFC 7112, RFC 7113 section 3, VU#855201).

The decisions on what is not plain:

- IP behind an 802.3 header whose length is wrong, behind SNAP that is not by the book, behind LLC's own SAP for IP
  (RFC 948) or behind EtherTypes 0x8870 and 0x88b7 that bring LLC or SNAP back: undetermined. Windows takes any length,
  Wi-Fi bridges unpack SNAP and ignore the length, others drop the frame.
- A length in an IP header that goes beyond the frame, a version that is not the type's, a chain that leaves the
  packet: undetermined. Bytes behind the packet's own length are padding and are not looked at.
- A first fragment must have its whole transport header, right behind the IP or fragment header: undetermined
  otherwise. Fragments overlap at multiples of 8, so an older receiver lets a later fragment overwrite anything but
  the first 8 bytes (RFC 1858, RFC 3128, RFC 5722); ports and ICMP types that come at once are within them.
- A later fragment is OTHER: it does no harm without a first one, and first ones are judged.
- Atomic fragments (RFC 6946) are whole packets and are walked through.
- IPv4 and IPv6 inside IP (protocols 4 and 41) are walked into: some receivers unpack them unasked (ISATAP, 6to4,
  CVE-2020-10136). GRE and other tunnels need somebody to set them up at the receiver, ESP and IPComp need keys:
  OTHER, as for any transport without a rule.
- IPv6 next headers that are unassigned or for experiments may be extension headers: undetermined (RFC 7045).
- More than 32 headers of one kind, link or network: undetermined. It bounds the work; nobody sends them.

Each frame is judged by itself. What that cannot see: a stack older than RFC 5722 which takes the protocol of one
first fragment and the bytes of another.
"""

import enum
import struct

from softlan.proto.ethernet import ARP, IPV4, IPV6, LLC_SNAP, MIN_ETHERTYPE, MIN_LENGTH, TAG_TYPES

MAX_HEADERS = 32
"""Headers that are followed in the link layer, and again in the network layer."""

LLC = 0
"""In place of an EtherType: an 802.3 frame that has none, such as NetBEUI's or Novell's."""
TORN = -1
"""In place of an EtherType: the link header breaks off, or has no end."""

OVERSIZE_LLC = 0x8870
"""EtherType in place of an 802.3 length, LLC follows (draft-ietf-isis-ext-eth)."""
OUI_EXTENDED = 0x88B7
"""OUI Extended EtherType of IEEE 802: OUI and protocol identifier follow, as in SNAP."""
ENCAPSULATIONS = TAG_TYPES | {OVERSIZE_LLC, OUI_EXTENDED}
"""Types behind which another type follows. A type field below MIN_ETHERTYPE is one too."""


class Found(enum.Enum):
    """What a frame carries."""

    OTHER = "other"
    """Nothing of the following: TCP, a later fragment, ARP, IPX."""
    UNDETERMINED = "undetermined"
    UDP4 = "udp4"
    """UDP in IPv4: source port, destination port."""
    UDP6 = "udp6"
    """UDP in IPv6: source port, destination port."""
    ICMP4 = "icmp4"
    """ICMP in IPv4: type."""
    ICMPV6 = "icmpv6"
    """ICMPv6: type, offset of the message in the bytes that were walked, offset behind it."""
    ICMPV6_PART = "icmpv6_part"
    """The first fragment of an ICMPv6 message that goes on in others; members as for ICMPV6."""


Walked = tuple[Found, int, int, int]
"""What was found, and up to three numbers by its kind; 0 where there are fewer."""

OTHER: Walked = (Found.OTHER, 0, 0, 0)
UNDETERMINED: Walked = (Found.UNDETERMINED, 0, 0, 0)

_ICMP = 1
_IPV4_IN_IP = 4
_TCP = 6
_UDP = 17
_IPV6_IN_IP = 41
_FRAGMENT = 44
_AH = 51
_ICMPV6 = 58
# Hop-by-hop, routing, destination options, mobility, HIP, shim6: next header, length in 8 bytes less one.
_EXTENSIONS = frozenset((0, 43, 60, 135, 139, 140))
# What lies between an IP header and a transport. In a fragment of more, nothing of it may.
_FOLLOWED_IN_IPV4 = frozenset((_IPV4_IN_IP, _IPV6_IN_IP, _AH))
_FOLLOWED = _FOLLOWED_IN_IPV4 | _EXTENSIONS | {_FRAGMENT}
# The last protocol number of IANA's registry that is a transport (NSH, RFC 9491); above: unassigned, experiments.
_LAST_TRANSPORT = 145

_UDP4 = Found.UDP4
_UDP6 = Found.UDP6
_ICMP4 = Found.ICMP4
_ICMPV6_WHOLE = Found.ICMPV6

# A packet with the first bytes of its transport. IPv4: version and IHL, total length, fragment, protocol, ports.
_ipv4_and_ports = struct.Struct("!BxHxxHxB10xHH").unpack_from
# IPv6: version, payload length, next header, ports.
_ipv6_and_ports = struct.Struct("!BxxxHB33xHH").unpack_from
_pair = struct.Struct("!HH").unpack_from

_SNAP = bytes((LLC_SNAP, LLC_SNAP, 0x03))
_BRIDGED_OUIS = (b"\x00\x00\x00", b"\x00\x00\xf8")
# Types that somebody judges by, and those that lead on to them.
_JUDGED = ENCAPSULATIONS | {IPV4, IPV6, ARP}
_SAPS = {0x06: IPV4, 0x98: ARP}
_MAX_802_3 = 1500


def walk(frame: bytes, offset: int = 0) -> Walked:
    """Say what the Ethernet frame that starts at `offset` carries. Offsets in the answer are into `frame`."""
    kind, start, end, _ = link(frame, offset)
    if kind == IPV4:
        return walk_ipv4(frame, start, end)
    if kind == IPV6:
        return walk_ipv6(frame, start, end)
    return UNDETERMINED if kind == TORN else OTHER


def link(frame: bytes, offset: int = 0) -> tuple[int, int, int, int]:
    """Read the link header of the frame at `offset`: EtherType, where its payload starts, where it ends, tags.

    The EtherType is LLC for an 802.3 frame without one (then the payload starts with the LLC header), TORN when the
    header breaks off. The end is what 802.3's length and the frame agree on, 0 when receivers would differ about it.
    Tags of 802.1Q, 802.1ad and 0x9100 may stand in any order with LLC and SNAP; those in front are counted, those
    inside of SNAP are its payload.

    RFC 1042 (OUI 00-00-00) and IEEE 802.1H (OUI 00-00-f8) both carry an EtherType.
    """
    length = end = len(frame)
    at = offset + 12
    tags = 0
    unpacked = False
    for _ in range(MAX_HEADERS):
        start = at + 2
        if start > length:
            break
        kind = frame[at] << 8 | frame[at + 1]
        if kind in TAG_TYPES:
            tags += not unpacked
            at = start + 2
            continue
        if kind == OUI_EXTENDED:
            snap, end = start, 0
        elif kind >= MIN_ETHERTYPE and kind != OVERSIZE_LLC:
            return kind, start, end, tags
        else:
            if start + 3 > length:
                break
            padded = length - offset <= MIN_LENGTH + 4 * tags
            if unpacked or kind > _MAX_802_3 or not (kind == length - start or (kind < length - start and padded)):
                end = 0
            else:
                end = start + kind
            dsap = frame[start] & 0xFE
            if dsap != LLC_SNAP:
                if dsap in _SAPS:
                    return _SAPS[dsap], start + 3, 0, tags
                return LLC, start, end, tags
            if not frame.startswith(_SNAP, start):
                end = 0
            snap = start + 3
        if snap + 5 > length:
            break
        unpacked = True
        at = snap + 3
        if frame[snap:at] not in _BRIDGED_OUIS:
            # Another organisation's protocol, unless somebody reads the identifier and not the OUI.
            if frame[at] << 8 | frame[at + 1] not in _JUDGED:
                return LLC, start, end, tags
            end = 0
    return TORN, length, 0, tags


def walk_ipv4(frame: bytes, start: int, end: int) -> Walked:
    """Say what the IPv4 packet at `start` carries; nothing of it may lie at `end` or behind."""
    if end - start >= 28:
        first, total, fragment, protocol, source, destination = _ipv4_and_ports(frame, start)
        if first == 0x45 and not fragment & 0x3FFF and 28 <= total <= end - start:
            if protocol == _UDP:
                return _UDP4, source, destination, 0
            if protocol == _ICMP:
                return _ICMP4, source >> 8, 0, 0
            if protocol not in _FOLLOWED_IN_IPV4:
                return OTHER
    return _follow(frame, _IPV4_IN_IP, start, end)


def walk_ipv6(frame: bytes, start: int, end: int) -> Walked:
    """Say what the IPv6 packet at `start` carries; nothing of it may lie at `end` or behind."""
    if end - start >= 48:
        first, size, header, word, second = _ipv6_and_ports(frame, start)
        if first >> 4 == 6 and 8 <= size <= end - start - 40:
            if header == _TCP:
                return OTHER
            if header == _UDP:
                return _UDP6, word, second, 0
            if header == _ICMPV6:
                return _ICMPV6_WHOLE, word >> 8, start + 40, start + 40 + size
    return _follow(frame, _IPV6_IN_IP, start, end)


def _follow(frame: bytes, header: int, at: int, end: int) -> Walked:
    """Follow the chain from `header` (a protocol number; 4 and 41 are IP itself) at `at` to its transport."""
    version = 0
    part = False  # of a packet that goes on in other fragments
    for _ in range(MAX_HEADERS):
        space = end - at
        if part and header in (_FOLLOWED if version == 6 else _FOLLOWED_IN_IPV4):
            return UNDETERMINED
        if header == _IPV4_IN_IP:
            if space < 20:
                return UNDETERMINED
            size = (frame[at] & 0x0F) * 4
            total, _ = _pair(frame, at + 2)
            if frame[at] >> 4 != 4 or size < 20 or not size <= total <= space:
                return UNDETERMINED
            version, header = 4, frame[at + 9]
            later, part = (frame[at + 6] & 0x1F or frame[at + 7]) != 0, frame[at + 6] & 0x20 != 0
            end = at + total
        elif header == _IPV6_IN_IP:
            if space < 40:
                return UNDETERMINED
            size, later = 40, False
            total = 40 + (frame[at + 4] << 8 | frame[at + 5])
            if frame[at] >> 4 != 6 or total > space:
                return UNDETERMINED
            version, header = 6, frame[at + 6]
            end = at + total
        elif header == _UDP:
            if space < 8:
                return UNDETERMINED
            source, destination = _pair(frame, at)
            return (_UDP4 if version == 4 else _UDP6), source, destination, 0
        elif version == 4 and header == _ICMP:
            return UNDETERMINED if space < 8 else (_ICMP4, frame[at], 0, 0)
        elif header == _AH:
            if space < 8:
                return UNDETERMINED
            size, later, header = (frame[at + 1] + 2) * 4, False, frame[at]
        elif version == 6 and header == _FRAGMENT:
            if space < 8:
                return UNDETERMINED
            size, header = 8, frame[at]
            later, part = (frame[at + 2] or frame[at + 3] & 0xF8) != 0, frame[at + 3] & 1 != 0
        elif version == 6 and header in _EXTENSIONS:
            if space < 8:
                return UNDETERMINED
            size, later, header = (frame[at + 1] + 1) * 8, False, frame[at]
        elif version == 6 and header == _ICMPV6:
            if space < 4:
                return UNDETERMINED
            return (Found.ICMPV6_PART if part else _ICMPV6_WHOLE), frame[at], at, end
        elif version == 6 and header > _LAST_TRANSPORT:
            return UNDETERMINED
        else:
            return UNDETERMINED if part and space < (20 if header == _TCP else 8) else OTHER
        if size > space:
            return UNDETERMINED
        if later:
            return OTHER
        at += size
    return UNDETERMINED
