"""A host's routes and settings without a host, with failures to order."""

import ipaddress

from softlan.errors import HostError
from softlan.host.base import HostRoute, IPAddress, IPInterface, Setting


class MemoryNetwork:
    """A working `HostNetwork`, and `HostInterfaces`.

    `routes` are those of others, `ours` those that were added here; both may be changed at will, as other
    programs do. So may `settings`, whose keys are interface, version of IP and setting, `interface_addresses`,
    and `installed`, the interfaces that stay known when they have no settings. `calls` counts the calls of the
    protocols' methods, from 1; `fail` makes one of them fail.
    """

    def __init__(self, *routes: HostRoute) -> None:
        self.routes = list(routes)
        self.ours: list[HostRoute] = []
        self.settings: dict[tuple[str, int, Setting], int] = {}
        self.interface_addresses: dict[str, list[IPInterface]] = {}
        self.installed: set[str] = set()
        self.calls = 0
        self._before: dict[int, BaseException] = {}
        self._after: dict[int, BaseException] = {}

    def fail(self, call: int, error: BaseException, *, after: bool = False) -> None:
        """Let call number `call` raise `error` instead of acting, or right after it has acted.

        Only what ends the process may come after: a HostError promises that nothing was changed.
        """
        (self._after if after else self._before)[call] = error

    def best_route(self, destination: IPAddress) -> HostRoute | None:
        """The route of the longest prefix; of equals, the first."""
        call = self._enter()
        best: HostRoute | None = None
        for route in self.routes + self.ours:
            if destination in route.destination and (
                best is None or route.destination.prefixlen > best.destination.prefixlen
            ):
                best = route
        self._leave(call)
        if best is None:
            return None
        return HostRoute(ipaddress.ip_network(destination.packed), best.gateway, best.interface, best.source)

    def add_route(self, route: HostRoute) -> None:
        """Add one of ours; as on Linux, not beside another to the same destination."""
        call = self._enter()
        if any(route.destination == other.destination for other in self.routes + self.ours):
            raise HostError("add route", f"a route to {route.destination} exists already")
        self.ours.append(route)
        self._leave(call)

    def delete_route(self, route: HostRoute) -> None:
        """Delete one of ours."""
        call = self._enter()
        if route in self.ours:
            self.ours.remove(route)
        self._leave(call)

    def has_route(self, route: HostRoute) -> bool:
        """Whether anyone's is there."""
        call = self._enter()
        found = route in self.routes + self.ours
        self._leave(call)
        return found

    def addresses(self, interface: str) -> list[IPInterface]:
        """As assigned."""
        call = self._enter()
        found = list(self.interface_addresses.get(interface, []))
        self._leave(call)
        return found

    def usual_route(self, pin: HostRoute, tunnel_interface: str) -> HostRoute | None:
        """The route of the longest prefix among others'."""
        call = self._enter()
        relay = pin.destination.network_address
        ways = [route for route in self.routes if route.interface != tunnel_interface and relay in route.destination]
        self._leave(call)
        if not ways:
            return None
        best = max(ways, key=lambda route: route.destination.prefixlen)
        return HostRoute(pin.destination, best.gateway, best.interface)

    def await_interface(self, interface: str, version: int) -> None:
        """It is there already, or will never be."""
        call = self._enter()
        if not any(key[:2] == (interface, version) for key in self.settings):
            raise HostError("find interface", f"{interface} has no IPv{version}")
        self._leave(call)

    def is_installed(self, interface: str) -> bool:
        """Whether it has settings, or is in `installed`."""
        call = self._enter()
        found = interface in self.installed or any(key[0] == interface for key in self.settings)
        self._leave(call)
        return found

    def read_setting(self, interface: str, version: int, setting: Setting) -> int | None:
        """As in `settings`."""
        call = self._enter()
        if not any(key[0] == interface for key in self.settings):
            found = None
        elif (interface, version, setting) in self.settings:
            found = self.settings[interface, version, setting]
        else:
            raise HostError("read setting", f"{interface} has no IPv{version}")
        self._leave(call)
        return found

    def write_setting(self, interface: str, version: int, setting: Setting, value: int) -> None:
        """Into `settings`, where it must be already."""
        call = self._enter()
        if (interface, version, setting) not in self.settings:
            raise HostError("write setting", f"{interface} has no IPv{version}")
        self.settings[interface, version, setting] = value
        self._leave(call)

    def _enter(self) -> int:
        self.calls += 1
        if self.calls in self._before:
            raise self._before[self.calls]
        return self.calls

    def _leave(self, call: int) -> None:
        if call in self._after:
            raise self._after[call]
