"""The player's side of the tunnel: a TAP interface, with the host's route to the relay kept out of it."""

import asyncio
import ipaddress

from softlan.client.bridge import Bridge
from softlan.client.platform import TapCare
from softlan.ctrl.messages import PeerJoined, PeerLeft, Welcome
from softlan.device.base import TapDevice
from softlan.errors import HostError
from softlan.host.base import HostNetwork, HostRoute, IPAddress
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
        care: TapCare,
    ) -> None:
        """`care` does what this system wants done about the TAP."""
        self._tap = tap
        self._bridge = bridge
        self._network = network
        self._guard = guard
        self._mac = mac
        self._care = care
        self._mtu: int | None = None
        self._relay: IPAddress | None = None
        self._pin: AddRoute | None = None
        self._needs_pin = True
        self._next_check = 0.0
        self._log = get_logger("client")

    # What the status line tells

    @property
    def interface(self) -> str:
        """The TAP's name, for people."""
        return self._tap.name

    @property
    def interface_id(self) -> str:
        """What the host's network calls it."""
        return self._care.interface

    @property
    def mtu(self) -> int | None:
        """The TAP's MTU in bytes; None before it is up."""
        return self._mtu

    @property
    def pin(self) -> str | None:
        """The pinned route to the relay, in words."""
        return None if self._pin is None else str(self._pin.route)

    @property
    def needs_pin(self) -> bool:
        """Whether a route has to be pinned at all."""
        return self._needs_pin

    # client.tunnel.FrameSink

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        """Pin the relay's route, then let the interface be used."""
        address = ipaddress.ip_address(plain_host(relay))
        if self._mtu is None:
            self._pin_relay(address)
            self._tap.configure(self._mac, welcome.effective_mtu)
            self._tap.bring_up()
            self._care.came_up()
            self._bridge.start(asyncio.get_running_loop())
            self._log.info("tap.up", interface=self._tap.name, mtu=welcome.effective_mtu)
        else:
            self._keep_pinned(address)
            if self._mtu != welcome.effective_mtu:
                self._tap.set_mtu(welcome.effective_mtu)
                self._log.info("tap.mtu", interface=self._tap.name, mtu=welcome.effective_mtu)
        self._mtu = welcome.effective_mtu

    def lost(self) -> None:
        """Leave the interface as it is: the session comes back. The route only if it still leads along the usual way.

        A pin along a way that died without its interface (another router, a Wi-Fi that leads nowhere) would keep the
        relay out of reach for ever.
        """
        if self._relay is None:
            return
        self._keep_pinned(self._relay)
        try:
            self._follow()
        except HostError as error:
            self._log.warning("pin.failed", reason=str(error))

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Nothing to do for a player."""

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Nothing to do for a player."""

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """To the host's network stack."""
        self._bridge.deliver(frames)

    def tick(self, now: float) -> None:
        """See that the relay's route is still ours, and the TAP as it should be."""
        self._bridge.report(now)
        if now >= self._next_check and self._relay is not None:
            self._next_check = now + PIN_CHECK
            self._keep_pinned(self._relay)
            self._care.keep()

    def close(self) -> None:
        """Undo everything."""
        self._bridge.stop()
        try:
            self._care.goes_down()
            self._tap.close()
        finally:
            self._pin = None
            self._complain(self._guard.restore())

    # Inside

    def _keep_pinned(self, relay: IPAddress) -> None:
        """As `_pin_relay`; what fails in the middle of a party is tried again instead of ending it."""
        try:
            self._pin_relay(relay)
        except HostError as error:
            self._log.warning("pin.failed", reason=str(error))

    def _pin_relay(self, relay: IPAddress) -> None:
        """See that the relay's route is pinned. A pin goes with its interface; then along what leads there now."""
        pin = self._pin
        if pin is not None and relay == self._relay and self._care.pin_holds(pin.route):
            return
        if pin is not None:
            if relay == self._relay:
                self._log.warning("pin.lost", route=str(pin.route))
            self._pin = None
            self._complain(self._guard.withdraw([pin]))
        self._relay, self._needs_pin = relay, True
        self._pin_along(self._network.best_route(relay), relay)

    def _follow(self) -> None:
        """Pin along another way, if that is the host's usual one by now."""
        pin, relay = self._pin, self._relay
        if pin is None or relay is None:
            return
        way = self._care.other_way(pin.route)
        if way is None:
            return
        self._log.warning("pin.lost", route=str(pin.route), way=str(way))
        self._pin = None
        self._complain(self._guard.withdraw([pin]))
        best = self._network.best_route(relay)  # it knows of more than one table, but not to leave the tunnel out
        self._pin_along(way if best is None or best.interface == self._care.interface else best, relay)

    def _pin_along(self, way: HostRoute | None, relay: IPAddress) -> None:
        route = pin_relay(relay, way, self._care.interface)
        self._needs_pin = route is not None
        if route is None:
            self._log.debug("pin.none", relay=str(relay))
            return
        pin = AddRoute(route)
        self._guard.apply([pin])
        self._pin = pin
        self._log.info("relay.pinned", route=str(route))

    def _complain(self, complaints: list[str]) -> None:
        for complaint in complaints:
            self._log.warning("restore.failed", reason=complaint)
