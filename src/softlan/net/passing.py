"""Calls that block for long, such as name look-ups, in threads that nobody has to wait for."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


async def in_passing_thread(function: Callable[[], _T], name: str = "passing", linger: float = 0.0) -> _T:
    """Call `function` in a thread of its own, called `name`, and return or raise what it does.

    That thread has ended by then; one that was kept for later calls, as `asyncio.to_thread` does, would keep its
    capabilities as well (`host.privileges`). Neither who is cancelled meanwhile nor the program's end waits for it
    longer than `linger` seconds.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: list[_T], fault: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if fault is not None:
            future.set_exception(fault)
        else:
            future.set_result(result[0])

    def run() -> None:
        result: list[_T] = []
        fault: BaseException | None = None
        try:
            result.append(function())
        except BaseException as error:  # a native library's panic too: raised to whoever waits, or they would for ever
            fault = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: we have stopped
            loop.call_soon_threadsafe(settle, result, fault)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        return await future
    finally:
        # It has nothing left to do, but for one that nobody waits for any more.
        thread.join(linger if future.cancelled() else None)
