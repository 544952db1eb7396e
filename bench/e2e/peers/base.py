"""What a VPN must bring to be measured, and how it is put between the player and the LAN."""

import os
import shutil
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path

from bench.e2e.lab import HOST_LAN, LAN_PORT, PLAYER_LAN, Site, bare, local
from softlan.demo.netns import Namespace
from softlan.demo.processes import environment, wait_for
from softlan.errors import HostError

_FIRST_PING = 60.0  # seconds


class Peer(ABC):
    """One VPN. `start` starts its processes; they make the interfaces that are named here."""

    name = ""
    package = ""
    """Debian's, for the version."""
    commands: tuple[str, ...] = ()
    """Without one of these it is not installed."""
    cipher = ""
    authenticated = True
    """Whether every packet is authenticated: only these are rivals."""
    mtu: int | None = None
    """Of the tunnel's interfaces, in bytes; None if the VPN sets it."""
    player_interface = "tap0"
    gateway_interface: str | None = "tap0"
    """To be bridged with the gateway's LAN port; None if the VPN takes the port itself."""
    in_kernel = False
    """There is no relay process."""

    def __init__(self, site: Site) -> None:
        self.site = site

    @classmethod
    def missing(cls) -> str | None:
        """Name a command that it needs and that is not here."""
        return next((name for name in cls.commands if shutil.which(name, path=environment()["PATH"]) is None), None)

    @classmethod
    def version(cls) -> str:
        """Return what is installed; "?" where Debian's packages do not tell."""
        try:
            return local("dpkg-query", "-W", "-f", "${Version}", cls.package)
        except HostError:
            return "?"

    @abstractmethod
    def start(self) -> None:
        """Start relay, player and gateway."""

    def settle(self) -> None:
        """Wait for what is not ready at the first ping."""
        time.sleep(1.0)

    def attach(self) -> None:
        """Join the tunnel's two ends to the player and to the LAN; returns when pings pass. Errors: `HostError`."""
        site = self.site
        for computer, interface in ((site.player, self.player_interface), (site.gateway, self.gateway_interface)):
            if interface is None:
                continue
            site.wait_interface(computer, interface)
            site.ip(computer, f"address flush dev {interface}")
            if self.mtu is not None:
                site.ip(computer, f"link set {interface} mtu {self.mtu}")
            site.ip(computer, f"link set {interface} up")
        if self.gateway_interface is not None:
            site.bridge(site.gateway, "br0", LAN_PORT, self.gateway_interface)
        site.address(site.player, self.player_interface, PLAYER_LAN)
        wait_for("the first ping", lambda: self.passes("-c", "1", "-W", "1"), _FIRST_PING)
        self.settle()

    def passes(self, *ping: str) -> bool:
        """Whether every ping from the player to the LAN's host is answered."""
        return " 0% packet loss" in self.site.run(self.site.player, "ping", "-n", *ping, bare(HOST_LAN))

    def link_mtu(self) -> int:
        """Return the MTU of the player's end."""
        link = self.site.player.link(self.player_interface)
        if link is None:
            raise HostError("attach", f"{self.player_interface} is gone")
        return link.mtu

    def check(self) -> None:
        """Prove that the largest packets pass in one piece, and nothing without the relay. Errors: `HostError`."""
        before = self.site.fragments()
        size = str(self.link_mtu() - 28)  # less the headers of IPv4 and ICMP
        whole = self.passes("-M", "do", "-s", size, "-c", "3", "-i", "0.1", "-W", "1")
        if not whole or self.site.fragments() != before:
            raise HostError("check", f"{self.name}: packets of {self.link_mtu()} bytes do not pass in one piece")
        if self.in_kernel:
            return
        pids = self.site.relay.pids()
        send(pids, signal.SIGSTOP)
        try:
            answered = self.site.run(self.site.player, *_PINGS, bare(HOST_LAN))
        finally:
            send(pids, signal.SIGCONT)
        if not pids or " 100% packet loss" not in answered:
            raise HostError("check", f"{self.name}: pings pass without its relay process")
        wait_for("ping after the pause", lambda: self.passes("-c", "1", "-W", "1"), 10.0)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Make a file for it."""
        path = self.site.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def roles(self) -> tuple[tuple[str, Namespace], ...]:
        """Name the three computers that run it, the relay first."""
        return ("relay", self.site.relay), ("player", self.site.player), ("gateway", self.site.gateway)


_PINGS = ("ping", "-n", "-c", "3", "-i", "0.1", "-W", "0.5")


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each of these processes."""
    for pid in pids:
        os.kill(pid, number)
