import asyncio

import pytest

from softlan.device.base import DeviceGone, TapDevice
from softlan.device.memory import MemoryDevice
from softlan.proto.drop import DropReason

FRAMES = [bytes([index]) * 60 for index in range(5)]


def test_is_a_tap_device() -> None:
    tap: TapDevice = MemoryDevice("tap0")
    tap.configure(b"\x02" * 6, 1400)
    tap.set_mtu(1300)
    tap.bring_up()
    assert (tap.name, tap.mac, tap.mtu, tap.is_up) == ("tap0", b"\x02" * 6, 1300, True)  # type: ignore[attr-defined]


def test_reads_what_was_injected_in_order_and_no_more_than_the_limit() -> None:
    device = MemoryDevice()
    device.inject(*FRAMES)
    assert device.read_burst(3) == FRAMES[:3]
    assert device.read_burst(3) == FRAMES[3:]
    assert device.read_burst(3) == []
    assert (device.counters.reads, device.counters.frames_in) == (3, 5)


def test_refuses_what_it_has_no_space_for() -> None:
    device = MemoryDevice()
    device.space = 3
    assert device.write_burst(FRAMES[:2]) == 2
    assert device.write_burst(FRAMES[2:]) == 1
    assert device.written == FRAMES[:3]
    assert device.counters.drops == {DropReason.QUEUE_FULL: 2}
    assert (device.counters.writes, device.counters.frames_out) == (2, 3)


async def test_calls_for_as_long_as_there_are_frames() -> None:
    device = MemoryDevice()
    loop = asyncio.get_running_loop()
    bursts: list[list[bytes]] = []
    done = asyncio.Event()

    def read() -> None:
        bursts.append(device.read_burst(2))
        if sum(map(len, bursts)) == 5:
            done.set()

    device.inject(FRAMES[0])
    device.attach(loop, read)
    device.inject(*FRAMES[1:])
    await asyncio.wait_for(done.wait(), 5)
    assert bursts == [FRAMES[:2], FRAMES[2:4], FRAMES[4:]]


async def test_does_not_call_once_detached() -> None:
    device = MemoryDevice()
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    device.attach(loop, lambda: calls.append(1))
    device.inject(FRAMES[0])
    device.detach()
    after = asyncio.Event()
    loop.call_soon(loop.call_soon, after.set)
    await after.wait()
    assert calls == []
    assert device.read_burst() == FRAMES[:1]


async def test_wakes_who_waits_for_written_frames() -> None:
    device = MemoryDevice()
    waiting = asyncio.ensure_future(device.wait_written(2))
    asyncio.get_running_loop().call_soon(device.write_burst, FRAMES[:1])
    asyncio.get_running_loop().call_soon(device.write_burst, FRAMES[1:2])
    assert await asyncio.wait_for(waiting, 5) == FRAMES[:2]


async def test_says_when_it_is_gone() -> None:
    device = MemoryDevice()
    found = asyncio.get_running_loop().create_future()

    def read() -> None:
        device.detach()
        with pytest.raises(DeviceGone, match="memory0 is gone") as caught:
            device.read_burst()
        found.set_result(caught.value.stage)

    device.attach(asyncio.get_running_loop(), read)
    device.vanish()
    assert await asyncio.wait_for(found, 5) == "use interface"
    with pytest.raises(DeviceGone):
        device.write_burst(FRAMES)


def test_is_gone_once_closed() -> None:
    device = MemoryDevice()
    device.close()
    device.close()
    with pytest.raises(DeviceGone):
        device.read_burst()
