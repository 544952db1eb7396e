"""The event loop that programs run in, and alarms in it."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

if sys.platform == "linux":
    from softlan.net.lean_loop import LeanAlarm, LeanLoop

# Objects that may be made, net, before the garbage collector looks for cycles among them. A burst makes hundreds that
# die by themselves, and so do connections that end (`quic.connection.Connection.let_go`).
_GARBAGE_THRESHOLD = 50_000

_T = TypeVar("_T")


class Alarm(Protocol):
    """Calls back once, at the time that it was last set to."""

    def set(self, when: float) -> None:
        """Ring at `when`, in the clock of `time.monotonic`, instead of at an earlier setting."""

    def cancel(self) -> None:
        """Do not ring."""


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a program's coroutine in a loop of its own, as `asyncio.run` does.

    What the imports made is put out of the garbage collector's sight: it would walk all of that, for milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A lean loop where there is epoll; elsewhere asyncio's own that knows readers (on Windows not its default)."""
    return LeanLoop() if sys.platform == "linux" else asyncio.SelectorEventLoop()


def add_express_reader(loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[[], Any]) -> None:
    """`loop.add_reader`, for what is not to wait behind streams, where the loop makes the difference."""
    if sys.platform == "linux" and isinstance(loop, LeanLoop):
        loop.add_express_reader(fd, callback)
    else:
        loop.add_reader(fd, callback)


def alarm(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Alarm:
    """An alarm in `loop`, of the cheapest kind that it has."""
    if sys.platform == "linux" and isinstance(loop, LeanLoop):
        return LeanAlarm(loop.selector, callback)
    return _LoopAlarm(loop, callback)


class _LoopAlarm:
    """A timer handle, made anew with each setting."""

    __slots__ = ("_callback", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        self.cancel()
        # asyncio's own clock is time.monotonic(): times carry over as they are.
        self._handle = self._loop.call_at(when, self._callback)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
