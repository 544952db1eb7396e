r"""Four computers as network namespaces, and the processes that run on them.

```
   player ---wan0  to_player--- relay ---to_gateway  wan0--- gateway ---lan0  eth0--- host
     .2     192.0.2.0/24    .1         .1  198.51.100.0/24  .2                     10.77.0.10
```

The relay does not forward IP, and player and gateway have no route to each other: what passes between them went
through the relay's process. The links are veth pairs without segmentation offloads, so that each packet on a "wire" is
a real one of at most 1,514 bytes. IPv6 is off, and TCP over the tunnel is cubic.
"""

import ipaddress
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from softlan.demo.netns import Lab, Namespace
from softlan.demo.processes import Process, environment, find_tool, wait_for
from softlan.errors import HostError

PLAYER_WAN = "192.0.2.2/24"
RELAY_FOR_PLAYER = "192.0.2.1/24"
RELAY_FOR_GATEWAY = "198.51.100.1/24"
GATEWAY_WAN = "198.51.100.2/24"
PLAYER_LAN = "10.77.0.2/24"
HOST_LAN = "10.77.0.10/24"
LAN_PORT = "lan0"
"""The gateway's wired interface."""


def bare(address: str) -> str:
    """``192.0.2.1/24`` without the prefix length."""
    return address.partition("/")[0]


@dataclass(slots=True)
class Site:
    """The four computers, and a directory for the files and logs of what runs there."""

    lab: Lab
    directory: Path
    player: Namespace
    relay: Namespace
    gateway: Namespace
    host: Namespace
    processes: list[Process] = field(default_factory=list)

    @classmethod
    def build(cls, lab: Lab, directory: Path) -> Self:
        """Make the namespaces and their links in `lab`. Errors: `HostError`; what was made ends with the lab."""
        player, relay, gateway, host = (lab.namespace(role) for role in ("player", "relay", "gateway", "host"))
        site = cls(lab, directory, player, relay, gateway, host)
        for computer in site.computers:
            computer.sysctl("ipv6.conf.all.disable_ipv6", 1)
            computer.sysctl("ipv6.conf.default.disable_ipv6", 1)
            computer.sysctl("ipv4.ip_forward", 0)
        site._cable((site.player, "wan0", PLAYER_WAN), (site.relay, "to_player", RELAY_FOR_PLAYER))
        site._cable((site.gateway, "wan0", GATEWAY_WAN), (site.relay, "to_gateway", RELAY_FOR_GATEWAY))
        site._cable((site.gateway, LAN_PORT, None), (site.host, "eth0", HOST_LAN))
        return site

    @property
    def computers(self) -> tuple[Namespace, Namespace, Namespace, Namespace]:
        """Player, relay, gateway and host."""
        return self.player, self.relay, self.gateway, self.host

    def start(self, name: str, computer: Namespace, *argv: str | Path) -> Process:
        """Start a process on a computer, with its output in ``<name>.log``; it ends with us, or with `stop`."""
        process = Process(name, computer.command(*map(str, argv)), self.directory / f"{name}.log")
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """End all processes, the last first."""
        while self.processes:
            self.processes.pop().stop()

    def run(self, computer: Namespace, *argv: str, timeout: float = 60.0) -> str:
        """Run a command to its end and return what it said, whatever its status."""
        done = subprocess.run(
            computer.command(*argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
            env=environment(),
        )
        return done.stdout

    def ip(self, computer: Namespace, line: str) -> None:
        """Run ``ip`` with the words of `line`. Errors: `HostError`."""
        local("ip", "-n", computer.name, *line.split())

    def address(self, computer: Namespace, interface: str, address: str) -> None:
        """Give an interface an address, and its network a route that says cubic: a namespace cannot have a default."""
        network = ipaddress.ip_interface(address).network
        self.ip(computer, f"address add {address} dev {interface} noprefixroute")
        self.ip(computer, f"route add {network} dev {interface} src {bare(address)} congctl cubic")

    def bridge(self, computer: Namespace, name: str, *ports: str) -> None:
        """Make a switch of these interfaces."""
        computer.bridge(name)
        for port in ports:
            computer.plug(name, port)

    def wait_interface(self, computer: Namespace, interface: str, timeout: float = 20.0) -> None:
        """Wait until something has made this interface. Errors: `HostError`."""
        wait_for(f"{interface} in {computer.name}", lambda: computer.link(interface), timeout)

    def fragments(self) -> int:
        """IP fragments that the computers have made so far; RFC 4293, ipSystemStatsOutFragCreates."""
        made = 0
        for computer in self.computers:
            rows = [row.split() for row in self.run(computer, "cat", "/proc/net/snmp").splitlines()]
            names, values = (row for row in rows if row[0] == "Ip:")
            made += int(values[names.index("FragCreates")])
        return made

    def _cable(self, *ends: tuple[Namespace, str, str | None]) -> None:
        (one, name, _), (other, far_name, _) = ends
        self.lab.cable((one, name), (other, far_name))
        for computer, interface, address in ends:
            offloads = ("tso", "off", "gso", "off", "gro", "off")
            local(*computer.command(find_tool("ethtool"), "-K", interface, *offloads))
            computer.up(interface)
            if address is not None:
                self.address(computer, interface, address)


def local(*argv: str, cwd: Path | None = None) -> str:
    """Run a command outside of the namespaces and return its output. Errors: `HostError`, with what it said."""
    done = subprocess.run(
        [find_tool(argv[0]), *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(),
    )
    if done.returncode:
        last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "it said nothing")
        raise HostError(argv[0], f"{' '.join(argv)}: status {done.returncode}: {last}")
    return done.stdout
