"""A whole party with the real commands: what crosses between players and LAN, and in what shape."""

import ipaddress
import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.party import (
    AMPLE,
    Port,
    another_player,
    answers,
    event,
    iperf,
    lan_party,
    protocol_counters,
    run,
)
from tests.support.tools import require_tool

from softlan.demo import topology
from softlan.demo.netns import Link, Namespace
from softlan.demo.probes import lease, ping, room_snapshot
from softlan.demo.processes import Process, wait_for
from softlan.demo.services import ROOM, TAP, Services
from softlan.proto.mac import parse_mac

pytestmark = pytest.mark.netns

MTU = 1418  # what a path of 1500 gives: 1500 - 20 - 8 (IP, UDP) - 32 (QUIC) - 4 (overlay) - 18 (Ethernet, one tag)
BROADCAST = b"\xff" * 6
TEST_TYPE = b"\x88\xb6"  # IEEE 802, local experimental EtherType 2
SECOND_MAC = "02:00:5e:10:00:02"


@dataclass
class Player:
    """One player in the room."""

    namespace: Namespace
    client: Process
    tap: Link
    address: str

    @property
    def mac(self) -> bytes:
        return parse_mac(self.tap.mac)


@dataclass
class Game:
    """The party that the tests of this file share."""

    services: Services
    relay: Process
    gateway: Process
    one: Player
    two: Player

    @property
    def host(self) -> Namespace:
        return self.services.party.host

    @property
    def host_mac(self) -> bytes:
        link = self.host.link(topology.LAN_INTERFACE)
        assert link is not None
        return parse_mac(link.mac)


@pytest.fixture(scope="module")
def game(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    with ExitStack() as stack:
        services = stack.enter_context(lan_party(tmp_path_factory.mktemp("party")))
        services.dhcp_server()
        relay = services.relay()
        gateway = services.gateway()
        guest = stack.enter_context(another_player(services))
        one, two = join(services), join(guest, "--virtual-mac", SECOND_MAC)
        yield Game(services, relay, gateway, one, two)


def join(services: Services, *flags: str) -> Player:
    client, tap = services.client(*flags)
    return Player(services.party.player, client, tap, lease(services.party.player, TAP, services.directory))


def frame(destination: bytes, source: bytes, text: str, size: int = 60) -> bytes:
    """A frame that nothing but these tests understands, `text` in it, without FCS."""
    return (destination + source + TEST_TYPE + text.encode()).ljust(size, b"\0")


def bare(address: str) -> str:
    return address.partition("/")[0]


def test_every_player_gets_an_address_of_the_lan(game: Game) -> None:
    addresses = [ipaddress.ip_interface(player.address) for player in (game.one, game.two)]
    assert len(set(addresses)) == 2
    assert all(address.network == topology.LAN for address in addresses)


def test_the_tap_is_as_the_relay_said(game: Game) -> None:
    for player in (game.one, game.two):
        joined = event(player.client, "joined")
        assert (player.tap.mac, player.tap.mtu) == (joined["mac"], joined["mtu"])
        assert player.tap.mtu == MTU
        assert player.tap.up
    assert game.two.tap.mac == SECOND_MAC
    kept = Path(game.services.directory, "client", "identity.json")
    assert json.loads(kept.read_text()) == {"mac": game.one.tap.mac}


def test_everyone_pings_everyone(game: Game) -> None:
    everyone = [
        (game.host, topology.HOST),
        (game.one.namespace, bare(game.one.address)),
        (game.two.namespace, bare(game.two.address)),
    ]
    for namespace, own in everyone:
        for _, address in everyone:
            if address != own:
                ping(namespace, address, count=3)


def test_ipv6_crosses(game: Game) -> None:
    def link_local() -> str | None:
        link = game.host.link(topology.LAN_INTERFACE)
        assert link is not None
        return next((bare(address) for address in link.addresses if address.startswith("fe80")), None)

    host = wait_for("the host's own address", link_local, AMPLE)
    wait_for("an answer", lambda: answers(game.one.namespace, f"{host}%{TAP}"), AMPLE)


def test_a_full_packet_passes_and_a_larger_one_is_refused_by_the_tap(game: Game) -> None:
    full = MTU - 28  # IP and ICMP headers
    assert answers(game.one.namespace, topology.HOST, "-M", "do", "-s", str(full))
    assert not answers(game.one.namespace, topology.HOST, "-M", "do", "-s", str(full + 1))


@pytest.mark.parametrize("whose", ["player", "host"])
def test_a_broadcast_reaches_everyone_once_and_never_comes_back(game: Game, whose: str) -> None:
    with (
        Port(game.host, topology.LAN_INTERFACE) as host,
        Port(game.services.party.dhcp, topology.LAN_INTERFACE) as dhcp,
        Port(game.one.namespace, TAP) as one,
        Port(game.two.namespace, TAP) as two,
    ):
        sender, source, others = {
            "player": (one, game.one.mac, (host, dhcp, two)),
            "host": (host, game.host_mac, (dhcp, one, two)),
        }[whose]
        called = frame(BROADCAST, source, f"{whose} calls")
        marker = frame(BROADCAST, source, f"{whose} has called")
        sender.send(called)
        sender.send(marker)
        for port in others:
            assert port.until(marker).count(called) == 1
        # What would come back has to pass the room once more; so does this, after it.
        echo = frame(BROADCAST, game.two.mac, f"{whose} was heard")
        two.send(echo)
        seen = sender.until(echo)
        assert called not in seen
        assert marker not in seen


def test_what_players_tell_each_other_stays_out_of_the_lan(game: Game) -> None:
    secret = frame(game.two.mac, game.one.mac, "between us")
    marker = frame(BROADCAST, game.one.mac, "for all")
    with (
        Port(game.services.party.lan, "gw0") as cable,  # the switch's end of the gateway's cable
        Port(game.one.namespace, TAP) as one,
        Port(game.two.namespace, TAP) as two,
    ):
        one.send(secret)
        one.send(marker)
        assert secret in two.until(marker)
        assert secret not in cable.until(marker)


def test_the_switch_learns_the_players_at_the_gateways_port(game: Game) -> None:
    def learned() -> bool:
        table = json.loads(run(game.services.party.lan, "bridge", "-json", "fdb", "show", "br", topology.SWITCH))
        ports = {entry["mac"]: entry["ifname"] for entry in table}
        return all(ports.get(player.tap.mac) == "gw0" for player in (game.one, game.two))

    assert wait_for("the switch to know both", learned, AMPLE)


FRAMES = {
    "802.1Q": TEST_TYPE.join((b"\x81\x00\xa0\x07", b"tagged, priority 5, VLAN 7")),
    "802.1ad over 802.1Q": TEST_TYPE.join((b"\x88\xa8\x00\x64\x81\x00\x00\x07", b"tagged twice")),
    "IPX in 802.3": struct.pack(">H", 33) + b"\xe0\xe0\x03" + b"\xff\xff" + b"IPX on LLC, a NetWare frame".ljust(28),
    "IPX in raw 802.3": struct.pack(">H", 30) + b"\xff\xff" + b"IPX as Novell had it first".ljust(28),
    "IPX in Ethernet II": b"\x81\x37" + b"\xff\xff" + b"Ethernet_II",
    "SNAP": struct.pack(">H", 20) + b"\xaa\xaa\x03\x00\x00\x00" + TEST_TYPE + b"in a SNAP header",
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_old_and_odd_protocols_arrive_intact(game: Game, kind: str) -> None:
    with Port(game.host, topology.LAN_INTERFACE) as host, Port(game.one.namespace, TAP) as one:
        for sender, receiver, destination, source in (
            (host, one, game.one.mac, game.host_mac),
            (one, host, game.host_mac, game.one.mac),
            (host, one, BROADCAST, game.host_mac),
            (one, host, BROADCAST, game.one.mac),
        ):
            odd = (destination + source + FRAMES[kind]).ljust(60, b"\0")
            sender.send(odd)
            receiver.until(odd)


def test_a_tag_costs_a_packet_nothing_of_the_mtu(game: Game) -> None:
    with Port(game.host, topology.LAN_INTERFACE) as host, Port(game.one.namespace, TAP) as one:
        for sender, receiver, destination, source in (
            (host, one, game.one.mac, game.host_mac),
            (one, host, game.host_mac, game.one.mac),
        ):
            tagged = (destination + source + FRAMES["802.1Q"]).ljust(14 + 4 + MTU, b"\x5a")
            sender.send(tagged)
            receiver.until(tagged)


def test_what_is_too_large_for_the_room_is_dropped_whole_and_counted(game: Game) -> None:
    before = sum(int(str(record["jumbo"])) for record in game.gateway.events("drops") if "jumbo" in record)
    fits = frame(game.one.mac, game.host_mac, "fits", 14 + MTU)
    too_large = [frame(game.one.mac, game.host_mac, "too large", 14 + size) for size in (MTU + 1, 1500)]
    with Port(game.host, topology.LAN_INTERFACE) as host, Port(game.one.namespace, TAP) as one:
        for each in (*too_large, fits):
            host.send(each)
        seen = one.until(fits)
    # None of it, and no piece of it either.
    assert [each for each in seen if each[12:14] == TEST_TYPE] == [fits]

    def counted() -> bool:
        records = game.gateway.events("drops")
        return sum(int(str(record["jumbo"])) for record in records if "jumbo" in record) == before + len(too_large)

    assert wait_for("the gateway's account of drops, every 10 s", counted, 10 + AMPLE)


@pytest.mark.parametrize("direction", ["player to host", "host to player"])
def test_tcp_from_a_card_that_computes_checksums_and_cuts_segments_itself(game: Game, direction: str) -> None:
    require_tool("iperf3")
    require_tool("ethtool")
    features = run(game.host, "ethtool", "-k", topology.LAN_INTERFACE)
    assert "tx-checksumming: on" in features
    assert "tcp-segmentation-offload: on" in features
    ends = (game.host, game.one.namespace)
    before = [protocol_counters(namespace) for namespace in ends]
    flags = ["-n", "16M", *(["--reverse"] if direction == "host to player" else [])]
    report = iperf(game.services, game.host, topology.HOST, game.one.namespace, *flags)
    after = [protocol_counters(namespace) for namespace in ends]
    assert report["end"]["sum_received"]["bytes"] > 8 << 20  # what is still on its way at the end is not counted
    for old, new in zip(before, after, strict=True):
        assert new["TcpInSegs"] - old["TcpInSegs"] > 100
        assert new["TcpInCsumErrors"] == old["TcpInCsumErrors"]
        assert new["TcpInErrs"] == old["TcpInErrs"]


def test_udp_with_a_partial_checksum_arrives_with_a_good_one(game: Game) -> None:
    require_tool("iperf3")
    before = protocol_counters(game.one.namespace)
    flags = ("--udp", "--bitrate", "20M", "-n", "1M", "--length", "1200", "--reverse")
    iperf(game.services, game.host, topology.HOST, game.one.namespace, *flags)
    after = protocol_counters(game.one.namespace)
    assert after["UdpInDatagrams"] - before["UdpInDatagrams"] > 100
    assert after["UdpInCsumErrors"] == before["UdpInCsumErrors"]


def test_the_relay_can_be_asked_about_the_room(game: Game) -> None:
    snapshot = room_snapshot(game.relay, ROOM)
    members = snapshot["members"]
    assert isinstance(members, list)
    assert [(member["role"], member["mac"]) for member in members] == [
        ("gateway", None),
        ("client", game.one.tap.mac),
        ("client", game.two.tap.mac),
    ]
    assert {member["budget"] for member in members} == {1440}
    assert all(member["last_seen"] < AMPLE for member in members)
