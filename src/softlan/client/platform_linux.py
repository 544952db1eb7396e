"""The client on Linux: a TAP of its own, and two routes that make games look for servers there."""

import ipaddress
from pathlib import Path

from softlan.client.platform import TapCare
from softlan.device.base import TapDevice
from softlan.device.tap_linux import LinuxTap
from softlan.errors import HostError
from softlan.host.base import HostNetwork, HostRoute
from softlan.host.guard import HostGuard
from softlan.host.linux import LinuxNetwork
from softlan.obs.logging import get_logger

DISCOVERY = (ipaddress.ip_network("255.255.255.255/32"), ipaddress.ip_network("224.0.0.0/4"))
"""Where LAN games look for servers: the limited broadcast (RFC 919) and the IPv4 groups. IPv6 groups have a scope,
and need no route."""


class LinuxPlatform:
    """A `Platform`."""

    IS_SLOW_TO_OPEN = False

    def __init__(self, tap_name: str, state_dir: Path, *, discovery: bool) -> None:
        self.network: HostNetwork = LinuxNetwork()
        self.guard = HostGuard(self.network, state_dir / f"host-{tap_name}.json")
        self._tap_name = tap_name
        self._discovery = discovery

    def recover(self) -> list[str]:
        """The guard's."""
        return self.guard.recover()

    def open_tap(self, mac: bytes) -> tuple[TapDevice, TapCare]:
        """Make the interface; it gets its address when it is configured."""
        return LinuxTap.open(self._tap_name), LinuxTapCare(self._tap_name, self.network, discovery=self._discovery)

    def close(self) -> list[str]:
        """The TAP was all."""
        return []


class LinuxTapCare:
    """A `TapCare`. The routes that it adds are the interface's own, and go with it: there is nothing to restore."""

    def __init__(self, interface: str, network: HostNetwork, *, discovery: bool) -> None:
        """`discovery`: whether this machine's broadcasts and multicasts go into the room, not by its default route."""
        self.interface = interface
        self._network = network
        self._discovery = discovery
        self._log = get_logger("client")

    def pin_holds(self, pin: HostRoute) -> bool:
        """The kernel takes a route away with its interface or address; as long as it leads, it stays where it is."""
        return self._network.has_route(pin)

    def other_way(self, pin: HostRoute) -> HostRoute | None:
        """Nobody takes a route away whose router is gone."""
        usual = self._network.usual_route(pin, self.interface)
        if usual is None or (usual.interface, usual.gateway) == (pin.interface, pin.gateway):
            return None
        return usual

    def came_up(self) -> None:
        """Let games that choose no interface look for servers in the room.

        Linux sends what is for 255.255.255.255 or a group by the default route, so a server browser would ask the home
        network.
        """
        if not self._discovery:
            return
        for destination in DISCOVERY:
            try:
                self._network.add_route(HostRoute(destination, None, self.interface))
            except HostError as error:
                self._log.warning("discovery.failed", reason=str(error))

    def keep(self) -> None:
        """Nothing changes by itself."""

    def goes_down(self) -> None:
        """Everything goes with the interface."""
