"""What should be changed on the host, as values that can be compared, written down and undone."""

import ipaddress
from dataclasses import dataclass

from softlan.errors import HostError
from softlan.host.base import HostRoute, IPAddress


@dataclass(frozen=True)
class AddRoute:
    """A route that is to be there for as long as we run."""

    route: HostRoute

    def __str__(self) -> str:
        return f"route {self.route}"


Change = AddRoute
"""Any of the changes. A further kind (a metric, an MTU) becomes a member of this union, with a `kind` of its
own in `encode_change`."""


def pin_relay(relay: IPAddress, best: HostRoute | None, tunnel_interface: str) -> HostRoute | None:
    """The host route that keeps the relay reachable whatever the tunnel's LAN adds to the routing table.

    `best` is the route to the relay now. A /32 or /128 along it wins over any default route or wider prefix,
    so the tunnel's own packets never go into the tunnel. None when there is nothing to pin: no route
    (so none to lose either), or an address that routes do not decide about: this machine's, or an IPv6
    link-local one, which comes with its interface.

    IPv4 keeps the source address of `best`; IPv6 leaves it to the host, whose addresses change (RFC 8981).

    Raises HostError when `best` goes through the tunnel itself: pinning that would make a loop.
    """
    is_scoped = relay.version == 6 and relay.is_link_local
    if best is None or relay.is_loopback or is_scoped or relay == best.source:
        return None
    if best.interface == tunnel_interface:
        raise HostError(
            "pin relay",
            f"the route to the relay {relay} goes through {tunnel_interface} itself: "
            "remove that route, or wait until the machine is back on its own network",
        )
    return HostRoute(
        destination=ipaddress.ip_network(relay.packed),
        gateway=best.gateway,
        interface=best.interface,
        source=best.source if relay.version == 4 else None,
    )


def encode_change(change: Change) -> dict[str, str | None]:
    """`change` as a JSON object."""
    route = change.route
    return {
        "kind": "route",
        "destination": str(route.destination),
        "gateway": None if route.gateway is None else str(route.gateway),
        "interface": route.interface,
        "source": None if route.source is None else str(route.source),
    }


def decode_change(encoded: object) -> Change:
    """The reverse of `encode_change`. Raises ValueError."""
    if not isinstance(encoded, dict) or encoded.get("kind") != "route":
        raise ValueError("not a change that this version makes")
    destination, interface = encoded.get("destination"), encoded.get("interface")
    if not isinstance(destination, str) or not isinstance(interface, str):
        raise ValueError("a route without destination or interface")
    return AddRoute(
        HostRoute(
            destination=ipaddress.ip_network(destination),
            gateway=_address(encoded.get("gateway")),
            interface=interface,
            source=_address(encoded.get("source")),
        )
    )


def _address(text: object) -> IPAddress | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError("an address that is no text")
    return ipaddress.ip_address(text)
