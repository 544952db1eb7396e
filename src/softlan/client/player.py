"""The player's side of the tunnel: a TAP interface, with the host's route to the relay kept out of it."""

import asyncio
import ipaddress

from softlan.client.bridge import Bridge
from softlan.ctrl.messages import PeerJoined, PeerLeft, Welcome
from softlan.device.base import TapDevice
from softlan.errors import HostError
from softlan.host.base import HostNetwork, IPAddress
from softlan.host.guard import HostGuard
from softlan.host.plan import AddRoute, pin_relay
from softlan.net.address import SocketAddress
from softlan.obs.logging import get_logger
from softlan.quic.udp import plain_host

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
    ) -> None:
        self._tap = tap
        self._bridge = bridge
        self._network = network
        self._guard = guard
        self._mac = mac
        self._mtu: int | None = None
        self._relay: IPAddress | None = None
        self._pin: AddRoute | None = None
        self._next_check = 0.0
        self._log = get_logger("client")

    # client.tunnel.FrameSink

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        """Pin the relay's route, then let the interface be used."""
        self._pin_relay(ipaddress.ip_address(plain_host(relay)))
        if self._mtu is None:
            self._tap.configure(self._mac, welcome.effective_mtu)
            self._tap.bring_up()
            self._bridge.start(asyncio.get_running_loop())
            self._log.info("tap.up", interface=self._tap.name, mtu=welcome.effective_mtu)
        elif self._mtu != welcome.effective_mtu:
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
        if now >= self._next_check:
            self._next_check = now + PIN_CHECK
            try:
                self._check_pin()
            except HostError as error:
                self._log.warning("pin.failed", reason=str(error))

    def close(self) -> None:
        """Undo everything."""
        self._bridge.stop()
        self._tap.close()
        for complaint in self._guard.restore():
            self._log.warning("restore.failed", reason=complaint)

    # Inside

    def _pin_relay(self, relay: IPAddress) -> None:
        if self._pin is not None and self._relay != relay:
            self._guard.restore()
            self._pin = None
        self._relay = relay
        if self._pin is not None:
            return
        route = pin_relay(relay, self._network.best_route(relay), self._tap.name)
        if route is None:
            self._log.debug("pin.none", relay=str(relay))
            return
        self._pin = AddRoute(route)
        self._guard.apply([self._pin])
        self._log.info("relay.pinned", route=str(route))

    def _check_pin(self) -> None:
        """The pin goes when its interface does: make it again on whatever leads to the relay now."""
        if self._pin is None or self._relay is None or self._network.has_route(self._pin.route):
            return
        self._log.warning("pin.lost", route=str(self._pin.route))
        self._guard.restore()
        self._pin = None
        self._pin_relay(self._relay)
