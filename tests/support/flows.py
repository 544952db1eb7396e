"""IPv4 packets around every edge that a short look at a header has: for all that remembers flows.

Strategies for Hypothesis, and `edges`, which is every combination.
"""

import itertools
from collections.abc import Iterator

from hypothesis import strategies as st
from tests.support import packets
from tests.support.packets import ICMP, TCP, UDP, dot1q, ipv4, ipv6, kind, tcp, udp
from tests.support.relay_fakes import mac

IPV4 = kind(packets.IPV4)

ports = st.sampled_from([50000, 27015, 53, 66, 67, 68, 69, 0, 65535])
payloads = st.sampled_from([0, 0, 1, 2, 8, 18, 60, 200, 239, 240, 241, 251, 252, 253, 260, 300]).map(bytes)


@st.composite
def transports(draw: st.DrawFn) -> tuple[int, bytes]:
    """A protocol number, and what it carries; not always in full."""
    number = draw(
        st.sampled_from([TCP, TCP, UDP, UDP, UDP, ICMP, packets.IGMP, packets.GRE, 4, 41, packets.AH, 58, 89])
    )
    first, second, data = draw(ports), draw(ports), draw(payloads)
    if number == TCP:
        body = tcp(first, second, data)
    elif number == UDP:
        body = udp(first, second, data, length=draw(st.sampled_from([None, None, 0, 8, 7, 2000])))
    elif number == ICMP:
        body = bytes((draw(st.sampled_from([0, 3, 5, 8, 9, 10])), 0, 0, 0)) + data
    elif number == 4:
        body = ipv4(udp(first, second, data))
    elif number == 41:
        body = ipv6(udp(first, second, data))
    elif number == packets.AH:
        body = packets.ah(draw(st.sampled_from([TCP, UDP]))) + udp(first, second, data)
    else:
        body = data
    return number, body[: draw(st.sampled_from([None, None, None, None, 0, 3, 4, 7, 8, 12]))]


_ODDITIES = ("options", "offset", "more", "total", "version", "ihl")


@st.composite
def ip_packets(draw: st.DrawFn) -> bytes:
    """IPv4, with nothing, one thing or two things odd about it."""
    number, body = draw(transports())
    odd = draw(st.sampled_from([*[()] * 6, *[(one,) for one in _ODDITIES], *itertools.combinations(_ODDITIES, 2)]))
    options = bytes(4 * draw(st.sampled_from([1, 10]))) if "options" in odd else b""
    right = 20 + len(options) + len(body)
    totals = st.sampled_from([0, 19, 20, 27, 28, 29, right - 1, right + 1, right + 8, right + 18, 65535])
    packet = ipv4(
        body,
        number,
        options=options,
        offset=8 * draw(st.sampled_from([1, 2, 0x1FFF])) if "offset" in odd else 0,
        more="more" in odd,
        total=max(0, draw(totals)) if "total" in odd else None,
        version=draw(st.sampled_from([5, 6, 0])) if "version" in odd else 4,
        ihl=draw(st.sampled_from([4, 5, 6, 15])) if "ihl" in odd else None,
    )
    flags = draw(st.sampled_from([0, 0, 0x40, 0x80]))  # don't fragment, and the bit that is reserved
    packet = packet[:6] + bytes((packet[6] | flags,)) + packet[7:]
    padding = draw(st.sampled_from([0, 0, 0, 1, 6, 18, 40]))
    return packet + bytes(padding)


@st.composite
def rests(draw: st.DrawFn) -> bytes:
    """What stands behind the addresses."""
    packet = draw(ip_packets())
    link = draw(st.sampled_from([*["plain"] * 8, "tag", "snap", "llc", "ipv6", "arp", "unknown", "pppoe"]))
    if link == "tag":
        return dot1q(draw(st.sampled_from([0, 5]))) + IPV4 + packet
    if link == "snap":
        return packets.snap(IPV4, packet)
    if link == "llc":
        return packets.llc(packet, dsap=0x06)
    other = {
        "ipv6": kind(packets.IPV6) + ipv6(packet[20:]),
        "arp": kind(packets.ARP) + packets.arp(mac(1)),
        "unknown": kind(0x88B5) + packet,
        "pppoe": kind(0x8863) + packet,
    }
    return other.get(link, IPV4 + packet)


def edges() -> Iterator[tuple[str, bytes]]:
    """Every combination of what a short look at an IPv4 header could get wrong, with a name for each."""
    bodies = {
        "tcp": (TCP, [tcp(1, 2), tcp(67, 68)]),
        "udp": (UDP, [udp(1, 2, bytes(12)), udp(67, 1, bytes(12)), udp(1, 68, bytes(12)), udp(68, 67, bytes(12))]),
        "icmp": (ICMP, [b"\x08\0" + bytes(18), b"\5\1" + bytes(18)]),
        "ah": (packets.AH, [packets.ah(UDP) + udp(67, 68)]),
        "ipip": (4, [ipv4(udp(67, 68)), ipv4(udp(1, 2))]),
        "6in4": (41, [ipv6(udp(547, 546))]),
        "other": (89, [bytes(20)]),
    }
    for name, (number, variants) in bodies.items():
        for at, body in enumerate(variants):
            for left, (offset, more), total, first, padding in itertools.product(
                (len(body), 0, 3, 4, 7, 8, 9, 19),
                ((0, False), (0, True), (8, False), (8, True), (0x1FFF * 8, False)),
                (0, -1, 1, 18, 19, None, 27, 28),
                (0x45, 0x44, 0x46, 0x4F, 0x55, 0x65, 0x05),
                (0, 18),
            ):
                size = 20 + min(left, len(body))
                says = 0 if total is None else total if total > 19 else size + total
                packet = ipv4(
                    body[:left], number, offset=offset, more=more, total=says, version=first >> 4, ihl=first & 15
                )
                yield f"{name} {at}: {left=} {offset=} {more=} {says=} {first=:#x} {padding=}", packet + bytes(padding)
