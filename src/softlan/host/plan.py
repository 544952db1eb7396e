"""What should be changed on the host, as values that can be compared, written down and undone."""

import ipaddress
from dataclasses import dataclass, field
from typing import ClassVar

from softlan.errors import HostError
from softlan.host.base import HostRoute, IPAddress, Setting


@dataclass(frozen=True)
class AddRoute:
    """A route that is to be there for as long as we run."""

    route: HostRoute

    OUTLIVES_BOOT: ClassVar = False
    """Whether it can still be there after a restart of the machine."""
    UNDO: ClassVar = ("remove", "removed")

    def __str__(self) -> str:
        return f"route {self.route}"

    def lies_under(self, later: "Change") -> bool:
        """Whether it can only be undone when `later` was: never, routes stand beside each other."""
        return False


@dataclass(frozen=True)
class SetInterface:
    """A setting of an interface for as long as we run."""

    interface: str
    version: int
    """Of IP: 4 or 6; each has its own."""
    setting: Setting
    value: int
    previous: int | None = field(default=None, compare=False)
    """What was set before: the guard fills it in."""
    label: str = field(default="", compare=False)
    """What people call the interface."""

    OUTLIVES_BOOT: ClassVar = True
    UNDO: ClassVar = ("put back", "put back")

    def __str__(self) -> str:
        return f"IPv{self.version} setting {self.setting.value} = {self.value} of {self.label or self.interface}"

    def lies_under(self, later: "Change") -> bool:
        """Whether it can only be undone when `later` was: a change of the same setting hides this one's value."""
        return isinstance(later, SetInterface) and (later.interface, later.version, later.setting) == (
            self.interface,
            self.version,
            self.setting,
        )


Change = AddRoute | SetInterface
"""Any of the changes. A further kind becomes a member of this union, with a `kind` of its own in `encode_change`,
and has its deeds in `deeds.py`."""


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
        label=best.label,
    )


def encode_change(change: Change) -> dict[str, str | int | None]:
    """`change` as a JSON object."""
    if isinstance(change, SetInterface):
        return {
            "kind": "interface",
            "interface": change.interface,
            "version": change.version,
            "setting": change.setting.value,
            "value": change.value,
            "previous": change.previous,
            "label": change.label,
        }
    route = change.route
    return {
        "kind": "route",
        "destination": str(route.destination),
        "gateway": None if route.gateway is None else str(route.gateway),
        "interface": route.interface,
        "source": None if route.source is None else str(route.source),
        "label": route.label,
    }


def decode_change(encoded: object) -> Change:
    """The reverse of `encode_change`. Raises ValueError."""
    if not isinstance(encoded, dict):
        raise ValueError("not a change")
    interface = encoded.get("interface")
    if not isinstance(interface, str):
        raise ValueError("a change without an interface")
    if encoded.get("kind") == "route":
        return AddRoute(_route(encoded, interface))
    if encoded.get("kind") != "interface":
        raise ValueError("not a change that this version makes")
    version = encoded.get("version")
    if version not in (4, 6):
        raise ValueError("a setting of no version of IP")
    return SetInterface(
        interface,
        version,
        Setting(str(encoded.get("setting"))),
        _number(encoded.get("value")),
        _number(encoded.get("previous")),
        _label(encoded),
    )


def _route(encoded: dict[object, object], interface: str) -> HostRoute:
    destination = encoded.get("destination")
    if not isinstance(destination, str):
        raise ValueError("a route without destination")
    return HostRoute(
        destination=ipaddress.ip_network(destination),
        gateway=_address(encoded.get("gateway")),
        interface=interface,
        source=_address(encoded.get("source")),
        label=_label(encoded),
    )


def _label(encoded: dict[object, object]) -> str:
    label = encoded.get("label", "")
    if not isinstance(label, str):
        raise ValueError("a name that is no text")
    return label


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
        raise ValueError("a setting that is no number")
    return value


def _address(text: object) -> IPAddress | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError("an address that is no text")
    return ipaddress.ip_address(text)
