"""How each kind of change is looked at, made and undone. When, and what is written down before, is the guard's."""

from dataclasses import replace

from softlan.errors import HostError
from softlan.host.base import HostInterfaces, HostNetwork
from softlan.host.plan import AddRoute, Change, SetInterface


class Deeds:
    """The changes as calls to the host. Every method raises HostError."""

    def __init__(self, network: HostNetwork, interfaces: HostInterfaces | None) -> None:
        """`interfaces` is None on a system where no settings of interfaces are changed."""
        self._network = network
        self._given_interfaces = interfaces

    def prepare(self, change: Change) -> Change | None:
        """`change` with all that is needed to undo it; None when it is in place already."""
        if isinstance(change, AddRoute):
            return None if self._network.has_route(change.route) else change
        current = self._read(change)
        if current is None:
            raise HostError("change the host", f"there is no interface {change.label or change.interface} any more")
        return None if current == change.value else replace(change, previous=current)

    def make(self, change: Change) -> None:
        """Make it; when that fails, nothing was changed."""
        if isinstance(change, AddRoute):
            self._network.add_route(change.route)
        else:
            self._write(change, change.value)

    def is_made(self, change: Change) -> bool:
        """Whether it is in place."""
        if isinstance(change, AddRoute):
            return self._network.has_route(change.route)
        return self._read(change) == change.value

    def undo(self, change: Change) -> None:
        """Put back what was there before, if it is still as we left it. A removed interface needs nothing."""
        if isinstance(change, AddRoute):
            self._network.delete_route(change.route)
        elif change.previous is not None:
            current = self._read(change)
            if current is None and self._interfaces.is_installed(change.interface):
                # Enabled again it has our settings, so the journal must not forget them.
                raise HostError("put back", f"{change.label or change.interface} is disabled now")
            if current == change.value:
                self._write(change, change.previous)

    def _read(self, change: SetInterface) -> int | None:
        return self._interfaces.read_setting(change.interface, change.version, change.setting)

    def _write(self, change: SetInterface, value: int) -> None:
        self._interfaces.write_setting(change.interface, change.version, change.setting, value)

    @property
    def _interfaces(self) -> HostInterfaces:
        if self._given_interfaces is None:
            raise HostError("platform", "unsupported platform: settings of interfaces are changed on Windows only")
        return self._given_interfaces
