"""SoftEther: a virtual hub at the relay, its client at the player, its bridge at the gateway."""

import time

from bench.e2e.lab import RELAY_FOR_GATEWAY, RELAY_FOR_PLAYER, bare
from bench.e2e.peers.base import Peer
from softlan.demo.netns import Namespace
from softlan.demo.processes import wait_for

_LIBEXEC = "/usr/libexec/softether"
_CONTROL = f"{_LIBEXEC}/vpncmd/vpncmd"
_STATE = ("/var/lib/softether", "/var/log/softether", "/run/softether")
_ACTIVE = "UDP Acceleration is Active"


class SoftEther(Peer):
    """Measured when packets go by UDP acceleration, which it takes up after some time; until then it is TLS over TCP.

    Its programs keep their state in fixed directories, so each sees one of its own mounted there.
    """

    name = "softether"
    package = "softether-vpnserver"
    commands = tuple(f"{_LIBEXEC}/{name}/{name}" for name in ("vpnserver", "vpnclient", "vpnbridge", "vpncmd"))
    cipher = "ChaCha20-Poly1305"
    mtu = 1400
    player_interface = "vpn_vpn"
    gateway_interface = "tap_gw"

    def start(self) -> None:
        site = self.site
        for (name, computer), program in zip(self.roles(), ("vpnserver", "vpnclient", "vpnbridge"), strict=True):
            home = site.directory / name
            home.mkdir()
            # `ip netns exec` gives each a mount namespace of its own: nobody else sees these mounts.
            mounts = " && ".join(f"mkdir -p {path} && mount --bind {home} {path}" for path in _STATE)
            command = f"{mounts} && exec {_LIBEXEC}/{program}/{program} execsvc"
            site.start(name, computer, "sh", "-c", command)
        users = [line for name in ("player", "gateway") for line in _user(name)]
        self._ask(site.relay, "/SERVER", "HubCreate bench /PASSWORD:admin", "Hub bench", *users)
        self._ask(
            site.gateway,
            "/SERVER",
            "Hub BRIDGE",
            f"CascadeCreate bench /SERVER:{bare(RELAY_FOR_GATEWAY)}:443 /HUB:bench /USERNAME:gateway",
            "CascadePasswordSet bench /PASSWORD:secret /TYPE:standard",
            "CascadeOnline bench",
            "BridgeCreate BRIDGE /DEVICE:gw /TAP:yes",
        )
        self._ask(
            site.player,
            "/CLIENT",
            "NicCreate vpn",
            f"AccountCreate bench /SERVER:{bare(RELAY_FOR_PLAYER)}:443 /HUB:bench /USERNAME:player /NICNAME:vpn",
            "AccountPasswordSet bench /PASSWORD:secret /TYPE:standard",
            "AccountConnect bench",
        )

    def settle(self) -> None:
        wait_for("SoftEther's UDP acceleration", self._accelerated, 60.0)

    def _accelerated(self) -> bool:
        time.sleep(1.0)  # its control program is heavy
        said = self._ask(self.site.player, "/CLIENT", "AccountStatusGet bench")
        said += self._ask(self.site.gateway, "/SERVER", "Hub BRIDGE", "CascadeStatusGet bench")
        return sum(_ACTIVE in line and "Yes" in line for line in said.splitlines()) == 2

    def _ask(self, computer: Namespace, what: str, *lines: str) -> str:
        """Give commands to the program on `computer`, as soon as it listens; what it said."""
        script = self.write(f"{computer.name}.commands", "\n".join((*lines, "")))
        said: list[str] = []

        def listens() -> bool:
            said.append(self.site.run(computer, _CONTROL, "localhost", what, f"/IN:{script}"))
            return "Error occurred. (Error code: 1)" not in said[-1]

        wait_for(f"SoftEther on {computer.name}", listens, 15.0)
        return said[-1]


def _user(name: str) -> tuple[str, str]:
    return f"UserCreate {name} /GROUP: /REALNAME: /NOTE:", f"UserPasswordSet {name} /PASSWORD:secret"
