"""What is asked of the host's network, and changed in it."""

import ipaddress
from dataclasses import dataclass
from typing import Protocol

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class HostRoute:
    """One route of the host's main table."""

    destination: IPNetwork
    """Where it leads; a single address is a /32 or /128."""
    gateway: IPAddress | None
    """The next hop, of either family (RFC 5549); None when the destination is on the link itself."""
    interface: str
    """The interface's name."""
    source: IPAddress | None = None
    """The source address it prefers; None leaves the choice to the host."""

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway is not None else ""
        return f"{self.destination}{via} dev {self.interface}"


class HostNetwork(Protocol):
    """The host's routes. Every method raises HostError, and has then changed nothing.

    The routes that `add_route` makes are marked as ours, and `delete_route` deletes no others.
    """

    def best_route(self, destination: IPAddress) -> HostRoute | None:
        """The route that traffic to `destination` takes now, as one to that single address.

        None: there is none, or it does not leave the machine (its own addresses, blackholes).
        """
        ...

    def add_route(self, route: HostRoute) -> None:
        """Add `route`; one that is there already is an error."""
        ...

    def delete_route(self, route: HostRoute) -> None:
        """Delete `route` if it is there and was added by us; nothing otherwise."""
        ...

    def has_route(self, route: HostRoute) -> bool:
        """Whether the main table has `route`, whoever added it."""
        ...
