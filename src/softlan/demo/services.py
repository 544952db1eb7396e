"""What runs at the party: the real softlan commands, a DHCP server, and the computer on the LAN.

Every function starts a process with its output in ``<directory>/<name>.log`` and its state in
``<directory>/<name>``, adds it to `processes` as soon as it runs, and returns when it is ready. Errors:
`HostError`, when it is not in time.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from softlan.demo import topology
from softlan.demo.netns import Link, Namespace
from softlan.demo.processes import Process, find_tool
from softlan.demo.topology import Party
from softlan.errors import HostError

ROOM = "DEMO"
RELAY_NAME = "lanparty-relay.local"
TAP = "softlan0"

_READY = 20.0  # seconds, for a machine that is busy with other things


@dataclass(slots=True)
class Services:
    """Starts processes at `party` and keeps them in `processes`, in the order of their start.

    With `outlive` they go on when the process that started them is gone. As a context manager it stops them
    at the end.
    """

    party: Party
    directory: Path
    outlive: bool = False
    processes: list[Process] = field(default_factory=list)
    invitation: Path | None = None
    """The file of `invite`, by which endpoints that are started later join; None is an open room."""

    def start(self, name: str, namespace: Namespace, *argv: str) -> Process:
        """Start any command in a namespace; it may not be ready yet."""
        log = self.directory / f"{name}.log"
        process = Process(name, namespace.command(*argv), log, outlive=self.outlive)
        self.processes.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all of them, the last started first, so that clients can still say goodbye to the relay."""
        while self.processes:
            self.processes.pop().stop()

    def dhcp_server(self) -> Process:
        """Start dnsmasq as the LAN's DHCP server: addresses only, without a router and without DNS."""
        first, last = topology.DHCP_RANGE
        process = self.start(
            "dhcp",
            self.party.dhcp,
            find_tool("dnsmasq"),
            "--no-daemon",  # and as who we are: in a user namespace there is nobody else to become
            "--conf-file=/dev/null",
            "--log-facility=-",
            "--log-dhcp",
            "--port=0",
            "--bind-interfaces",
            f"--interface={topology.LAN_INTERFACE}",
            f"--dhcp-range={first},{last},{topology.LAN.netmask},1h",
            "--dhcp-option=option:router",
            "--dhcp-option=option:dns-server",
            "--dhcp-authoritative",
            "--no-ping",
            f"--dhcp-leasefile={self.directory / 'dhcp.leases'}",
        )
        process.wait_for("started", lambda: "started, version" in process.output(), _READY)
        return process

    def lan_host(self) -> Process:
        """Start the game server, the SSDP device and the open world on the LAN's host."""
        process = self.start(
            "host",
            self.party.host,
            *(sys.executable, "-m", "softlan.demo.lan_host", topology.LAN_INTERFACE, topology.HOST),
        )
        process.wait_for("ready", lambda: "ready" in process.output(), _READY)
        return process

    @property
    def relay_certificate(self) -> Path:
        """Where the relay writes its certificate, which the endpoints pin."""
        return self.directory / "relay.der"

    def relay(self, *more: str) -> Process:
        """Start the relay; `more` are further flags."""
        process = self._softlan(
            "relay",
            self.party.relay,
            "--listen",
            "443/udp",
            "--dev-cert-der-out",
            str(self.relay_certificate),
            *more,
        )
        process.wait_for("listening", lambda: process.events("relay.listening"), _READY)
        return process

    def invite(self) -> Path:
        """Make an invitation, on the relay's machine, and let everyone join by it who is started from now on."""
        file = self.directory / f"{ROOM}.invite"
        process = self.start(
            "invite",
            self.party.relay,
            *(sys.executable, "-m", "softlan", "room", "new", ROOM, "--relay", topology.RELAY),
            *("--state-dir", str(self.directory / "relay"), "--out", str(file)),
        )
        if process.finish(_READY):
            raise HostError("invite", f"softlan room new: {' '.join(process.tail(1))}")
        self.processes.remove(process)
        self.invitation = file
        return file

    def gateway(self, *more: str) -> Process:
        """Start the gateway on its LAN port, and wait until it has joined the room."""
        joining = (*self._endpoint(), "--iface", topology.GATEWAY_INTERFACE)
        process = self._softlan("gateway", self.party.gateway, *joining, *more)
        process.wait_for("joined", lambda: process.events("joined"), _READY)
        return process

    def client(self, *more: str) -> tuple[Process, Link]:
        """Start the player's client; wait until it has joined and its TAP is up, and return that too."""
        joining = (*self._endpoint(), "--tap-name", TAP)
        process = self._softlan("client", self.party.player, *joining, *more)
        process.wait_for("joined", lambda: process.events("joined"), _READY)
        return process, process.wait_for("TAP up", self._tap_up, _READY)

    def _softlan(self, name: str, namespace: Namespace, *arguments: str) -> Process:
        return self.start(
            name,
            namespace,
            *(sys.executable, "-m", "softlan", name),
            *arguments,
            *("--state-dir", str(self.directory / name), "--log-format", "json"),
        )

    def _endpoint(self) -> tuple[str, ...]:
        if self.invitation is not None:
            return ("--invite", f"@{self.invitation}")
        return (
            *("--relay", topology.RELAY, "--server-name", RELAY_NAME),
            *("--relay-ca-cert", str(self.relay_certificate), "--room", ROOM),
        )

    def _tap_up(self) -> Link | None:
        link = self.party.player.link(TAP)
        return link if link is not None and link.up else None
