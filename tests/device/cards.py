"""What tests of packet sockets have at the other end of the cable."""

import array
import fcntl
import os
import socket
import struct

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from tests.device.namespaces import Namespace

SOL_PACKET, PACKET_VNET_HDR = 263, 15
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, TUNSETIFF = 0x0002, 0x1000, 0x4000, 0x400454CA
GSO_UDP_FRAGMENTS = 3
SIOCETHTOOL, ETHTOOL_STXCSUM, ETHTOOL_STSO = 0x8946, 0x17, 0x1F


def offload_nothing(interface: str) -> None:
    """Let an interface of this namespace be a card that makes no checksums and splits nothing: the kernel does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in (ETHTOOL_STSO, ETHTOOL_STXCSUM):
            value = array.array("I", (command, 0))  # struct ethtool_value
            ifreq = struct.pack("@16sP16x", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(any_socket.fileno(), SIOCETHTOOL, ifreq)


def vnet_header(
    *, gso: int = 0, gso_size: int = 0, header_length: int = 0, csum_start: int = 0, csum_offset: int = 0
) -> bytes:
    """A virtio_net_hdr."""
    flags = 1 if csum_start else 0
    return struct.pack("=BBHHHH", flags, gso, header_length, gso_size, csum_start, csum_offset)


class Far:
    """The other end of the cable: a raw socket that hands super-frames to the kernel as a stack does."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.bind((interface, 3))
        self._socket.settimeout(5)

    def send(self, frame: bytes, **offload: int) -> None:
        self._socket.sendmsg((vnet_header(**offload), frame))

    def receive(self) -> bytes:
        return self.receive_with_header()[1]

    def receive_with_header(self) -> tuple[bytes, bytes]:
        """A virtio_net_hdr and the frame behind it."""
        received = self._socket.recv(65600)
        return received[:10], received[10:]

    def close(self) -> None:
        self._socket.close()


class Card:
    """An interface whose card is here: what it received goes to the kernel as it is, whatever a driver may claim."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("=16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        namespace.ip("link", "set", name, "addrgenmode", "none")
        namespace.ip("link", "set", name, "up")

    def receive(self, frame: bytes, **offload: int) -> None:
        os.write(self._fd, vnet_header(**offload) + frame)

    def receive_what_no_header_describes(self) -> None:
        """A UDP datagram yet to be fragmented: Linux takes it from a card, but does not tell a packet socket of it."""
        packet = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b") / IP() / UDP() / Raw(bytes(1200))
        self.receive(bytes(packet), gso=GSO_UDP_FRAGMENTS, gso_size=600, header_length=42, csum_start=34, csum_offset=6)

    def close(self) -> None:
        os.close(self._fd)
