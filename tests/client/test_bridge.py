"""Frames between a device and the tunnel, and the books that are kept of them."""

import asyncio
from typing import Any

import pytest
import structlog
from tests.support.virtual_room import LAN_HOST, frame

from softlan.client.bridge import BURST, FULL_BURST, Bridge
from softlan.device.base import DeviceGone
from softlan.device.memory import MemoryDevice
from softlan.obs.counters import TrafficCounters
from softlan.proto.drop import DropReason

PLAYER = bytes.fromhex("02005e100001")


class Side:
    """A bridge, its device, and what it does with both."""

    def __init__(self) -> None:
        self.device = MemoryDevice()
        self.counters = TrafficCounters()
        self.gone: list[DeviceGone] = []
        self.bursts: list[list[bytes]] = []
        self.express: list[bool] = []
        self.bridge = Bridge(self.device, self.counters, self.gone.append)
        self.bridge.send = self.send

    def send(self, frames: list[bytes], express: bool) -> None:
        self.bursts.append(frames)
        self.express.append(express)

    @property
    def sent(self) -> list[bytes]:
        return [frame for burst in self.bursts for frame in burst]


async def until(condition: Any) -> None:
    async with asyncio.timeout(1):
        while not condition():
            await asyncio.sleep(0)


def frames(count: int) -> list[bytes]:
    return [frame(LAN_HOST, PLAYER, b"%d" % number) for number in range(count)]


async def test_what_is_there_goes_in_bursts_and_in_order() -> None:
    side = Side()
    side.device.inject(*frames(3 * BURST + 1))
    side.bridge.start(asyncio.get_running_loop())
    await until(lambda: len(side.sent) == 3 * BURST + 1)
    assert [len(burst) for burst in side.bursts] == [BURST, BURST, BURST, 1]
    assert side.sent == frames(3 * BURST + 1)


@pytest.mark.parametrize("waiting", [0, 1, FULL_BURST - 1, FULL_BURST])
def test_the_loop_hears_how_many_frames_there_were_or_that_there_may_be_more(waiting: int) -> None:
    side = Side()
    side.device.inject(*frames(waiting))
    assert side.bridge._readable() == (-waiting if waiting == FULL_BURST else waiting)
    assert len(side.sent) == waiting


@pytest.mark.parametrize("express", [False, True])
async def test_a_burst_is_what_the_device_says_of_it(express: bool) -> None:
    side = Side()
    side.device.express = express
    side.device.inject(*frames(BURST + 1))
    side.bridge.start(asyncio.get_running_loop())
    await until(lambda: len(side.sent) == BURST + 1)
    assert side.express == [express, express]


async def test_nothing_is_read_before_the_start_or_after_the_end() -> None:
    side = Side()
    side.device.inject(*frames(1))
    await asyncio.sleep(0)
    side.bridge.start(asyncio.get_running_loop())
    await until(lambda: side.bursts)
    side.bridge.stop()
    side.device.inject(*frames(1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(side.sent) == 1


def test_a_burst_from_the_tunnel_is_one_write() -> None:
    side = Side()
    side.bridge.deliver(frames(10))
    assert (side.device.written, side.device.counters.writes) == (frames(10), 1)


def test_what_the_device_does_not_take_is_counted_there() -> None:
    side = Side()
    side.device.space = 4
    side.bridge.deliver(frames(10))
    assert side.device.counters.drops == {DropReason.QUEUE_FULL: 6}
    assert side.gone == []


async def test_a_device_that_is_gone_is_told_and_read_no_more() -> None:
    side = Side()
    side.bridge.start(asyncio.get_running_loop())
    side.device.vanish()
    await until(lambda: side.gone)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(side.gone) == 1, "a device that is gone stays readable"
    side.bridge.deliver(frames(1))
    assert len(side.gone) == 2


@pytest.fixture
def lines() -> Any:
    with structlog.testing.capture_logs() as captured:
        yield captured


def test_drops_are_reported_now_and_then_and_only_what_is_new(lines: list[dict[str, object]]) -> None:
    side = Side()
    side.bridge.report(100.0)
    assert lines == []
    side.counters.drop(DropReason.JUMBO, 3)
    side.device.counters.drop(DropReason.QUEUE_FULL)
    side.bridge.report(109.9)
    assert lines == [], "not before ten seconds are over"
    side.bridge.report(110.0)
    side.counters.drop(DropReason.JUMBO)
    side.bridge.report(120.0)
    side.bridge.report(130.0)
    assert [{k: v for k, v in line.items() if k in ("jumbo", "queue_full")} for line in lines] == [
        {"jumbo": 3, "queue_full": 1},
        {"jumbo": 1},
    ]


def test_a_complaint_of_the_systems_is_told_once(lines: list[dict[str, object]]) -> None:
    side = Side()
    for now, complaint in (
        (0.0, ""),
        (10.0, "write on lan0: No buffer space"),
        (20.0, "write on lan0: No buffer space"),
    ):
        side.device.counters.last_error = complaint
        side.bridge.report(now)
    assert [(line["event"], line["log_level"], line["says"]) for line in lines] == [
        ("device", "info", "write on lan0: No buffer space")
    ]
    side.device.counters.last_error = "write on lan0: Network is down"
    side.bridge.report(30.0)
    assert lines[1]["says"] == "write on lan0: Network is down"


def test_the_same_reason_on_both_sides_is_added_up(lines: list[dict[str, object]]) -> None:
    side = Side()
    side.counters.drop(DropReason.RUNT, 2)
    side.device.counters.drop(DropReason.RUNT, 3)
    side.bridge.report(0.0)
    assert lines[0]["runt"] == 5
