"""An asyncio event loop that serves the data path's file descriptors itself, before asyncio hears of them.

asyncio makes several objects for each wake-up: a selector key, a handle, a context to run it in. For a tunnel that
wakes up for nearly every packet this costs as much as the packet. Here a descriptor given to `add_reader` is called
straight from within the selector's wait, and the loop only comes round when asyncio itself has something to do: a
task, a timer, a signal.
"""

import asyncio
import contextlib
import functools
import os
import select
import selectors
import time
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from _typeshed import HasFileno

# When turns follow each other more quickly than this, they are spaced out to it, as a network card does with its
# interrupts: what comes meanwhile is taken in one turn, which costs little more than a turn for one frame. A lone frame
# never waits: there must have been so many turns in a row. Nor does a loaded loop, whose turns take as long anyway; but
# after each it lets others run, for whom something may have come that is express.
TURN = 0.00125  # seconds
BUSY = 16  # turns

# What is express, as a party's games are, is served at once meanwhile. Only where that alone is more than games send,
# its turns are spaced out, too: to that, or to so much longer that each brings so much.
FAST = 3000  # frames or datagrams a second
AT_ONCE = 24  # frames or datagrams
LONG_TURN = 0.0025  # seconds at most
_MEMORY = 0.02  # seconds over which that rate is taken

_LEAST_REST = 0.00005  # seconds: a shorter sleep takes as long as its own system call

_MAX_EVENTS = 64
_NEVER = float("inf")

_Ts = TypeVarTuple("_Ts")


class LeanLoop(asyncio.SelectorEventLoop):
    """A loop whose readers are called without handles. They must not block, and nothing is known of their context."""

    def __init__(self) -> None:
        self.selector = LeanSelector(self._reader_failed)
        super().__init__(self.selector)

    def add_reader(self, fd: "int | HasFileno", callback: Callable[[Unpack[_Ts]], Any], *args: *_Ts) -> None:
        """Call `callback` from the selector while `fd` is readable, or broken.

        It may return how many frames or datagrams it took, as a negative number if it has left something that it could
        have taken: then no turn is put off.
        """
        number = fd if isinstance(fd, int) else fd.fileno()
        self.selector.watch(number, functools.partial(callback, *args) if args else callback)

    def add_express_reader(self, fd: int, callback: Callable[[], Any]) -> None:
        """The same; and `callback` does not wait when turns are spaced out for what others bring."""
        self.selector.watch(fd, callback, express=True)

    def remove_reader(self, fd: "int | HasFileno") -> bool:
        """Stop calling; whether there was a reader."""
        return self.selector.forget(fd if isinstance(fd, int) else fd.fileno())

    def call_soon(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As everywhere; the selector's wait ends for it."""
        self.selector.leave = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As everywhere; the selector's wait ends, since its time-out may have been later."""
        self.selector.leave = True
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        """As everywhere; the selector's wait ends for it."""
        self.selector.leave = True
        super().stop()

    def _reader_failed(self, error: BaseException) -> None:
        self.call_exception_handler({"message": "a reader failed", "exception": error})


class LeanSelector(selectors.EpollSelector):
    """asyncio's selector, inside of a second epoll with the descriptors and alarms that it serves by itself."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        super().__init__()
        self.leave = False
        """Whether asyncio was given something to do since its last turn."""
        self._failed = failed
        self._readers: dict[int, Callable[[], Any]] = {}
        self._alarms: dict[LeanAlarm, float] = {}
        self._next_alarm = _NEVER
        self._turns, self._express_rate = _Turns(), _Rate()
        self._streams_until = 0.0  # until then, a stream is taken to be there
        self._epoll = select.epoll()
        self._express = select.epoll()
        self._express_readers: set[int] = set()
        self._epoll.register(self.fileno(), select.EPOLLIN)  # an epoll is readable when one of its own is: epoll(7)

    def watch(self, fd: int, reader: Callable[[], Any], *, express: bool = False) -> None:
        """Call `reader` whenever `fd` is readable."""
        for epoll in (self._epoll, self._express) if express else (self._epoll,):
            with contextlib.suppress(FileExistsError):  # another reader for it; but a closed one needs it anew
                epoll.register(fd, select.EPOLLIN)
        if express:
            self._express_readers.add(fd)
        self._readers[fd] = reader

    def forget(self, fd: int) -> bool:
        """Stop that; whether it was so."""
        if self._readers.pop(fd, None) is None:
            return False
        self._express_readers.discard(fd)
        for epoll in (self._epoll, self._express):
            with contextlib.suppress(OSError):  # closed before: the kernel has forgotten it; or not express
                epoll.unregister(fd)
        return True

    def set_alarm(self, alarm: "LeanAlarm", when: float) -> None:
        """Ring it at `when`; `inf` is never."""
        if when == _NEVER:
            self._alarms.pop(alarm, None)
        else:
            self._alarms[alarm] = when
        self._next_alarm = min(self._alarms.values(), default=_NEVER)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve readers and alarms until asyncio has something to do."""
        poll, clock = self._epoll.poll, time.monotonic
        now = clock()
        end = _NEVER if timeout is None else now + timeout
        self.leave = False
        while True:
            until = min(end, self._next_alarm)
            # A time-out is rounded up to milliseconds: epoll_wait(2).
            events = poll(-1 if until == _NEVER else until - now if until > now else 0, _MAX_EVENTS)
            has_more = self._serve(events)
            now = clock()
            if events:
                is_busy = self._turns.count(now)
                if has_more:
                    os.sched_yield()
                    now = clock()
                elif is_busy and not self.leave:
                    turn = LONG_TURN if now >= self._streams_until and self._express_rate.is_fast(now) else TURN
                    now = self._rest(min(self._turns.last + turn, end, self._next_alarm), now)
                self._turns.last = now
            if now >= self._next_alarm:
                self._ring(now)
            if self.leave or now >= end:
                return super().select(0)

    def close(self) -> None:
        """Close both epolls; the descriptors stay."""
        self._readers.clear()
        self._epoll.close()
        self._express.close()
        super().close()

    def _serve(self, events: list[tuple[int, int]]) -> bool:
        """Call the readers of these descriptors, the express ones first; whether one has left something."""
        readers, express = self._readers, self._express_readers
        began = time.monotonic()
        has_more = is_late = False
        if len(events) > 1:
            events.sort(key=lambda event: event[0] not in express)
        for fd, _ in events:
            if is_late:  # what is express does not wait for two streams
                has_more = self._serve(self._express.poll(0, _MAX_EVENTS)) or has_more
            reader = readers.get(fd)
            if reader is None:  # asyncio's own, or forgotten by a reader of this very turn
                self.leave = True
                continue
            took = None
            try:
                took = reader()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # as a handle does
                self._failed(error)
            count = 1 if took is None else took
            if count < 0:
                has_more = True
                count = -count
            if fd in express:
                self._express_rate.count(count, began)
            else:
                is_late = True
                if count > 1:
                    self._streams_until = began + _MEMORY
        return has_more

    def _rest(self, until: float, now: float) -> float:
        """Wait until then, but for what is express; the time it is."""
        express = self._express_rate
        while until - now > _LEAST_REST and not self.leave:
            if express.is_fast(now):
                pause = min(express.next_turn(), until) - now
                if pause > _LEAST_REST:
                    time.sleep(pause)
                    now = time.monotonic()
                break
            if not select.select((self._express,), (), (), until - now)[0]:  # epoll's own time-out goes by milliseconds
                return time.monotonic()
            self._serve(self._express.poll(0, _MAX_EVENTS))
            now = time.monotonic()
        return now

    def _ring(self, now: float) -> None:
        for each in [each for each, when in self._alarms.items() if when <= now]:
            if self._alarms.get(each, _NEVER) <= now:  # else another one's callback has cancelled it or put it off
                del self._alarms[each]
                try:
                    each.callback()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._failed(error)
        self._next_alarm = min(self._alarms.values(), default=_NEVER)


class _Turns:
    """How quickly turns follow each other."""

    __slots__ = ("_quick", "last")

    def __init__(self) -> None:
        self.last = 0.0
        """When the last one, and the rest after it, was over."""
        self._quick = 0  # how many in a row have begun within `TURN` of that, up to `BUSY`

    def count(self, now: float) -> bool:
        """One more is over; whether so many were quick before it."""
        if now - self.last >= TURN:
            self._quick = 0
        elif self._quick < BUSY:
            self._quick += 1
        else:
            return True
        return False


class _Rate:
    """How much comes that is express."""

    __slots__ = ("_last", "_rate")

    def __init__(self) -> None:
        self._last = 0.0  # when the last turn with any of it began
        self._rate = 0.0  # frames and datagrams a second

    def count(self, taken: int, began: float) -> None:
        """So many frames or datagrams were taken in a turn that began then."""
        self._rate = (self._rate * _MEMORY + taken) / (_MEMORY + began - self._last)
        self._last = began

    def is_fast(self, now: float) -> bool:
        """Whether it still is more than `FAST`, although nothing has come since the last turn."""
        return self._rate * _MEMORY > FAST * (_MEMORY + now - self._last)

    def next_turn(self) -> float:
        """When the next turn is due, as long as it is fast; that may be in the past."""
        return self._last + max(TURN, min(LONG_TURN, AT_ONCE / self._rate))


class LeanAlarm:
    """An alarm (`softlan.net.loop`) in the selector's own short list."""

    __slots__ = ("_selector", "callback")

    def __init__(self, selector: LeanSelector, callback: Callable[[], None]) -> None:
        self.callback = callback
        self._selector = selector

    def set(self, when: float) -> None:
        """Ring at `when` instead of at an earlier setting."""
        self._selector.set_alarm(self, when)

    def cancel(self) -> None:
        """Do not ring."""
        self._selector.set_alarm(self, _NEVER)
