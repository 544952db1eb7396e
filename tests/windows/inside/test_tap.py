"""The TAP device against the driver's stand-in: frames both ways, and every way in which that can end."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from tests.windows.inside.bench import TAP, Adapter, End, frame, number_of

from softlan.device.base import DeviceGone
from softlan.device.overlapped import READS
from softlan.device.tap_adapters import adapters, choose
from softlan.device.tap_windows import WindowsTap
from softlan.device.win32 import Win32Kernel
from softlan.errors import HostError
from softlan.proto.drop import DropReason

MAC = bytes.fromhex("025e10000001")
PATIENCE = 30.0  # seconds, for a machine that is busy with other things
BURST = 10_000


class Reader:
    """Takes what the device has, as a bridge does, and remembers it."""

    def __init__(self, tap: WindowsTap) -> None:
        self._tap = tap
        self._news = asyncio.Event()
        self.frames: list[bytes] = []
        self.gone: DeviceGone | None = None
        tap.attach(asyncio.get_running_loop(), self._on_readable)

    def _on_readable(self) -> None:
        try:
            self.frames += self._tap.read_burst()
        except DeviceGone as gone:
            self.gone = gone
            self._tap.detach()
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for news until `condition` holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self._news.wait()
                self._news.clear()

    async def has(self, count: int) -> None:
        """Wait for so many frames."""
        await self.until(lambda: len(self.frames) >= count)


async def driver_has(tap: WindowsTap, count: int) -> None:
    """Wait until the driver has taken so many frames."""
    await eventually(lambda: tap.counters.frames_out >= count)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def tap(adapter: Adapter) -> AsyncIterator[WindowsTap]:
    """The device, up."""
    tap = await asyncio.to_thread(WindowsTap.open, choose(adapters()), MAC, lambda mtu: None)
    try:
        tap.configure(MAC, 1418)
        tap.bring_up()
        yield tap
    finally:
        tap.close()


async def test_it_knows_its_driver(tap: WindowsTap) -> None:
    assert (tap.mac, tap.version, tap.driver_mtu) == (MAC, (9, 27, 0), 1500)


async def test_the_medium_follows_the_device(adapter: Adapter) -> None:
    tap = await asyncio.to_thread(WindowsTap.open, choose(adapters()), MAC, lambda mtu: None)
    assert (adapter.state().opened, adapter.state().media) == (True, False)
    tap.bring_up()
    assert adapter.state().media
    tap.close()
    assert (adapter.state().opened, adapter.state().media) == (False, False)
    tap.close()  # nothing the second time


async def test_frames_go_both_ways(tap: WindowsTap, stack: End) -> None:
    reader = Reader(tap)
    assert stack.write(frame(1)) == 0
    await reader.until(lambda: reader.frames)
    assert reader.frames == [frame(1)]
    assert tap.write_burst([frame(2), frame(3, 1514)]) == 2
    assert [await asyncio.to_thread(stack.read) for _ in range(2)] == [frame(2), frame(3, 1514)]


async def test_frames_that_came_before_anyone_listened_are_there(tap: WindowsTap, stack: End) -> None:
    for number in range(100):
        assert stack.write(frame(number)) == 0
    reader = Reader(tap)
    await reader.has(100)
    assert reader.frames == [frame(number) for number in range(100)]


async def test_short_and_long_writes_are_counted_and_the_others_pass(tap: WindowsTap, stack: End) -> None:
    Reader(tap)
    runt, tiny, giant = b"\x02" * 13, frame(4)[:14], frame(5, 1519)
    assert tap.write_burst([runt, tiny, giant, frame(6)]) == 4  # the driver's word on them comes later
    assert await asyncio.to_thread(stack.read) == tiny.ljust(60, b"\0")
    assert await asyncio.to_thread(stack.read) == frame(6)
    await eventually(lambda: tap.counters.drops.get(DropReason.DEVICE_ERROR) == 2)
    assert tap.counters.frames_out == 2
    assert "Windows error 87" in tap.counters.last_error


async def test_a_burst_to_the_lan_loses_and_reorders_nothing(tap: WindowsTap, stack: End, adapter: Adapter) -> None:
    reader = Reader(tap)
    frames = [frame(number, 60 + number % 1455) for number in range(BURST)]

    def play(burst: list[bytes]) -> list[int]:
        return [stack.write(one) for one in burst]

    for sent in range(0, BURST, 1000):  # this process plays Windows as well, and its loop does not always keep up
        await reader.has(sent - 1000)
        assert not any(await asyncio.to_thread(play, frames[sent : sent + 1000]))
    await reader.has(BURST)
    assert reader.frames == frames
    assert not tap.counters.drops
    assert adapter.state().dropped == 0


async def test_a_burst_from_the_lan_loses_and_reorders_nothing(tap: WindowsTap, stack: End, adapter: Adapter) -> None:
    Reader(tap)
    received: list[bytes] = []

    def play() -> None:
        received.extend(stack.read() for _ in range(BURST))

    listener = threading.Thread(target=play, daemon=True)
    listener.start()
    frames = [frame(number, 60 + number % 1455) for number in range(BURST)]
    for sent in range(0, BURST, 64):  # as a tunnel delivers them; what the queue has no room for would be lost
        await driver_has(tap, sent - 512)
        burst = frames[sent : sent + 64]
        assert tap.write_burst(burst) == len(burst)
    await asyncio.to_thread(listener.join, PATIENCE)
    assert [number_of(one) for one in received] == list(range(BURST))
    assert received == frames
    assert not tap.counters.drops
    assert adapter.state().dropped == 0


async def test_both_directions_at_once(tap: WindowsTap, stack: End) -> None:
    """A read that waits must not hold up a write, nor the other way round."""
    reader = Reader(tap)
    for number in range(200):
        assert tap.write_burst([frame(number)]) == 1
        assert await asyncio.to_thread(stack.read) == frame(number)
        assert stack.write(frame(1000 + number)) == 0
        await reader.has(number + 1)
    assert [number_of(one) for one in reader.frames] == list(range(1000, 1200))


async def test_more_than_the_queue_holds_is_refused_and_counted(tap: WindowsTap, stack: End) -> None:
    Reader(tap)
    taken = tap.write_burst([frame(number) for number in range(3000)])
    assert 1000 <= taken < 3000
    assert tap.counters.drops == {DropReason.QUEUE_FULL: 3000 - taken}
    for number in range(taken):
        assert number_of(await asyncio.to_thread(stack.read)) == number


async def test_a_device_that_waits_for_frames_closes_at_once(tap: WindowsTap, adapter: Adapter) -> None:
    """Its pending reads are cancelled and given back: none is left behind in the driver."""
    Reader(tap)
    await asyncio.wait_for(asyncio.to_thread(tap.close), 5)
    assert not adapter.state().opened
    assert not [thread for thread in threading.enumerate() if "tap" in thread.name]
    with pytest.raises(DeviceGone, match="is closed"):
        tap.write_burst([frame(1)])


async def test_it_can_be_opened_again_and_again(adapter: Adapter, stack: End) -> None:
    for number in range(5):
        tap = await asyncio.to_thread(WindowsTap.open, choose(adapters()), MAC, lambda mtu: None)
        with contextlib.closing(tap):
            tap.bring_up()
            assert tap.write_burst([frame(number)]) == 1
            assert await asyncio.to_thread(stack.read) == frame(number)


@pytest.mark.parametrize("quiet", [True, False])
async def test_removal_is_noticed(tap: WindowsTap, stack: End, adapter: Adapter, quiet: bool) -> None:
    reader = Reader(tap)
    if not quiet:
        for number in range(50):
            stack.write(frame(number))
        await reader.has(50)
    assert adapter.state().reading == READS  # a device that waits for frames learns it at once
    adapter.remove()
    await reader.until(lambda: reader.gone)
    assert "is gone: disabled or removed" in str(reader.gone)
    with pytest.raises(DeviceGone):
        tap.write_burst([frame(1)])
    await asyncio.wait_for(asyncio.to_thread(tap.close), 5)
    assert not adapter.state().opened  # else the driver could not unload


async def test_a_medium_that_somebody_switched_off_counts_as_removal(tap: WindowsTap, adapter: Adapter) -> None:
    reader = Reader(tap)
    adapter.remove()
    adapter.insert()
    await reader.until(lambda: reader.gone)


async def test_without_the_adapter_it_says_how_to_get_it_back(adapter: Adapter) -> None:
    found = choose(adapters())
    adapter.remove()
    with pytest.raises(HostError, match=r"Ethernet 7 is not running: enable it"):
        await asyncio.to_thread(WindowsTap.open, found, MAC, lambda mtu: None)


async def test_an_adapter_that_somebody_else_uses_is_left_to_them(kernel: Win32Kernel, adapter: Adapter) -> None:
    with End(kernel, TAP), pytest.raises(HostError, match=r"error 31|another program"):
        await asyncio.to_thread(WindowsTap.open, choose(adapters()), MAC, lambda mtu: None)


async def test_it_tells_an_old_driver(adapter: Adapter) -> None:
    adapter.claim_version(9, 24)
    tap = await asyncio.to_thread(WindowsTap.open, choose(adapters()), MAC, lambda mtu: None)
    with contextlib.closing(tap):
        assert tap.version[:2] == (9, 24)
