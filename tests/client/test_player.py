"""The player's side: its interface, and the route to the relay that must not go into it."""

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from tests.support.virtual_room import LAN_HOST, WELCOME, frame

from softlan.client.bridge import Bridge
from softlan.client.platform_linux import LinuxTapCare
from softlan.client.player import PIN_CHECK, Player
from softlan.ctrl.messages import PeerJoined, PeerLeft, Role
from softlan.device.base import DeviceGone
from softlan.device.memory import MemoryDevice
from softlan.errors import HostError
from softlan.host.base import HostRoute
from softlan.host.guard import HostGuard
from softlan.host.memory import MemoryNetwork
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters

MAC = bytes.fromhex("02005e100001")
RELAY: SocketAddress = ("::ffff:203.0.113.5", 443, 0, 0)
OTHER: SocketAddress = ("::ffff:203.0.113.77", 443, 0, 0)


def route(destination: str, gateway: str | None, interface: str, source: str | None = None) -> HostRoute:
    address = ipaddress.ip_address
    return HostRoute(
        ipaddress.ip_network(destination),
        address(gateway) if gateway else None,
        interface,
        address(source) if source else None,
    )


HOME = route("0.0.0.0/0", "192.168.1.1", "wlan0", "192.168.1.10")
CAFE = route("0.0.0.0/0", "10.0.0.1", "wlan0", "10.0.0.10")
PINNED = route("203.0.113.5/32", "192.168.1.1", "wlan0", "192.168.1.10")


class Noted(MemoryDevice):
    """A device that says when it is used, together with the routes that there were."""

    def __init__(self, network: MemoryNetwork, name: str = "softlan0") -> None:
        super().__init__(name)
        self.done: list[tuple[str, list[HostRoute]]] = []
        self._network = network

    def configure(self, mac: bytes, mtu: int) -> None:
        super().configure(mac, mtu)
        self._note("configure")

    def set_mtu(self, mtu: int) -> None:
        super().set_mtu(mtu)
        self._note("set_mtu")

    def bring_up(self) -> None:
        super().bring_up()
        self._note("bring_up")

    def close(self) -> None:
        super().close()
        self._note("close")

    def _note(self, what: str) -> None:
        self.done.append((what, list(self._network.ours)))


class Game:
    """A player, with all that it uses in reach."""

    def __init__(self, directory: Path, *routes: HostRoute, discovery: bool = False) -> None:
        self.network = MemoryNetwork(*routes)
        self.device = Noted(self.network)
        self.journal = directory / "host.json"
        self.gone: list[HostError] = []
        self.sent: list[bytes] = []
        self.counters = TrafficCounters()
        self.bridge = Bridge(self.device, self.counters, self.gone.append)
        self.bridge.send = lambda frames, _: self.sent.extend(frames)
        guard = HostGuard(self.network, self.journal)
        care = LinuxTapCare("softlan0", self.network, discovery=discovery)
        self.player = Player(self.device, self.bridge, self.network, guard, MAC, care)

    @property
    def steps(self) -> list[str]:
        return [what for what, _ in self.device.done]


@pytest.fixture
def game(tmp_path: Path) -> Game:
    return Game(tmp_path, HOME)


# Into the room


async def test_the_relays_route_is_pinned_before_the_interface_is_up(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    assert game.device.done == [("configure", [PINNED]), ("bring_up", [PINNED])]
    assert (game.device.mac, game.device.mtu, game.device.is_up) == (MAC, 1418, True)


async def test_frames_pass_both_ways_from_then_on(game: Game) -> None:
    up, down = frame(LAN_HOST, MAC), frame(MAC, LAN_HOST)
    game.device.inject(up)
    await asyncio.sleep(0)
    assert game.sent == [], "nobody reads it before there is a room"
    game.player.joined(WELCOME, RELAY)
    game.player.frames_received([down], 0.0)
    async with asyncio.timeout(1):
        while not game.sent:
            await asyncio.sleep(0)
    assert (game.sent, game.device.written) == ([up], [down])


async def test_the_mtu_is_the_players_own(game: Game) -> None:
    game.player.joined(msgspec.structs.replace(WELCOME, effective_mtu=1296), RELAY)
    assert game.device.mtu == 1296


async def test_a_relay_on_the_same_machine_needs_no_pin(game: Game) -> None:
    game.player.joined(WELCOME, ("::1", 443, 0, 0))
    game.player.tick(1.0)
    assert game.network.ours == []
    assert game.device.is_up


async def test_a_relay_behind_the_interface_itself_is_refused(tmp_path: Path) -> None:
    game = Game(tmp_path, route("0.0.0.0/0", "10.9.0.1", "softlan0"))
    with pytest.raises(HostError, match="goes through softlan0 itself"):
        game.player.joined(WELCOME, RELAY)
    assert game.steps == []


@pytest.mark.parametrize("call", [1, 2, 3, 4])
async def test_what_fails_at_the_first_join_leaves_the_interface_down(game: Game, call: int) -> None:
    game.network.fail(call, HostError("routes", "no"))
    with pytest.raises(HostError):
        game.player.joined(WELCOME, RELAY)
    assert not game.device.is_up
    game.player.close()
    assert game.network.ours == []


async def test_server_browsers_look_into_the_room_once_the_interface_is_up(tmp_path: Path) -> None:
    game = Game(tmp_path, HOME, discovery=True)
    game.player.joined(WELCOME, RELAY)
    assert game.device.done[-1] == ("bring_up", [PINNED])
    discovery = [route("255.255.255.255/32", None, "softlan0"), route("224.0.0.0/4", None, "softlan0")]
    assert game.network.ours == [PINNED, *discovery]


async def test_a_machine_with_routes_of_its_own_for_them_plays_all_the_same(tmp_path: Path) -> None:
    game = Game(tmp_path, HOME, route("224.0.0.0/4", None, "softlan0"), discovery=True)
    game.player.joined(WELCOME, RELAY)
    assert game.device.is_up
    assert game.network.ours == [PINNED, route("255.255.255.255/32", None, "softlan0")]


async def test_what_it_tells_of_itself(game: Game) -> None:
    player = game.player
    assert (player.interface, player.interface_id, player.mtu, player.pin) == ("softlan0", "softlan0", None, None)
    player.joined(WELCOME, RELAY)
    assert (player.mtu, player.pin, player.needs_pin) == (1418, str(PINNED), True)
    game.network.ours.clear()
    game.network.routes[:] = [route("0.0.0.0/0", "10.9.0.1", "softlan0")]
    player.tick(100.0)
    assert (player.pin, player.needs_pin) == (None, True), "there is no good way to pin"
    player.joined(WELCOME, ("::1", 443, 0, 0))
    assert (player.pin, player.needs_pin) == (None, False)


# Out of it and back


async def test_the_interface_and_the_route_stay_while_the_session_is_lost(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.player.lost()
    game.player.joined(WELCOME, RELAY)
    assert game.steps == ["configure", "bring_up"]
    assert game.network.ours == [PINNED]


async def test_a_pin_whose_router_is_gone_is_moved_while_the_session_is_lost(game: Game) -> None:
    """Another router in the same network: nobody takes the old way's route away, and it leads nowhere."""
    game.player.joined(WELCOME, RELAY)
    game.network.routes[:] = [route("0.0.0.0/0", "192.168.1.2", "wlan0", "192.168.1.10")]
    game.player.tick(100.0)
    assert game.network.ours == [PINNED], "as long as it leads there is no reason to move"
    game.player.lost()
    assert game.network.ours == [route("203.0.113.5/32", "192.168.1.2", "wlan0", "192.168.1.10")]
    assert game.player.pin == "203.0.113.5/32 via 192.168.1.2 dev wlan0"
    game.player.close()
    assert game.network.ours == []


async def test_it_is_not_moved_into_the_tunnel(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.network.routes[:] = [route("0.0.0.0/0", "10.9.0.1", "softlan0")]
    game.player.lost()
    assert game.network.ours == [PINNED]
    game.network.routes.append(CAFE)
    game.player.lost()
    assert game.network.ours == [route("203.0.113.5/32", "10.0.0.1", "wlan0")], "the kernel would say softlan0"


async def test_a_move_that_fails_is_tried_again_with_the_next_loss(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.network.routes[:] = [CAFE]
    game.network.fail(game.network.calls + 6, HostError("add route", "no"))  # has, usual, delete, best, has, add
    game.player.lost()
    assert (game.network.ours, game.player.pin) == ([], None)
    game.player.lost()
    assert [str(r.gateway) for r in game.network.ours] == ["10.0.0.1"]


async def test_another_mtu_after_a_reconnect_is_set_and_nothing_else(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.player.lost()
    for mtu in (1296, 1296, 1418):
        game.player.joined(msgspec.structs.replace(WELCOME, effective_mtu=mtu), RELAY)
        assert game.device.mtu == mtu
    assert game.steps == ["configure", "bring_up", "set_mtu", "set_mtu"]
    assert not game.device.is_closed


async def test_another_address_of_the_relay_is_pinned_in_the_place_of_the_old_one(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.player.lost()
    game.player.joined(WELCOME, OTHER)
    assert [str(r.destination) for r in game.network.ours] == ["203.0.113.77/32"]


async def test_a_route_that_was_lost_with_its_interface_is_pinned_again_along_the_new_way(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.network.ours.clear()
    game.network.routes[:] = [CAFE]
    game.player.tick(100.0)
    assert game.network.ours == [route("203.0.113.5/32", "10.0.0.1", "wlan0", "10.0.0.10")]
    game.player.tick(100.0 + PIN_CHECK)
    assert len(game.network.ours) == 1


async def test_it_is_looked_at_right_after_a_reconnect(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.player.tick(100.0)
    game.network.ours.clear()
    game.player.joined(WELCOME, RELAY)
    assert game.network.ours == [PINNED]


async def test_a_way_that_is_gone_for_a_while_is_pinned_when_it_is_back(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.network.ours.clear()
    game.network.routes.clear()
    game.player.tick(100.0)
    assert game.network.ours == []
    game.network.routes.append(HOME)
    game.player.tick(100.0 + PIN_CHECK)
    assert game.network.ours == [PINNED]


async def test_what_fails_during_the_party_does_not_end_it(game: Game) -> None:
    """The LAN's router has become the default route: there is no other way to the relay for now."""
    game.player.joined(WELCOME, RELAY)
    game.network.ours.clear()
    game.network.routes[:] = [route("0.0.0.0/0", "10.9.0.1", "softlan0")]
    game.player.tick(100.0)
    game.player.joined(WELCOME, RELAY)
    assert game.network.ours == []
    game.network.routes.append(route("203.0.113.0/24", "192.168.1.1", "wlan0", "192.168.1.10"))
    game.player.tick(100.0 + PIN_CHECK)
    assert game.network.ours == [PINNED]


async def test_the_route_is_not_looked_at_all_the_time(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.player.tick(100.0)
    calls = game.network.calls
    for tenth in range(1, 49):
        game.player.tick(100.0 + tenth / 10)
    assert game.network.calls == calls


# The end


async def test_closing_undoes_everything(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    assert game.journal.exists()
    game.player.close()
    assert game.device.is_closed
    assert game.network.ours == []
    assert not game.journal.exists()
    assert game.device.done[-1] == ("close", [PINNED]), "the interface first: its LAN may hold the default route"
    game.player.close()


async def test_closing_without_a_join_is_fine(game: Game) -> None:
    game.player.close()
    assert game.steps == ["close"]


async def test_the_route_goes_even_if_the_interface_will_not(game: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    game.player.joined(WELCOME, RELAY)

    def refuse() -> None:
        raise HostError("close", "no")

    monkeypatch.setattr(game.device, "close", refuse)
    with pytest.raises(HostError):
        game.player.close()
    assert game.network.ours == []


async def test_a_device_that_vanishes_is_told_once_by_whoever_notices(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.device.vanish()
    async with asyncio.timeout(1):
        while not game.gone:
            await asyncio.sleep(0)
    assert isinstance(game.gone[0], DeviceGone)
    game.player.frames_received([frame(MAC, LAN_HOST)], 0.0)
    assert all(isinstance(error, DeviceGone) for error in game.gone)


async def test_who_comes_and_goes_is_no_business_of_a_player(game: Game) -> None:
    before: Sequence[str] = list(game.steps)
    game.player.peer_joined(PeerJoined(peer_id=3, role=Role.GATEWAY, mac=None), 0.0)
    game.player.peer_left(None, PeerLeft(peer_id=3, reason="timeout"), 0.0)
    assert game.steps == before
