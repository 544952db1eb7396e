"""How the client's process opens the TAP where that takes long."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from softlan.client import service
from softlan.client.platform import TapCare
from softlan.client.platform_linux import LinuxTapCare
from softlan.client.service import ClientConfig, open_tap, run_client
from softlan.client.session import Identity
from softlan.client.tunnel import TunnelConfig
from softlan.ctrl.messages import Role
from softlan.device.memory import MemoryDevice
from softlan.errors import HostError
from softlan.host.base import HostNetwork
from softlan.host.guard import HostGuard
from softlan.host.memory import MemoryNetwork
from softlan.net.address import parse_relay
from softlan.quic.trust import Trust

MAC = bytes.fromhex("02005e100001")
BOUND = 10.0
"""Seconds that a test waits for a condition at most."""


class Slow:
    """A `Platform` whose TAP is opened when `may_open` is set, or is not, because of `fault`."""

    IS_SLOW_TO_OPEN = True

    def __init__(self, directory: Path) -> None:
        self.network: HostNetwork = MemoryNetwork()
        self.guard = HostGuard(self.network, directory / "host.json")
        self.tap = MemoryDevice()
        self.began = asyncio.Event()
        self.may_open = threading.Event()
        self.fault: HostError | None = None
        self.thread: threading.Thread | None = None
        self.done: list[str] = []
        self._loop = asyncio.get_running_loop()

    def recover(self) -> list[str]:
        return []

    def open_tap(self, mac: bytes) -> tuple[MemoryDevice, TapCare]:
        assert mac == MAC
        self.thread = threading.current_thread()
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.may_open.wait(BOUND), "the loop stood still meanwhile"
        if self.fault is not None:
            raise self.fault
        self.done.append("opened")
        return self.tap, LinuxTapCare("memory0", self.network, discovery=False)

    def close(self) -> list[str]:
        self.done.append("closed")
        return []


@pytest.fixture
async def platform(tmp_path: Path) -> Slow:
    return Slow(tmp_path)


async def until(condition: asyncio.Event) -> None:
    await asyncio.wait_for(condition.wait(), BOUND)


async def test_the_loop_runs_on_while_a_tap_is_opened(platform: Slow) -> None:
    opening = asyncio.ensure_future(open_tap(platform, MAC))
    await until(platform.began)
    platform.may_open.set()
    tap, care = await opening
    assert tap is platform.tap
    assert care.interface == "memory0"
    assert platform.done == ["opened"]


async def test_one_that_is_opened_fast_is_opened_in_the_thread_whose_namespace_counts(platform: Slow) -> None:
    platform.IS_SLOW_TO_OPEN = False
    platform.may_open.set()
    assert (await open_tap(platform, MAC))[0] is platform.tap
    assert platform.thread is threading.current_thread()


async def test_what_fails_is_said(platform: Slow) -> None:
    platform.fault = HostError("open interface", "in use")
    platform.may_open.set()
    with pytest.raises(HostError, match=r"^in use$"):
        await open_tap(platform, MAC)


@pytest.mark.parametrize("fault", [None, HostError("open interface", "in use")])
async def test_what_was_opened_in_vain_is_given_back(platform: Slow, fault: HostError | None) -> None:
    platform.fault = fault
    opening = asyncio.ensure_future(open_tap(platform, MAC))
    await until(platform.began)
    opening.cancel()
    await asyncio.sleep(0)
    assert not opening.done(), "the thread still opens it"
    platform.may_open.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(opening, BOUND)
    assert platform.done == (["opened", "closed"] if fault is None else ["closed"])
    assert platform.tap.is_closed == (fault is None)


@pytest.mark.skipif(sys.platform == "win32", reason="by a signal")
async def test_a_stop_while_the_tap_is_opened_counts(
    platform: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "open_platform", lambda options, directory: platform)
    identity = Identity(Role.CLIENT, "DEN", MAC, "test")
    config = ClientConfig(TunnelConfig(parse_relay("127.0.0.1"), Trust("localhost"), identity, tmp_path))
    client = asyncio.ensure_future(run_client(config))
    await until(platform.began)
    os.kill(os.getpid(), signal.SIGINT)
    platform.may_open.set()
    await asyncio.wait_for(client, BOUND)
    assert platform.done == ["opened", "closed"]
    assert platform.tap.is_closed
    assert not platform.tap.is_up
