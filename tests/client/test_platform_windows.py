"""A player on Windows: what is done about the adapter's interface, in which order, and how it is put back."""

import asyncio
import ipaddress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.virtual_room import LAN_HOST, WELCOME, frame

from softlan.client.bridge import Bridge
from softlan.client.platform_windows import WindowsTapCare
from softlan.client.player import PIN_CHECK, Player
from softlan.device.memory import MemoryDevice
from softlan.errors import HostError
from softlan.host.base import HostRoute, Setting
from softlan.host.guard import HostGuard
from softlan.host.memory import MemoryNetwork
from softlan.host.owner import Owner, this_process
from softlan.net.address import SocketAddress
from softlan.obs.counters import TrafficCounters

MAC = bytes.fromhex("02005e100001")
RELAY: SocketAddress = ("::ffff:203.0.113.5", 443, 0, 0)
TAP = "{11111111-0000-4000-8000-00000000000C}"
WIFI = HostRoute(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_address("192.168.1.1"), "{wifi}")
CABLE = HostRoute(ipaddress.ip_network("203.0.0.0/8"), ipaddress.ip_address("10.0.0.1"), "{cable}")
AS_IT_WAS = {
    (TAP, version, setting): value
    for version in (4, 6)
    for setting, value in ((Setting.MTU, 1500), (Setting.METRIC, 0), (Setting.DEFAULT_ROUTES, 1))
}
AT_PLAY = {
    (TAP, version, setting): value
    for version in (4, 6)
    for setting, value in ((Setting.MTU, 1418), (Setting.METRIC, 1), (Setting.DEFAULT_ROUTES, 0))
}


def pin(along: HostRoute) -> HostRoute:
    return HostRoute(ipaddress.ip_network("203.0.113.5/32"), along.gateway, along.interface)


class Machine(MemoryNetwork):
    """Notes what is changed, in order, in `done`."""

    def __init__(self, done: list[str]) -> None:
        super().__init__(WIFI)
        self.settings = dict(AS_IT_WAS)
        self.done = done

    def add_route(self, route: HostRoute) -> None:
        super().add_route(route)
        self.done.append(f"pin {route.interface}")

    def delete_route(self, route: HostRoute) -> None:
        super().delete_route(route)
        self.done.append(f"unpin {route.interface}")

    def write_setting(self, interface: str, version: int, setting: Setting, value: int) -> None:
        super().write_setting(interface, version, setting, value)
        self.done.append(f"v{version} {setting.value} {value}")

    @property
    def is_as_it_was(self) -> bool:
        return (self.ours, self.settings) == ([], AS_IT_WAS)


class Adapter(MemoryDevice):
    """As the real one: its MTU is the host's to set."""

    def __init__(self, done: list[str]) -> None:
        super().__init__("Ethernet 7")
        self.done = done
        self.care: WindowsTapCare

    def configure(self, mac: bytes, mtu: int) -> None:
        self.set_mtu(mtu)
        self.done.append("configure")

    def set_mtu(self, mtu: int) -> None:
        self.care.set_mtu(mtu)

    def bring_up(self) -> None:
        super().bring_up()
        self.done.append("up")

    def close(self) -> None:
        super().close()
        self.done.append("close")


class Game:
    """A player, with all that it uses in reach."""

    def __init__(self, directory: Path, machine: Machine | None = None, owner: Owner | None = None) -> None:
        self.machine = machine or Machine([])
        self.done = self.machine.done
        self.journal = directory / "host.json"
        self.device = Adapter(self.done)
        self.bridge = Bridge(self.device, TrafficCounters(), lambda error: None)
        self.sent: list[bytes] = []
        self.bridge.send = lambda frames, _: self.sent.extend(frames)
        self.guard = HostGuard(self.machine, self.journal, owner, self.machine)
        self.care = WindowsTapCare(TAP, "Ethernet 7", self.machine, self.machine, self.guard, metric=1)
        self.device.care = self.care
        self.player = Player(self.device, self.bridge, self.machine, self.guard, MAC, self.care)
        self.logged: list[tuple[str, dict[str, Any]]] = []


class Log:
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, event: str, **values: Any) -> None:
        self.warnings.append(event)

    def info(self, event: str, **values: Any) -> None:
        pass


@pytest.fixture
def game(tmp_path: Path) -> Game:
    return Game(tmp_path)


def warnings_of(game: Game) -> list[str]:
    log = Log()
    game.care._log = log  # type: ignore[assignment]
    return log.warnings


# In


async def test_the_order_is_pin_up_settings(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    assert game.done == [
        *("pin {wifi}", "configure", "up"),
        *("v4 default routes 0", "v4 metric 1", "v4 mtu 1418"),
        *("v6 default routes 0", "v6 metric 1", "v6 mtu 1418"),
    ]
    assert game.machine.settings == AT_PLAY
    assert (game.player.interface, game.player.interface_id, game.player.mtu) == ("Ethernet 7", TAP, 1418)
    assert game.player.pin == "203.0.113.5/32 via 192.168.1.1 dev {wifi}"
    assert game.player.needs_pin


async def test_frames_pass_once_all_is_set(game: Game) -> None:
    up = frame(LAN_HOST, MAC)
    game.device.inject(up)
    game.player.joined(WELCOME, RELAY)
    async with asyncio.timeout(1):
        while not game.sent:
            await asyncio.sleep(0)
    assert game.sent == [up]


@pytest.mark.parametrize(("value", "warned"), [(1, ["tap.default_routes"]), (0, [])])
async def test_default_routes_over_the_tap_are_warned_of(game: Game, value: int, warned: list[str]) -> None:
    game.machine.settings[TAP, 4, Setting.DEFAULT_ROUTES] = value
    warnings = warnings_of(game)
    game.player.joined(WELCOME, RELAY)
    assert warnings == warned


async def test_an_interface_without_ipv6_is_played_on_over_ipv4(game: Game) -> None:
    for setting in Setting:
        del game.machine.settings[TAP, 6, setting]
    warnings = warnings_of(game)
    game.player.joined(WELCOME, RELAY)
    game.player.tick(100.0)
    game.player.tick(100.0 + PIN_CHECK)
    assert warnings == ["tap.default_routes", "tap.settings_failed"], "said once"
    assert game.machine.settings == {key: value for key, value in AT_PLAY.items() if key[1] == 4}
    game.player.close()
    assert game.machine.settings == {key: value for key, value in AS_IT_WAS.items() if key[1] == 4}


async def test_ipv6_has_a_smallest_mtu(game: Game) -> None:
    game.player.joined(msgspec.structs.replace(WELCOME, effective_mtu=1146), RELAY)
    assert game.machine.settings[TAP, 4, Setting.MTU] == 1146
    assert game.machine.settings[TAP, 6, Setting.MTU] == 1280


@pytest.mark.parametrize("call", range(1, 16))
async def test_what_fails_at_the_first_join_leaves_nothing_behind(game: Game, call: int) -> None:
    """1 to 4 pin, 5 waits for the interface, 6 looks at its default routes, the others set IPv4."""
    game.machine.fail(call, HostError("test", "no"))
    with pytest.raises(HostError):
        game.player.joined(WELCOME, RELAY)
    game.player.close()
    assert game.machine.is_as_it_was
    assert not game.journal.exists()


# Meanwhile


async def test_another_mtu_is_set_and_the_first_one_put_back(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.player.lost()
    game.player.joined(msgspec.structs.replace(WELCOME, effective_mtu=1296), RELAY)
    assert game.machine.settings == AT_PLAY | {(TAP, 4, Setting.MTU): 1296, (TAP, 6, Setting.MTU): 1296}
    game.player.close()
    assert game.done[-2:] == ["close", "unpin {wifi}"]
    assert game.machine.is_as_it_was


async def test_settings_that_windows_forgot_are_set_again(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.machine.settings.update(AS_IT_WAS)
    game.player.tick(100.0)
    assert game.machine.settings == AT_PLAY
    game.player.close()
    assert game.machine.is_as_it_was


async def test_settings_that_cannot_be_read_for_a_while_do_not_end_the_party(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    warnings = warnings_of(game)
    game.machine.settings = {key: value for key, value in AT_PLAY.items() if key[1] == 6}
    game.player.tick(100.0)
    game.player.tick(100.0 + PIN_CHECK)
    assert warnings == ["tap.settings_failed"]
    game.machine.settings |= AS_IT_WAS
    game.player.tick(100.0 + 2 * PIN_CHECK)
    assert game.machine.settings == AT_PLAY


async def test_another_mtu_that_cannot_be_set_now_is_set_later(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    off = {key: game.machine.settings.pop(key) for key in list(game.machine.settings) if key[1] == 4}
    game.player.joined(msgspec.structs.replace(WELCOME, effective_mtu=1296), RELAY)
    game.machine.settings |= off
    game.player.tick(100.0)
    assert game.machine.settings[TAP, 4, Setting.MTU] == 1296
    game.player.close()
    assert game.machine.is_as_it_was


async def test_from_wifi_to_cable_the_pin_moves(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    assert game.machine.ours == [pin(WIFI)]
    game.machine.routes.append(CABLE)
    game.done.clear()
    game.player.tick(100.0)
    assert game.machine.ours == [pin(CABLE)]
    assert game.done == ["unpin {wifi}", "pin {cable}"], "all else stays"
    game.machine.routes.remove(CABLE)
    game.player.tick(100.0 + PIN_CHECK)
    assert game.machine.ours == [pin(WIFI)]
    game.player.close()
    assert game.machine.is_as_it_was


async def test_while_there_is_no_other_way_the_pin_stays(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.machine.routes.clear()
    game.player.tick(100.0)
    assert game.machine.ours == [pin(WIFI)]


async def test_a_pin_that_is_lost_is_made_again(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.machine.ours.clear()
    game.player.tick(100.0)
    assert game.machine.ours == [pin(WIFI)]


async def test_another_way_that_windows_does_not_take_is_tried_once(
    game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    game.player.joined(WELCOME, RELAY)
    monkeypatch.setattr(game.machine, "usual_route", lambda route, tunnel: pin(CABLE))
    for check in range(3):
        game.player.tick(100.0 + check * PIN_CHECK)
    assert game.done.count("unpin {wifi}") == 1
    assert game.machine.ours == [pin(WIFI)]


async def test_another_way_that_went_and_came_back_is_tried_again(game: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    game.player.joined(WELCOME, RELAY)
    for check, (usual, tries) in enumerate([(CABLE, 1), (CABLE, 1), (WIFI, 1), (CABLE, 2), (CABLE, 2)]):
        monkeypatch.setattr(game.machine, "usual_route", lambda route, tunnel, usual=usual: pin(usual))
        game.player.tick(100.0 + check * PIN_CHECK)
        assert game.done.count("unpin {wifi}") == tries
    assert game.machine.ours == [pin(WIFI)]


# Out


async def test_all_is_put_back_and_settings_while_the_interface_is_there(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.done.clear()
    game.player.close()
    assert game.done == [
        *("v6 mtu 1500", "v6 metric 0", "v6 default routes 1"),
        *("v4 mtu 1500", "v4 metric 0", "v4 default routes 1"),
        *("close", "unpin {wifi}"),
    ]
    assert game.machine.is_as_it_was
    assert not game.journal.exists()
    game.player.close()


async def test_an_adapter_that_is_gone_leaves_nothing_to_put_back(game: Game) -> None:
    game.player.joined(WELCOME, RELAY)
    game.machine.settings.clear()
    game.player.close()
    assert game.machine.ours == []
    assert not game.journal.exists()


async def test_after_a_crash_the_next_start_puts_all_back(game: Game, tmp_path: Path) -> None:
    dead = Owner(pid=1, started=this_process().started + 1, boot=this_process().boot)
    crashed = Game(tmp_path, game.machine, dead)
    crashed.player.joined(WELCOME, RELAY)
    assert game.machine.settings == AT_PLAY
    assert len(game.guard.recover()) == 7
    assert game.machine.is_as_it_was
