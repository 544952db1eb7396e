"""A party for the end-to-end tests, and what they need to watch it: more players, eyes on a wire, counters.

Everything that runs here is a real command in a network namespace, and gone when its context ends.
"""

import contextlib
import itertools
import json
import shlex
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.tools import require_tool, unavailable

from softlan.demo import topology, userns
from softlan.demo.netns import Lab, Namespace
from softlan.demo.processes import Process, environment, find_tool, wait_for
from softlan.demo.services import RELAY_NAME, ROOM, Services
from softlan.demo.topology import Party
from softlan.errors import HostError

AMPLE = 10.0
"""Seconds for what takes a moment: a bound for a machine that is busy with other things, not a requirement."""

_tags = itertools.count(1001)  # the labs of tests.support.netns count from 1
_guests = itertools.count(10)

_SOL_PACKET, _PACKET_AUXDATA, _PACKET_OUTGOING, _ETH_P_ALL = 263, 8, 4, 3
_AUXDATA = struct.Struct("=I12xHH")  # struct tpacket_auxdata, packet(7)
_VLAN_VALID = 1 << 4


@contextlib.contextmanager
def lan_party(directory: Path) -> Iterator[Services]:
    """The demo's topology in a lab of its own, with nothing running yet."""
    for tool in ("ping", "dnsmasq", "udhcpc", "setpriv"):
        require_tool(tool)
    try:
        userns.check_tun()
    except HostError as error:
        unavailable(str(error))
    with Lab(tag=next(_tags)) as lab, Services(Party.build(lab), directory) as services:
        yield services


def plain_cable(*ends: tuple[Namespace, str]) -> None:
    """Let these interfaces carry packets as a cable does: one by one, none larger than the MTU.

    Otherwise a veth hands a burst over as one (GSO), whatever the MTU at its other end is.
    """
    require_tool("ethtool")
    for namespace, interface in ends:
        run(
            namespace,
            "ethtool",
            "-K",
            interface,
            "tx-udp-segmentation",
            "off",
            "tso",
            "off",
            "gso",
            "off",
            "gro",
            "off",
        )


def another_player(services: Services, mtu: int = 1500) -> Services:
    """Wire up one more player behind a plain cable of `mtu`; the result's `client()` is that player's.

    Its addresses are 192.0.<number>.10 and 2001:db8:<number>::10, the inet's end is called player<number>0. It
    leaves with the lab.
    """
    party, number = services.party, next(_guests)
    namespace = party.lab.namespace(f"player{number}")
    port, ipv4, ipv6 = f"player{number}0", f"192.0.{number}", f"2001:db8:{number}:"
    party.lab.cable((party.inet, port), (namespace, topology.WAN_INTERFACE), mtu)
    plain_cable((party.inet, port), (namespace, topology.WAN_INTERFACE))
    party.inet.up(port, f"{ipv4}.1/24", f"{ipv6}:1/64")
    namespace.up(topology.WAN_INTERFACE, f"{ipv4}.10/24", f"{ipv6}:10/64")
    namespace.default_route(f"{ipv4}.1")
    namespace.default_route(f"{ipv6}:1")
    directory = services.directory / f"player{number}"
    directory.mkdir()
    guest = Services(replace(party, player=namespace), directory)
    shutil.copy(services.relay_certificate, guest.relay_certificate)
    return guest


def lan_address(guest: Services) -> str:
    """An address of the LAN for the player of `another_player`, outside of DHCP's range and nobody else's ever.

    Others remember for a while which MAC an address had.
    """
    number = int(guest.party.player.name.rpartition("player")[2])
    return f"10.77.0.{200 + number}"


def endpoint_flags(services: Services, relay: str = topology.RELAY, room: str = ROOM) -> list[str]:
    """The flags by which an endpoint joins the party's room."""
    return [
        *("--relay", relay, "--server-name", RELAY_NAME),
        *("--relay-ca-cert", str(services.relay_certificate), "--room", room),
        *("--log-format", "json"),
    ]


def client_of(services: Services, relay: str, etc: Mapping[str, str] | None = None) -> Process:
    """Start the player's client towards `relay`; the files of /etc that are given have this content for it."""
    argv = [sys.executable, "-m", "softlan", "client", *endpoint_flags(services, relay)]
    argv += ["--state-dir", str(services.directory / "client")]
    mounts = ""
    for name, text in (etc or {}).items():
        file = services.directory / name
        file.write_text(text)
        mounts += f"mount --bind {shlex.quote(str(file))} /etc/{name} && "
    # `ip netns exec` gives the command a mount namespace of its own.
    return services.start("client", services.party.player, "/bin/sh", "-c", f"{mounts}exec {shlex.join(argv)}")


def run(namespace: Namespace, *argv: str, timeout: float = 30) -> str:
    """Run a system command in a namespace and return what it printed. Raises with what it complained about."""
    command = namespace.command(find_tool(argv[0]), *argv[1:])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, env=environment())
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}"
    return done.stdout


def answers(namespace: Namespace, address: str, *flags: str) -> bool:
    """Tell whether `address` answers one ping within half a second."""
    tool = find_tool("ping")
    command = namespace.command(tool, "-n", "-q", "-c", "1", "-W", "0.5", *flags, address)
    return subprocess.run(command, capture_output=True, check=False, env=environment()).returncode == 0


class Pinger:
    """A ping that goes on, ten times a second, whatever becomes of the way."""

    def __init__(self, services: Services, namespace: Namespace, address: str) -> None:
        name = f"ping-{namespace.name.rpartition('-')[2]}-{address}"
        tool = find_tool("ping")
        self._process = services.start(name, namespace, tool, "-n", "-i", "0.1", address)

    def replies(self) -> int:
        """How many answers have come so far."""
        return self._process.output().count("bytes from")

    def wait_for_more(self, timeout: float) -> None:
        """Wait for an answer from now on."""
        before = self.replies()
        self._process.wait_for("another answer", lambda: self.replies() > before, timeout)


class Port:
    """An interface as seen by a capture on it: what arrives there, and frames sent out of it."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def __enter__(self) -> "Port":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self._socket.send(frame)

    def arrived(self) -> list[bytes]:
        """Take the frames that have arrived since the last call, each as it was on the wire."""
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, ancillary, _, address = self._socket.recvmsg(65535, socket.CMSG_SPACE(20))
                if address[2] == _PACKET_OUTGOING:
                    continue
                for _, _, data in ancillary:  # the kernel takes a tag off
                    status, tci, tpid = _AUXDATA.unpack(data)
                    if status & _VLAN_VALID:
                        frame = frame[:12] + struct.pack(">HH", tpid, tci) + frame[12:]
                frames.append(frame)
        return frames

    def until(self, wanted: bytes | Callable[[bytes], bool], timeout: float = AMPLE) -> list[bytes]:
        """Wait for a frame, by itself or by a condition; return what arrived up to it, it being the last."""
        match: Callable[[bytes], bool] = wanted if callable(wanted) else lambda frame: frame == wanted
        seen: list[bytes] = []

        def found() -> list[bytes] | None:
            for frame in self.arrived():
                seen.append(frame)
                if match(frame):
                    return seen
            return None

        return wait_for("the frame", found, timeout)


def protocol_counters(namespace: Namespace) -> dict[str, int]:
    """The kernel's counters of a namespace by name, such as ``TcpInCsumErrors`` (proc_net(5): snmp, snmp6)."""
    found: dict[str, int] = {}
    with namespace.entered():
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        snmp6 = Path("/proc/thread-self/net/snmp6")
        six = snmp6.read_text().splitlines() if snmp6.exists() else []
    for names, values in zip(lines[::2], lines[1::2], strict=True):  # a line of names, a line of values
        prefix, _, rest = names.partition(":")
        found |= {prefix + name: int(value) for name, value in zip(rest.split(), values.split()[1:], strict=True)}
    for line in six:
        name, value = line.split()
        found[name] = int(value)
    return found


def routes(namespace: Namespace) -> list[str]:
    """All routes of a namespace, of both families and every table, as ip-route(8) prints them."""
    listed = (run(namespace, "ip", family, "route", "show", "table", "all") for family in ("-4", "-6"))
    return sorted(line.strip() for text in listed for line in text.splitlines())


def settled_routes(namespace: Namespace) -> list[str]:
    """The routes once the kernel has added the last of its own: that of the IPv6 link-local address."""
    wait_for("a link-local address", lambda: any("local fe80" in line for line in routes(namespace)), AMPLE)
    return routes(namespace)


def event(process: Process, name: str, timeout: float = AMPLE, skip: int = 0, **members: Any) -> dict[str, object]:
    """Wait for a log event with these members; `skip` leaves out the first events of that name."""

    def logged() -> dict[str, object] | None:
        found = process.events(name, skip)
        return next((e for e in found if all(e.get(key) == value for key, value in members.items())), None)

    return wait_for(f"{process.name} says {name} {members or ''}", logged, timeout)


def iperf(
    services: Services, server: Namespace, address: str, client: Namespace, *flags: str, timeout: float = 60
) -> dict[str, Any]:
    """Run iperf3 from `client` to `address` in `server`; the client's report, iperf3's JSON.

    TCP for 10 s unless `flags` say otherwise; `-R` lets the server send. Errors: `HostError`.
    """
    tool = find_tool("iperf3")
    listening = services.start("iperf3", server, tool, "--server", "--one-off", "--forceflush")
    try:
        listening.wait_for("listening", lambda: "Server listening" in listening.output(), 10)
        done = subprocess.run(
            client.command(tool, "--client", address, "--json", *flags),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=environment(),
        )
        report: dict[str, Any] = json.loads(done.stdout or "{}")
        if done.returncode or "error" in report:
            raise HostError("iperf3", str(report.get("error", done.stderr.strip() or f"status {done.returncode}")))
        listening.finish(10)
        return report
    except subprocess.TimeoutExpired:
        raise HostError("iperf3", f"did not end within {timeout:g} s") from None
    finally:
        listening.stop()
        services.processes.remove(listening)
