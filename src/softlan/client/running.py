"""Runs until told to stop: by a signal, by Windows, or by a part that cannot go on."""

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from softlan.client.console import console_handler
from softlan.errors import SoftlanError
from softlan.host.kernel32 import set_console_handler

_T = TypeVar("_T")


class Stop:
    """Why and whether to stop. Made inside of the running loop, or given it."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.event = asyncio.Event()
        self.finished = threading.Event()
        """Set when all was put back: whoever asked from another thread may wait for it."""
        self._loop = loop
        self._error: SoftlanError | None = None

    def request(self) -> None:
        """Stop; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: we have stopped
                self._loop.call_soon_threadsafe(self.event.set)

    def fail(self, error: SoftlanError) -> None:
        """Stop because of `error`; the first one counts."""
        if self._error is None:
            self._error = error
        self.event.set()

    async def unless(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """What `work` returns, or raise what it does; None, and it is cancelled, if we are to stop before that."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()

    def check(self) -> None:
        """Raise what stopped us, if it was not a signal."""
        if self._error is not None:
            raise self._error


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Stop]:
    """A `Stop` that SIGINT and SIGTERM set; on Windows Ctrl-C, Ctrl-Break, the end of the console, and for a service
    the computer's.

    What is to be put back must be so when the block is left: Windows ends the process then. At a log-off or a restart
    it ends an interactive program without a word (HandlerRoutine); the next start puts things back.
    """
    loop = asyncio.get_running_loop()
    stop = Stop(loop)
    with contextlib.ExitStack() as stack:
        if sys.platform == "win32":
            stack.callback(set_console_handler(console_handler(stop.request, stop.finished)))
        else:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.event.set)
                stack.callback(loop.remove_signal_handler, number)
        stack.callback(stop.finished.set)  # the first to be called: a handler that waits for it cannot be taken back
        yield stop
