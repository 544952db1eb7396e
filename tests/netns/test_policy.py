"""Real servers and routers on a player's side: a LAN takes nothing from them, and the player takes its own from a LAN.

Each guard is shown alone: the relay's policy with the gateway's second look off, and the other way round. Without
both the LAN's host does get addresses and routes: what shows that the tests could fail.
"""

import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import (
    DUID_LL,
    DHCP6_Advertise,
    DHCP6_Reply,
    DHCP6_Solicit,
    DHCP6OptClientId,
    DHCP6OptIA_NA,
    DHCP6OptIAAddress,
    DHCP6OptRapidCommit,
)
from scapy.layers.inet import IP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw
from tests.support.party import AMPLE, Port, answers, lan_party, routes
from tests.support.tools import require_tool

from softlan.demo import topology
from softlan.demo.netns import Link, Namespace
from softlan.demo.probes import lease, room_snapshot
from softlan.demo.processes import Process, find_tool, wait_for
from softlan.demo.services import ROOM, TAP, Services
from softlan.proto.mac import parse_mac

pytestmark = pytest.mark.netns

LAN = topology.LAN_INTERFACE
NONE_OF_THIS = f"""
[rooms.{ROOM}.policy]
dhcp_server = false
dhcpv6_server = false
ipv6_ra = false
ambiguous = false
"""
ALL_NODES = "33:33:00:00:00:01"
# Takes all that a server says, its router too, and says so.
SCRIPT = """#!/bin/sh
case $1 in bound)
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "$router" ] || ip route replace default via "$router" dev "$interface"
esac
"""


@dataclass
class Game:
    """A party with a player, and on its LAN a laptop that takes any address and any router that is offered."""

    services: Services
    relay: Process
    gateway: Process
    tap: Link
    laptop: Namespace
    by: str
    """Who keeps the LAN safe: ``relay``, ``gateway``, both or nobody."""

    def __post_init__(self) -> None:
        self.player = self.services.party.player
        self.mac = parse_mac(self.tap.mac)
        for namespace, interface in ((self.laptop, LAN), (self.player, TAP)):
            settle(namespace, interface)  # who has no link-local address yet is no router
        self._routes = routes(self.laptop)
        self._marks = 0

    @property
    def router(self) -> str:
        """The player's link-local address on the tunnel."""
        return link_local(self.player, TAP)

    def dropped(self) -> Counter[str]:
        """What the policy has stopped so far, by reason."""
        if self.by == "gateway":
            return Counter(str(record["reason"]) for record in self.gateway.events("frame"))
        drops = room_snapshot(self.relay, ROOM)["drops"]
        assert isinstance(drops, dict)
        return Counter(drops)

    def passed(self, player: Port, laptop: Port) -> list[bytes]:
        """What has come to the laptop up to now; all that the player sent before is either here, or gone."""
        self._marks += 1
        mark = (b"\xff" * 6 + self.mac + b"\x88\xb6" + b"mark %d" % self._marks).ljust(60, b"\0")
        player.send(mark)
        return laptop.until(mark)

    def gained(self) -> list[str]:
        """The addresses and routes that the laptop did not have by itself."""
        link = self.laptop.link(LAN)
        assert link is not None
        addresses = [address for address in link.addresses if not address.startswith("fe80")]
        return addresses + [route for route in routes(self.laptop) if route not in self._routes]


def settle(namespace: Namespace, interface: str) -> None:
    """Wait until the interface may use its link-local address."""
    words = ("local fe80", f"dev {interface} ")
    wait_for(
        "a link-local address", lambda: any(all(word in line for word in words) for line in routes(namespace)), AMPLE
    )


def link_local(namespace: Namespace, interface: str) -> str:
    link = namespace.link(interface)
    assert link is not None
    return next(address.partition("/")[0] for address in link.addresses if address.startswith("fe80"))


@contextlib.contextmanager
def game_of(directory: Path, by: str) -> Iterator[Game]:
    require_tool("radvd")
    with lan_party(directory) as services:
        party = services.party
        flags: tuple[str, ...] = ()
        if by in ("gateway", "nobody"):
            config = directory / "relay.toml"
            config.write_text(NONE_OF_THIS)
            flags = ("--config", str(config))
        relay = services.relay(*flags)
        look = "off" if by in ("relay", "nobody") else "on"
        gateway = services.gateway("--policy", look, "--frame-log", "drops")
        _, tap = services.client()
        laptop = party.lab.namespace("laptop")
        for name, value in {
            "accept_ra": 2,
            "autoconf": 1,
            "dad_transmits": 0,
            "router_solicitation_delay": 0,
            "router_solicitation_interval": 1,
            "router_solicitations": -1,  # on and on
        }.items():
            laptop.sysctl(f"ipv6.conf.default.{name}", value)
        party.plug_in(laptop)
        yield Game(services, relay, gateway, tap, laptop, by)


@pytest.fixture(scope="module", params=["relay", "gateway"])
def guarded(request: pytest.FixtureRequest, swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    """A party with one of its two guards, the other is off."""
    with game_of(tmp_path_factory.mktemp("guarded"), request.param) as game:
        yield game


@pytest.fixture(scope="module")
def unguarded(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    """A party with none."""
    with game_of(tmp_path_factory.mktemp("unguarded"), "nobody") as game:
        yield game


# Servers and clients, as they are


@contextlib.contextmanager
def ending(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def dnsmasq(services: Services, namespace: Namespace, interface: str, ipv4: str, ipv6: str) -> Iterator[Process]:
    """Serve DHCP, DHCPv6 and router advertisements for ``<ipv4>.0/24`` and ``<ipv6>::/64``."""
    process = services.start(
        f"dnsmasq-{interface}",
        namespace,
        find_tool("dnsmasq"),
        *("--no-daemon", "--conf-file=/dev/null", "--log-facility=-", "--log-dhcp", "--port=0"),
        *("--bind-interfaces", f"--interface={interface}"),
        *(f"--dhcp-range={ipv4}.100,{ipv4}.199,255.255.255.0,1h", f"--dhcp-range={ipv6}::100,{ipv6}::1ff,slaac,64,1h"),
        *("--enable-ra", f"--ra-param={interface},4", "--dhcp-authoritative", "--no-ping"),
        f"--dhcp-leasefile={services.directory / f'dnsmasq-{interface}.leases'}",
    )
    with ending(process):
        process.wait_for("started", lambda: "started, version" in process.output(), AMPLE)
        yield process


@contextlib.contextmanager
def radvd(services: Services, namespace: Namespace, interface: str, ipv6: str) -> Iterator[Process]:
    """Advertise a router of ``<ipv6>::/64``."""
    config, pid = services.directory / "radvd.conf", services.directory / "radvd.pid"
    config.write_text(
        f"interface {interface} {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; "
        f"prefix {ipv6}::/64 {{ AdvOnLink on; AdvAutonomous on; }}; }};"
    )
    flags = ("--nodaemon", "--logmethod", "stderr", "--config", str(config), "--pidfile", str(pid))
    with ending(services.start("radvd", namespace, find_tool("radvd"), *flags)) as process:
        yield process


@contextlib.contextmanager
def udhcpc(services: Services, namespace: Namespace, interface: str) -> Iterator[Process]:
    """Ask for an address twenty times, once a second."""
    script = services.directory / "take-all.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    flags = ("-f", "-n", "-q", "-t", "20", "-T", "1", "-i", interface, "-s", str(script))
    with ending(services.start("udhcpc", namespace, find_tool("udhcpc"), *flags)) as process:
        yield process


class Solicitor:
    """A DHCPv6 client that wants an address in one go (RFC 8415 section 18.2.1, rapid commit)."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        link = namespace.link(interface)
        assert link is not None
        with namespace.entered():
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            self._socket.bind((link_local(namespace, interface), 546, 0, link.index))
        self._socket.setblocking(False)
        self._to = ("ff02::1:2", 547, 0, link.index)
        self._mac = link.mac
        self._asked = -1.0

    def __enter__(self) -> "Solicitor":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def address(self) -> str | None:
        """Ask, but once a second; the address that has been given."""
        if time.monotonic() > self._asked + 1:
            self._asked = time.monotonic()
            solicit = DHCP6_Solicit(trid=7) / DHCP6OptClientId(duid=DUID_LL(lladdr=self._mac))
            self._socket.sendto(bytes(solicit / DHCP6OptRapidCommit() / DHCP6OptIA_NA(iaid=1)), self._to)
        try:
            reply = DHCP6_Reply(self._socket.recv(65535))
        except BlockingIOError:
            return None
        return str(reply[DHCP6OptIAAddress].addr) if DHCP6OptIAAddress in reply else None


def servers_words(game: Game, frames: list[bytes]) -> list[str]:
    """What of `frames` is a server's or a router's, and the player's; as scapy sees it."""
    found = []
    for frame in frames:
        packet = Ether(frame)
        if packet.src == game.tap.mac and (
            ICMPv6ND_RA in packet or (UDP in packet and packet[UDP].sport in (67, 547)) or BOOTP in packet
        ):
            found.append(packet.summary())
    return found


# They cannot serve the LAN


def test_a_dhcp_server_on_the_players_side_serves_nobody_on_the_lan(guarded: Game) -> None:
    guarded.player.up(TAP, "10.99.0.1/24", "fd99::1/64")
    before = guarded.dropped()
    with (
        Port(guarded.player, TAP) as player,
        Port(guarded.laptop, LAN) as laptop,
        dnsmasq(guarded.services, guarded.player, TAP, "10.99.0", "fd99") as server,
        udhcpc(guarded.services, guarded.laptop, LAN) as client,
        Solicitor(guarded.laptop, LAN) as solicitor,
    ):

        def tried() -> bool:
            assert solicitor.address() is None
            tries = guarded.dropped() - before
            return all(tries[reason] >= 2 for reason in ("dhcp_server", "dhcpv6_server", "ipv6_ra"))

        wait_for("each server to have tried twice", tried, 2 * AMPLE)
        for word in ("DHCPOFFER", "DHCPREPLY", "RTR-ADVERT"):
            assert word in server.output()
        assert servers_words(guarded, guarded.passed(player, laptop)) == []
        assert "lease of" not in client.output()
        assert solicitor.address() is None
    assert guarded.gained() == []


def test_a_router_on_the_players_side_is_no_router_of_the_lan(guarded: Game) -> None:
    before = guarded.dropped()
    with (
        Port(guarded.player, TAP) as player,
        Port(guarded.laptop, LAN) as laptop,
        radvd(guarded.services, guarded.player, TAP, "fd98"),
    ):
        wait_for("it to have tried twice", lambda: (guarded.dropped() - before)["ipv6_ra"] >= 2, 2 * AMPLE)
        assert servers_words(guarded, guarded.passed(player, laptop)) == []
    assert guarded.gained() == []


def test_unguarded_they_do(unguarded: Game) -> None:
    player, laptop = unguarded.player, unguarded.laptop
    player.up(TAP, "10.99.0.1/24", "fd99::1/64")

    def has(*wanted: str) -> Callable[[], bool]:
        return lambda: all(any(line.startswith(each) for line in unguarded.gained()) for each in wanted)

    with (
        Port(laptop, LAN) as port,
        dnsmasq(unguarded.services, player, TAP, "10.99.0", "fd99"),
        udhcpc(unguarded.services, laptop, LAN),
        Solicitor(laptop, LAN) as solicitor,
    ):
        assert wait_for("a DHCPv6 address", solicitor.address, AMPLE).startswith("fd99::1")
        wait_for("DHCP", has("10.99.0.1", "default via 10.99.0.1"), AMPLE)
        wait_for("SLAAC", has("fd99::", f"default via {unguarded.router}"), AMPLE)
        assert servers_words(unguarded, port.arrived())
    with radvd(unguarded.services, player, TAP, "fd98"):
        wait_for("SLAAC of the other", has("fd98::"), AMPLE)


# Nor by any disguise


@dataclass(frozen=True)
class Parts:
    """What disguises are made of."""

    mac: str
    router: str
    prefix: str
    laptop_mac: str
    laptop: str

    def to_all(self, ethertype: Packet | None = None) -> Packet:
        """Ethernet to all nodes, and perhaps tags."""
        ether = Ether(src=self.mac, dst=ALL_NODES)
        return ether if ethertype is None else ether / ethertype

    def to_laptop(self) -> Packet:
        """Ethernet to the laptop alone."""
        return Ether(src=self.mac, dst=self.laptop_mac)

    def snap(self, code: int, oui: int = 0) -> Packet:
        """802.3 with LLC and SNAP."""
        return Dot3(src=self.mac, dst=ALL_NODES) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=oui, code=code)

    def ipv6(self, *, to: str = "ff02::1") -> Packet:
        """From a router."""
        return IPv6(src=self.router, dst=to, hlim=255)

    def advertisement(self) -> Packet:
        """A router's."""
        prefix = ICMPv6NDOptPrefixInfo(prefix=self.prefix, prefixlen=64, validlifetime=600, preferredlifetime=600)
        return ICMPv6ND_RA(routerlifetime=600) / prefix / ICMPv6NDOptSrcLLAddr(lladdr=self.mac)

    def ipv4(self, **fields: Any) -> Packet:
        """To everyone."""
        return IP(src="10.99.0.1", dst="255.255.255.255", **fields)

    def offer(self) -> Packet:
        """A DHCP server's."""
        options = [("message-type", "offer"), ("server_id", "10.99.0.1"), ("lease_time", 600), "end"]
        bootp = BOOTP(op=2, yiaddr="10.99.0.77", siaddr="10.99.0.1", chaddr=parse_mac(self.laptop_mac), xid=7)
        return UDP(sport=67, dport=68) / bootp / DHCP(options=options)

    def advertise(self) -> Packet:
        """A DHCPv6 server's."""
        return UDP(sport=547, dport=546) / DHCP6_Advertise(trid=7)

    def first_fragment(self, size: int) -> Packet:
        """The first `size` bytes of a router advertisement, the rest to come."""
        whole = bytes(self.ipv6() / self.advertisement())[40:]
        return self.ipv6() / IPv6ExtHdrFragment(nh=58, id=7, m=1) / Raw(whole[:size])


@dataclass(frozen=True)
class Disguise:
    """A frame, why it is stopped, and whether Linux configures itself by it (only an RA can do that alone)."""

    reason: str
    build: Callable[[Parts], Packet]
    taken: bool = False


DISGUISES = {
    "RA": Disguise("ipv6_ra", lambda p: p.to_all() / p.ipv6() / p.advertisement(), taken=True),
    "RA, to the laptop alone": Disguise(
        "ipv6_ra", lambda p: p.to_laptop() / p.ipv6(to=p.laptop) / p.advertisement(), taken=True
    ),
    "RA, multicast in a unicast frame": Disguise(
        "ipv6_ra", lambda p: p.to_laptop() / p.ipv6() / p.advertisement(), taken=True
    ),
    "RA, priority tag": Disguise(
        "ipv6_ra", lambda p: p.to_all(priority_tag()) / p.ipv6() / p.advertisement(), taken=True
    ),
    "RA, two priority tags": Disguise(
        "ipv6_ra",
        lambda p: p.to_all(priority_tag() / priority_tag()) / p.ipv6() / p.advertisement(),
        taken=True,
    ),
    "RA, priority tag of 802.1ad": Disguise(
        "ipv6_ra", lambda p: p.to_all(priority_tag(Dot1AD)) / p.ipv6() / p.advertisement(), taken=True
    ),
    "RA, 802.1ad over 802.1Q": Disguise(
        "ipv6_ra",
        lambda p: p.to_all(priority_tag(Dot1AD) / priority_tag()) / p.ipv6() / p.advertisement(),
        taken=True,
    ),
    "RA, a VLAN": Disguise("ipv6_ra", lambda p: p.to_all(Dot1Q(vlan=7)) / p.ipv6() / p.advertisement()),
    "RA, SNAP": Disguise("ipv6_ra", lambda p: p.snap(0x86DD) / p.ipv6() / p.advertisement()),
    "RA, SNAP of 802.1H": Disguise("ipv6_ra", lambda p: p.snap(0x86DD, 0xF8) / p.ipv6() / p.advertisement()),
    "RA, hop-by-hop options": Disguise(
        "ipv6_ra", lambda p: p.to_all() / p.ipv6() / IPv6ExtHdrHopByHop() / p.advertisement(), taken=True
    ),
    "RA, destination options": Disguise(
        "ipv6_ra", lambda p: p.to_all() / p.ipv6() / IPv6ExtHdrDestOpt() / p.advertisement(), taken=True
    ),
    "RA, many destination options": Disguise(
        "ipv6_ra",
        lambda p: p.to_all() / p.ipv6() / chain_of(IPv6ExtHdrDestOpt, 5) / p.advertisement(),
        taken=True,
    ),
    "RA, priority tag and hop-by-hop options": Disguise(
        "ipv6_ra",
        lambda p: p.to_all(priority_tag()) / p.ipv6() / IPv6ExtHdrHopByHop() / p.advertisement(),
        taken=True,
    ),
    "RA, atomic fragment": Disguise(
        "ipv6_ra", lambda p: p.to_all() / p.ipv6() / IPv6ExtHdrFragment(nh=58) / p.advertisement()
    ),
    "RA, first fragment": Disguise("ipv6_ra", lambda p: p.to_all() / p.first_fragment(24)),
    "RA, first fragment of options only": Disguise(
        "ambiguous",
        lambda p: p.to_all() / p.ipv6() / IPv6ExtHdrFragment(nh=60, id=7, m=1) / Raw(b"\x3a\x00\x01\x04" + bytes(4)),
    ),
    "DHCP": Disguise("dhcp_server", lambda p: p.to_all() / p.ipv4() / p.offer()),
    "DHCP, priority tag": Disguise("dhcp_server", lambda p: p.to_all(priority_tag()) / p.ipv4() / p.offer()),
    "DHCP, two tags": Disguise(
        "dhcp_server", lambda p: p.to_all(priority_tag(Dot1AD) / priority_tag()) / p.ipv4() / p.offer()
    ),
    "DHCP, SNAP": Disguise("dhcp_server", lambda p: p.snap(0x0800) / p.ipv4() / p.offer()),
    "DHCP, IPv4 options": Disguise(
        "dhcp_server", lambda p: p.to_all() / p.ipv4(options=[IPOption_NOP()] * 4) / p.offer()
    ),
    "DHCP, first fragment": Disguise("dhcp_server", lambda p: p.to_all() / p.ipv4(flags="MF", id=7) / p.offer()),
    "DHCP, first fragment without ports": Disguise(
        "ambiguous", lambda p: p.to_all() / p.ipv4(flags="MF", id=7, proto=17) / Raw(b"\x00\x43\x00\x44")
    ),
    "DHCPv6": Disguise("dhcpv6_server", lambda p: p.to_laptop() / p.ipv6(to=p.laptop) / p.advertise()),
    "DHCPv6, priority tag": Disguise(
        "dhcpv6_server",
        lambda p: p.to_laptop() / priority_tag() / p.ipv6(to=p.laptop) / p.advertise(),
    ),
    "DHCPv6, destination options": Disguise(
        "dhcpv6_server",
        lambda p: p.to_laptop() / p.ipv6(to=p.laptop) / IPv6ExtHdrDestOpt() / p.advertise(),
    ),
}


def priority_tag(tag: type[Packet] = Dot1Q) -> Packet:
    return tag(vlan=0, prio=7)


def chain_of(header: type[Packet], count: int) -> Packet:
    packet = header()
    for _ in range(count - 1):
        packet = packet / header()
    return packet


def disguised(game: Game, name: str) -> tuple[Disguise, bytes, str]:
    """The disguise, its frame, and the start of the address that one would have by it."""
    link = game.laptop.link(LAN)
    assert link is not None
    prefix = f"fd97:{1 + list(DISGUISES).index(name):x}:"
    parts = Parts(game.tap.mac, game.router, f"{prefix}:", link.mac, link_local(game.laptop, LAN))
    disguise = DISGUISES[name]
    return disguise, bytes(disguise.build(parts)), prefix


@pytest.mark.parametrize("name", DISGUISES)
def test_no_disguise_gets_through(guarded: Game, name: str) -> None:
    disguise, frame, _ = disguised(guarded, name)
    with Port(guarded.player, TAP) as player, Port(guarded.laptop, LAN) as laptop:
        guarded.passed(player, laptop)
        before = guarded.dropped()
        player.send(frame)
        assert frame not in guarded.passed(player, laptop)
        assert guarded.dropped() - before == {disguise.reason: 1}
    assert guarded.gained() == []


@pytest.mark.parametrize("name", DISGUISES)
def test_unguarded_every_disguise_does_and_linux_is_taken_in_by_some(unguarded: Game, name: str) -> None:
    disguise, frame, prefix = disguised(unguarded, name)
    with Port(unguarded.player, TAP) as player, Port(unguarded.laptop, LAN) as laptop:
        player.send(frame)
        assert frame in unguarded.passed(player, laptop)
    taken = any(line.startswith(prefix) for line in unguarded.gained())
    assert taken is disguise.taken


def test_a_reply_that_linux_itself_cuts_into_fragments_comes_to_nothing(guarded: Game) -> None:
    guarded.player.up(TAP)
    with Port(guarded.player, TAP) as player, Port(guarded.laptop, LAN) as laptop:
        guarded.passed(player, laptop)
        before = guarded.dropped()
        with guarded.player.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, TAP.encode())
            server.bind(("0.0.0.0", 67))
            server.sendto(bytes(3000), ("255.255.255.255", 68))
        rest = [frame for frame in guarded.passed(player, laptop) if frame[12:14] == b"\x08\x00"]
        assert guarded.dropped() - before == {"dhcp_server": 1}
    # What follows a first fragment does no harm without it.
    assert [struct.unpack_from(">H", frame, 20)[0] & 0x1FFF > 0 for frame in rest] == [True, True]


# The other way round


def test_the_lans_own_server_serves_the_player_in_both_families(swept: None, tmp_path: Path) -> None:
    with game_of(tmp_path, "both") as game:
        party, player = game.services.party, game.player
        party.dhcp.up(LAN, "fd77::2/64")
        settle(party.dhcp, LAN)
        with dnsmasq(game.services, party.dhcp, LAN, "10.77.0", "fd77"), Solicitor(player, TAP) as solicitor:
            assert lease(player, TAP, tmp_path).startswith("10.77.0.1")
            assert wait_for("an address by DHCPv6", solicitor.address, AMPLE).startswith("fd77::1")

            def configured() -> bool:
                link = player.link(TAP)
                assert link is not None
                return any(address.startswith("fd77::") for address in link.addresses)

            wait_for("an address by SLAAC", configured, AMPLE)
            # The LAN's router is one, and the player's way to the internet stays its own all the same.
            wait_for("a router", lambda: any("default via fe80" in line for line in game.gained()), AMPLE)
            assert not [line for line in routes(player) if line.startswith("default") and f"dev {TAP}" in line]
            for address in (topology.DHCP, "fd77::2"):
                wait_for(f"an answer of {address}", lambda to=address: answers(player, to), AMPLE)  # type: ignore[misc]
        assert game.dropped() == {}
        assert game.gateway.events("frame") == []
