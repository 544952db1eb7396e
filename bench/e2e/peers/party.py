"""softlan itself: with its defaults, and two that are otherwise set to show what policy and frame logs cost."""

import sys

from bench.e2e.lab import LAN_PORT, RELAY_FOR_GATEWAY, RELAY_FOR_PLAYER, bare
from bench.e2e.peers.base import Peer
from softlan import __version__
from softlan.demo.netns import Namespace
from softlan.demo.processes import Process

SERVER_NAME = "lanparty-relay.local"
ROOM = "BENCH"

OPEN_POLICY = """\
[policy]
invalid_source = false
jumbo = false
switch_control = false
refused_ethertypes = []
dhcp_server = false
dhcpv6_server = false
ipv6_ra = false
nd_redirect = false
icmp_redirect = false
nd_spoof = false
arp_spoof = false
ambiguous = false
broadcast_rate = 0
unknown_unicast_rate = 0
total_rate = 0
frame_rate = 0
"""
"""The relay's file in which no rule and no rate is left."""

_READY = 20.0  # seconds


class Softlan(Peer):
    """One configuration, the default. The gateway takes the LAN's port directly."""

    name = "softlan"
    cipher = "QUIC, AES-128-GCM"
    player_interface = "softlan0"
    gateway_interface = None
    flags: tuple[str, ...] = ()
    """Of all three."""
    gateway_flags: tuple[str, ...] = ()
    relay_config: str | None = None

    @classmethod
    def version(cls) -> str:
        return __version__

    def start(self) -> None:
        site = self.site
        certificate = site.directory / "relay.der"
        config = () if self.relay_config is None else ("--config", self.write("relay.toml", self.relay_config))
        relay = self._run("relay", site.relay, "--dev-cert-der-out", certificate, *config)
        relay.wait_for("listening", lambda: relay.events("relay.listening"), _READY)
        joining = ("--server-name", SERVER_NAME, "--relay-ca-cert", certificate, "--room", ROOM)
        at_gateway = ("--relay", bare(RELAY_FOR_GATEWAY), *joining, "--interface", LAN_PORT, *self.gateway_flags)
        both = (
            self._run("gateway", site.gateway, *at_gateway),
            self._run("client", site.player, "--relay", bare(RELAY_FOR_PLAYER), *joining),
        )
        for process in both:
            process.wait_for("joined", lambda process=process: process.events("joined"), _READY)  # type: ignore[misc]

    def _run(self, command: str, computer: Namespace, *arguments: object) -> Process:
        state = ("--state-dir", self.site.directory / command, "--log-format", "json")
        words = (sys.executable, "-m", "softlan", command, *arguments, *self.flags, *state)
        return self.site.start(command, computer, *map(str, words))


class SoftlanGuarded(Softlan):
    """The default policy, and a log line for each frame that it drops."""

    name = "softlan-guarded"
    flags = ("--frame-log", "drops")


class SoftlanOpen(Softlan):
    """No policy, neither at the relay nor at the gateway, and no frame logs."""

    name = "softlan-open"
    flags = ("--frame-log", "off")
    gateway_flags = ("--policy", "off")
    relay_config = OPEN_POLICY
