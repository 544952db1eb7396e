"""What a Linux machine needs to play, each thing looked at alone; roots of /proc and the like are given, for tests."""

import contextlib
import re
from pathlib import Path

from softlan.client.doctor.finding import Finding, failed, no_route, ok, skipped, warning, way
from softlan.errors import HostError
from softlan.host.base import HostNetwork, IPAddress
from softlan.host.privileges import Capability

_ROOT = Path("/")


def privileges(root: Path = _ROOT) -> Finding:
    """CAP_NET_ADMIN, by which interfaces and routes are made (proc_pid_status(5), CapEff)."""
    name = "privileges"
    try:
        status = (root / "proc/self/status").read_text()
    except OSError as error:
        return skipped(name, f"Cannot read this process's capabilities: {error.strerror}.")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if found is None:
        return skipped(name, "The kernel does not tell this process's capabilities.")
    if int(found[1], 16) >> Capability.NET_ADMIN & 1:
        return ok(name, "This process may make interfaces and routes (CAP_NET_ADMIN).")
    return failed(name, "This process may not make interfaces (no CAP_NET_ADMIN).", "Run it as root: sudo softlan ...")


def driver(root: Path = _ROOT) -> Finding:
    """/dev/net/tun, to be opened for reading and writing."""
    name, clone = "driver", root / "dev/net/tun"
    try:
        with clone.open("r+b", buffering=0):
            pass
    except FileNotFoundError:
        return failed(
            name, "There is no /dev/net/tun.", "Load the driver: sudo modprobe tun; in a container, pass the device in."
        )
    except PermissionError:
        return failed(name, "This process may not open /dev/net/tun.", "Run it as root: sudo softlan ...")
    except OSError as error:
        return failed(name, f"/dev/net/tun cannot be opened: {error.strerror}.", "Load the driver: sudo modprobe tun.")
    return ok(name, "/dev/net/tun is there, and can be opened.")


def adapter(tap_name: str, root: Path = _ROOT) -> Finding:
    """Whether the interface that the client would make is free."""
    name = "adapter"
    if (root / "sys/class/net" / tap_name).exists():
        return warning(
            name,
            f"There is an interface {tap_name} already.",
            "A client that runs has it; else remove it, or choose another name with --tap-name.",
        )
    return ok(name, f"The name {tap_name} is free for the client's interface.")


def route(network: HostNetwork, relay: IPAddress | None, tap_name: str, root: Path = _ROOT) -> Finding:
    """Which way the relay is, and whether that is a tunnel."""
    name = "route"
    if relay is None:
        return skipped(name, "Not looked at: the relay's address is not known.")
    try:
        best = network.best_route(relay)
    except HostError as error:
        return skipped(name, f"Not looked at: {error}.")
    if best is None:
        return no_route(relay)
    if best.interface == tap_name:
        return failed(
            name,
            f"The way to the relay {relay} leads through {tap_name}, the tunnel itself.",
            f"Remove that route: sudo ip route del {best.destination} dev {tap_name}.",
        )
    if is_tunnel(best.interface, root):
        return warning(
            name,
            f"The relay {relay} is reached {way(best)}, which is another VPN.",
            "That works, with a smaller MTU and a longer way; end the other VPN if you can.",
        )
    return ok(name, f"The relay {relay} is reached {way(best)}.")


def other_vpns(root: Path = _ROOT) -> Finding:
    """Tunnels of others that carry a default route (proc_net_route(5))."""
    name = "other VPNs"
    try:
        lines = (root / "proc/net/route").read_text().splitlines()[1:]
    except OSError as error:
        return skipped(name, f"Cannot read the routes: {error.strerror}.")
    # WireGuard's and OpenVPN's two halves of the address space are a default route in all but name.
    wide = ("00000000", "00000080", "80000000")
    devices = sorted(
        {fields[0] for line in lines if (fields := line.split()) and fields[1] in wide and _is_wide(fields)}
    )
    tunnels = [device for device in devices if is_tunnel(device, root)]
    if tunnels:
        return warning(
            name,
            f"All traffic of this machine goes through {' and '.join(tunnels)}, another VPN.",
            "The party works through it, with a longer way; end the other VPN if games are slow.",
        )
    return ok(name, "No other VPN takes this machine's default route.")


def firewall(tap_name: str, root: Path = _ROOT) -> Finding:
    """Ufw's switch (/etc/ufw/ufw.conf). Other firewalls are not looked for."""
    name = "firewall"
    try:
        config = (root / "etc/ufw/ufw.conf").read_text()
    except FileNotFoundError:
        return skipped(name, "No ufw here; other firewalls are not looked at.")
    except OSError as error:
        return skipped(name, f"Cannot read ufw's settings: {error.strerror}.")
    if re.search(r"^\s*ENABLED\s*=\s*yes\s*$", config, re.MULTILINE | re.IGNORECASE):
        return warning(
            name,
            "The firewall ufw is on: others in the party may not reach a game that is hosted here.",
            f"To host one: sudo ufw allow in on {tap_name}.",
        )
    return ok(name, "The firewall ufw is off.")


def is_tunnel(interface: str, root: Path = _ROOT) -> bool:
    """Whether the interface is another program's tunnel: a TUN or TAP, WireGuard, PPP, or one of the kernel's."""
    directory = root / "sys/class/net" / interface
    with contextlib.suppress(OSError):
        if "DEVTYPE=wireguard" in (directory / "uevent").read_text():
            return True
    if (directory / "tun_flags").exists():
        return True
    with contextlib.suppress(OSError, ValueError):
        # PPP, TUNNEL, TUNNEL6, SIT, IPGRE, NONE (linux/if_arp.h)
        return int((directory / "type").read_text()) in (512, 768, 769, 776, 778, 65534)
    return False


def _is_wide(fields: list[str]) -> bool:
    """Whether a line's mask is that of a default route or of half of the addresses."""
    return len(fields) > 7 and fields[7] in ("00000000", "00000080")
