"""Relays that go and come back, cables that are pulled, clients that are killed: what remains, and what returns."""

import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.party import (
    AMPLE,
    Pinger,
    Port,
    another_player,
    client_of,
    endpoint_flags,
    event,
    lan_party,
    routes,
    run,
    settled_routes,
)
from tests.support.tools import require_tool

from softlan.demo import topology
from softlan.demo.netns import Link, Namespace
from softlan.demo.processes import Process, wait_for
from softlan.demo.services import TAP, Services

pytestmark = pytest.mark.netns

BACK = 10.0
"""Seconds from the relay's end until everyone pings again: the requirement itself, not a bound for slow machines."""
SILENCE = 20.0
"""Seconds that an endpoint may take to notice that nobody answers, or that an attempt has failed."""
PLAYER = "10.77.0.50"


@dataclass
class Game:
    """A party with one player, who has an address of the LAN and pings its host all the time."""

    services: Services
    routes_before: list[str]
    relay: Process
    gateway: Process
    client: Process
    tap: Link
    pinger: Pinger

    @property
    def player(self) -> Namespace:
        return self.services.party.player

    def pinned(self) -> list[str]:
        """The player's routes to the relay alone."""
        return [line for line in routes(self.player) if line.startswith(f"{topology.RELAY} ")]

    def assert_tap_is_untouched(self) -> None:
        link = self.player.link(TAP)
        assert link is not None
        assert (link.index, link.mac, link.mtu, link.up) == (self.tap.index, self.tap.mac, self.tap.mtu, True)
        assert f"{PLAYER}/24" in link.addresses

    def assert_player_is_as_before(self) -> None:
        assert self.player.link(TAP) is None
        assert routes(self.player) == self.routes_before


@pytest.fixture
def game(swept: None, tmp_path: Path) -> Iterator[Game]:
    with lan_party(tmp_path) as services:
        player = services.party.player
        relay, gateway = services.relay(), services.gateway()
        before = settled_routes(player)
        client, tap = services.client()
        player.up(TAP, f"{PLAYER}/24")
        game = Game(services, before, relay, gateway, client, tap, Pinger(services, player, topology.HOST))
        game.pinger.wait_for_more(AMPLE)
        yield game


def kill(process: Process) -> None:
    process.send_signal(signal.SIGKILL)
    process.finish(AMPLE)


def end(process: Process) -> int:
    process.send_signal(signal.SIGTERM)
    return process.finish(AMPLE)


def complaint(process: Process) -> str:
    """What the program said to a person at its end: the one line of its output that is no log event."""
    lines = [line for line in process.output().splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    return lines[0]


# The relay goes


def test_after_a_killed_relay_everyone_is_back_within_ten_seconds(game: Game) -> None:
    with Port(game.player, TAP) as port:
        gone = time.monotonic()
        kill(game.relay)
        game.services.relay()
        game.pinger.wait_for_more(BACK - (time.monotonic() - gone))
        port.arrived()  # raises if the interface was down or away in between
    game.assert_tap_is_untouched()
    assert len(game.client.events("tap.up")) == 1
    assert len(game.pinned()) == 1
    for endpoint in (game.client, game.gateway):
        assert len(endpoint.events("joined")) == 2


def test_a_relay_that_stays_away_is_tried_again_and_again(game: Game) -> None:
    with Port(game.player, TAP) as port:
        kill(game.relay)
        event(game.client, "lost", SILENCE, skip=1)  # that it is gone, then that an attempt failed
        game.services.relay()
        game.pinger.wait_for_more(BACK)
        port.arrived()
    game.assert_tap_is_untouched()
    assert len(game.client.events("joined")) == 2


def test_a_relay_that_is_stopped_says_so_and_everyone_returns_to_the_next(game: Game) -> None:
    assert end(game.relay) == 0
    assert event(game.relay, "relay.stopping")["peers"] == 2
    for endpoint in (game.client, game.gateway):
        assert event(endpoint, "lost")["reason"] == "the relay is shutting down"
    game.services.relay()
    game.pinger.wait_for_more(BACK)
    game.assert_tap_is_untouched()


def test_a_client_whose_relay_is_gone_still_ends_at_once_and_cleans_up(game: Game) -> None:
    kill(game.relay)
    assert end(game.client) == 0
    game.assert_player_is_as_before()


def test_endpoints_may_be_started_before_their_relay(game: Game) -> None:
    for process in (game.client, game.gateway, game.relay):
        end(process)
    services = game.services
    early = [
        services.start(name, namespace, sys.executable, "-m", "softlan", name, *endpoint_flags(services), *flags)
        for name, namespace, flags in (
            ("client", game.player, ["--state-dir", str(services.directory / "client")]),
            (
                "gateway",
                services.party.gateway,
                ["--iface", "lan0", "--state-dir", str(services.directory / "gateway")],
            ),
        )
    ]
    for process in early:
        event(process, "lost", SILENCE)
    tap = game.player.link(TAP)
    assert tap is not None
    assert not tap.up  # nothing goes into the interface before there is a room
    services.relay()
    for process in early:
        assert event(process, "joined", BACK)["mtu"] == 1418  # a lost first packet is not taken for a narrow path


def test_a_name_service_behind_the_tunnel_does_not_keep_us_from_returning(game: Game) -> None:
    services = game.services
    dnsmasq = require_tool("dnsmasq")
    flags = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", "--user=root")
    answer = f"--address=/party.test/{topology.RELAY}"
    services.start("dns", services.party.dhcp, dnsmasq, *flags, answer)
    end(game.client)
    # At home the name is known; then the LAN's DHCP server says that the LAN's name server is to be asked.
    etc = {"hosts": f"{topology.RELAY} party.test\n", "resolv.conf": f"nameserver {topology.DHCP}\n"}
    client = client_of(services, "party.test", etc)
    wait_for("the TAP", lambda: (link := game.player.link(TAP)) and link.up, AMPLE)
    game.player.up(TAP, f"{PLAYER}/24")
    game.pinger.wait_for_more(AMPLE)
    (services.directory / "hosts").write_text("")

    gone = time.monotonic()
    kill(game.relay)
    services.relay()
    game.pinger.wait_for_more(BACK - (time.monotonic() - gone))
    assert len(client.events("joined")) == 2


# The way to it goes


def test_a_pulled_cable_costs_neither_interface_nor_place_in_the_room(game: Game) -> None:
    inet = game.services.party.inet
    with Port(game.player, TAP) as port:
        run(inet, "ip", "link", "set", "player0", "down")
        event(game.client, "lost", SILENCE)
        run(inet, "ip", "link", "set", "player0", "up")
        game.pinger.wait_for_more(BACK)
        port.arrived()
    game.assert_tap_is_untouched()
    peers = [record["peer"] for record in game.client.events("joined")]
    assert peers == [peers[0]] * 2


def test_the_relays_route_is_pinned_again_when_its_interface_comes_back(game: Game) -> None:
    run(game.player, "ip", "link", "set", topology.WAN_INTERFACE, "down")
    assert game.pinned() == []  # the kernel takes a link's routes with it
    event(game.client, "lost", SILENCE)
    run(game.player, "ip", "link", "set", topology.WAN_INTERFACE, "up")
    game.player.default_route("192.0.2.1")  # as the host's own network management does
    game.pinger.wait_for_more(BACK)
    wait_for("the pinned route", game.pinned, AMPLE)
    assert end(game.client) == 0
    assert game.pinned() == []


# The client goes


def test_a_client_that_is_told_to_end_says_goodbye_and_leaves_no_trace(game: Game) -> None:
    assert len(game.pinned()) == 1
    peer = game.client.events("joined")[0]["peer"]
    assert end(game.client) == 0
    assert event(game.relay, "peer.left")["reason"] == "disconnect:quit"
    assert event(game.gateway, "peer.left")["mac"] == game.tap.mac
    assert event(game.gateway, "peer.left")["peer"] == peer
    game.assert_player_is_as_before()


def test_after_a_kill_the_next_start_recovers_and_takes_its_own_place(game: Game) -> None:
    pinned = game.pinned()
    first = game.client.events("joined")[0]
    kill(game.client)
    assert game.player.link(TAP) is None
    assert game.pinned() == pinned
    client, tap = game.services.client()
    assert tap.mac == game.tap.mac
    assert topology.RELAY in str(client.events("recovered")[0]["what"])
    assert client.events("joined")[0]["peer"] == first["peer"]
    assert event(game.relay, "peer.left")["reason"] == "replaced"
    assert game.pinned() == pinned
    game.player.up(TAP, f"{PLAYER}/24")
    game.pinger.wait_for_more(AMPLE)
    assert end(client) == 0
    game.assert_player_is_as_before()


# Too many come


def test_a_mac_that_is_taken_ends_the_newcomer_with_the_relays_words(game: Game) -> None:
    with another_player(game.services) as guest:
        flags = [*endpoint_flags(guest), "--virtual-mac", game.tap.mac, "--state-dir", str(guest.directory)]
        twin = guest.start("twin", guest.party.player, sys.executable, "-m", "softlan", "client", *flags)
        assert twin.finish(AMPLE) == 3
        assert game.tap.mac in complaint(twin)
        assert complaint(twin).endswith("(duplicate_mac)")
        assert guest.party.player.link(TAP) is None
    game.pinger.wait_for_more(AMPLE)


def test_a_second_gateway_is_refused(game: Game) -> None:
    services = game.services
    flags = [*endpoint_flags(services), "--iface", "lan0", "--state-dir", str(services.directory / "second")]
    second = services.start("second", services.party.gateway, sys.executable, "-m", "softlan", "gateway", *flags)
    assert second.finish(AMPLE) == 3
    assert complaint(second).endswith("(gateway_exists)")
    game.pinger.wait_for_more(AMPLE)


def test_of_two_with_the_same_state_the_later_stays(game: Game) -> None:
    services = game.services
    flags = [*endpoint_flags(services), "--iface", "lan0", "--state-dir", str(services.directory / "gateway")]
    second = services.start("second", services.party.gateway, sys.executable, "-m", "softlan", "gateway", *flags)
    event(second, "joined")
    assert game.gateway.finish(AMPLE) == 3
    assert "--state-dir" in complaint(game.gateway)
    game.pinger.wait_for_more(AMPLE)
    assert second.status is None
    assert len(second.events("joined")) == 1
