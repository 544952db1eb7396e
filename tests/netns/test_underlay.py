"""What the tunnel looks like from below: sizes of its packets, narrow paths, IPv6, and relays of several addresses."""

import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.party import (
    AMPLE,
    another_player,
    answers,
    client_of,
    event,
    iperf,
    lan_address,
    lan_party,
    plain_cable,
    protocol_counters,
    routes,
    run,
    settled_routes,
)
from tests.support.tools import require_tool, unavailable

from softlan.demo import topology
from softlan.demo.netns import Namespace
from softlan.demo.probes import room_snapshot
from softlan.demo.processes import Process, find_tool, wait_for
from softlan.demo.services import ROOM, TAP, Services

pytestmark = pytest.mark.netns

UNDERLAY = 1500
LARGEST_PAYLOAD = UNDERLAY - 20 - 8  # IPv4 and UDP headers
PLAYER = "10.77.0.50"


@dataclass
class Game:
    """A party over cables that carry packets one by one."""

    services: Services
    relay: Process

    @property
    def host(self) -> Namespace:
        return self.services.party.host

    @property
    def player(self) -> Namespace:
        return self.services.party.player

    def on_the_way(self) -> tuple[Namespace, ...]:
        party = self.services.party
        return party.player, party.inet, party.relay, party.gateway


@pytest.fixture(scope="module")
def game(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    with lan_party(tmp_path_factory.mktemp("underlay")) as services:
        party = services.party
        for computer, port in ((party.relay, "relay0"), (party.gateway, "gw0"), (party.player, "player0")):
            plain_cable((computer, topology.WAN_INTERFACE), (party.inet, port))
        relay = services.relay()
        services.gateway()
        services.client()
        party.player.up(TAP, f"{PLAYER}/24")
        yield Game(services, relay)


# Sizes


@dataclass(frozen=True)
class Packet:
    """What the IPv4 header of a captured packet says, and the bytes of UDP payload."""

    to_relay: bool
    fragmented: bool
    may_be_fragmented: bool
    total: int
    payload: int


def require_capture() -> None:
    """Make sure that tcpdump can write a file."""
    require_tool("tcpdump")
    if Path("/proc/self/setgroups").read_text().strip() == "deny":
        unavailable("tcpdump insists on changing its groups, which a user namespace forbids: run this test as root")


def capture(services: Services, interface: str) -> tuple[Process, Path]:
    """Record the tunnel's packets as they cross the internet's `interface`."""
    file = services.directory / f"{interface}.pcap"
    process = services.start(
        f"tcpdump-{interface}",
        services.party.inet,
        *(find_tool("tcpdump"), "-i", interface, "-w", str(file), "-U", "-Z", "root", "-s", "64", "-B", "16384"),
        "ip and udp",
    )
    process.wait_for("capturing", lambda: "listening on" in process.output(), AMPLE)
    return process, file


def packets(file: Path) -> list[Packet]:
    """Read a capture: the classic format of libpcap (pcap-savefile(5)) with Ethernet frames."""
    data = file.read_bytes()
    assert struct.unpack_from("=IHHiIII", data)[0] == 0xA1B2C3D4
    found, offset = [], 24
    while offset < len(data):
        _, _, kept, _ = struct.unpack_from("=IIII", data, offset)
        ip = data[offset + 16 + 14 : offset + 16 + kept]
        offset += 16 + kept
        total, flags = struct.unpack_from(">H2xH", ip, 2)
        header = 4 * (ip[0] & 15)
        found.append(
            Packet(
                to_relay=ip[16:20] == bytes(map(int, topology.RELAY.split("."))),
                fragmented=bool(flags & 0x3FFF),  # more fragments, or an offset
                may_be_fragmented=not flags & 0x4000,
                total=total,
                payload=struct.unpack_from(">H", ip, header + 4)[0] - 8,
            )
        )
    return found


def no_fragments(namespaces: tuple[Namespace, ...]) -> bool:
    """Whether the kernels have neither made nor put together fragments, ever."""
    names = ("IpFragCreates", "IpReasmReqds", "Ip6FragCreates", "Ip6ReasmReqds")
    return not any(protocol_counters(namespace).get(name, 0) for namespace in namespaces for name in names)


@pytest.mark.parametrize("direction", ["player to host", "host to player"])
def test_tcp_at_full_speed_makes_no_packet_above_the_underlays_mtu(game: Game, direction: str) -> None:
    require_tool("iperf3")
    require_capture()
    captures = [capture(game.services, interface) for interface in ("player0", "gw0")]
    flags = ["-n", "24M", *(["--reverse"] if direction == "host to player" else [])]
    report = iperf(game.services, game.host, topology.HOST, game.player, *flags)
    assert report["end"]["sum_received"]["bytes"] > 8 << 20
    for process, _ in captures:
        process.send_signal(signal.SIGINT)
        assert process.finish(AMPLE) == 0
    from_player = direction == "player to host"
    for (_, file), to_relay in zip(captures, (from_player, not from_player), strict=True):
        seen = packets(file)
        full = [packet for packet in seen if packet.payload > 1400 and packet.to_relay is to_relay]
        assert len(full) > 4000  # the data is really in the capture
        assert max(packet.payload for packet in seen) <= LARGEST_PAYLOAD
        assert max(packet.total for packet in seen) <= UNDERLAY
        assert not any(packet.fragmented or packet.may_be_fragmented for packet in seen)
    assert no_fragments(game.on_the_way())


# Narrow paths

NARROW = {
    # The link's MTU: the TAP's. Less 28 (IP, UDP), the next lower of the sizes that are tried, less 54 (QUIC 32,
    # overlay 4, Ethernet and a tag 18).
    1492: 1452 - 54,  # PPPoE
    1400: 1350 - 54,  # another tunnel
    1300: 1200 - 54,  # below QUIC's usual first packet
}


@pytest.mark.parametrize("known", [True, False], ids=["its own link", "a black hole further on"])
@pytest.mark.parametrize("mtu", NARROW)
def test_a_player_on_a_narrow_path_joins_with_a_smaller_mtu(game: Game, mtu: int, known: bool) -> None:
    require_tool("iperf3")
    with another_player(game.services, mtu) as guest:
        player = guest.party.player
        if not known:  # the far end drops what is too large, and does not say so
            run(player, "ip", "link", "set", topology.WAN_INTERFACE, "mtu", "1500")
        client, tap = guest.client()
        assert event(client, "joined")["mtu"] == NARROW[mtu]
        assert tap.mtu == NARROW[mtu]
        address = lan_address(guest)
        player.up(TAP, f"{address}/24")
        for direction in ([], ["--reverse"]):
            report = iperf(guest, game.host, topology.HOST, player, "-n", "4M", *direction)
            assert report["end"]["sum_received"]["bytes"] > 1 << 20
        assert no_fragments((player, *game.on_the_way()))

        # The others keep theirs. What is too large for this one is dropped for it alone, and counted.
        assert answers(game.player, topology.HOST, "-M", "do", "-s", str(1418 - 28))
        assert answers(game.player, address, "-M", "do", "-s", str(tap.mtu - 28))
        before = egress_drops(game.relay)
        assert not answers(game.player, address, "-M", "do", "-s", str(1418 - 28))
        assert egress_drops(game.relay) == before + 1


def egress_drops(relay: Process) -> int:
    drops = room_snapshot(relay, ROOM)["drops"]
    assert isinstance(drops, dict)
    return int(drops.get("egress_budget", 0))


# Addresses


@pytest.fixture
def guest(game: Game) -> Iterator[Services]:
    """One more player."""
    with another_player(game.services) as guest:
        yield guest


def assert_plays(game: Game, guest: Services) -> None:
    player = guest.party.player
    wait_for("the TAP", lambda: (link := player.link(TAP)) and link.up, AMPLE)
    player.up(TAP, f"{lan_address(guest)}/24")
    wait_for("an answer of the LAN's host", lambda: answers(player, topology.HOST), AMPLE)


def test_a_relay_is_reached_over_ipv6(game: Game, guest: Services) -> None:
    player = guest.party.player
    before = settled_routes(player)
    client = client_of(guest, topology.RELAY_IPV6)
    joined = event(client, "joined")
    assert joined["relay"] == topology.RELAY_IPV6
    assert joined["mtu"] == 1452 - 54  # IPv6's header is 20 bytes longer: 1500 - 40 - 8
    event(client, "relay.pinned")
    assert any(line.startswith(f"{topology.RELAY_IPV6} via ") for line in routes(player))
    assert_plays(game, guest)
    assert client.stop() == 0
    assert routes(player) == before


@pytest.mark.parametrize(
    ("addresses", "live"),
    [
        (("2001:db8:1::dead", topology.RELAY), topology.RELAY),
        ((topology.RELAY_IPV6, "198.51.100.99"), topology.RELAY_IPV6),
        (("2001:db8:1::dead", "198.51.100.99", "198.51.100.98", topology.RELAY), topology.RELAY),
    ],
    ids=["dead IPv6", "dead IPv4", "the last of four"],
)
def test_of_a_names_addresses_the_one_that_answers_is_used(
    game: Game, guest: Services, addresses: tuple[str, ...], live: str
) -> None:
    hosts = "".join(f"{address} party.test\n" for address in addresses)
    client = client_of(guest, "party.test", {"hosts": hosts})
    assert event(client, "connecting")["addresses"] == len(addresses)
    assert event(client, "joined")["relay"] == live
    assert len(client.events("connecting")) == 1  # within the first round
    assert_plays(game, guest)
