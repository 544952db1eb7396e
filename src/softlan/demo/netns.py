"""Network namespaces with an owner: made, wired, looked into, and removed with all that runs in them.

A namespace is called ``sl<pid>-<role>``: the pid is its owner's. When a run was killed, the next one finds
namespaces whose owner no longer lives and removes them (`sweep`); those of a living owner are never
touched. A pid that was given out again in the meantime keeps leftovers in place rather than put others at
risk.

Everything here is synchronous and switches the calling thread's namespace for a moment, so in asyncio call it
from another thread. Linux only; see ip-netns(8), network_namespaces(7), setns(2).
"""

import contextlib
import ctypes
import ipaddress
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from softlan.demo.processes import end_pids, find_tool
from softlan.errors import HostError

NETNS_DIRECTORY = Path("/run/netns")
MTU = 1500

_NAME = re.compile(r"sl(\d+)(?:\.\d+)?-[a-z0-9]+")
_CLONE_NEWNET = 0x40000000
_IFA_F_NODAD = 0x02
_IFF_UP = 0x01

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as it stood when it was looked at."""

    index: int
    mac: str
    mtu: int
    up: bool
    addresses: tuple[str, ...]
    """With their prefix length, ``10.77.0.10/24``, IPv4 first."""


class Namespace:
    """One named network namespace. `Lab.namespace` makes it; the lab removes it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs `argv` in here, as the same process (``ip netns exec`` execs)."""
        return [find_tool("ip"), "netns", "exec", self.name, *argv]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Move the calling thread in here for the length of the block: new sockets, /proc/sys/net."""
        with (
            _namespace_fd(Path("/proc/thread-self/ns/net")) as home,
            _namespace_fd(NETNS_DIRECTORY / self.name) as here,
        ):
            _setns(here)
            try:
                yield
            finally:
                _setns(home)

    @contextlib.contextmanager
    def netlink(self) -> Iterator[Any]:
        """Open pyroute2's `IPRoute` in here. A refusal by the kernel becomes a `HostError`."""
        with self.entered():
            ip = IPRoute()
        try:
            yield ip
        except NetlinkError as error:
            raise HostError("namespace", f"{self.name}: {error}") from error
        finally:
            ip.close()

    def sysctl(self, key: str, value: int | str) -> None:
        """Set ``net.<key>`` in here, with dots or slashes: ``ipv4.ip_forward``."""
        try:
            with self.entered():
                Path("/proc/sys/net", *re.split(r"[./]", key)).write_text(f"{value}\n")
        except OSError as error:
            raise HostError("namespace", f"{self.name}: cannot set net.{key}: {error.strerror}") from error

    def up(self, interface: str, *addresses: str) -> None:
        """Give `interface` its addresses (``192.0.2.1/24``; no DAD for IPv6) and bring it up."""
        with self.netlink() as ip:
            index = _index(ip, interface)
            for text in addresses:
                address = ipaddress.ip_interface(text)
                flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
                ip.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **flags)
            ip.link("set", index=index, state="up")

    def default_route(self, gateway: str) -> None:
        """Send what has no better route to `gateway`."""
        with self.netlink() as ip:
            everything = "::/0" if ":" in gateway else "0.0.0.0/0"
            ip.route("add", dst=everything, gateway=gateway)

    def bridge(self, name: str) -> None:
        """Make a plain switch: ports forward at once (no STP), all multicast is flooded (no snooping)."""
        with self.netlink() as ip:
            ip.link("add", ifname=name, kind="bridge", br_stp_state=0, br_mcast_snooping=0)
            ip.link("set", index=_index(ip, name), state="up")

    def plug(self, bridge: str, interface: str) -> None:
        """Make `interface` a port of `bridge`, and bring it up."""
        with self.netlink() as ip:
            ip.link("set", index=_index(ip, interface), master=_index(ip, bridge), state="up")

    def link(self, interface: str) -> Link | None:
        """Look at an interface; None when there is none of that name."""
        with self.netlink() as ip:
            found = ip.link_lookup(ifname=interface)
            if not found:
                return None
            try:
                message = ip.get_links(found[0])[0]
                addresses = ip.get_addr(index=found[0])
            except NetlinkError:  # it went away between the questions
                return None
            return Link(
                index=found[0],
                mac=str(message.get("address")),
                mtu=int(message.get("mtu")),
                up=bool(message["flags"] & _IFF_UP),
                addresses=tuple(f"{a.get('address')}/{a['prefixlen']}" for a in sorted(addresses, key=_family)),
            )

    def pids(self) -> list[int]:
        """Return the processes that are in here now (as far as we may see into them)."""
        try:
            here = os.stat(NETNS_DIRECTORY / self.name)
        except FileNotFoundError:
            return []
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    theirs = os.stat(f"/proc/{entry}/ns/net")
                    if (theirs.st_dev, theirs.st_ino) == (here.st_dev, here.st_ino):
                        found.append(int(entry))
        return found

    def remove(self) -> None:
        """End what still runs in here, then remove the namespace; fine when it is gone already."""
        end_pids(self.pids)
        path = NETNS_DIRECTORY / self.name
        try:
            if path.exists():
                _ip("netns", "delete", self.name)
        except HostError:
            if path.exists():  # else another run was sweeping too, and was quicker
                raise


class Lab:
    """Some namespaces that belong together and to one owner; as a context manager it removes them at the end.

    `owner` is the pid that must live for them to be kept, by default our own. `tag` tells several labs of
    one owner apart.
    """

    def __init__(self, owner: int | None = None, tag: int | None = None) -> None:
        self.prefix = f"sl{os.getpid() if owner is None else owner}{'' if tag is None else f'.{tag}'}-"
        self.namespaces: list[Namespace] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def namespace(self, role: str) -> Namespace:
        """Make a namespace, its loopback up. Errors: `HostError` without the privilege, or if it exists."""
        made = Namespace(self.prefix + role)
        self.namespaces.append(made)  # first: an interruption must not leave it without an owner
        _ip("netns", "add", made.name)
        made.up("lo")
        return made

    def cable(self, one: tuple[Namespace, str], other: tuple[Namespace, str], mtu: int = MTU) -> None:
        """Lay a veth pair between two (namespace, interface name) ends, both down and without addresses."""
        (namespace, interface), (far_namespace, far_interface) = one, other
        with namespace.netlink() as ip, _namespace_fd(NETNS_DIRECTORY / far_namespace.name) as far:
            ip.link(
                "add",
                ifname=interface,
                kind="veth",
                peer={"ifname": far_interface, "net_ns_fd": far, "mtu": mtu},
                mtu=mtu,
            )

    def close(self) -> None:
        """Remove every namespace of this lab with what runs in it; the first error is raised at the end."""
        with contextlib.ExitStack() as stack:
            for namespace in self.namespaces:
                stack.callback(namespace.remove)
        self.namespaces.clear()


def labs() -> dict[int, list[Namespace]]:
    """Return all namespaces that follow our naming, by their owner's pid."""
    found: dict[int, list[Namespace]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(NETNS_DIRECTORY)):
            if match := _NAME.fullmatch(name):
                found.setdefault(int(match[1]), []).append(Namespace(name))
    return found


def sweep() -> list[str]:
    """Remove what owners who no longer live have left behind; return the names."""
    removed = []
    for owner, namespaces in labs().items():
        if not _lives(owner):
            for namespace in namespaces:
                namespace.remove()
                removed.append(namespace.name)
    return removed


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # The state follows the name, which is in brackets and may hold some itself (proc(5)). A zombie does nothing more.
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _ip(*arguments: str) -> None:
    # Namespaces are made and unmade by iproute2, which knows how /run/netns has to be mounted; pyroute2
    # would fork this process for it.
    done = subprocess.run([find_tool("ip"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}"
        raise HostError("namespace", f"ip {' '.join(arguments)}: {why}")


def _index(ip: Any, interface: str) -> int:
    found = ip.link_lookup(ifname=interface)
    if not found:
        raise HostError("namespace", f"there is no interface {interface}")
    return int(found[0])


def _family(address: Any) -> int:
    return int(address["family"])


@contextlib.contextmanager
def _namespace_fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _setns(fd: int) -> None:
    # os.setns came with Python 3.12.
    if _libc.setns(fd, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise HostError("namespace", f"cannot enter a network namespace: {os.strerror(code)}")
