"""Which system's ways are taken, and Linux's."""

import importlib
import ipaddress
import sys
from pathlib import Path

import pytest

from softlan.client.platform import TapCare, open_platform
from softlan.client.platform_linux import DISCOVERY, LinuxPlatform, LinuxTapCare
from softlan.client.service import ClientConfig
from softlan.errors import HostError
from softlan.host.base import HostRoute
from softlan.host.memory import MemoryNetwork

PIN = HostRoute(ipaddress.ip_network("203.0.113.5/32"), ipaddress.ip_address("192.168.1.1"), "wlan0")


def config(**changes: object) -> ClientConfig:
    return ClientConfig(tunnel=None, **changes)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="the other systems have others")
def test_on_linux_it_is_linuxs(tmp_path: Path) -> None:
    platform = open_platform(config(tap_name="lan7"), tmp_path)
    assert isinstance(platform, LinuxPlatform)
    assert platform.recover() == []
    assert platform.close() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("system", ["darwin", "freebsd14", "cygwin"])
def test_elsewhere_it_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(HostError) as caught:
        open_platform(config(), tmp_path)
    assert str(caught.value) == f"unsupported platform: the client runs on Linux and Windows, not on {system}"
    assert caught.value.stage == "platform"


@pytest.mark.skipif(sys.platform != "linux", reason="it is about a system that is not Windows")
def test_windows_ways_can_be_imported_anywhere_and_opened_on_windows_alone(tmp_path: Path) -> None:
    windows = importlib.import_module("softlan.client.platform_windows")
    platform = windows.WindowsPlatform(config(), tmp_path)
    assert platform.recover() == []
    with pytest.raises(HostError, match="unsupported platform"):
        platform.open_tap(bytes.fromhex("02005e100001"))
    assert list(tmp_path.iterdir()) == []


def test_linux_draws_discovery_into_the_tap_or_leaves_it() -> None:
    network = MemoryNetwork()
    care: TapCare = LinuxTapCare("lan7", network, discovery=False)
    care.came_up()
    assert network.ours == []
    LinuxTapCare("lan7", network, discovery=True).came_up()
    assert network.ours == [HostRoute(destination, None, "lan7") for destination in DISCOVERY]


def test_on_linux_a_pin_that_is_there_holds() -> None:
    network = MemoryNetwork()
    care = LinuxTapCare("lan7", network, discovery=False)
    assert not care.pin_holds(PIN)
    network.add_route(PIN)
    assert care.pin_holds(PIN)
    assert care.other_way(PIN) is None
