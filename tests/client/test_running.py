"""Running until a signal, or until a part cannot go on."""

import asyncio
import contextlib
import os
import signal
import threading

import pytest

from softlan.client.running import Stop, running
from softlan.errors import HostError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_an_end_without_an_error(number: signal.Signals) -> None:
    async with running() as stop:
        assert not stop.event.is_set()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(1):
            await stop.event.wait()
        stop.check()


async def test_afterwards_the_system_handles_them_again() -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with running():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_first_part_that_fails_is_the_reason() -> None:
    stop = Stop()
    stop.check()
    stop.fail(HostError("interface", "the interface softlan0 is gone"))
    stop.fail(HostError("interface", "and again"))
    assert stop.event.is_set()
    with pytest.raises(HostError, match=r"^the interface softlan0 is gone$"):
        stop.check()


async def test_another_thread_may_ask_for_the_end_and_wait_for_it() -> None:
    waited: list[bool] = []

    def ask(stop: Stop) -> None:
        stop.request()
        waited.append(stop.finished.wait(5))

    async with running() as stop:
        thread = threading.Thread(target=ask, args=(stop,))
        thread.start()
        async with asyncio.timeout(5):
            await stop.event.wait()
        assert not stop.finished.is_set(), "nothing was put back yet"
    thread.join(5)
    assert waited == [True]


async def test_it_is_finished_whatever_ended_it() -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with running() as stop:
            raise ZeroDivisionError
    assert stop.finished.is_set()


def test_asking_after_the_end_is_harmless() -> None:
    async def run() -> Stop:
        async with running() as stop:
            return stop

    stop = asyncio.run(run())
    stop.request()


# What takes long


async def test_what_is_done_in_time_counts() -> None:
    stop = Stop()
    assert await stop.unless(asyncio.sleep(0, 7)) == 7
    stop.event.set()
    assert await stop.unless(asyncio.Event().wait()) is None


async def test_what_fails_in_time_too() -> None:
    async def fail() -> None:
        raise HostError("resolve", "cannot resolve relay.example")

    with pytest.raises(HostError, match="cannot resolve"):
        await Stop().unless(fail())


async def test_a_stop_does_not_wait_for_what_takes_long() -> None:
    stop, ended = Stop(), asyncio.Event()

    async def long() -> int:
        try:
            await asyncio.Event().wait()
            return 7
        finally:
            ended.set()

    async with asyncio.timeout(5):
        asyncio.get_running_loop().call_soon(stop.event.set)
        assert await stop.unless(long()) is None
        await ended.wait()
