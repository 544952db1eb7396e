"""What is asked of the host's network, and changed in it."""

import enum
import ipaddress
from dataclasses import dataclass, field
from typing import Protocol

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class HostRoute:
    """One route of the host's main table."""

    destination: IPNetwork
    """Where it leads; a single address is a /32 or /128."""
    gateway: IPAddress | None
    """The next hop, of either family (RFC 5549); None when the destination is on the link itself."""
    interface: str
    """The interface: on Linux its name, on Windows its GUID in braces and upper case."""
    source: IPAddress | None = None
    """The source address it prefers; None leaves the choice to the host."""
    label: str = field(default="", compare=False)
    """What people call the interface, where that is something else."""

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway is not None else ""
        return f"{self.destination}{via} dev {self.label or self.interface}"


class Setting(enum.StrEnum):
    """What can be set about an interface, for each address family."""

    MTU = "mtu"
    """In bytes."""
    METRIC = "metric"
    """The smaller, the sooner the interface is taken; 0 leaves it to the system."""
    DEFAULT_ROUTES = "default routes"
    """Whether default routes over the interface are used: 1 or 0."""


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

    def usual_route(self, pin: HostRoute, tunnel_interface: str) -> HostRoute | None:
        """The way to where `pin` leads that the host would go without it; None when there is no other.

        Routes over `tunnel_interface` do not count.
        """
        ...

    def addresses(self, interface: str) -> list[IPInterface]:
        """The interface's addresses that can be used now; [] as well when there is no such interface."""
        ...


class HostInterfaces(Protocol):
    """Settings of interfaces that outlive the process, where a system has them. Errors as in `HostNetwork`.

    `version` is that of IP, 4 or 6.
    """

    def read_setting(self, interface: str, version: int, setting: Setting) -> int | None:
        """What is set; None: there is no such interface any more. A family that it does not have is an error."""
        ...

    def write_setting(self, interface: str, version: int, setting: Setting, value: int) -> None:
        """Set it."""
        ...

    def is_installed(self, interface: str) -> bool:
        """Whether the system still knows the interface, be it disabled or away for now."""
        ...

    def await_interface(self, interface: str, version: int) -> None:
        """Wait until the settings are there; they may come a moment after the interface. A few seconds at most."""
        ...
