"""The loop that programs run in, and its alarms: the same on asyncio's own loop and on the lean one."""

import asyncio
import gc
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from softlan.net import loop as loop_module
from softlan.net.loop import alarm, new_event_loop, run

BOUND = 5.0
"""Seconds after which what did not come about is not waited for any longer."""
EARLY = 1e-6
"""What asyncio allows for its clock's resolution, and more."""


class Ring:
    """A loop, the times at which alarms of its rang, and what the loop reported."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.rung: list[float] = []
        self.reported: list[BaseException] = []
        self._socket: tuple[socket.socket, ...] = ()
        loop.set_exception_handler(lambda _, context: self.reported.append(context["exception"]))

    def alarm(self, then: Callable[[], object] = lambda: None) -> loop_module.Alarm:
        """An alarm that is counted and then does something more."""

        def ring() -> None:
            self.rung.append(time.monotonic())
            then()

        return alarm(self.loop, ring)

    def run(self, until: Callable[[], object]) -> None:
        """Run the loop until that is true; fails when it takes too long."""

        async def wait() -> None:
            end = time.monotonic() + BOUND
            while not until():
                assert time.monotonic() < end, "it did not come about"
                await asyncio.sleep(0.001)

        self.loop.run_until_complete(wait())

    def let_pass(self, seconds: float) -> None:
        """Run the loop until so much later."""
        end = time.monotonic() + seconds
        self.run(lambda: time.monotonic() > end)

    def stop(self) -> None:
        """Let the loop stop in its next turn."""
        self.loop.call_soon(self.loop.stop)

    def busy(self, reader: Callable[[], object]) -> None:
        """Add a reader that is always ready."""
        near, far = self._socket = socket.socketpair()
        far.send(b"x")
        self.loop.add_reader(near, reader)

    def close(self) -> None:
        self.loop.close()
        for each in self._socket:
            each.close()


LOOPS = [new_event_loop] if sys.platform != "linux" else [new_event_loop, asyncio.SelectorEventLoop]


@pytest.fixture(params=LOOPS, ids=["ours", "asyncio"][: len(LOOPS)])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    ring = Ring(request.param())
    yield ring
    ring.close()


# Alarms


def test_it_rings_once_and_not_before_its_time(ring: Ring) -> None:
    when = time.monotonic() + 0.02
    ring.alarm().set(when)
    ring.run(lambda: ring.rung)
    ring.let_pass(0.03)
    [at] = ring.rung
    assert at >= when - EARLY


def test_it_rings_though_the_loop_has_nothing_else_to_do(ring: Ring) -> None:
    """The loop waits without a time-out of asyncio's: the alarm alone ends the wait."""
    ring.alarm(ring.stop).set(time.monotonic() + 0.01)
    guard = threading.Timer(BOUND, ring.loop.call_soon_threadsafe, (ring.loop.stop,))
    guard.start()
    before = time.monotonic()
    ring.loop.run_forever()
    took = time.monotonic() - before
    guard.cancel()
    guard.join()
    assert len(ring.rung) == 1
    assert took < BOUND


@pytest.mark.parametrize("ago", [0.0, 0.5, 1e9])
def test_what_is_past_rings_at_once(ring: Ring, ago: float) -> None:
    ring.alarm().set(time.monotonic() - ago)
    ring.run(lambda: ring.rung)
    ring.let_pass(0.005)
    assert len(ring.rung) == 1


def test_an_alarm_that_was_never_set_is_silent_and_may_be_cancelled(ring: Ring) -> None:
    one = ring.alarm()
    one.cancel()
    one.cancel()
    ring.let_pass(0.01)
    assert ring.rung == []


def test_set_earlier_it_rings_earlier_and_not_again(ring: Ring) -> None:
    one = ring.alarm()
    far = time.monotonic() + 0.05
    one.set(far)
    one.set(time.monotonic() + 0.005)
    ring.run(lambda: time.monotonic() > far + 0.01)
    assert len(ring.rung) == 1


def test_set_earlier_than_a_far_time_it_does_not_wait_for_that(ring: Ring) -> None:
    one = ring.alarm()
    one.set(time.monotonic() + 3600)
    ring.let_pass(0.002)
    one.set(time.monotonic() + 0.005)
    ring.run(lambda: ring.rung)


def test_set_later_it_rings_only_then(ring: Ring) -> None:
    one = ring.alarm()
    one.set(time.monotonic() + 0.005)
    when = time.monotonic() + 0.03
    one.set(when)
    ring.run(lambda: ring.rung)
    ring.let_pass(0.01)
    [at] = ring.rung
    assert at >= when - EARLY


def test_cancelled_it_is_silent_and_can_be_set_again(ring: Ring) -> None:
    one = ring.alarm()
    one.set(time.monotonic() + 0.005)
    one.cancel()
    one.cancel()
    ring.let_pass(0.02)
    assert ring.rung == []
    one.set(time.monotonic() + 0.005)
    ring.run(lambda: ring.rung)
    one.cancel()  # too late, and harmless
    ring.let_pass(0.01)
    assert len(ring.rung) == 1


def test_it_can_be_set_again_while_it_rings(ring: Ring) -> None:
    interval = 0.005

    def again() -> None:
        if len(ring.rung) < 5:
            one.set(ring.rung[-1] + interval)

    one = ring.alarm(again)
    one.set(time.monotonic())
    ring.run(lambda: len(ring.rung) == 5)
    ring.let_pass(0.02)
    assert len(ring.rung) == 5
    assert all(later - sooner >= interval - EARLY for sooner, later in zip(ring.rung, ring.rung[1:], strict=False))


def test_one_that_is_always_due_starves_nothing(ring: Ring) -> None:
    one = ring.alarm(lambda: one.set(0.0))
    one.set(0.0)
    other = ring.alarm()
    rung: list[int] = []
    ring.loop.call_later(0.01, rung.append, 1)
    ring.busy(lambda: rung.append(2))
    ring.run(lambda: {1, 2} <= set(rung))
    one.cancel()
    other.set(0.0)
    before = len(ring.rung)
    ring.run(lambda: len(ring.rung) > before)


def test_alarms_know_nothing_of_each_other(ring: Ring) -> None:
    order: list[int] = []
    start = time.monotonic() + 0.005
    alarms = [ring.alarm(lambda number=number: order.append(number)) for number in range(20)]  # type: ignore[misc]
    for number in (7, 3, 19, 0, 12, 5):
        alarms[number].set(start + number * 0.003)
    alarms[12].cancel()
    ring.run(lambda: len(order) == 5)
    ring.let_pass(0.01)
    assert order == [0, 3, 5, 7, 19]


def test_one_that_rings_may_cancel_another_that_is_due_in_the_same_turn(ring: Ring) -> None:
    """Whichever comes first cancels the others."""
    alarms: list[loop_module.Alarm] = []

    def cancel_all() -> None:
        for each in alarms:
            each.cancel()

    alarms += [ring.alarm(cancel_all) for _ in range(3)]
    for each in alarms:
        each.set(time.monotonic() - 1)
    ring.let_pass(0.01)
    assert len(ring.rung) == 1
    assert ring.reported == []


def test_one_that_rings_may_put_off_another_that_is_due_in_the_same_turn(ring: Ring) -> None:
    later = time.monotonic() + 0.03
    alarms: list[loop_module.Alarm] = []

    def put_off(me: int) -> None:
        if len(ring.rung) == 1:
            alarms[1 - me].set(later)

    alarms += [ring.alarm(lambda me=me: put_off(me)) for me in range(2)]  # type: ignore[misc]
    for each in alarms:
        each.set(time.monotonic() - 1)
    ring.run(lambda: len(ring.rung) == 2)
    ring.let_pass(0.01)
    assert len(ring.rung) == 2
    assert ring.rung[1] >= later - EARLY


def test_one_that_rings_may_set_another_that_is_due_in_the_same_turn_to_now(ring: Ring) -> None:
    """It rings once for both settings, or twice; but it does ring."""
    second: list[int] = []
    other = alarm(ring.loop, lambda: second.append(1))
    first = ring.alarm(lambda: other.set(0.0))
    first.set(0.0)
    other.set(0.0)
    ring.run(lambda: second and ring.rung)
    ring.let_pass(0.005)
    assert len(ring.rung) == 1
    assert len(second) <= 2


def test_a_reader_may_cancel_one_that_is_due_in_the_same_turn(ring: Ring) -> None:
    one = ring.alarm()
    ring.busy(one.cancel)
    one.set(time.monotonic() - 1)
    ring.let_pass(0.01)
    assert ring.rung == []


def test_it_rings_beside_a_reader_that_is_always_ready(ring: Ring) -> None:
    calls: list[None] = []
    ring.busy(lambda: calls.append(None))
    when = time.monotonic() + 0.02
    ring.alarm().set(when)
    ring.run(lambda: ring.rung)
    assert ring.rung[0] >= when - EARLY
    assert calls


def test_set_in_a_reader_it_is_earlier_than_what_the_loop_waits_for(ring: Ring) -> None:
    near, far = socket.socketpair()
    with near, far:
        one = ring.alarm(ring.stop)

        def reader() -> None:
            near.recv(1)
            one.set(time.monotonic() + 0.005)

        ring.loop.add_reader(near, reader)
        far.send(b"x")
        guard = ring.loop.call_later(BOUND, ring.loop.stop)
        ring.loop.run_forever()
        guard.cancel()
        assert len(ring.rung) == 1
        ring.loop.remove_reader(near)


def test_what_it_gives_the_loop_to_do_is_done_at_once(ring: Ring) -> None:
    async def main() -> list[str]:
        done: list[str] = []
        ready = asyncio.Event()

        async def task() -> None:
            done.append("task")
            await asyncio.sleep(0.001)
            ready.set()

        tasks: list[asyncio.Task[None]] = []
        ring.alarm(lambda: tasks.append(ring.loop.create_task(task()))).set(time.monotonic() + 0.01)
        await asyncio.wait_for(ready.wait(), BOUND)
        return done

    assert ring.loop.run_until_complete(main()) == ["task"]


def test_it_may_stop_the_loop(ring: Ring) -> None:
    ring.alarm(ring.loop.stop).set(time.monotonic() + 0.01)
    late: list[bool] = []

    def too_late() -> None:
        late.append(True)
        ring.loop.stop()

    guard = ring.loop.call_later(2.0, too_late)
    ring.loop.run_forever()
    guard.cancel()
    assert not late


def test_one_that_fails_is_reported_and_harms_no_other(ring: Ring) -> None:
    error = ValueError("it broke")

    def fail() -> None:
        raise error

    broken, sound = ring.alarm(fail), ring.alarm()
    for _ in range(2):
        broken.set(0.0)
        sound.set(0.0)
        ring.let_pass(0.01)
    assert len(ring.rung) == 4
    assert ring.reported == [error, error]


def test_an_interrupt_comes_out_of_the_loop_and_the_other_alarms_still_ring(ring: Ring) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    ring.alarm(interrupt).set(0.0)
    others = [ring.alarm() for _ in range(2)]
    for each in others:
        each.set(time.monotonic() + 0.005)
    guard = ring.loop.call_later(BOUND, ring.loop.stop)
    with pytest.raises(KeyboardInterrupt):
        ring.loop.run_forever()
    guard.cancel()
    ring.run(lambda: len(ring.rung) == 3)
    assert ring.reported == []


# The loop of a program


@pytest.fixture
def garbage() -> Iterator[None]:
    """Whatever a program does to the garbage collector is undone."""
    threshold, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    if enabled:
        gc.enable()
    gc.collect()


def test_where_there_is_no_epoll_the_loop_is_asyncios_and_its_alarms_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    loop = new_event_loop()
    assert type(loop) is asyncio.SelectorEventLoop
    rung: list[int] = []

    def ring() -> None:
        rung.append(1)
        loop.stop()

    alarm(loop, ring).set(loop.time())
    loop.run_forever()
    loop.close()
    assert rung == [1]


@pytest.mark.usefixtures("garbage")
def test_a_program_runs_in_a_loop_of_ours_that_is_closed_behind_it() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)

    run(main())
    [loop] = loops
    other = new_event_loop()
    other.close()
    assert type(loop) is type(other)
    assert loop.is_closed()


@pytest.mark.usefixtures("garbage")
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_the_program_raises_comes_out(error: type[BaseException]) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise error("why")

    with pytest.raises(error, match="why"):
        run(main())


@pytest.mark.usefixtures("garbage")
def test_what_the_program_leaves_running_is_cancelled_and_finished() -> None:
    ends: list[str] = []
    kept: list[asyncio.Task[Any]] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ends.append("tidied up")

    async def main() -> None:
        kept.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    run(main())
    assert ends == ["tidied up"]
    assert kept[0].cancelled()


class Cyclic:
    """What only the garbage collector finds."""

    def __init__(self) -> None:
        self.me = self


@pytest.mark.usefixtures("garbage")
def test_the_garbage_collector_looks_less_often_and_not_at_the_program_itself() -> None:
    before = gc.get_threshold()[0]
    seen: list[tuple[int, int, bool]] = []

    async def main() -> None:
        seen.append((gc.get_threshold()[0], gc.get_freeze_count(), gc.isenabled()))

    run(main())
    [(threshold, frozen, enabled)] = seen
    assert threshold > 10 * before
    assert frozen > 10_000
    assert enabled


@pytest.mark.usefixtures("garbage")
def test_garbage_is_still_found() -> None:
    gone: list[bool] = []

    async def main() -> None:
        first = weakref.ref(Cyclic())
        assert first() is not None, "a cycle does not die by itself"
        kept: list[list[None]] = []
        for _ in range(10 * gc.get_threshold()[0]):
            kept.append([])
            if first() is None:
                break
        gone.append(first() is None)

    run(main())
    assert gone == [True]


@pytest.mark.usefixtures("garbage")
def test_what_died_before_the_program_began_is_not_kept_for_ever() -> None:
    lost = weakref.ref(Cyclic())

    async def main() -> None:
        assert lost() is None

    run(main())
