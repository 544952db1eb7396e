"""Linux's interface ioctls (netdevice(7)), which act on the namespace that the caller is in."""

import array
import fcntl
import socket
import struct
from types import TracebackType

ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772
IFF_UP = 0x1
NAME_LIMIT = 15
"""IFNAMSIZ less its final zero byte."""

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_SIOCSIFHWADDR, _SIOCGIFHWADDR = 0x8924, 0x8927
_SIOCSIFTXQLEN = 0x8943
_SIOCETHTOOL = 0x8946
_SIOCGIWNAME = 0x8B01
_ETHTOOL_GDRVINFO = 0x03
_DRVINFO_LENGTH = 196
_IFREQ_LENGTH = 40


class NetDevice:
    """The ioctls of one interface by its name; every method raises OSError. A context manager."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._name = name.encode()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> "NetDevice":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def flags(self) -> int:
        """The `IFF_*` bits."""
        return int(struct.unpack_from("=H", self._ioctl(_SIOCGIFFLAGS), 16)[0])

    def set_flags(self, flags: int) -> None:
        """Replace the `IFF_*` bits."""
        self._ioctl(_SIOCSIFFLAGS, struct.pack("=H", flags))

    def hardware(self) -> tuple[int, bytes]:
        """The type (`ARPHRD_*`) and the first 6 bytes of the address."""
        answer = self._ioctl(_SIOCGIFHWADDR)
        return int(struct.unpack_from("=H", answer, 16)[0]), answer[18:24]

    def set_mac(self, mac: bytes) -> None:
        """Set an Ethernet address, 6 bytes."""
        self._ioctl(_SIOCSIFHWADDR, struct.pack("=H6s", ARPHRD_ETHER, mac))

    def mtu(self) -> int:
        """The MTU in bytes of payload."""
        return int(struct.unpack_from("=i", self._ioctl(_SIOCGIFMTU), 16)[0])

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU in bytes of payload."""
        self._ioctl(_SIOCSIFMTU, struct.pack("=i", mtu))

    def set_queue_length(self, frames: int) -> None:
        """Set how many frames wait to be sent: of the driver's ring, if it is a TAP."""
        self._ioctl(_SIOCSIFTXQLEN, struct.pack("=i", frames))

    def is_wireless(self) -> bool:
        """Whether the interface answers to the wireless extensions, which cfg80211 still serves."""
        try:
            self._ioctl(_SIOCGIWNAME)
        except OSError:
            return False
        return True

    def driver(self) -> str:
        """The driver's name or the kind of link (`e1000e`, `veth`, `tun` ...); "" when it does not say."""
        info = array.array("B", struct.pack(f"=I{_DRVINFO_LENGTH - 4}x", _ETHTOOL_GDRVINFO))
        try:
            self._ioctl(_SIOCETHTOOL, struct.pack("@P", info.buffer_info()[0]))
        except OSError:
            return ""
        return info.tobytes()[4:36].split(b"\0", 1)[0].decode("ascii", "replace")

    def _ioctl(self, request: int, value: bytes = b"") -> bytes:
        ifreq = struct.pack(f"=16s{_IFREQ_LENGTH - 16}s", self._name, value)
        return fcntl.ioctl(self._socket.fileno(), request, ifreq)


def name_fault(name: str) -> str | None:
    """Why `name` can not be an interface's, one phrase, or None (`dev_valid_name` in the kernel)."""
    if not 0 < len(name.encode(errors="replace")) <= NAME_LIMIT:
        return f"not 1 to {NAME_LIMIT} bytes long"
    if name in (".", "..") or any(c in "/:%" or c.isspace() or not c.isprintable() for c in name):
        return "made of letters that no interface's name has"
    return None
