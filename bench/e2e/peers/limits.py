"""What this machine's kernel can do without any VPN process: the limits."""

import os

from bench.e2e.lab import GATEWAY_WAN, PLAYER_WAN, RELAY_FOR_GATEWAY, RELAY_FOR_PLAYER, bare
from bench.e2e.peers.base import Peer


class Vxlan(Peer):
    """The kernel's VXLAN, in clear; the relay bridges one to each side."""

    name = "vxlan"
    cipher = "none"
    authenticated = False
    mtu = 1450
    player_interface = "vxlan0"
    gateway_interface = "vxlan0"
    in_kernel = True

    @classmethod
    def version(cls) -> str:
        return f"Linux {os.uname().release}"

    def start(self) -> None:
        site = self.site
        for computer, interface, vni, here, there in (
            (site.player, "vxlan0", 1, PLAYER_WAN, RELAY_FOR_PLAYER),
            (site.relay, "vxlan1", 1, RELAY_FOR_PLAYER, PLAYER_WAN),
            (site.relay, "vxlan2", 2, RELAY_FOR_GATEWAY, GATEWAY_WAN),
            (site.gateway, "vxlan0", 2, GATEWAY_WAN, RELAY_FOR_GATEWAY),
        ):
            ends = f"local {bare(here)} remote {bare(there)} dstport 4789"
            site.ip(computer, f"link add {interface} mtu {self.mtu} type vxlan id {vni} {ends}")
        site.bridge(site.relay, "br1", "vxlan1", "vxlan2")


class Bridge(Vxlan):
    """No tunnel at all: relay and gateway are switches."""

    name = "bridge"
    mtu = 1500
    player_interface = "wan0"
    gateway_interface = "wan0"

    def start(self) -> None:
        site = self.site
        for interface in ("to_player", "to_gateway"):
            site.ip(site.relay, f"address flush dev {interface}")
        site.bridge(site.relay, "br1", "to_player", "to_gateway")
