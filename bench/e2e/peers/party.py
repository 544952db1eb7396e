"""softlan itself: with its defaults, in a plain room, and two that show what policy and frame logs cost there."""

import hashlib
import secrets
import sys

from bench.e2e.lab import LAN_PORT, RELAY_FOR_GATEWAY, RELAY_FOR_PLAYER, bare
from bench.e2e.peers.base import Peer
from softlan import __version__
from softlan.client.invitation import Invitation
from softlan.demo.netns import Namespace
from softlan.demo.processes import Process
from softlan.net.address import HostPort
from softlan.proto.keys import SECRET_LENGTH

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
    """One configuration, the default: who has the invitation joins, and frames are sealed from end to end.

    The gateway takes the LAN's port directly.
    """

    name = "softlan"
    cipher = "QUIC, AES-128-GCM; sealed, AES-256-GCM"
    player_interface = "softlan0"
    gateway_interface = None
    flags: tuple[str, ...] = ()
    """Of all three."""
    gateway_flags: tuple[str, ...] = ()
    relay_config: str | None = None
    has_secret = True

    @classmethod
    def version(cls) -> str:
        return __version__

    def start(self) -> None:
        site = self.site
        certificate = site.directory / "relay.der"
        config = () if self.relay_config is None else ("--config", self.write("relay.toml", self.relay_config))
        relay = self._run("relay", site.relay, "--dev-cert-der-out", certificate, *config)
        relay.wait_for("listening", lambda: relay.events("relay.listening"), _READY)
        pin = hashlib.sha256(certificate.read_bytes()).digest()
        secret = secrets.token_bytes(SECRET_LENGTH) if self.has_secret else None
        invitations = [
            self.write(f"{name}.invite", Invitation(HostPort(bare(relay), 443), ROOM, SERVER_NAME, pin, secret).text())
            for name, relay in (("gateway", RELAY_FOR_GATEWAY), ("player", RELAY_FOR_PLAYER))
        ]
        at_gateway = ("--invite", f"@{invitations[0]}", "--interface", LAN_PORT, *self.gateway_flags)
        both = (
            self._run("gateway", site.gateway, *at_gateway),
            self._run("client", site.player, "--invite", f"@{invitations[1]}"),
        )
        for process in both:
            process.wait_for("joined", lambda process=process: process.events("joined"), _READY)  # type: ignore[misc]

    def _run(self, command: str, computer: Namespace, *arguments: object) -> Process:
        state = ("--state-dir", self.site.directory / command, "--log-format", "json")
        words = (sys.executable, "-m", "softlan", command, *arguments, *self.flags, *state)
        return self.site.start(command, computer, *map(str, words))


class SoftlanPlain(Softlan):
    """A room without a secret, as the others' networks are: the relay reads the frames."""

    name = "softlan-plain"
    cipher = "QUIC, AES-128-GCM"
    has_secret = False


class SoftlanGuarded(SoftlanPlain):
    """The default policy, and a log line for each frame that it drops."""

    name = "softlan-guarded"
    flags = ("--frame-log", "drops")


class SoftlanOpen(SoftlanPlain):
    """No policy, neither at the relay nor at the gateway, and no frame logs."""

    name = "softlan-open"
    flags = ("--frame-log", "off")
    gateway_flags = ("--policy", "off")
    relay_config = OPEN_POLICY
