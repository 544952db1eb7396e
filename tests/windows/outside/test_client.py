"""The whole client on Windows: it joins a real relay, and its PC is on the LAN."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from tests.support.party import Port
from tests.windows.outside.conftest import WindowsParty
from tests.windows.outside.machine import CTRL_C, FarSide, WindowsProcess

from softlan.demo import topology
from softlan.proto.mac import parse_mac

pytestmark = pytest.mark.netns

TEST_TYPE = b"\x88\xb6"  # IEEE 802, local experimental EtherType 2
BROADCAST = "ff:ff:ff:ff:ff:ff"
OUR_ADDRESS = "10.77.0.180"  # outside of DHCP's range
PINNED = f"{topology.RELAY}/32 via 192.0.{{}}.1 dev {{}} metric 0"


@dataclass
class Game:
    """A player who is in the room."""

    party: WindowsParty
    client: WindowsProcess
    mac: str

    @property
    def far(self) -> FarSide:
        return self.party.machine.far

    @property
    def host_mac(self) -> str:
        link = self.party.services.party.host.link(topology.LAN_INTERFACE)
        assert link is not None
        return str(link.mac)


@pytest.fixture(scope="module")
def game(windows_party: WindowsParty) -> Iterator[Game]:
    client = windows_party.join()
    yield Game(windows_party, client, client.event("joined")["mac"])
    windows_party.machine.far.console_event(windows_party.machine.far.client(), CTRL_C)
    assert client.finish() == 0


@pytest.fixture
def lan(game: Game) -> Iterator[Port]:
    """The host's interface on the LAN."""
    with Port(game.party.services.party.host, topology.LAN_INTERFACE) as port:
        yield port


def frame(destination: str, source: str, text: str, size: int = 60) -> bytes:
    """A frame that nothing but these tests understands."""
    return (parse_mac(destination) + parse_mac(source) + TEST_TYPE + text.encode()).ljust(size, b"\0")


def bursts(destination: str, source: str) -> list[list[bytes]]:
    """A thousand frames of many sizes, in bursts that fit into the buffers of a packet socket."""
    return [
        [frame(destination, source, f"{number:05}", 60 + number * 7 % 1300) for number in range(start, start + 50)]
        for start in range(0, 1000, 50)
    ]


def test_the_adapter_has_the_players_address_and_its_cable_is_in(game: Game) -> None:
    adapter = {"inserted": True, "opened": True, "media": True, "mac": game.mac}
    assert game.far.adapter() == adapter


def test_the_host_is_prepared_for_games(game: Game) -> None:
    """The tunnel's MTU, the smallest metric, no default route over the TAP; and the relay's route is pinned."""
    mtu = game.client.event("joined")["mtu"]
    assert mtu == 1418
    assert game.far.settings() == {"4": [mtu, 1, 0, 1], "6": [mtu, 1, 0, 1]}
    assert PINNED.format(2, "Ethernet") in game.far.routes()


def test_a_broadcast_of_the_pc_reaches_the_lan(game: Game, lan: Port) -> None:
    hello = frame(BROADCAST, game.mac, "is there a server?")
    game.far.send(hello)
    lan.until(hello)


def test_a_broadcast_of_the_lan_reaches_the_pc(game: Game, lan: Port) -> None:
    offer = frame(BROADCAST, game.host_mac, "here is a server")
    lan.send(offer)
    game.far.until(lambda received: received == offer)


def test_the_pc_and_the_lans_host_talk(game: Game) -> None:
    """ARP, and a ping of the host's own kernel with as much as the tunnel carries."""
    question = ARP(op="who-has", hwsrc=game.mac, psrc=OUR_ADDRESS, pdst=topology.HOST)
    game.far.send(bytes(Ether(src=game.mac, dst=BROADCAST) / question))
    answer = Ether(game.far.until(lambda received: Ether(received).haslayer(ARP) and Ether(received)[ARP].op == 2))
    assert (answer[ARP].psrc, answer[ARP].hwsrc) == (topology.HOST, game.host_mac)

    ping = ICMP(type="echo-request", id=77) / (b"x" * 1390)
    game.far.send(bytes(Ether(src=game.mac, dst=game.host_mac) / IP(src=OUR_ADDRESS, dst=topology.HOST) / ping))
    pong = Ether(game.far.until(lambda received: Ether(received).haslayer(ICMP)))
    assert pong[ICMP].type == 0
    assert pong[ICMP].load == b"x" * 1390


def test_the_pc_gets_an_address_of_the_lan_and_the_client_says_so(game: Game) -> None:
    request = BOOTP(chaddr=parse_mac(game.mac), xid=0x50F71A, flags="B")
    ends = IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
    game.far.send(
        bytes(Ether(src=game.mac, dst=BROADCAST) / ends / request / DHCP(options=[("message-type", "discover"), "end"]))
    )
    offer = Ether(game.far.until(lambda received: Ether(received).haslayer(DHCP)))
    address = ipaddress.ip_address(offer[BOOTP].yiaddr)
    assert address in topology.LAN
    game.far.lease(f"{address}/{topology.LAN.prefixlen}")
    game.client.wait_for("the address", lambda: [line for line in game.client.lines if str(address) in line])


def test_many_frames_of_the_pc_arrive_whole_and_in_order(game: Game, lan: Port) -> None:
    arrived: list[bytes] = []
    for burst in bursts(game.host_mac, game.mac):
        game.far.send(*burst)
        arrived += lan.until(burst[-1])
    sent = [one for burst in bursts(game.host_mac, game.mac) for one in burst]
    assert [one for one in arrived if one[12:14] == TEST_TYPE] == sent


def test_many_frames_of_the_lan_arrive_whole_and_in_order(game: Game, lan: Port) -> None:
    arrived: list[bytes] = []
    for burst in bursts(game.mac, game.host_mac):
        for one in burst:
            lan.send(one)
        arrived += game.far.up_to(burst[-1])
    sent = [one for burst in bursts(game.mac, game.host_mac) for one in burst]
    assert [one for one in arrived if one[12:14] == TEST_TYPE] == sent


def test_the_relays_route_follows_from_the_cable_to_wifi_and_back(game: Game) -> None:
    game.far.plug(4, False)
    game.client.wait_for("a pin over Wi-Fi", lambda: PINNED.format(3, "Wi-Fi") in game.far.routes())
    game.far.plug(4, True)
    game.client.wait_for("a pin over the cable", lambda: PINNED.format(2, "Ethernet") in game.far.routes())
    assert len([route for route in game.far.routes() if route.startswith(f"{topology.RELAY}/32")]) == 1
    assert game.far.settings()["4"] == [1418, 1, 0, 1]
