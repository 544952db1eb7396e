"""The client on Windows: an adapter that stays, and settings of its interface that are put back."""

from pathlib import Path

from softlan.client.platform import PlatformOptions, TapCare
from softlan.device.base import TapDevice
from softlan.device.tap_adapters import adapters, choose, driver_warning
from softlan.device.tap_windows import WindowsTap
from softlan.errors import HostError
from softlan.host.base import HostInterfaces, HostNetwork, HostRoute, Setting
from softlan.host.firewall import AllowInbound
from softlan.host.guard import HostGuard
from softlan.host.plan import SetInterface
from softlan.host.windows import WindowsNetwork
from softlan.obs.logging import get_logger

_VERSIONS = (4, 6)
_IPV6_MIN_MTU = 1280
"""Windows takes no smaller one for IPv6 (RFC 8200, section 5); larger packets are then lost in the tunnel."""


class WindowsPlatform:
    """A `Platform`."""

    IS_SLOW_TO_OPEN = True
    """The restart of the adapter, and PowerShell."""

    def __init__(self, options: PlatformOptions, state_dir: Path) -> None:
        self._windows = WindowsNetwork()
        self.network: HostNetwork = self._windows
        # One journal, whichever adapter: the next start may be with another, or with none.
        self.guard = HostGuard(self.network, state_dir / "host.json", interfaces=self._windows)
        self._options = options
        self._firewall_journal = state_dir / "firewall.json"
        self._rule: AllowInbound | None = None
        self._log = get_logger("client")

    def recover(self) -> list[str]:
        """The guard's, and a firewall rule that was left."""
        return self.guard.recover() + AllowInbound(self._firewall_journal, "").recover()

    def open_tap(self, mac: bytes) -> tuple[TapDevice, TapCare]:
        """Open the adapter; if it has another address than `mac`, it is restarted with it."""
        options = self._options
        adapter = choose(adapters(), options.tap_instance_id, options.tap_name)
        interface = adapter.instance_id.upper()
        care = WindowsTapCare(interface, adapter.name, self.network, self._windows, self.guard, metric=options.metric)
        tap = WindowsTap.open(adapter, mac, care.set_mtu)
        warning = driver_warning(tap.version)
        if warning is not None:
            self._log.warning("tap.driver", reason=warning)
        if options.allow_inbound:
            try:
                self._allow_inbound(adapter.name)
            except BaseException:  # nobody has the adapter yet who would close it; what it was goes on its way
                tap.close()
                raise
        return tap, care

    def close(self) -> list[str]:
        """Remove the firewall rule."""
        return [] if self._rule is None else self._rule.remove()

    def _allow_inbound(self, name: str) -> None:
        self._rule = AllowInbound(self._firewall_journal, name)
        self._rule.add()


class WindowsTapCare:
    """A `TapCare`: the interface's MTU, metric and default routes, for IPv4, and for IPv6 as far as it goes.

    255.255.255.255 leaves Windows by the interface of the smallest metric only, so that is the TAP's; and since it is
    then the first choice for everything, its default routes are not used.
    """

    def __init__(
        self,
        interface: str,
        name: str,
        network: HostNetwork,
        interfaces: HostInterfaces,
        guard: HostGuard,
        *,
        metric: int = 1,
    ) -> None:
        """`interface` is the adapter's GUID, `name` what people call it."""
        self.interface = interface
        self._name = name
        self._network = network
        self._interfaces = interfaces
        self._guard = guard
        self._metric = metric
        self._mtu: int | None = None
        self._is_up = False
        self._refused: HostRoute | None = None
        self._complaints: dict[int, str] = {}
        self._log = get_logger("client")

    def set_mtu(self, mtu: int) -> None:
        """The MTU in bytes, from now on or as soon as the interface is up. For the device."""
        old = [self._setting(version, Setting.MTU) for version in _VERSIONS] if self._is_up else []
        self._mtu = mtu
        if self._is_up:
            self._complain(self._guard.withdraw(old))
            self.keep()

    def pin_holds(self, pin: HostRoute) -> bool:
        """Whether the pin is there, and no other way has become the usual one: Wi-Fi to cable, sleep and wake.

        Another way is told once. If the host then still chooses the old one, it knows better than our sum of metrics,
        until the old one has been the usual one again.
        """
        if not self._network.has_route(pin):
            return False
        usual = self._network.usual_route(pin, self.interface)
        if usual is None or (usual.interface, usual.gateway) == (pin.interface, pin.gateway):
            self._refused = None
            return True
        if usual == self._refused:
            return True
        self._refused = usual
        return False

    def other_way(self, pin: HostRoute) -> HostRoute | None:
        """`pin_holds` has told of it."""
        return None

    def came_up(self) -> None:
        """Set what has to be set, once Windows has the interface."""
        self._interfaces.await_interface(self.interface, 4)
        if self._interfaces.read_setting(self.interface, 4, Setting.DEFAULT_ROUTES):
            self._log.warning("tap.default_routes", interface=self._name, hint="they are not used while softlan runs")
        self._is_up = True
        self._apply()

    def keep(self) -> None:
        """Set again what was changed: Windows forgets such settings when an adapter starts anew."""
        try:
            self._apply()
            self._complaints.pop(4, None)
        except HostError as error:
            self._warn(4, error)

    def goes_down(self) -> None:
        """Put back what was set before, as long as the interface is there."""
        self._is_up = False
        self._complain(self._guard.withdraw([change for version in _VERSIONS for change in self._changes(version)]))

    def _apply(self) -> None:
        """Set everything. IPv6 may be off on this interface: that is worth a line, not the end."""
        made = self._guard.apply(self._changes(4))
        try:
            made += self._guard.apply(self._changes(6))
            self._complaints.pop(6, None)
        except HostError as error:
            self._warn(6, error)
        for change in made:
            self._log.info("tap.set", interface=self._name, what=str(change))

    def _changes(self, version: int) -> list[SetInterface]:
        """All that is to be set for a version of IP."""
        settings = (Setting.DEFAULT_ROUTES, Setting.METRIC, Setting.MTU)
        return [self._setting(version, setting) for setting in settings if setting is not Setting.MTU or self._mtu]

    def _setting(self, version: int, setting: Setting) -> SetInterface:
        if setting is Setting.DEFAULT_ROUTES:
            value = 0
        elif setting is Setting.METRIC:
            value = self._metric
        else:
            assert self._mtu is not None
            value = max(self._mtu, _IPV6_MIN_MTU) if version == 6 else self._mtu
        return SetInterface(self.interface, version, setting, value, label=self._name)

    def _warn(self, version: int, error: HostError) -> None:
        if self._complaints.get(version) != str(error):
            self._complaints[version] = str(error)
            self._log.warning("tap.settings_failed", version=version, reason=str(error))

    def _complain(self, complaints: list[str]) -> None:
        for complaint in complaints:
            self._log.warning("restore.failed", reason=complaint)
