"""The player's side of the tunnel: a TAP interface, with the host's route to the relay kept out of it."""

import asyncio
import ipaddress

from softlan.client.bridge import Bridge
from softlan.ctrl.messages import PeerJoined, PeerLeft, Welcome
from softlan.device.base import TapDevice
from softlan.errors import HostError
from softlan.host.base import HostNetwork, HostRoute, IPAddress
from softlan.host.guard import HostGuard
from softlan.host.plan import AddRoute, pin_relay
from softlan.net.address import SocketAddress
from softlan.obs.logging import get_logger
from softlan.quic.udp import plain_host

DISCOVERY = (ipaddress.ip_network("255.255.255.255/32"), ipaddress.ip_network("224.0.0.0/4"))
"""Where LAN games look for servers: the limited broadcast (RFC 919) and the IPv4 groups. IPv6 groups have a scope,
and need no route."""

PIN_CHECK = 5.0  # seconds between two looks at the relay's route


class Player:
    """A `FrameSink` on a TAP interface. The interface stays through every reconnect."""

    def __init__(
        self,
        tap: TapDevice,
        bridge: Bridge,
        network: HostNetwork,
        guard: HostGuard,
        mac: bytes,
        *,
        discovery: bool,
    ) -> None:
        """`discovery`: whether this machine's broadcasts and multicasts go into the room, not by its default route."""
        self._tap = tap
        self._bridge = bridge
        self._network = network
        self._guard = guard
        self._mac = mac
        self._discovery = discovery
        self._mtu: int | None = None
        self._relay: IPAddress | None = None
        self._pin: AddRoute | None = None
        self._next_check = 0.0
        self._log = get_logger("client")

    # client.tunnel.FrameSink

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        """Pin the relay's route, then let the interface be used."""
        address = ipaddress.ip_address(plain_host(relay))
        if self._mtu is None:
            self._pin_relay(address)
            self._tap.configure(self._mac, welcome.effective_mtu)
            self._tap.bring_up()
            if self._discovery:
                self._draw_discovery()
            self._bridge.start(asyncio.get_running_loop())
            self._log.info("tap.up", interface=self._tap.name, mtu=welcome.effective_mtu)
        else:
            self._keep_pinned(address)
            if self._mtu != welcome.effective_mtu:
                self._tap.set_mtu(welcome.effective_mtu)
                self._log.info("tap.mtu", interface=self._tap.name, mtu=welcome.effective_mtu)
        self._mtu = welcome.effective_mtu

    def lost(self) -> None:
        """Leave the interface and the route as they are: the session comes back."""

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Nothing to do for a player."""

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Nothing to do for a player."""

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """To the host's network stack."""
        self._bridge.deliver(frames)

    def tick(self, now: float) -> None:
        """See that the relay's route is still ours."""
        self._bridge.report(now)
        if now >= self._next_check and self._relay is not None:
            self._next_check = now + PIN_CHECK
            self._keep_pinned(self._relay)

    def close(self) -> None:
        """Undo everything."""
        self._bridge.stop()
        try:
            self._tap.close()
        finally:
            self._unpin()

    # Inside

    def _draw_discovery(self) -> None:
        """Let games that choose no interface look for servers in the room.

        Linux sends what is for 255.255.255.255 or a group by the default route, so a server browser would ask the home
        network. The routes are the interface's own, and go with it: there is nothing to restore.
        """
        for destination in DISCOVERY:
            try:
                self._network.add_route(HostRoute(destination, None, self._tap.name))
            except HostError as error:
                self._log.warning("discovery.failed", reason=str(error))

    def _keep_pinned(self, relay: IPAddress) -> None:
        """As `_pin_relay`; what fails in the middle of a party is tried again instead of ending it."""
        try:
            self._pin_relay(relay)
        except HostError as error:
            self._log.warning("pin.failed", reason=str(error))

    def _pin_relay(self, relay: IPAddress) -> None:
        """See that the relay's route is pinned. A pin goes with its interface; then along what leads there now."""
        pin = self._pin
        if pin is not None and relay == self._relay and self._network.has_route(pin.route):
            return
        if pin is not None:
            if relay == self._relay:
                self._log.warning("pin.lost", route=str(pin.route))
            self._unpin()
        self._relay = relay
        route = pin_relay(relay, self._network.best_route(relay), self._tap.name)
        if route is None:
            self._log.debug("pin.none", relay=str(relay))
            return
        pin = AddRoute(route)
        self._guard.apply([pin])
        self._pin = pin
        self._log.info("relay.pinned", route=str(route))

    def _unpin(self) -> None:
        self._pin = None
        for complaint in self._guard.restore():
            self._log.warning("restore.failed", reason=complaint)
