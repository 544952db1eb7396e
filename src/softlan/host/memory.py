"""A host's routing table without a host, with failures to order."""

import ipaddress

from softlan.errors import HostError
from softlan.host.base import HostRoute, IPAddress


class MemoryNetwork:
    """A working `HostNetwork`.

    `routes` are those of others, `ours` those that were added here; both may be changed at will, as other
    programs do. `calls` counts the calls of the protocol's methods, from 1; `fail` makes one of them fail.
    """

    def __init__(self, *routes: HostRoute) -> None:
        self.routes = list(routes)
        self.ours: list[HostRoute] = []
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

    def _enter(self) -> int:
        self.calls += 1
        if self.calls in self._before:
            raise self._before[self.calls]
        return self.calls

    def _leave(self, call: int) -> None:
        if call in self._after:
            raise self._after[call]
