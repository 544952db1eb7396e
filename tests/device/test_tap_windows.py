import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
from tests.device.windows_fakes import ADAPTER, BOUND, KEY, FakeWindows

from softlan.device import overlapped
from softlan.device.base import DeviceGone, TapDevice
from softlan.device.overlapped import QUEUE, READS
from softlan.device.tap_windows import WAITING, WindowsTap
from softlan.device.win32 import ERROR_NOT_SUPPORTED
from softlan.errors import HostError
from softlan.proto.drop import DropReason

MAC = bytes.fromhex("02c0ffee0001")
FRAMES = [index.to_bytes(2, "big") * 40 for index in range(10_000)]


@pytest.fixture
def windows() -> FakeWindows:
    windows = FakeWindows()
    windows.registry.set_text(KEY, "NetworkAddress", MAC.hex())
    return FakeWindows(windows.registry)


@pytest.fixture
def mtus() -> list[int]:
    return []


@pytest.fixture
def tap(windows: FakeWindows, mtus: list[int]) -> Iterator[WindowsTap]:
    """An adapter that is up."""
    tap = open_tap(windows, mtus)
    try:
        tap.configure(MAC, 1400)
        tap.bring_up()
        windows.wait_for("pending", READS)
        yield tap
    finally:
        tap.close()
        assert windows.handles == {}


def open_tap(windows: FakeWindows, mtus: list[int]) -> WindowsTap:
    return WindowsTap.open(ADAPTER, MAC, mtus.append, kernel=windows, registry=windows.registry, manager=windows)


def wait_for(condition: Callable[[], bool]) -> None:
    """Without a turn of the loop."""
    until = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < until
        time.sleep(0)


async def turn_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND):
        while not condition():
            await asyncio.sleep(0)


async def until(condition: asyncio.Event) -> None:
    await asyncio.wait_for(condition.wait(), BOUND)


async def test_is_a_tap_device(windows: FakeWindows, mtus: list[int]) -> None:
    tap: TapDevice = open_tap(windows, mtus)
    tap.configure(MAC, 1400)
    assert mtus == [1400]
    assert windows.steps == ["open"]
    tap.bring_up()
    tap.bring_up()
    tap.set_mtu(1300)
    assert mtus == [1400, 1300]
    tap.close()
    tap.close()
    assert windows.steps == ["open", "connect", "disconnect", "close"]
    assert windows.handles == {}


def test_knows_what_the_driver_says(tap: WindowsTap) -> None:
    assert (tap.name, tap.mac, tap.version, tap.driver_mtu) == ("Ethernet 3", MAC, (9, 27, 0), 1500)


def test_an_adapter_with_another_address_is_restarted(mtus: list[int]) -> None:
    windows = FakeWindows()
    tap = open_tap(windows, mtus)
    assert tap.mac == MAC
    assert "disable" in windows.steps
    tap.close()
    assert windows.handles == {}


def test_may_be_closed_before_it_was_up(windows: FakeWindows, mtus: list[int]) -> None:
    open_tap(windows, mtus).close()
    assert windows.handles == {}
    assert windows.steps == ["open", "disconnect", "close"]


def test_is_not_configured_with_another_address_than_it_was_opened_with(tap: WindowsTap, mtus: list[int]) -> None:
    with pytest.raises(HostError, match=r"^Ethernet 3 was opened as 02:c0:ff:ee:00:01, not as 02:c0:ff:ee:00:02$"):
        tap.configure(MAC[:5] + b"\2", 1300)
    assert mtus == [1400]


def test_a_driver_of_another_kind_is_said_and_not_kept_open(windows: FakeWindows, mtus: list[int]) -> None:
    windows.controls_left = 2  # it is asked for its address twice
    with pytest.raises(HostError, match=r"does not answer as TAP-Windows6 does \(error 50\)$"):
        open_tap(windows, mtus)
    assert windows.handles == {}


def test_a_medium_that_cannot_be_connected_is_said(windows: FakeWindows, mtus: list[int]) -> None:
    tap = open_tap(windows, mtus)
    windows.control_error = ERROR_NOT_SUPPORTED
    with pytest.raises(HostError, match=r"the driver does not connect its medium \(error 50\)$"):
        tap.bring_up()
    tap.close()
    assert windows.handles == {}


def test_too_few_events_are_said(windows: FakeWindows, mtus: list[int]) -> None:
    tap = open_tap(windows, mtus)
    windows.event_limit = 3
    with pytest.raises(HostError, match=r"^Ethernet 3: cannot create an event$"):
        tap.bring_up()
    tap.close()
    assert windows.handles == {}


async def test_frames_that_the_machine_sends_are_read_in_order(windows: FakeWindows, tap: WindowsTap) -> None:
    frames: list[bytes] = []
    bursts: list[int] = []
    done = asyncio.Event()

    def read() -> None:
        burst = tap.read_burst(64)
        bursts.append(len(burst))
        frames.extend(burst)
        if len(frames) >= len(FRAMES):
            done.set()

    tap.attach(asyncio.get_running_loop(), read)
    for start in range(0, len(FRAMES), 1000):
        windows.send(*FRAMES[start : start + 1000])
        await turn_until(lambda start=start: len(frames) >= start)  # type: ignore[misc]
    await until(done)
    assert frames == FRAMES
    assert max(bursts) <= 64
    assert (tap.counters.frames_in, tap.counters.reads, tap.counters.drops) == (10_000, 10_000, {})


async def test_the_loop_is_woken_once_for_a_burst(windows: FakeWindows, tap: WindowsTap) -> None:
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    done = asyncio.Event()

    def read() -> None:
        calls.append(len(tap.read_burst(64)))
        if sum(calls) == 40:
            done.set()

    tap.attach(loop, read)
    windows.send(*FRAMES[:40])
    wait_for(lambda: tap.counters.reads == 40)
    await until(done)
    assert [call for call in calls if call] == [40]
    assert len(calls) <= 2


async def test_what_came_before_anyone_listened_is_told(windows: FakeWindows, tap: WindowsTap) -> None:
    windows.send(*FRAMES[:3])
    wait_for(lambda: tap.counters.reads == 3)
    done = asyncio.Event()
    tap.attach(asyncio.get_running_loop(), lambda: done.set() if tap.read_burst(2) == FRAMES[2:3] else None)
    await until(done)


async def test_says_nothing_once_detached(windows: FakeWindows, tap: WindowsTap) -> None:
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    tap.attach(loop, lambda: calls.append(1))
    windows.send(FRAMES[0])
    wait_for(lambda: tap.counters.reads == 1)
    tap.detach()
    after = asyncio.Event()
    loop.call_soon(loop.call_soon, after.set)
    await until(after)
    assert calls == []
    assert tap.read_burst() == FRAMES[:1]


async def test_what_nobody_reads_is_lost_from_the_end_and_counted(windows: FakeWindows, tap: WindowsTap) -> None:
    windows.send(*FRAMES[: WAITING + 100])
    await turn_until(lambda: tap.counters.drops.get(DropReason.QUEUE_FULL, 0) >= 100)
    assert tap.read_burst(WAITING + 200) == FRAMES[:WAITING]
    assert tap.counters.drops == {DropReason.QUEUE_FULL: 100}


async def test_the_machine_receives_what_is_written_in_order(windows: FakeWindows, tap: WindowsTap) -> None:
    sent = 0
    while sent < len(FRAMES):
        sent += tap.write_burst(FRAMES[sent : sent + 64])
        await asyncio.sleep(0)
        tap.counters.drops.clear()  # this test is not paced, and tries again
    windows.wait_for("written", len(FRAMES))
    assert windows.written == FRAMES
    tap.close()
    assert (tap.counters.writes, tap.counters.frames_out) == (10_000, 10_000)


async def test_writing_does_not_wait_for_the_driver(windows: FakeWindows, tap: WindowsTap) -> None:
    windows.holds_writes = True
    assert tap.write_burst(FRAMES[:QUEUE]) == QUEUE
    assert tap.write_burst(FRAMES[:10]) == 0
    assert tap.counters.drops == {DropReason.QUEUE_FULL: 10}


async def test_frames_that_the_driver_refuses_are_counted_in_the_loops_time(
    windows: FakeWindows, tap: WindowsTap
) -> None:
    tap.attach(asyncio.get_running_loop(), lambda: None)
    assert tap.write_burst([bytes(13), FRAMES[0], b""]) == 3
    windows.wait_for("written", 1)
    await turn_until(lambda: bool(tap.counters.drops))
    assert tap.counters.drops == {DropReason.DEVICE_ERROR: 2}
    assert tap.counters.last_error == "write on Ethernet 3: Windows error 122"
    assert windows.written == FRAMES[:1]


async def test_says_when_the_adapter_is_removed_after_the_last_frame_was_read(
    windows: FakeWindows, tap: WindowsTap
) -> None:
    frames: list[bytes] = []
    gone = asyncio.get_running_loop().create_future()

    def read() -> None:
        try:
            frames.extend(tap.read_burst(1))
        except DeviceGone as error:
            tap.detach()
            gone.set_result(str(error))

    windows.send(*FRAMES[:3])
    wait_for(lambda: tap.counters.reads == 3)
    tap.attach(asyncio.get_running_loop(), read)
    windows.remove()
    told = await asyncio.wait_for(gone, BOUND)
    assert told == "the adapter Ethernet 3 is gone: disabled or removed (Windows error 995)"
    assert frames == FRAMES[:3]
    assert tap.counters.drops == {}, "reads that were taken back are no frames"
    for use in (tap.read_burst, lambda: tap.write_burst(FRAMES[:1]), lambda: tap.set_mtu(1300), tap.bring_up):
        with pytest.raises(DeviceGone):
            use()


async def test_says_so_of_one_that_is_removed_in_its_sleep_but_not_of_one_that_sleeps(
    windows: FakeWindows, tap: WindowsTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlapped, "RETRY_INTERVAL", 1)
    monkeypatch.setattr(overlapped, "RETRIES", 1_000_000)
    windows.fall_asleep_with(FRAMES[:READS])
    windows.steps.clear()
    wait_for(lambda: windows.steps.count("open") >= 3)
    assert tap.read_burst() == FRAMES[:READS]
    windows.remove()
    with pytest.raises(DeviceGone, match=r"^the adapter Ethernet 3 is gone"):
        wait_for(lambda: tap.read_burst() != [])
    assert tap.counters.drops == {}


async def test_may_be_closed_while_frames_come(windows: FakeWindows, mtus: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(20):
        tap = open_tap(windows, mtus)
        tap.bring_up()
        tap.attach(loop, lambda: None)
        windows.send(*FRAMES[:50])
        tap.write_burst(FRAMES[:50])
        tap.close()
        assert windows.handles == {}
        with pytest.raises(DeviceGone, match=r"^the adapter Ethernet 3 is closed$"):
            tap.read_burst()


def test_a_loop_that_was_closed_is_no_concern(windows: FakeWindows, tap: WindowsTap) -> None:
    loop = asyncio.new_event_loop()
    tap.attach(loop, lambda: None)
    loop.close()
    windows.send(*FRAMES[:3])
    wait_for(lambda: tap.counters.reads == 3)
    tap.attach(loop, lambda: None)
    assert tap.read_burst() == FRAMES[:3]
