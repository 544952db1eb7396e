"""Named frames for the layer-2 policy, each with its reason: what a client may not send, and what it must be able to.

All frames come from the client `CLIENT` unless they lie about it, and fit a room with `ROOM_MTU`.
"""

from dataclasses import dataclass

from tests.support.packets import (
    AH,
    ALL_NODES,
    ALL_ROUTERS,
    ARP,
    BROADCAST,
    CLIENT,
    DESTINATION,
    ESP,
    FRAGMENT,
    GRE,
    HIP,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IGMP,
    IPIP,
    IPV4,
    IPV6,
    IPV6_IN_IP,
    LAN_HOST,
    MOBILITY,
    NO_NEXT,
    OTHER_CLIENT,
    RARP,
    ROUTER,
    ROUTING,
    SHIM6,
    SNAP_802_1H,
    TCP,
    UDP,
    ah,
    arp,
    chain,
    dhcp,
    dot1q,
    ether,
    extension,
    fragment,
    group,
    icmpv6,
    ipv4,
    ipv6,
    kind,
    link_layer_option,
    llc,
    neighbour_advertisement,
    neighbour_solicitation,
    redirect,
    router_advertisement,
    router_solicitation,
    snap,
    tcp,
    udp,
)

from softlan.proto.drop import DropReason

ROOM_MTU = 1418


@dataclass(frozen=True)
class Evasion:
    """A frame that a client must not get through."""

    name: str
    frame: bytes
    reason: DropReason
    """What stops it."""
    why: str
    """What it would do, or how it hides."""


@dataclass(frozen=True)
class Legitimate:
    """A frame that a client must get through."""

    name: str
    frame: bytes
    why: str


_RA = router_advertisement(link_layer_option(1, CLIENT))
_RA6 = ipv6(_RA, ICMPV6)
_OFFER = udp(67, 68, dhcp(2, bytes.fromhex("350102")))
_OFFER4 = ipv4(_OFFER, src="192.168.1.66", dst="255.255.255.255")
_ADVERTISE = udp(547, 546, bytes.fromhex("02123456"))
_ADVERTISE6 = ipv6(_ADVERTISE, UDP)


def _ra(payload: bytes, header: int) -> bytes:
    return ether(kind(IPV6), ipv6(payload, header), dst=ALL_NODES)


def _offer(*parts: bytes) -> bytes:
    return ether(*parts, dst=BROADCAST)


_ROUTER_ADVERTISEMENTS = (
    Evasion("ra", _ra(_RA, ICMPV6), DropReason.IPV6_RA, "the plain case: a default route through the player"),
    *(
        Evasion(
            f"ra behind {name}",
            _ra(*chain(number, then=ICMPV6, payload=_RA)),
            DropReason.IPV6_RA,
            "RFC 7113 section 2.1",
        )
        for name, number in {
            "hop-by-hop options": HOP_BY_HOP,
            "routing": ROUTING,
            "destination options": DESTINATION,
            "an atomic fragment": FRAGMENT,
            "ah": AH,
            "mobility": MOBILITY,
            "hip": HIP,
            "shim6": SHIM6,
        }.items()
    ),
    Evasion(
        "ra behind two of each",
        _ra(*chain(*(HOP_BY_HOP, ROUTING, DESTINATION, AH, HIP, SHIM6, MOBILITY) * 2, then=ICMPV6, payload=_RA)),
        DropReason.IPV6_RA,
        "a chain of 14, longer than most filters look",
    ),
    Evasion(
        "ra behind 1 kB of destination options",
        _ra(*chain(DESTINATION, then=ICMPV6, payload=_RA, units=127)),
        DropReason.IPV6_RA,
        "past what hardware reads of a packet (RFC 7113 section 2.1)",
    ),
    Evasion(
        "ra behind 100 headers",
        _ra(*chain(*(DESTINATION,) * 100, then=ICMPV6, payload=_RA)),
        DropReason.AMBIGUOUS,
        "a chain without end is nothing that anyone sends",
    ),
    Evasion(
        "ra in a first fragment",
        _ra(fragment(ICMPV6, more=True) + _RA, FRAGMENT),
        DropReason.IPV6_RA,
        "RFC 7113 section 2.2; hosts must not take it (RFC 6980), older ones do",
    ),
    Evasion(
        "ra with its type in the second fragment",
        _ra(fragment(DESTINATION, more=True) + extension(ICMPV6, 1), FRAGMENT),
        DropReason.AMBIGUOUS,
        "RFC 7113 section 2.2, figure 4: the first fragment has no transport header",
    ),
    Evasion(
        "ra with half an options header in the first fragment",
        _ra(fragment(DESTINATION, more=True) + extension(ICMPV6, 10)[:16], FRAGMENT),
        DropReason.AMBIGUOUS,
        "RFC 7112: the chain breaks off inside a header",
    ),
    Evasion(
        "ra in an empty first fragment",
        _ra(fragment(ICMPV6, more=True), FRAGMENT),
        DropReason.AMBIGUOUS,
        "no transport header at all",
    ),
    Evasion(
        "first fragment to be overwritten",
        _ra(fragment(DESTINATION, more=True) + extension(UDP) + udp(5353, 5353), FRAGMENT),
        DropReason.AMBIGUOUS,
        "RFC 5722: a later fragment at 8 could turn this innocent UDP into anything",
    ),
    Evasion(
        "ra in a fragment of a fragment",
        _ra(fragment(FRAGMENT, more=True) + fragment(ICMPV6) + _RA, FRAGMENT),
        DropReason.AMBIGUOUS,
        "fragment headers nested",
    ),
    Evasion(
        "ra behind two atomic fragments",
        _ra(*chain(FRAGMENT, FRAGMENT, then=ICMPV6, payload=_RA)),
        DropReason.IPV6_RA,
        "RFC 6946: each is a whole packet",
    ),
    Evasion(
        "ra in IPv6 in IPv6",
        _ra(_RA6, IPV6_IN_IP),
        DropReason.IPV6_RA,
        "a receiver that unpacks tunnels unasked",
    ),
    Evasion(
        "ra in IPv6 in IPv4",
        ether(kind(IPV4), ipv4(_RA6, IPV6_IN_IP)),
        DropReason.IPV6_RA,
        "ISATAP and 6to4 listen by default on older systems",
    ),
    Evasion(
        "ra in IPv6 in a fragment of IPv4",
        ether(kind(IPV4), ipv4(_RA6, IPV6_IN_IP, more=True)),
        DropReason.AMBIGUOUS,
        "its type lies where a later fragment can write",
    ),
    Evasion(
        "ra behind an unassigned header",
        _ra(extension(ICMPV6) + _RA, 200),
        DropReason.AMBIGUOUS,
        "RFC 7045: a header of tomorrow",
    ),
    Evasion(
        "ra behind an experimental header",
        _ra(extension(ICMPV6) + _RA, 253),
        DropReason.AMBIGUOUS,
        "RFC 4727: a header for experiments",
    ),
    Evasion(
        "ra in a jumbogram",
        ether(
            kind(IPV6),
            ipv6(extension(ICMPV6, data=b"\xc2\x04\0\0\0\x48") + _RA, HOP_BY_HOP, length=0),
            dst=ALL_NODES,
        ),
        DropReason.AMBIGUOUS,
        "payload length 0, the real one in an option (RFC 2675)",
    ),
    Evasion(
        "ra longer than its frame",
        ether(kind(IPV6), ipv6(_RA, ICMPV6, length=len(_RA) + 8), dst=ALL_NODES),
        DropReason.AMBIGUOUS,
        "receivers drop it, or do not look",
    ),
    Evasion(
        "ra behind the packet's end",
        ether(kind(IPV6), ipv6(extension(ICMPV6) + _RA, DESTINATION, length=8), dst=ALL_NODES),
        DropReason.AMBIGUOUS,
        "a receiver that trusts the frame reads on behind the payload length",
    ),
    Evasion(
        "ra in IPv6 that says it is IPv4",
        ether(kind(IPV6), ipv6(_RA, ICMPV6, version=4), dst=ALL_NODES),
        DropReason.AMBIGUOUS,
        "version and EtherType disagree",
    ),
    Evasion(
        "ra in the EtherType of IPv4",
        ether(kind(IPV4), _RA6, dst=ALL_NODES),
        DropReason.AMBIGUOUS,
        "version and EtherType disagree",
    ),
)


def _hidden(*parts: bytes) -> bytes:
    return ether(*parts, dst=ALL_NODES)


_IPV6_RA = (kind(IPV6), _RA6)

_LINK_LAYER = (
    Evasion("ra in a priority tag", _hidden(dot1q(0), *_IPV6_RA), DropReason.IPV6_RA, "CVE-2021-27853"),
    Evasion("ra in two priority tags", _hidden(dot1q(0), dot1q(0), *_IPV6_RA), DropReason.IPV6_RA, "CVE-2021-27853"),
    Evasion("ra in ten priority tags", _hidden(*[dot1q(0)] * 10, *_IPV6_RA), DropReason.IPV6_RA, "CVE-2021-27853"),
    Evasion(
        "ra in 802.1ad and 802.1Q",
        _hidden(dot1q(5, tpid=0x88A8), dot1q(7), *_IPV6_RA),
        DropReason.IPV6_RA,
        "a provider's tag around the customer's",
    ),
    Evasion(
        "ra in old Q-in-Q", _hidden(dot1q(5, tpid=0x9100), *_IPV6_RA), DropReason.IPV6_RA, "the S-tag of older switches"
    ),
    Evasion("ra in snap", _hidden(snap(*_IPV6_RA)), DropReason.IPV6_RA, "CVE-2021-27854; Windows takes it (RFC 1042)"),
    Evasion(
        "ra in the bridge tunnel encapsulation",
        _hidden(snap(*_IPV6_RA, oui=SNAP_802_1H)),
        DropReason.IPV6_RA,
        "IEEE 802.1H; Wi-Fi unpacks it too",
    ),
    Evasion(
        "ra in snap in a priority tag",
        _hidden(dot1q(0), snap(*_IPV6_RA)),
        DropReason.IPV6_RA,
        "VU#855201: a tag in front of the length",
    ),
    Evasion(
        "ra in a priority tag in snap",
        _hidden(snap(dot1q(0), *_IPV6_RA)),
        DropReason.IPV6_RA,
        "VU#855201: how Wi-Fi puts tags, sent on the wire",
    ),
    Evasion(
        "ra in tags around and in snap",
        _hidden(dot1q(0), snap(dot1q(0), dot1q(0, tpid=0x88A8), *_IPV6_RA)),
        DropReason.IPV6_RA,
        "VU#855201: both",
    ),
    Evasion(
        "ra in snap in snap",
        _hidden(snap(snap(*_IPV6_RA))),
        DropReason.AMBIGUOUS,
        "what Linux makes of a tagged SNAP frame on its way over Wi-Fi",
    ),
    *(
        Evasion(
            f"ra in snap of length {length:#06x}", _hidden(snap(*_IPV6_RA, length=length)), DropReason.AMBIGUOUS, why
        )
        for length, why in {
            0x0000: "CVE-2021-27861: Windows takes any length",
            0x0008: "CVE-2021-27861: the length ends with the SNAP header",
            0x0010: "CVE-2021-27862: Wi-Fi bridges ignore the length",
            0x05DC: "CVE-2021-27861: longer than the frame",
            0x05FF: "CVE-2021-27861: neither a length nor an EtherType",
        }.items()
    ),
    Evasion(
        "ra in a priority tag and snap of length 0",
        _hidden(dot1q(0), snap(*_IPV6_RA, length=0)),
        DropReason.AMBIGUOUS,
        "CVE-2021-27861, the optional tag included",
    ),
    Evasion(
        "ra in snap with another control byte",
        _hidden(snap(*_IPV6_RA, control=0x13)),
        DropReason.AMBIGUOUS,
        "not by the book, to those who look",
    ),
    Evasion(
        "ra in snap with another ssap",
        _hidden(snap(*_IPV6_RA, ssap=0xAB)),
        DropReason.AMBIGUOUS,
        "not by the book, to those who look",
    ),
    Evasion(
        "ra in snap of the group sap",
        _hidden(llc(bytes(3) + b"".join(_IPV6_RA), dsap=0xAB)),
        DropReason.AMBIGUOUS,
        "not by the book, to those who look",
    ),
    Evasion(
        "ra in snap of a foreign oui",
        _hidden(snap(*_IPV6_RA, oui=bytes.fromhex("00000c"))),
        DropReason.AMBIGUOUS,
        "for a receiver that looks at the last two bytes alone",
    ),
    Evasion(
        "ra in a tag in snap of a foreign oui",
        _hidden(snap(dot1q(0), *_IPV6_RA, oui=bytes.fromhex("00000c"))),
        DropReason.AMBIGUOUS,
        "for a receiver that looks at the last two bytes alone",
    ),
    Evasion(
        "ra in oversize llc",
        _hidden(kind(0x8870), snap(*_IPV6_RA)[2:]),
        DropReason.AMBIGUOUS,
        "LLC behind an EtherType (draft-ietf-isis-ext-eth)",
    ),
    Evasion(
        "ra in the oui extended type",
        _hidden(kind(0x88B7), bytes(3), *_IPV6_RA),
        DropReason.AMBIGUOUS,
        "SNAP without its LLC (IEEE 802)",
    ),
    Evasion(
        "ra in the oui extended type in snap",
        _hidden(snap(kind(0x88B7), bytes(3), *_IPV6_RA)),
        DropReason.AMBIGUOUS,
        "SNAP in SNAP, by another name",
    ),
    Evasion(
        "ra behind a hundred tags",
        _hidden(*[dot1q(0)] * 100, *_IPV6_RA),
        DropReason.AMBIGUOUS,
        "a stack without end is nothing that anyone sends",
    ),
    Evasion("tags and nothing else", _hidden(dot1q(0), dot1q(0)), DropReason.AMBIGUOUS, "the type is not there"),
    Evasion("half a snap header", _hidden(kind(5), b"\xaa\xaa\x03\0\0"), DropReason.AMBIGUOUS, "the type is not there"),
    Evasion(
        "offer by llc's own sap",
        _offer(llc(_OFFER4, dsap=0x06)),
        DropReason.AMBIGUOUS,
        "IP without SNAP, phased out since 1987 (RFC 948, RFC 1010)",
    ),
)

_SOURCE_ROUTE_OF_NOTHING = bytes((1, 1, 1, 0))
# Options of 8 bytes that read as the UDP header of 5353 -> 5353 to who takes the header for 20 bytes long.
_OPTIONS_LIKE_PORTS = bytes.fromhex("14e914e9 00 000000")

_DHCP = (
    Evasion("offer", _offer(kind(IPV4), _OFFER4), DropReason.DHCP_SERVER, "the plain case: routes through the player"),
    Evasion(
        "offer from another port",
        _offer(kind(IPV4), ipv4(udp(12345, 68, dhcp(2)))),
        DropReason.DHCP_SERVER,
        "DHCP clients look at their own port alone",
    ),
    Evasion(
        "server's port to another",
        ether(kind(IPV4), ipv4(udp(67, 4011, dhcp(2)))),
        DropReason.DHCP_SERVER,
        "a boot server's, or a relay agent's",
    ),
    Evasion("offer in a tag", _offer(dot1q(5), kind(IPV4), _OFFER4), DropReason.DHCP_SERVER, "into a VLAN"),
    Evasion(
        "offer in stacked tags",
        _offer(dot1q(0, tpid=0x88A8), dot1q(0), kind(IPV4), _OFFER4),
        DropReason.DHCP_SERVER,
        "CVE-2021-27853",
    ),
    Evasion("offer in snap", _offer(snap(kind(IPV4), _OFFER4)), DropReason.DHCP_SERVER, "CVE-2021-27854"),
    Evasion(
        "offer in snap of a wrong length",
        _offer(snap(kind(IPV4), _OFFER4, length=0)),
        DropReason.AMBIGUOUS,
        "CVE-2021-27861",
    ),
    Evasion(
        "offer behind options",
        _offer(kind(IPV4), ipv4(_OFFER, options=_SOURCE_ROUTE_OF_NOTHING)),
        DropReason.DHCP_SERVER,
        "the ports are not at 20",
    ),
    Evasion(
        "offer behind 40 bytes of options",
        _offer(kind(IPV4), ipv4(_OFFER, options=bytes((1,)) * 40)),
        DropReason.DHCP_SERVER,
        "the ports are at 60",
    ),
    Evasion(
        "offer behind options that look like ports",
        _offer(kind(IPV4), ipv4(_OFFER, options=_OPTIONS_LIKE_PORTS)),
        DropReason.DHCP_SERVER,
        "5353 -> 5353 for who does not read the header's length",
    ),
    Evasion(
        "offer in a first fragment",
        _offer(kind(IPV4), ipv4(_OFFER, more=True)),
        DropReason.DHCP_SERVER,
        "the rest would follow",
    ),
    Evasion(
        "offer in a tiny first fragment",
        _offer(kind(IPV4), ipv4(_OFFER[:2], more=True)),
        DropReason.AMBIGUOUS,
        "RFC 1858: the ports are not in it",
    ),
    Evasion(
        "offer in a first fragment with ah",
        _offer(kind(IPV4), ipv4(ah(UDP) + udp(5353, 5353), AH, more=True)),
        DropReason.AMBIGUOUS,
        "RFC 1858: ports that a later fragment can overwrite",
    ),
    Evasion(
        "offer behind ah", _offer(kind(IPV4), ipv4(ah(UDP) + _OFFER, AH)), DropReason.DHCP_SERVER, "AH before UDP, IPv4"
    ),
    Evasion("offer in IPv4 in IPv4", ether(kind(IPV4), ipv4(_OFFER4, IPIP)), DropReason.DHCP_SERVER, "CVE-2020-10136"),
    Evasion(
        "offer with a short header",
        _offer(kind(IPV4), ipv4(_OFFER, ihl=4)),
        DropReason.AMBIGUOUS,
        "where would its ports be?",
    ),
    Evasion(
        "offer with a header longer than the packet",
        _offer(kind(IPV4), ipv4(_OFFER, ihl=15, total=40)),
        DropReason.AMBIGUOUS,
        "where would its ports be?",
    ),
    Evasion(
        "offer longer than its frame",
        _offer(kind(IPV4), ipv4(_OFFER, total=1400)),
        DropReason.AMBIGUOUS,
        "receivers drop it, or do not look",
    ),
    Evasion(
        "offer of total length 0",
        _offer(kind(IPV4), ipv4(_OFFER, total=0)),
        DropReason.AMBIGUOUS,
        "offloads write 0 for what does not fit",
    ),
    Evasion(
        "offer behind the packet's end",
        _offer(kind(IPV4), ipv4(_OFFER, total=20)),
        DropReason.AMBIGUOUS,
        "a receiver that trusts the frame reads on behind the total length",
    ),
    Evasion(
        "offer in IPv4 that says it is IPv6",
        _offer(kind(IPV4), ipv4(_OFFER, version=6)),
        DropReason.AMBIGUOUS,
        "version and EtherType disagree",
    ),
    Evasion(
        "advertise", ether(kind(IPV6), _ADVERTISE6, dst=ALL_NODES), DropReason.DHCPV6_SERVER, "the plain case, DHCPv6"
    ),
    Evasion(
        "advertise from another port",
        ether(kind(IPV6), ipv6(udp(5353, 546), UDP)),
        DropReason.DHCPV6_SERVER,
        "DHCPv6 clients listen at their own port alone",
    ),
    Evasion(
        "DHCPv6 server's port to another",
        ether(kind(IPV6), ipv6(udp(547, 50000), UDP)),
        DropReason.DHCPV6_SERVER,
        "no client sends from there",
    ),
    Evasion(
        "advertise behind extension headers",
        ether(kind(IPV6), ipv6(*chain(HOP_BY_HOP, DESTINATION, AH, then=UDP, payload=_ADVERTISE))),
        DropReason.DHCPV6_SERVER,
        "AH before UDP",
    ),
    Evasion(
        "advertise in an atomic fragment",
        ether(kind(IPV6), ipv6(*chain(FRAGMENT, then=UDP, payload=_ADVERTISE))),
        DropReason.DHCPV6_SERVER,
        "RFC 6946",
    ),
    Evasion(
        "advertise in a first fragment",
        ether(kind(IPV6), ipv6(fragment(UDP, more=True) + _ADVERTISE, FRAGMENT)),
        DropReason.DHCPV6_SERVER,
        "the rest would follow",
    ),
    Evasion(
        "advertise with its ports in the second fragment",
        ether(kind(IPV6), ipv6(fragment(UDP, more=True) + _ADVERTISE[:2], FRAGMENT)),
        DropReason.AMBIGUOUS,
        "a first fragment without its transport header",
    ),
    Evasion(
        "advertise in snap in a tag",
        ether(dot1q(0), snap(kind(IPV6), _ADVERTISE6), dst=ALL_NODES),
        DropReason.DHCPV6_SERVER,
        "VU#855201",
    ),
)

_REDIRECT4 = bytes((5, 1, 0, 0)) + bytes((10, 0, 0, 66)) + ipv4(udp(50000, 53))  # RFC 792: to the player, from now on
_OWN, _FOREIGN = link_layer_option(2, CLIENT), link_layer_option(2, ROUTER)


def _nd(message: bytes, *headers: int) -> bytes:
    return ether(kind(IPV6), ipv6(*chain(*headers, then=ICMPV6, payload=message)), dst=ALL_NODES)


_SPOOFS = (
    Evasion(
        "another client's source",
        ether(kind(IPV4), ipv4(tcp(1, 2), TCP), src=OTHER_CLIENT),
        DropReason.INVALID_SOURCE,
        "switches would send that one's frames here",
    ),
    Evasion(
        "the router's source",
        ether(kind(ARP), arp(ROUTER), src=ROUTER),
        DropReason.INVALID_SOURCE,
        "switches would send the router's frames here",
    ),
    Evasion("source zero", ether(kind(ARP), arp(bytes(6)), src=bytes(6)), DropReason.INVALID_SOURCE, "nobody's"),
    Evasion(
        "a group for a source",
        ether(kind(ARP), arp(ALL_NODES), src=ALL_NODES),
        DropReason.INVALID_SOURCE,
        "everybody's",
    ),
    Evasion(
        "arp reply for the router",
        ether(kind(ARP), arp(ROUTER, operation=2, sender_ip="192.168.1.1"), dst=BROADCAST),
        DropReason.ARP_SPOOF,
        "says another's hardware address",
    ),
    Evasion(
        "arp request as another",
        ether(kind(ARP), arp(OTHER_CLIENT), dst=BROADCAST),
        DropReason.ARP_SPOOF,
        "requests teach as well as replies",
    ),
    Evasion(
        "arp with another address length",
        ether(kind(ARP), arp(CLIENT, hlen=2), dst=BROADCAST),
        DropReason.ARP_SPOOF,
        "where would its addresses be?",
    ),
    Evasion("half an arp", ether(kind(ARP), arp(CLIENT)[:12]), DropReason.ARP_SPOOF, "its sender is not there"),
    Evasion(
        "rarp reply",
        ether(kind(RARP), arp(ROUTER, operation=4)),
        DropReason.ARP_SPOOF,
        "says another's hardware address",
    ),
    Evasion(
        "arp of another in a tag",
        ether(dot1q(0), kind(ARP), arp(ROUTER), dst=BROADCAST),
        DropReason.ARP_SPOOF,
        "CVE-2021-27853: ARP inspection is passed by, too",
    ),
    Evasion(
        "arp of another in snap",
        ether(snap(kind(ARP), arp(ROUTER)), dst=BROADCAST),
        DropReason.ARP_SPOOF,
        "CVE-2021-27854",
    ),
    Evasion(
        "arp of another in snap of length 0",
        ether(snap(kind(ARP), arp(ROUTER), length=0), dst=BROADCAST),
        DropReason.ARP_SPOOF,
        "CVE-2021-27861",
    ),
    Evasion("advertisement of another", _nd(neighbour_advertisement(_FOREIGN)), DropReason.ND_SPOOF, "ARP's, in IPv6"),
    Evasion(
        "solicitation of another",
        _nd(neighbour_solicitation(link_layer_option(1, ROUTER))),
        DropReason.ND_SPOOF,
        "solicitations teach as well",
    ),
    Evasion(
        "router solicitation of another",
        _nd(router_solicitation(link_layer_option(1, ROUTER))),
        DropReason.ND_SPOOF,
        "and so do these",
    ),
    Evasion(
        "advertisement of another behind its own",
        _nd(neighbour_advertisement(_OWN, _FOREIGN)),
        DropReason.ND_SPOOF,
        "which of the two counts?",
    ),
    Evasion(
        "advertisement of another behind extension headers",
        _nd(neighbour_advertisement(_FOREIGN), HOP_BY_HOP, DESTINATION),
        DropReason.ND_SPOOF,
        "RFC 7113 holds for these as well",
    ),
    Evasion(
        "advertisement with an option of length 0",
        _nd(neighbour_advertisement(bytes(8), _FOREIGN)),
        DropReason.ND_SPOOF,
        "its options cannot be read",
    ),
    Evasion(
        "advertisement with an option that breaks off",
        _nd(neighbour_advertisement(_OWN[:5])),
        DropReason.ND_SPOOF,
        "its options cannot be read",
    ),
    Evasion(
        "advertisement with a long address",
        _nd(neighbour_advertisement(link_layer_option(2, CLIENT, units=2))),
        DropReason.ND_SPOOF,
        "no Ethernet address",
    ),
    Evasion("advertisement without a target", _nd(icmpv6(136, bytes(8))), DropReason.ND_SPOOF, "it breaks off"),
    Evasion(
        "advertisement in a first fragment",
        ether(kind(IPV6), ipv6(fragment(ICMPV6, more=True) + neighbour_advertisement(), FRAGMENT)),
        DropReason.AMBIGUOUS,
        "RFC 6980: its options are in the second",
    ),
    Evasion("redirect", _nd(redirect()), DropReason.ND_REDIRECT, "only routers redirect"),
    Evasion(
        "redirect behind an atomic fragment", _nd(redirect(), FRAGMENT), DropReason.ND_REDIRECT, "only routers redirect"
    ),
    Evasion(
        "redirect in a first fragment",
        ether(kind(IPV6), ipv6(fragment(ICMPV6, more=True) + redirect(), FRAGMENT)),
        DropReason.ND_REDIRECT,
        "only routers redirect",
    ),
    *(
        Evasion(f"ipv4 redirect{how}", ether(kind(IPV4), packet), DropReason.ICMP_REDIRECT, "only routers redirect")
        for how, packet in {
            "": ipv4(_REDIRECT4, ICMP),
            " of a host, with options": ipv4(_REDIRECT4, ICMP, options=bytes(8)),
            " in a first fragment": ipv4(_REDIRECT4, ICMP, more=True),
            " inside ip": ipv4(ipv4(_REDIRECT4, ICMP), IPIP),
            " behind an authentication header": ipv4(ah(ICMP) + _REDIRECT4, AH),
        }.items()
    ),
    Evasion(
        "ipv4 redirect whose first fragment is short",
        ether(kind(IPV4), ipv4(_REDIRECT4[:4], ICMP, more=True)),
        DropReason.AMBIGUOUS,
        "its type could be overwritten, or it is nothing",
    ),
)

_BPDU = bytes.fromhex("0000000000800102000000000100000000800102000000000180010000140002000f00")

_SWITCHES = (
    Evasion(
        "bpdu",
        ether(llc(_BPDU, dsap=0x42), dst=bytes.fromhex("0180c2000000")),
        DropReason.SWITCH_CONTROL,
        "the player as root of the spanning tree",
    ),
    Evasion(
        "bpdu to one switch", ether(llc(_BPDU, dsap=0x42), dst=ROUTER), DropReason.SWITCH_CONTROL, "not to the group"
    ),
    Evasion(
        "bpdu in a tag",
        ether(dot1q(5), llc(_BPDU, dsap=0x42), dst=ROUTER),
        DropReason.SWITCH_CONTROL,
        "a tree for each VLAN",
    ),
    Evasion(
        "bpdu of a wrong length",
        ether(llc(_BPDU, dsap=0x42, length=0), dst=ROUTER),
        DropReason.SWITCH_CONTROL,
        "whatever its length says",
    ),
    Evasion(
        "pvst+",
        ether(snap(kind(0x010B), _BPDU, oui=bytes.fromhex("00000c")), dst=bytes.fromhex("01000ccccccd")),
        DropReason.SWITCH_CONTROL,
        "Cisco's spanning tree",
    ),
    Evasion(
        "cdp",
        ether(snap(kind(0x2000), b"\x02\xb4", oui=bytes.fromhex("00000c")), dst=bytes.fromhex("01000ccccccc")),
        DropReason.SWITCH_CONTROL,
        "Cisco's discovery",
    ),
    Evasion(
        "lldp", ether(kind(0x88CC), bytes(46), dst=bytes.fromhex("0180c200000e")), DropReason.SWITCH_CONTROL, "a switch"
    ),
    Evasion("lldp to one host", ether(kind(0x88CC), bytes(46)), DropReason.SWITCH_CONTROL, "not to the group"),
    Evasion("lldp in tags", ether(dot1q(0), dot1q(0), kind(0x88CC), bytes(46)), DropReason.SWITCH_CONTROL, "hidden"),
    Evasion(
        "lacp",
        ether(kind(0x8809), b"\x01\x01", dst=bytes.fromhex("0180c2000002")),
        DropReason.SWITCH_CONTROL,
        "a trunk",
    ),
    Evasion(
        "pause",
        ether(kind(0x8808), b"\0\x01\xff\xff", dst=bytes.fromhex("0180c2000001")),
        DropReason.SWITCH_CONTROL,
        "stops a port",
    ),
    Evasion(
        "a reserved group around IPv4",
        ether(kind(IPV4), ipv4(udp(1, 2)), dst=bytes.fromhex("0180c200000f")),
        DropReason.SWITCH_CONTROL,
        "for bridges alone, whatever is in it",
    ),
)

_REFUSED = (
    Evasion(
        "pppoe discovery",
        ether(kind(0x8863), bytes.fromhex("110700010000")),
        DropReason.ETHERTYPE,
        "PADO: a server of one's own, unless the room allows it",
    ),
    Evasion(
        "pppoe discovery in a tag",
        ether(dot1q(7), kind(0x8863), bytes.fromhex("110700010000")),
        DropReason.ETHERTYPE,
        "where providers have it",
    ),
    Evasion(
        "pppoe session", ether(kind(0x8864), bytes.fromhex("110000010000")), DropReason.ETHERTYPE, "what would follow"
    ),
    Evasion("jumbo", ether(kind(IPV4), ipv4(udp(1, 2, bytes(1400)))), DropReason.JUMBO, "above the room's MTU"),
    Evasion(
        "jumbo in a tag", ether(dot1q(5), kind(IPV4), ipv4(udp(1, 2, bytes(1400)))), DropReason.JUMBO, "without its tag"
    ),
)

EVASIONS = (*_ROUTER_ADVERTISEMENTS, *_LINK_LAYER, *_DHCP, *_SPOOFS, *_SWITCHES, *_REFUSED)


def _multicast4(group_address: str, *payload: bytes, protocol: int = UDP, options: bytes = b"") -> bytes:
    packet = ipv4(b"".join(payload), protocol, options=options, dst=group_address)
    return ether(kind(IPV4), packet, dst=group(group_address))


def _multicast6(group_address: str, payload: bytes, header: int = UDP) -> bytes:
    return ether(kind(IPV6), ipv6(payload, header, dst=group_address), dst=group(group_address))


def _broadcast(source: int, destination: int, data: bytes) -> bytes:
    return ether(kind(IPV4), ipv4(udp(source, destination, data), dst="255.255.255.255"), dst=BROADCAST)


_QUERY = b"\xff\xff\xff\xff"
_IPX = bytes.fromhex("ffff001e 0004 00000000 ffffffffffff 0452 00000000 020000000001 4003 0003")
_ROUTER_ALERT4 = bytes.fromhex("94040000")
_ROUTER_ALERT6 = extension(ICMPV6, data=bytes.fromhex("05020000 0100"))
_LARGE = bytes(range(256)) * 5

LEGITIMATE = (
    # Getting an address, finding neighbours
    Legitimate("dhcp discover", _broadcast(68, 67, dhcp(1, bytes.fromhex("350101"))), "the LAN's server shall answer"),
    Legitimate(
        "dhcp renewal",
        ether(kind(IPV4), ipv4(udp(68, 67, dhcp(1, bytes.fromhex("350103")))), dst=ROUTER),
        "to the server itself",
    ),
    Legitimate("dhcpv6 solicit", _multicast6("ff02::1:2", udp(546, 547, b"\x01\x12\x34\x56")), "to all DHCPv6 servers"),
    Legitimate(
        "router solicitation",
        ether(kind(IPV6), ipv6(router_solicitation(link_layer_option(1, CLIENT)), ICMPV6), dst=ALL_ROUTERS),
        "the LAN's router shall answer",
    ),
    Legitimate(
        "router solicitation without an address",
        ether(kind(IPV6), ipv6(router_solicitation(), ICMPV6, src="::"), dst=ALL_ROUTERS),
        "before duplicate address detection is through",
    ),
    Legitimate(
        "neighbour solicitation",
        _multicast6("ff02::1:ff00:10", neighbour_solicitation(link_layer_option(1, CLIENT)), ICMPV6),
        "address resolution",
    ),
    Legitimate(
        "duplicate address detection",
        _multicast6("ff02::1:ff00:50", neighbour_solicitation(bytes.fromhex("0e01b1b2b3b4b5b6")), ICMPV6),
        "with a nonce (RFC 7527), without an address",
    ),
    Legitimate("neighbour advertisement", _nd(neighbour_advertisement(_OWN)), "its own address"),
    Legitimate("neighbour advertisement without options", _nd(neighbour_advertisement()), "in answer to unicast"),
    Legitimate("arp request", ether(kind(ARP), arp(), dst=BROADCAST), "address resolution"),
    Legitimate("arp reply", ether(kind(ARP), arp(operation=2, target=LAN_HOST)), "address resolution"),
    Legitimate(
        "arp probe", ether(kind(ARP), arp(sender_ip="0.0.0.0"), dst=BROADCAST), "is the address free (RFC 5227)?"
    ),
    Legitimate("arp of 60 bytes", ether(kind(ARP), arp(), dst=BROADCAST).ljust(60, b"\0"), "padded, as on a wire"),
    Legitimate("arp in a tag", ether(dot1q(5), kind(ARP), arp(), dst=BROADCAST), "VLANs pass"),
    Legitimate("arp in a priority tag", ether(dot1q(0, 6), kind(ARP), arp(), dst=BROADCAST), "so do priority tags"),
    # Groups
    Legitimate(
        "igmp report",
        _multicast4("224.0.0.251", bytes.fromhex("16000904e00000fb"), protocol=IGMP, options=_ROUTER_ALERT4),
        "with the router alert option, as all are",
    ),
    Legitimate(
        "mld report",
        _multicast6("ff02::16", _ROUTER_ALERT6 + icmpv6(143, bytes(4)), HOP_BY_HOP),
        "behind a hop-by-hop header, as all are",
    ),
    # Discovery in offices and homes
    Legitimate("mdns", _multicast4("224.0.0.251", udp(5353, 5353)), "printers, chromecasts"),
    Legitimate("mdns over IPv6", _multicast6("ff02::fb", udp(5353, 5353)), "the same"),
    Legitimate("ssdp", _multicast4("239.255.255.250", udp(50000, 1900, b"M-SEARCH * HTTP/1.1")), "UPnP"),
    Legitimate("ws-discovery", _multicast4("239.255.255.250", udp(50000, 3702)), "Windows network neighbourhood"),
    Legitimate("llmnr", _multicast4("224.0.0.252", udp(50000, 5355)), "Windows names"),
    Legitimate("netbios name", _broadcast(137, 137, bytes(50)), "Windows names, the old way"),
    Legitimate("netbios datagram", _broadcast(138, 138, bytes(50)), "the browser of Windows networks"),
    Legitimate("netbeui", ether(llc(bytes(40), dsap=0xF0), dst=bytes.fromhex("030000000001")), "NetBIOS without IP"),
    Legitimate("lltd", ether(kind(0x88D9), bytes(40), dst=BROADCAST), "Windows network map"),
    Legitimate("wake on lan", ether(kind(0x0842), b"\xff" * 6 + LAN_HOST * 16, dst=BROADCAST), "wakes the server"),
    Legitimate("wake on lan over UDP", _broadcast(50000, 9, b"\xff" * 6 + LAN_HOST * 16), "the same"),
    # Games
    Legitimate(
        "minecraft", _multicast4("224.0.2.60", udp(50000, 4445, b"[MOTD]LAN[/MOTD][AD]25565[/AD]")), "its LAN list"
    ),
    Legitimate("minecraft bedrock", _broadcast(50000, 19132, b"\x01" + bytes(32)), "its LAN list"),
    Legitimate("quake query", _broadcast(27960, 27960, _QUERY + b"getinfo xxx"), "a server browser"),
    Legitimate("source query", _broadcast(27015, 27015, _QUERY + b"TSource Engine Query\0"), "a server browser"),
    Legitimate("game traffic", ether(kind(IPV4), ipv4(udp(27005, 27015, bytes(200)))), "what it is all for"),
    Legitimate("directplay", _broadcast(2302, 47624, bytes(60)), "Age of Empires finds a session"),
    Legitimate("ipx, Ethernet II", ether(kind(0x8137), _IPX, dst=BROADCAST), "games of the nineties"),
    Legitimate("ipx, 802.2", ether(llc(_IPX, dsap=0xE0), dst=BROADCAST), "the same, NetWare 4's framing"),
    Legitimate("ipx, 802.3 raw", ether(kind(len(_IPX)), _IPX, dst=BROADCAST), "the same, NetWare 3's framing"),
    Legitimate("ipx, SNAP", ether(snap(kind(0x8137), _IPX), dst=BROADCAST), "the same, SNAP's framing"),
    Legitimate(
        "ipx, 802.2 padded", ether(llc(_IPX, dsap=0xE0), dst=BROADCAST).ljust(60, b"\0"), "padded, as on a wire"
    ),
    # The rest of a network's life
    Legitimate("tcp", ether(kind(IPV4), ipv4(tcp(50000, 445, bytes(1378)), TCP)), "a file copy at full size"),
    Legitimate("tcp over IPv6", ether(kind(IPV6), ipv6(tcp(50000, 445, bytes(1358)), TCP)), "the same"),
    Legitimate(
        "tcp in a tag", ether(dot1q(5), kind(IPV4), ipv4(tcp(50000, 445, bytes(1378)), TCP)), "the same, in a VLAN"
    ),
    Legitimate("tcp in snap", ether(snap(kind(IPV4), ipv4(tcp(50000, 23), TCP))), "RFC 1042, by the book"),
    Legitimate("tcp acknowledgement padded", ether(kind(IPV4), ipv4(tcp(1, 2), TCP)).ljust(60, b"\0"), "as on a wire"),
    Legitimate("ping", ether(kind(IPV4), ipv4(b"\x08\0" + bytes(62), ICMP)), "is it there?"),
    Legitimate("ping over IPv6", ether(kind(IPV6), ipv6(icmpv6(128, bytes(60)), ICMPV6)), "is it there?"),
    Legitimate("packet too big", ether(kind(IPV6), ipv6(icmpv6(2, bytes(100)), ICMPV6)), "path MTU discovery"),
    Legitimate("dns", ether(kind(IPV4), ipv4(udp(50000, 53, bytes(30))), dst=ROUTER), "names"),
    Legitimate("ntp with options", ether(kind(IPV4), ipv4(udp(123, 123), options=bytes(4))), "options are allowed"),
    Legitimate(
        "first fragment", ether(kind(IPV4), ipv4(udp(1000, 2049, _LARGE[:1376]), more=True)), "a large datagram"
    ),
    Legitimate("later fragment", ether(kind(IPV4), ipv4(_LARGE[:64], offset=1384)), "its end"),
    Legitimate(
        "first fragment over IPv6",
        ether(kind(IPV6), ipv6(fragment(UDP, more=True) + udp(1000, 2049, _LARGE[:1232]), FRAGMENT)),
        "a large datagram",
    ),
    Legitimate(
        "later fragment over IPv6",
        ether(kind(IPV6), ipv6(fragment(UDP, offset=1240) + _LARGE[:64], FRAGMENT)),
        "its end",
    ),
    Legitimate(
        "large ping over IPv6",
        ether(kind(IPV6), ipv6(fragment(ICMPV6, more=True) + icmpv6(128, _LARGE[:1000]), FRAGMENT)),
        "fragmented echo requests are fine",
    ),
    Legitimate(
        "atomic fragment",
        ether(kind(IPV6), ipv6(*chain(FRAGMENT, then=UDP, payload=udp(1000, 2000)))),
        "from a translator (RFC 6946)",
    ),
    Legitimate(
        "udp behind destination options",
        ether(kind(IPV6), ipv6(*chain(DESTINATION, then=UDP, payload=udp(1000, 2000)))),
        "extension headers are allowed",
    ),
    Legitimate("nothing at all over IPv6", ether(kind(IPV6), ipv6(b"", NO_NEXT)), "no next header"),
    Legitimate("esp", ether(kind(IPV4), ipv4(bytes(80), ESP)), "a VPN to work"),
    Legitimate("esp over IPv6", ether(kind(IPV6), ipv6(bytes(80), ESP)), "a VPN to work"),
    Legitimate("gre", ether(kind(IPV4), ipv4(bytes.fromhex("3081880b") + bytes(20), GRE)), "PPTP"),
    Legitimate("ospf", _multicast4("224.0.0.5", bytes(44), protocol=89), "a lab"),
    Legitimate("6in4", ether(kind(IPV4), ipv4(ipv6(tcp(1, 2), TCP), IPV6_IN_IP)), "a tunnel with nothing evil in it"),
    Legitimate("ata over Ethernet", ether(kind(0x88A2), bytes(32)), "a type that nobody has heard of"),
    Legitimate("local experiment", ether(kind(0x88B5), bytes(46)), "another"),
)
