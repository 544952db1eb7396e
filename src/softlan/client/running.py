"""Runs until told to stop: by a signal, or by a part that cannot go on."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

from softlan.errors import SoftlanError


class Stop:
    """Why and whether to stop."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._error: SoftlanError | None = None

    def fail(self, error: SoftlanError) -> None:
        """Stop because of `error`; the first one counts."""
        if self._error is None:
            self._error = error
        self.event.set()

    def check(self) -> None:
        """Raise what stopped us, if it was not a signal."""
        if self._error is not None:
            raise self._error


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Stop]:
    """A `Stop` that SIGINT and SIGTERM set."""
    loop = asyncio.get_running_loop()
    stop = Stop()
    signals = (signal.SIGINT, signal.SIGTERM)
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
        for number in signals:
            loop.add_signal_handler(number, stop.event.set)
    try:
        yield stop
    finally:
        with contextlib.suppress(NotImplementedError):
            for number in signals:
                loop.remove_signal_handler(number)
