"""A party in a sealed room, with a relay that keeps and tells all that it gets to see."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import packets
from tests.support.packets import ether, ipv4, kind, udp
from tests.support.party import AMPLE, Port, another_player, answers, event, lan_party

from softlan.client.invitation import parse
from softlan.demo import topology
from softlan.demo.netns import Link
from softlan.demo.probes import lease, ping, room_snapshot
from softlan.demo.processes import Process, wait_for
from softlan.demo.services import ROOM, TAP, Services
from softlan.proto.keys import room_keys
from softlan.proto.mac import parse_mac

pytestmark = pytest.mark.netns

RECORDER = Path(__file__).parent.parent / "support" / "recording_relay.py"
MTU = 1394  # what a plain room has, less 24
TEST_TYPE = b"\x88\xb6"  # IEEE 802, local experimental EtherType 2
PIECE = 8
"""Bytes that do not come about by chance."""
SENDS = ("Connection.send_datagram", "Connection.send_datagrams")


@dataclass
class Game:
    """The party, and what its relay saw."""

    services: Services
    relay: Process
    gateway: Process
    client: Process
    tap: Link
    record: Path

    @property
    def mac(self) -> bytes:
        return parse_mac(self.tap.mac)

    @property
    def host_mac(self) -> bytes:
        link = self.services.party.host.link(topology.LAN_INTERFACE)
        assert link is not None
        return parse_mac(link.mac)


@pytest.fixture(scope="module")
def game(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    with lan_party(tmp_path_factory.mktemp("sealed")) as services:
        services.dhcp_server()
        directory = services.directory
        record = directory / "record.txt"
        relay = services.start(
            "relay",
            services.party.relay,
            *(sys.executable, str(RECORDER), str(record)),
            *("relay", "--listen", "443/udp", "--dev-cert-der-out", str(services.relay_certificate)),
            *("--frame-log", "all", "--log-level", "debug"),
            *("--state-dir", str(directory / "relay"), "--log-format", "json"),
        )
        relay.wait_for("listening", lambda: relay.events("relay.listening"), 2 * AMPLE)
        services.invite()
        gateway = services.gateway("--frame-log", "drops")
        client, tap = services.client("--frame-log", "drops")
        yield Game(services, relay, gateway, client, tap, record)


def test_a_sealed_room_is_a_lan_like_any_other(game: Game) -> None:
    player, host = game.services.party.player, game.services.party.host
    address = lease(player, TAP, game.services.directory).partition("/")[0]
    ping(player, topology.HOST, count=3)
    ping(host, address, count=3)
    assert game.tap.mtu == MTU
    assert answers(player, topology.HOST, "-M", "do", "-s", str(MTU - 28))  # IP and ICMP headers
    for process in (game.gateway, game.client):
        reasons = {str(event["reason"]) for event in process.events("frame")}
        assert not reasons & {"bad_seal", "replayed", "not_sealed", "unexpected_seal", "invalid_source"}


def test_nobody_but_the_endpoints_gets_to_see_what_is_said(game: Game) -> None:
    up, down = (b"".join(hashlib.sha256(b"%s %d" % (way, n)).digest() for n in range(8)) for way in (b"up", b"down"))
    frames = {
        "up": game.host_mac + game.mac + TEST_TYPE + up,
        "down": game.mac + game.host_mac + TEST_TYPE + down,
    }
    with (
        Port(game.services.party.host, topology.LAN_INTERFACE) as host,
        Port(game.services.party.player, TAP) as player,
    ):
        for _ in range(5):
            player.send(frames["up"])
            host.send(frames["down"])
        host.until(frames["up"])
        player.until(frames["down"])

    secrets = [frames["up"][14:], frames["down"][14:]]
    invitation = parse((game.services.directory / f"{ROOM}.invite").read_text())
    assert invitation.secret is not None
    keys = room_keys(invitation.secret, ROOM)
    secrets += [invitation.secret, keys.frame_key]

    def forwarded() -> dict[str, list[bytes]]:
        lines = [line.split() for line in game.record.read_text().splitlines()]
        found: dict[str, list[bytes]] = {}
        for name, data in (line for line in lines if len(line) == 2):
            found.setdefault(name, []).append(bytes.fromhex(data))
        found["sent"] = [data for name in SENDS for data in found.get(name, ())]
        return found

    def all_there() -> bool:
        sent = forwarded()["sent"]
        return all(sum(data[4:18] == frame[:14] for data in sent) >= 5 for frame in frames.values())

    wait_for("the relay's record of them", all_there, AMPLE)
    record = forwarded()
    seen = b"\0".join(data for calls in record.values() for data in calls)
    for name in ("Session.datagrams_received", "Switch.forward", "sent"):
        ours = [data for data in record[name] if data[16:18] == TEST_TYPE]
        assert len(ours) >= 10, "the record has them"
        assert {len(data) for data in ours} == {4 + 14 + 8 + len(up) + 16}
        assert {data[0] for data in ours} == {0x11}
    assert b"".join(record["Connection.send_stream"]).count(b'"sealed":true') == 2
    assert keys.token.encode() in seen, "that much it is told"

    logs = game.relay.log.read_bytes()
    assert sum(event["length"] is not None for event in game.relay.events("frame")) >= 10
    memory = memory_of(game.relay)
    assert keys.token.encode() in memory, "it has been looked through"
    for secret in secrets:
        pieces = [secret[start : start + PIECE] for start in range(0, len(secret) - PIECE + 1, PIECE)]
        for piece in pieces:
            assert piece not in seen
            assert piece not in memory
            for text in (piece.hex().encode(), repr(piece)[2:-1].encode()):
                assert text not in logs


def test_another_player_is_neither_dhcp_server_nor_router(game: Game) -> None:
    """The relay cannot tell; the client of whoever gets these frames can."""
    with another_player(game.services) as guest:
        guest.invitation = game.services.invitation
        _, tap = guest.client()
        mac = parse_mac(tap.mac)
        to_all = {"src": mac, "dst": packets.BROADCAST}
        offer = ipv4(udp(67, 68, packets.dhcp(2)), dst="255.255.255.255")
        advertisement = packets.ipv6(packets.router_advertisement(), packets.ICMPV6)
        bad = {
            "dhcp_server": ether(kind(packets.IPV4), offer, **to_all),
            "ipv6_ra": ether(kind(packets.IPV6), advertisement, **to_all),
            "arp_spoof": ether(kind(packets.ARP), packets.arp(game.host_mac), **to_all),
        }
        good = ether(kind(packets.ARP), packets.arp(mac, sender_ip="10.77.0.250", target_ip="10.77.0.251"), **to_all)
        with (
            Port(guest.party.player, TAP) as sender,
            Port(game.services.party.player, TAP) as player,
        ):
            for frame in (*bad.values(), good):
                sender.send(frame)
            seen = player.until(good)
        assert not set(bad.values()) & set(seen)
        for reason, frame in bad.items():
            record = event(game.client, "frame", direction="to_host", reason=reason)
            assert (record["src"], record["length"]) == (tap.mac, len(frame))


def test_the_relay_says_only_what_it_can_know(game: Game) -> None:
    members = room_snapshot(game.relay, ROOM)["members"]
    assert isinstance(members, list)
    assert {member["effective_mtu"] for member in members} == {MTU}


def memory_of(process: Process) -> bytes:
    """All that a process has in its memory now and that can be written; proc_pid_mem(5)."""
    parts = []
    with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            area, access = line.split()[:2]
            start, end = (int(number, 16) for number in area.split("-"))
            if access.startswith("rw"):
                memory.seek(start)
                parts.append(memory.read(end - start) or b"")
    return b"\0".join(parts)
