"""A thread for one call, which nobody has to wait for."""

import asyncio
import subprocess
import sys
import threading

import pytest

from softlan.net.passing import in_passing_thread

PATIENCE = 10.0  # seconds


async def test_it_returns_or_raises_what_the_call_does_and_the_thread_is_gone() -> None:
    before = threading.active_count()
    assert await in_passing_thread(lambda: (threading.active_count(), threading.current_thread().daemon)) == (
        before + 1,
        True,
    )
    assert threading.active_count() == before
    with pytest.raises(ZeroDivisionError):
        await in_passing_thread(lambda: 1 // 0)
    assert threading.active_count() == before


async def test_it_raises_also_what_is_no_exception() -> None:
    """As a panic of a native library's is none."""

    class Panic(BaseException):
        pass

    def call() -> None:
        raise Panic

    with pytest.raises(Panic):
        async with asyncio.timeout(PATIENCE):
            await in_passing_thread(call)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_does_not_wait_for_it(fails: bool) -> None:
    began, may_end, told = threading.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def call() -> None:
        began.set()
        may_end.wait(PATIENCE)
        loop.call_soon_threadsafe(told.set)
        if fails:
            raise OSError("nobody hears of it")

    task = asyncio.create_task(in_passing_thread(call))
    assert await asyncio.to_thread(began.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_end.set()
    async with asyncio.timeout(PATIENCE):
        await told.wait()


def test_nor_does_the_programs_end() -> None:
    program = """
import asyncio, threading
from softlan.net.passing import in_passing_thread
async def main():
    began = threading.Event()
    task = asyncio.ensure_future(in_passing_thread(lambda: (began.set(), threading.Event().wait(60))))
    await asyncio.to_thread(began.wait)
asyncio.run(main())
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == ("ended\n", "")
