"""Which interfaces a gateway may bridge: wired Ethernet, and nothing that would loop or cannot carry it.

What exists, and its type, is asked of the kernel by ioctl. Sysfs adds to that, but may show the interfaces
of another network namespace when the process entered its own without mounting /sys anew; so it is
believed only about an interface with the same index and address.
"""

import os
import socket
from pathlib import Path

from softlan.device.netdev import ARPHRD_ETHER, ARPHRD_LOOPBACK, IFF_UP, NetDevice, name_fault
from softlan.errors import HostError

_STAGE = "open interface"
_TUNNEL_DRIVERS = frozenset(("erspan", "geneve", "gretap", "ip6erspan", "ip6gretap", "l2tp_eth", "vxlan"))
"""Links of type Ethernet that are tunnels all the same."""
_TYPES = {
    32: "InfiniBand",
    280: "a CAN bus",
    512: "a PPP link",
    768: "an IP-in-IP tunnel",
    769: "an IPv6 tunnel",
    776: "a 6in4 tunnel",
    778: "a GRE tunnel",
    801: "a Wi-Fi interface",
    802: "a Wi-Fi monitor",
    803: "a Wi-Fi monitor",
    65534: "a tunnel without Ethernet (TUN, WireGuard)",
}
"""What to call some of the ARPHRD types of `linux/if_arp.h`."""


def check_wired(interface: str, sysfs: Path = Path("/sys")) -> None:
    """Raise a HostError that names what was found unless `interface` is wired Ethernet, and up."""
    shown = ascii(interface)[1:-1]
    try:
        if name_fault(interface) is not None:
            raise OSError
        fault = wired_fault(interface, sysfs)
        with NetDevice(interface) as device:
            is_up = bool(device.flags() & IFF_UP)
    except OSError:
        raise HostError(_STAGE, f"there is no interface {shown}; {_advice(sysfs)}") from None
    if fault is not None:
        raise HostError(_STAGE, f"{shown} is {fault}, not a wired Ethernet interface; {_advice(sysfs)}")
    if not is_up:
        raise HostError(_STAGE, f"{shown} is down; bring it up first: ip link set {shown} up")


def wired_fault(interface: str, sysfs: Path = Path("/sys")) -> str | None:
    """What `interface` is instead of wired Ethernet, with its article, or None. OSError when it is gone."""
    with NetDevice(interface) as device:
        kind, address = device.hardware()
        driver = device.driver()
        is_wireless = device.is_wireless()
    if kind == ARPHRD_LOOPBACK:
        return "the loopback"
    marks = _sysfs_marks(interface, address, sysfs)
    if driver == "tun" or "tun_flags" in marks:
        return "a TUN or TAP interface (a tunnel's own end, such as softlan's)"
    if kind != ARPHRD_ETHER:
        return _TYPES.get(kind, f"a link of type {kind}")
    if is_wireless or not marks.isdisjoint(("wireless", "phy80211")):
        return "a Wi-Fi interface (an access point drops frames of other stations' addresses)"
    if driver in _TUNNEL_DRIVERS:
        return f"a tunnel ({driver})"
    return None


def wired_candidates(sysfs: Path = Path("/sys")) -> list[str]:
    """The interfaces here that `check_wired` accepts, sorted."""
    names = []
    for _, name in socket.if_nameindex():
        try:
            with NetDevice(name) as device:
                is_up = bool(device.flags() & IFF_UP)
            if is_up and wired_fault(name, sysfs) is None:
                names.append(name)
        except OSError:
            continue  # it went away meanwhile
    return sorted(names)


def _advice(sysfs: Path) -> str:
    names = wired_candidates(sysfs)
    if not names:
        return "no interface here would do: connect a cable and bring its interface up"
    return "would do here: " + ", ".join(names)


def _sysfs_marks(interface: str, address: bytes, sysfs: Path) -> set[str]:
    """The names in the interface's sysfs directory; none when it is not this interface's."""
    entry = sysfs / "class" / "net" / interface
    try:
        same_index = int((entry / "ifindex").read_text()) == socket.if_nametoindex(interface)
        same_address = (entry / "address").read_text().strip() == address.hex(":")
        return set(os.listdir(entry)) if same_index and same_address else set()
    except (OSError, ValueError):
        return set()
