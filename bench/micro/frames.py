"""Frames as games send them, and the bursts in which they come."""

from softlan.proto.overlay import Kind, header

PLAYER = bytes.fromhex("02005e100001")
OTHER = bytes.fromhex("02005e100002")
BROADCAST = b"\xff" * 6
ROOM_MTU = 1418
BURSTS = (1, 8, 64)
"""Frames that come at once: a single one, a few, and as many as a stream brings."""
SIZES = (100, 1400)
"""Bytes of a frame."""

_TCP = bytes.fromhex("c3501f90") + bytes(8) + bytes.fromhex("5010ffff") + bytes(4)


def ipv4(protocol: int, transport: bytes, size: int = 1400) -> bytes:
    """An IPv4 packet that fills a frame of `size` bytes."""
    length = size - 14
    start = b"\x45\x00" + length.to_bytes(2) + bytes.fromhex("00014000") + bytes((64, protocol)) + bytes(10)
    return (start + transport).ljust(length, b"x")


def ipv6(protocol: int, transport: bytes, size: int = 1400) -> bytes:
    """An IPv6 packet that fills a frame of `size` bytes."""
    length = size - 14
    start = bytes.fromhex("60000000") + (length - 40).to_bytes(2) + bytes((protocol, 64)) + bytes(32)
    return (start + transport).ljust(length, b"x")


def udp(payload: int) -> bytes:
    """A UDP header from a high port to a game's."""
    return bytes.fromhex("c3506987") + (8 + payload).to_bytes(2) + bytes(2)


def ethernet(ethertype: int, payload: bytes, destination: bytes = OTHER, source: bytes = PLAYER) -> bytes:
    """A frame of the player."""
    return destination + source + ethertype.to_bytes(2) + payload


def plain(size: int, destination: bytes = OTHER, source: bytes = PLAYER) -> bytes:
    """An IPv4 UDP frame of `size` bytes."""
    return ethernet(0x0800, ipv4(17, udp(size - 14 - 28), size), destination, source)


def datagram(frame: bytes, peer_id: int = 1) -> bytes:
    """The overlay datagram that carries a frame."""
    return header(Kind.ETHERNET, peer_id) + frame


FRAMES = {
    "IPv4 TCP": ethernet(0x0800, ipv4(6, _TCP)),
    "IPv4 UDP": ethernet(0x0800, ipv4(17, udp(1358))),
    "IPv6 TCP": ethernet(0x86DD, ipv6(6, _TCP)),
    "IPv6 UDP": ethernet(0x86DD, ipv6(17, udp(1338))),
    "IPv6 UDP behind options": ethernet(0x86DD, ipv6(60, b"\x11\x00\x01\x04" + bytes(4) + udp(1330))),
    "ARP": ethernet(0x0806, bytes.fromhex("0001080006040001") + PLAYER + bytes(14)).ljust(60, b"\0"),
    "Novell IPX": ethernet(0x8137, b"\xff\xff" + bytes(200)),
}
