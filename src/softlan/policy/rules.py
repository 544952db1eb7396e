"""What a room lets pass, as data: each rule of the layer-2 policy on or off, each rate, each EtherType."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from softlan.errors import UsageError
from softlan.proto.ethernet import MIN_ETHERTYPE

PPPOE_DISCOVERY = 0x8863
PPPOE_SESSION = 0x8864

LARGEST_FRAME = 65536
"""No frame has more bytes; a bucket that never holds as many would stop some frames for good."""


@dataclass(frozen=True)
class Policy:
    """The rules of one room. docs/reference/protocol.md, "What the relay does with a datagram", has their order."""

    invalid_source: bool = True
    """Drop frames whose source is a group or zero, or not the client's own, or from the LAN with a client's."""
    jumbo: bool = True
    """Drop frames whose payload is above the room's MTU."""
    switch_control: bool = True
    """Drop what switches tell each other: spanning tree, LLDP, LACP, pause frames, CDP. From either side."""
    ethertypes: frozenset[int] | None = None
    """The EtherTypes that pass, behind tags and SNAP; None for all. From either side."""
    refused_ethertypes: frozenset[int] = frozenset((PPPOE_DISCOVERY, PPPOE_SESSION))
    """EtherTypes that do not pass, also when `ethertypes` has them. PPPoE by default: its servers answer anyone."""
    llc: bool = True
    """Let 802.3 frames without an EtherType pass, such as Novell's IPX and NetBEUI."""
    dhcp_server: bool = True
    """Drop a client's IPv4 UDP from port 67 or to port 68: a DHCP server's. DHCP clients look at 68 alone."""
    dhcpv6_server: bool = True
    """Drop a client's IPv6 UDP from port 547 or to port 546: a DHCPv6 server's."""
    ipv6_ra: bool = True
    """Drop a client's router advertisements (ICMPv6 134)."""
    icmp_redirect: bool = True
    """Drop a client's IPv4 redirects (ICMP type 5): what only a router says, and hosts believe."""
    nd_redirect: bool = True
    """Drop a client's ICMPv6 redirects (137)."""
    nd_spoof: bool = True
    """Drop a client's router and neighbour solicitations and neighbour advertisements (ICMPv6 133, 135, 136) with a
    link-layer address that is not the frame's source."""
    arp_spoof: bool = True
    """Drop a client's ARP and RARP whose sender hardware address is not the frame's source."""
    ambiguous: bool = True
    """Drop a client's frames that could be any of these, but cannot be read to the end (`softlan.proto.ip`)."""
    ra_from_lan: bool = True
    """Let the LAN's router advertisements pass to the clients."""
    broadcast_rate: float = 250.0
    """Broadcast and multicast frames a second from each client; 0 for no limit. Old IPX games send all they have as
    broadcast, 20 to 70 a second; each frame costs the room one copy a member."""
    broadcast_burst: int = 500
    """Of these, how many may come at once. A server browser sends about 100, a scan of a /24 254 ARP requests."""
    unknown_unicast_rate: float = 250.0
    """Unicast frames a second from each client to a MAC that nobody has been seen with; 0 for no limit. The LAN's
    switches flood them as they do broadcast."""
    unknown_unicast_burst: int = 500
    """Of these, how many may come at once."""
    total_rate: float = 125_000_000.0
    """Bytes a second from each client, all frames that passed the rules; 0 for no limit. The default is a gigabit: it
    stops nobody at home, only one who would take the relay for itself."""
    total_burst: int = 4_000_000
    """Of these, how many may come at once; at least one frame's, 65536."""
    frame_rate: float = 200_000.0
    """Frames a second from each member, the gateway too, whatever becomes of them; 0 for no limit. What is copied to
    several members counts once for each. A gigabit of full frames is 87,000 a second, and TCP's acknowledgements of
    them 44,000 more; the most of small ones that were measured of one player are 121,000
    (docs/design/performance.md)."""
    frame_burst: int = 100_000
    """Of these, how many may come at once. 1500 broadcasts of a LAN to a room of 64 are as many."""

    def to_mapping(self) -> dict[str, object]:
        """Return plain values by field name, in their order, as TOML can hold them and `from_mapping` reads them."""
        return {name: write(getattr(self, name)) for name, (_, write) in _FIELDS.items()}


def from_mapping(mapping: Mapping[str, object], base: Policy | None = None, *, where: str = "policy") -> Policy:
    """Read a policy from plain values; what `mapping` leaves out is as in `base`, by default the default policy.

    So a room's table goes on top of the relay's. EtherTypes are a list of integers or of strings such as "0x8137",
    or for `ethertypes` the string "all". Raises UsageError that names `where` and the key.
    """
    values: dict[str, object] = {}
    for key, value in mapping.items():
        if key not in _FIELDS:
            raise UsageError(f"{where}: there is no rule {key!r}; the rules are {', '.join(_FIELDS)}")
        read, _ = _FIELDS[key]
        try:
            values[key] = read(value)
        except ValueError as error:
            raise UsageError(f"{where}.{key}: {value!r} is not {error}") from None
    return dataclasses.replace(base if base is not None else Policy(), **values)  # type: ignore[arg-type]


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise ValueError("a rate: a number a second, 0 for no limit")
    return float(value)


def _burst(least: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**53:
            raise ValueError(f"a burst: a whole number from {least}")
        return value

    return read


def _types(value: object) -> frozenset[int]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError('a list of EtherTypes such as "0x8137"')
    return frozenset(map(_type, value))


def _type(value: object) -> int:
    number = value
    if isinstance(value, str):
        try:
            number = int(value, 16)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int) or not MIN_ETHERTYPE <= number <= 0xFFFF:
        raise ValueError(f"a list of EtherTypes from 0x0600 to 0xffff: {value!r} is none")
    return number


def _types_or_all(value: object) -> frozenset[int] | None:
    return None if value == "all" else _types(value)


def _same(value: object) -> object:
    return value


def _list(value: frozenset[int] | None) -> object:
    return "all" if value is None else [f"0x{number:04x}" for number in sorted(value)]


# How the value of each field is read and written.
_READERS: dict[str, tuple[Callable[[object], object], Callable[..., object]]] = {
    "ethertypes": (_types_or_all, _list),
    "refused_ethertypes": (_types, _list),
    "broadcast_rate": (_rate, _same),
    "broadcast_burst": (_burst(1), _same),
    "unknown_unicast_rate": (_rate, _same),
    "unknown_unicast_burst": (_burst(1), _same),
    "total_rate": (_rate, _same),
    "total_burst": (_burst(LARGEST_FRAME), _same),
    "frame_rate": (_rate, _same),
    "frame_burst": (_burst(1), _same),
}
_FIELDS = {field.name: _READERS.get(field.name, (_flag, _same)) for field in dataclasses.fields(Policy)}
