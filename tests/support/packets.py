"""Frames from parts, as bytes: every field can be set, also to what no decent stack would send.

The innermost part is built first, and the parts of a frame stand in the order of the wire:
`ether(dot1q(5), kind(IPV4), ipv4(udp(68, 67)))`. Lengths are right unless they are given. Checksums of transports
are left zero.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

IPV4, ARP, RARP, IPV6 = 0x0800, 0x0806, 0x8035, 0x86DD
HOP_BY_HOP, ICMP, IGMP, IPIP, TCP, UDP, IPV6_IN_IP, ROUTING, FRAGMENT, GRE = 0, 1, 2, 4, 6, 17, 41, 43, 44, 47
ESP, AH, ICMPV6, NO_NEXT, DESTINATION, MOBILITY, HIP, SHIM6 = 50, 51, 58, 59, 60, 135, 139, 140

CLIENT = bytes.fromhex("020000000001")
"""The client that sends, unless something else is said."""
OTHER_CLIENT = bytes.fromhex("020000000002")
LAN_HOST = bytes.fromhex("3c970e000010")
ROUTER = bytes.fromhex("3c970e000001")
BROADCAST = b"\xff" * 6
ALL_NODES = bytes.fromhex("333300000001")
ALL_ROUTERS = bytes.fromhex("333300000002")

SNAP_RFC1042 = bytes(3)
SNAP_802_1H = b"\x00\x00\xf8"


def group(address: str) -> bytes:
    """The MAC of an IP multicast group (RFC 1112 section 6.4, RFC 2464 section 7)."""
    if ":" in address:
        return b"\x33\x33" + IPv6Address(address).packed[12:]
    low = IPv4Address(address).packed[1:]
    return b"\x01\x00\x5e" + bytes((low[0] & 0x7F,)) + low[1:]


# The link layer


def ether(*parts: bytes, dst: bytes = LAN_HOST, src: bytes = CLIENT) -> bytes:
    return dst + src + b"".join(parts)


def kind(ethertype: int) -> bytes:
    return ethertype.to_bytes(2, "big")


def dot1q(vlan: int = 0, priority: int = 0, tpid: int = 0x8100) -> bytes:
    """One tag, with its own type in front; vlan 0 is a priority tag."""
    return struct.pack("!HH", tpid, priority << 13 | vlan)


def llc(payload: bytes, *, dsap: int, ssap: int | None = None, control: int = 3, length: int | None = None) -> bytes:
    """An 802.3 length, LLC and what it carries."""
    body = bytes((dsap, dsap if ssap is None else ssap, control)) + payload
    return kind(len(body) if length is None else length) + body


def snap(
    *payload: bytes, oui: bytes = SNAP_RFC1042, ssap: int = 0xAA, control: int = 3, length: int | None = None
) -> bytes:
    """An 802.3 length, LLC/SNAP, and in `payload` first the type."""
    return llc(oui + b"".join(payload), dsap=0xAA, ssap=ssap, control=control, length=length)


def arp(
    sender: bytes = CLIENT,
    *,
    operation: int = 1,
    sender_ip: str = "192.168.1.50",
    target: bytes = bytes(6),
    target_ip: str = "192.168.1.1",
    hlen: int = 6,
) -> bytes:
    fixed = struct.pack("!HHBBH", 1, IPV4, hlen, 4, operation)
    return fixed + sender + IPv4Address(sender_ip).packed + target + IPv4Address(target_ip).packed


# IPv4


def ipv4(
    payload: bytes,
    protocol: int = UDP,
    *,
    options: bytes = b"",
    offset: int = 0,
    more: bool = False,
    total: int | None = None,
    version: int = 4,
    ihl: int | None = None,
    src: str = "192.168.1.50",
    dst: str = "192.168.1.10",
) -> bytes:
    """A packet; `offset` is a fragment's in bytes, `total` and `ihl` (in 4 bytes) are right unless given."""
    words = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + len(payload) if total is None else total
    fragment = (0x2000 if more else 0) | offset // 8
    header = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | words,
        0,
        length,
        0x1234,
        fragment,
        64,
        protocol,
        0,
        IPv4Address(src).packed,
        IPv4Address(dst).packed,
    )
    header += options
    return header[:10] + _checksum(header).to_bytes(2, "big") + header[12:] + payload


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


# IPv6


def ipv6(
    payload: bytes,
    header: int = UDP,
    *,
    length: int | None = None,
    version: int = 6,
    hops: int = 255,
    src: str = "fe80::1",
    dst: str = "ff02::1",
) -> bytes:
    """A packet; `header` says what `payload` starts with, `length` is right unless given."""
    size = len(payload) if length is None else length
    return (
        struct.pack("!IHBB", version << 28, size, header, hops) + IPv6Address(src).packed + IPv6Address(dst).packed
    ) + payload


def extension(following: int, units: int = 0, data: bytes = b"") -> bytes:
    """Hop-by-hop, routing, destination options, mobility, HIP, shim6: 8 bytes and `units` times 8 more.

    Filled with one PadN option, if `data` is not given.
    """
    size = 6 + 8 * units
    if not data:
        # Several PadN options, since one has room for 255 bytes.
        while size - len(data) > 257:
            data += b"\x01\xff" + bytes(255)
        left = size - len(data)
        data += b"\x00" if left == 1 else bytes((1, left - 2)) + bytes(left - 2) if left else b""
    return bytes((following, units)) + data.ljust(size, b"\0")[:size]


def fragment(following: int, *, offset: int = 0, more: bool = False, identification: int = 7) -> bytes:
    """A fragment header; `offset` in bytes."""
    return struct.pack("!BBHI", following, 0, offset & 0xFFF8 | more, identification)


def ah(following: int, words: int = 4) -> bytes:
    """An authentication header of `words` times 4 bytes less 8 (RFC 4302: the length field)."""
    return bytes((following, words)) + bytes((words + 2) * 4 - 2)


def chain(*headers: int, then: int, payload: bytes, units: int = 0) -> tuple[bytes, int]:
    """Extension headers by number in front of `payload`, which is a `then`: what `ipv6` takes.

    Fragment headers of a chain are atomic.
    """
    numbers = (*headers, then)
    out = b""
    for number, following in zip(headers, numbers[1:], strict=True):
        if number == FRAGMENT:
            out += fragment(following)
        elif number == AH:
            out += ah(following)
        else:
            out += extension(following, units)
    return out + payload, numbers[0]


# Transports


def udp(source: int, destination: int, data: bytes = b"softlan", *, length: int | None = None) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(data) if length is None else length, 0) + data


def tcp(source: int, destination: int, data: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", source, destination, 1, 1, 5 << 4, 0x18, 1024, 0, 0) + data


def icmpv6(message: int, body: bytes = bytes(4), code: int = 0) -> bytes:
    """Type, code, checksum, and `body` behind them."""
    return bytes((message, code, 0, 0)) + body


def link_layer_option(option: int, mac: bytes, units: int = 1) -> bytes:
    """Option 1 (source) or 2 (target) of neighbour discovery."""
    return bytes((option, units)) + mac.ljust(8 * units - 2, b"\0")


def router_solicitation(*options: bytes) -> bytes:
    return icmpv6(133, bytes(4) + b"".join(options))


def router_advertisement(*options: bytes) -> bytes:
    """As a rogue router sends it: default route for 1800 s, and a prefix to make addresses of."""
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0) + IPv6Address("2001:db8:bad::").packed
    return icmpv6(134, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix + b"".join(options))


def neighbour_solicitation(*options: bytes, target: str = "fe80::10") -> bytes:
    return icmpv6(135, bytes(4) + IPv6Address(target).packed + b"".join(options))


def neighbour_advertisement(*options: bytes, target: str = "fe80::50") -> bytes:
    return icmpv6(136, b"\x60\0\0\0" + IPv6Address(target).packed + b"".join(options))


def redirect(target: str = "fe80::bad", destination: str = "2001:db8::1") -> bytes:
    return icmpv6(137, bytes(4) + IPv6Address(target).packed + IPv6Address(destination).packed)


def dhcp(operation: int, data: bytes = b"") -> bytes:
    """A DHCP message's fixed part and cookie (RFC 2131 section 2); operation 1 requests, 2 replies."""
    fixed = struct.pack("!BBBBIHH", operation, 1, 6, 0, 0x3903F326, 0, 0x8000) + bytes(16)
    return fixed + CLIENT.ljust(16, b"\0") + bytes(192) + bytes.fromhex("63825363") + data + b"\xff"
