import gc
import threading
from collections.abc import Callable

import pytest
from tests.device.windows_fakes import ADAPTER, BOUND, FakeWindows

from softlan.device import overlapped
from softlan.device.overlapped import QUEUE, READ_SIZE, READS, WRITES, FramePump
from softlan.device.win32 import (
    ERROR_FILE_NOT_FOUND,
    ERROR_INSUFFICIENT_BUFFER,
    ERROR_INVALID_PARAMETER,
    ERROR_OPERATION_ABORTED,
    TAP_WIN_IOCTL_SET_MEDIA_STATUS,
    Operation,
)

FRAMES = [index.to_bytes(2, "big") * 40 for index in range(10_000)]


class Sink:
    """Keeps what it is told; `wait` for it."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.calls = 0
        self.sent = 0
        self.errors: list[int] = []
        self.ends: list[int | str] = []
        self._changed = threading.Condition()

    def arrived(self, frames: list[bytes], calls: int) -> None:
        with self._changed:
            self.frames += frames
            self.calls += calls
            self._changed.notify_all()

    def written(self, sent: int, errors: list[int]) -> None:
        with self._changed:
            self.sent += sent
            self.errors += errors
            self._changed.notify_all()

    def ended(self, error: int | str) -> None:
        with self._changed:
            self.ends.append(error)
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, BOUND), vars(self)


class Bench:
    """A pump on the fake driver, with its medium connected."""

    def __init__(self, windows: FakeWindows) -> None:
        self.windows = windows
        self.sink = Sink()
        self.goodbyes: list[bool] = []
        self.handle, error = windows.open(ADAPTER.path)
        assert error == 0
        windows.control(self.handle, TAP_WIN_IOCTL_SET_MEDIA_STATUS, b"\1\0\0\0", 4)
        self.before = set(threading.enumerate())
        self.pump = FramePump(
            windows,
            self.handle,
            self.sink,
            "bench",
            lambda _: self.goodbyes.append(windows.is_connected),
            lambda: windows.open(ADAPTER.path)[1] != ERROR_FILE_NOT_FOUND,
        )

    def start(self) -> "Bench":
        self.pump.start()
        return self

    @property
    def threads(self) -> set[threading.Thread]:
        return set(threading.enumerate()) - self.before

    def wait_end(self) -> None:
        for thread in self.threads:
            thread.join(BOUND)
        assert not self.threads


@pytest.fixture
def windows() -> FakeWindows:
    return FakeWindows()


def test_several_reads_wait_for_frames(windows: FakeWindows) -> None:
    bench = Bench(windows).start()
    windows.wait_for("pending", READS)
    windows.send(*FRAMES[:3])
    bench.sink.wait(lambda: len(bench.sink.frames) == 3)
    windows.wait_for("pending", READS)
    assert bench.sink.frames == FRAMES[:3]
    bench.pump.stop()


def test_no_frame_is_lost_or_reordered_on_its_way_in(windows: FakeWindows) -> None:
    bench = Bench(windows).start()
    for start in range(0, len(FRAMES), 100):
        windows.send(*FRAMES[start : start + 100])
    bench.sink.wait(lambda: len(bench.sink.frames) >= len(FRAMES))
    assert bench.sink.frames == FRAMES
    assert bench.sink.calls == len(FRAMES)
    bench.pump.stop()


def test_no_frame_is_lost_or_reordered_on_its_way_out(windows: FakeWindows) -> None:
    bench = Bench(windows).start()
    for start in range(0, len(FRAMES), 100):
        bench.sink.wait(lambda start=start: bench.sink.sent >= start - 500)  # type: ignore[misc]
        assert bench.pump.put(FRAMES[start : start + 100]) == 100
    bench.sink.wait(lambda: bench.sink.sent == len(FRAMES))
    assert windows.written == FRAMES
    bench.pump.stop()


def test_several_writes_are_in_flight_and_end_in_order(windows: FakeWindows) -> None:
    windows.holds_writes = True
    bench = Bench(windows).start()
    count = WRITES + 8
    assert bench.pump.put(FRAMES[:count]) == count
    windows.wait_for("held", WRITES)
    gc.collect()
    windows.release(8)
    windows.wait_for("held", WRITES)
    assert windows.written == FRAMES[:8]
    windows.release(WRITES)
    bench.sink.wait(lambda: bench.sink.sent == count)
    assert windows.written == FRAMES[:count]
    bench.pump.stop()
    assert windows.handles == {}


def test_the_queue_of_frames_to_write_is_bounded(windows: FakeWindows) -> None:
    windows.holds_writes = True
    bench = Bench(windows).start()
    assert bench.pump.put(FRAMES[: QUEUE - 1]) == QUEUE - 1
    assert bench.pump.put(FRAMES[QUEUE - 1 : QUEUE + 4]) == 1
    assert bench.pump.put(FRAMES[:1]) == 0
    windows.wait_for("held", WRITES)
    windows.holds_writes = False
    windows.release(WRITES)
    bench.sink.wait(lambda: bench.sink.sent == QUEUE)
    assert windows.written == FRAMES[:QUEUE]
    assert bench.pump.put(FRAMES[:5]) == 5
    bench.pump.stop()


def test_a_frame_that_the_driver_refuses_costs_only_itself(windows: FakeWindows) -> None:
    windows.holds_writes = True
    bench = Bench(windows).start()
    bench.pump.put([FRAMES[0], b"short", FRAMES[1], FRAMES[2]])
    windows.wait_for("held", 3)
    windows.release()
    windows.release(error=ERROR_INVALID_PARAMETER)
    windows.release()
    bench.sink.wait(lambda: bench.sink.sent == 2)
    assert windows.written == [FRAMES[0], FRAMES[2]]
    assert bench.sink.errors == [ERROR_INSUFFICIENT_BUFFER, ERROR_INVALID_PARAMETER]
    assert bench.sink.ends == []
    bench.pump.stop()


def test_a_frame_larger_than_its_buffer_is_missing_from_what_arrived(windows: FakeWindows) -> None:
    bench = Bench(windows).start()
    windows.wait_for("pending", READS)
    windows.send(FRAMES[0], bytes(READ_SIZE + 1), bytes(READ_SIZE), FRAMES[1])
    bench.sink.wait(lambda: bench.sink.calls == 4)
    assert bench.sink.frames == [FRAMES[0], bytes(READ_SIZE), FRAMES[1]]
    bench.pump.stop()


@pytest.mark.parametrize("holds_writes", [False, True])
def test_stopping_takes_everything_back_and_closes_the_handle(windows: FakeWindows, holds_writes: bool) -> None:
    windows.holds_writes = holds_writes
    bench = Bench(windows).start()
    bench.pump.put(FRAMES[:10])
    windows.wait_for("held" if holds_writes else "written", 10)
    windows.wait_for("pending", READS)
    bench.pump.stop()
    assert not bench.threads
    assert windows.handles == {}
    assert windows.pending == 0
    assert bench.goodbyes == [True]  # while the handle was open
    assert bench.sink.ends == []
    bench.pump.stop()


def test_a_device_that_is_removed_ends_it_once_and_leaves_nothing_open(windows: FakeWindows) -> None:
    windows.holds_writes = True
    bench = Bench(windows).start()
    bench.pump.put(FRAMES[:10])
    windows.wait_for("held", 10)
    windows.wait_for("pending", READS)
    windows.remove()
    bench.wait_end()
    assert bench.sink.ends == [ERROR_OPERATION_ABORTED]
    assert bench.sink.calls == 0, "a read that was taken back is no frame"
    assert windows.handles == {}
    assert bench.goodbyes == []
    bench.pump.stop()


def test_an_adapter_that_sleeps_and_wakes_goes_on(windows: FakeWindows) -> None:
    bench = Bench(windows).start()
    windows.wait_for("pending", READS)
    windows.send(FRAMES[0])
    bench.sink.wait(lambda: len(bench.sink.frames) == 1)
    windows.wait_for("pending", READS)
    windows.fall_asleep_with(FRAMES[1:4])
    bench.pump.put(FRAMES[:3])
    bench.sink.wait(lambda: len(bench.sink.frames) == 4 and len(bench.sink.errors) == 3)
    assert bench.sink.errors == [ERROR_OPERATION_ABORTED] * 3
    assert windows.pending == READS - 3
    windows.is_asleep = False
    windows.wait_for("pending", READS)
    bench.pump.put(FRAMES[3:4])
    windows.send(*FRAMES[4:200])
    bench.sink.wait(lambda: len(bench.sink.frames) == 200 and bench.sink.sent == 1)
    assert bench.sink.frames == FRAMES[:200]
    assert windows.written == FRAMES[3:4]
    assert bench.sink.ends == []
    bench.pump.stop()
    assert windows.handles == {}


@pytest.mark.parametrize("wakes", [True, False])
def test_even_if_no_read_was_left_to_wait(windows: FakeWindows, monkeypatch: pytest.MonkeyPatch, wakes: bool) -> None:
    monkeypatch.setattr(overlapped, "RETRY_INTERVAL", 1)
    monkeypatch.setattr(overlapped, "RETRIES", 1_000_000 if wakes else 3)
    bench = Bench(windows).start()
    windows.wait_for("pending", READS)
    windows.fall_asleep_with(FRAMES[:READS])
    bench.sink.wait(lambda: len(bench.sink.frames) == READS)
    if wakes:
        windows.is_asleep = False
        windows.wait_for("pending", READS)
        bench.pump.stop()
        assert bench.sink.ends == []
    else:
        bench.wait_end()
        assert bench.sink.ends == [ERROR_OPERATION_ABORTED]
    assert windows.handles == {}


def test_a_device_that_is_removed_in_its_sleep_ends_it_soon(
    windows: FakeWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlapped, "RETRY_INTERVAL", 1)
    monkeypatch.setattr(overlapped, "RETRIES", 1_000_000)
    bench = Bench(windows).start()
    windows.wait_for("pending", READS)
    windows.fall_asleep_with(FRAMES[:READS])
    bench.sink.wait(lambda: len(bench.sink.frames) == READS)
    windows.remove()
    bench.wait_end()
    assert bench.sink.ends == [ERROR_OPERATION_ABORTED]
    assert windows.handles == {}


def test_a_medium_that_is_not_connected_ends_it(windows: FakeWindows) -> None:
    bench = Bench(windows)
    windows.is_connected = False
    bench.start().wait_end()
    assert bench.sink.ends == [ERROR_OPERATION_ABORTED]
    assert windows.handles == {}


def test_a_driver_that_keeps_what_was_cancelled_can_go_on_writing_into_it(
    windows: FakeWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Operation] = []
    monkeypatch.setattr(overlapped, "_abandoned", kept)
    windows.is_stuck = True
    bench = Bench(windows).start()
    windows.wait_for("pending", READS)
    bench.pump.stop()
    del bench
    gc.collect()
    assert windows.handles == {}
    assert len(kept) == READS
    windows.send(*FRAMES[:READS])  # fails for an operation that is gone
    assert {operation.buffer.raw[:80] for operation in kept} == set(FRAMES[:READS])


def test_a_fault_in_a_thread_is_reported(windows: FakeWindows) -> None:
    windows.wait_fault = OSError(6, "cannot wait for an event")
    bench = Bench(windows).start()
    bench.wait_end()
    assert bench.sink.ends == ["OSError: [Errno 6] cannot wait for an event"]
    assert windows.handles == {}


def test_when_there_are_no_event_limit_nothing_stays_open_but_the_handle(windows: FakeWindows) -> None:
    windows.event_limit = READS
    with pytest.raises(OSError, match="cannot create an event"):
        Bench(windows)
    assert list(windows.handles.values()) == ["device"]
