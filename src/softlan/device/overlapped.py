"""Frames in and out of a Windows device handle, without ever blocking its user: overlapped I/O in two threads.

One keeps several reads pending, so that the driver always has a buffer for the next frame; the other one writes what
was put into a bounded queue, several frames at a time. Both keep the order. An operation and its buffer are kept until
the system is through with them, and the handle is closed by the thread that leaves last.

TAP-Windows6 takes back the reads that are pending, with ERROR_OPERATION_ABORTED, only when the adapter is disabled or
removed (`DestroyTapDevice`). The same error for a read or a write that is just being begun may also mean that the
adapter sleeps with the computer (`tapAdapterReadAndWriteReady`): that passes. So only reads tell the end, and where
none is pending, whether the device is still there.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol

from softlan.device.win32 import (
    ERROR_IO_INCOMPLETE,
    ERROR_IO_PENDING,
    ERROR_MORE_DATA,
    ERROR_OPERATION_ABORTED,
    ERROR_SUCCESS,
    INFINITE,
    Operation,
)

READ_SIZE = 2048
"""Bytes of one read's buffer: above the driver's largest frame, 1518."""
READS = 32
"""Reads that are pending at a time."""
WRITES = 32
"""Writes that are in flight at a time."""
BURST = 64
"""Frames handed on in one go."""
QUEUE = 1024
"""Frames that wait to be written; what comes on top is refused."""

RETRY_INTERVAL = 100
"""Milliseconds between two attempts to begin the reads that a sleeping adapter refused."""
RETRIES = 300
"""So often, if it has refused all of them."""
_PATIENCE = 5000
"""Milliseconds for the driver to give a cancelled operation back."""

_abandoned: list[Operation] = []
"""Operations that a broken driver never gave back: it may still write into them."""


class Kernel(Protocol):
    """Files and events of Windows. Errors are returned, as `ERROR_*` numbers; see `win32.Win32Kernel`."""

    def open(self, path: str) -> tuple[int, int]:
        """Open a device for overlapped I/O: the handle and 0, or 0 and the error."""
        ...

    def close(self, handle: int) -> None:
        """Close a device or an event."""
        ...

    def control(self, handle: int, code: int, data: bytes, size: int) -> tuple[int, bytes]:
        """One IOCTL, waited for: the error and at most `size` bytes."""
        ...

    def create_event(self) -> int:
        """An event with manual reset, not set. Raises OSError."""
        ...

    def set_event(self, event: int) -> None:
        """Set an event."""
        ...

    def read(self, handle: int, operation: Operation) -> int:
        """Begin a read; 0 when it ended at once, ERROR_IO_PENDING, or why it could not begin."""
        ...

    def write(self, handle: int, operation: Operation, frame: bytes) -> int:
        """Begin a write; 0 when it ended at once, ERROR_IO_PENDING, or why it could not begin."""
        ...

    def result(self, handle: int, operation: Operation) -> int:
        """What became of an operation that was begun; ERROR_IO_INCOMPLETE while it is not known."""
        ...

    def wait(self, events: Sequence[int], milliseconds: int = INFINITE) -> int | None:
        """The index of the first event that is set; None when the time is over. Raises OSError."""
        ...

    def cancel(self, handle: int) -> None:
        """Cancel all that is pending."""
        ...


class FrameSink(Protocol):
    """What a `FramePump` reports, from its threads."""

    def arrived(self, frames: list[bytes], calls: int) -> None:
        """Frames that were read, in order, with so many system calls; a frame too many for its buffer is missing."""
        ...

    def written(self, sent: int, errors: list[int]) -> None:
        """A batch is through: frames that the driver took, and the errors of the others."""
        ...

    def ended(self, error: int | str) -> None:
        """It is over before anyone stopped it, once: an `ERROR_*` number, or what went wrong in here."""
        ...


class FramePump:
    """The two threads of one open handle. It owns the handle, and closes it."""

    def __init__(
        self,
        kernel: Kernel,
        handle: int,
        sink: FrameSink,
        name: str,
        goodbye: Callable[[int], None],
        is_present: Callable[[], bool] = lambda: True,
    ) -> None:
        """Make the events. `name` is for the threads; `goodbye` gets the handle before it is closed, unless the device
        ended first; `is_present` says of a device that refuses every read whether it is only asleep. Raises OSError,
        and the handle stays the caller's then.
        """
        self._kernel = kernel
        self._handle = handle
        self._sink = sink
        self._goodbye = goodbye
        self._is_present = is_present
        self._events: list[int] = []
        try:
            self._stop = self._event()
            self._reads = deque(Operation(self._event(), READ_SIZE) for _ in range(READS))
            self._writes = deque(Operation(self._event()) for _ in range(WRITES))
        except OSError:
            self._close_events()
            raise
        self._queue: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._put = 0  # by the user alone
        self._done = 0  # by the writer alone
        self._lock = threading.Lock()
        self._is_over = False
        self._has_failed = False
        self._running = 2
        self._threads = [
            threading.Thread(target=self._run, args=(work, operations), name=f"{name} {verb}", daemon=True)
            for verb, work, operations in (("reads", self._read, self._reads), ("writes", self._write, self._writes))
        ]

    def start(self) -> None:
        """Begin to read and write."""
        for thread in self._threads:
            thread.start()

    def put(self, frames: Sequence[bytes]) -> int:
        """Queue frames to be written; how many there was room for, the first ones."""
        room = QUEUE - (self._put - self._done)
        batch = list(frames[:room]) if room > 0 else []
        if batch:
            self._put += len(batch)
            self._queue.put(batch)
        return len(batch)

    def stop(self) -> None:
        """Cancel what is pending, and return when the handle is closed; what is still queued is lost.

        Takes as long as the driver needs to give a handful of buffers back, and some seconds with a broken one.
        """
        self._end(None)
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(4 * _PATIENCE / 1000)

    # In the threads

    def _run(self, work: Callable[[], int | str | None], operations: deque[Operation]) -> None:
        try:
            error: int | str | None = work()
        except Exception as fault:  # a thread that dies in silence would leave a tunnel that carries nothing
            error = f"{type(fault).__name__}: {fault}"
        try:
            self._end(error)
            self._take_back(operations)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Close everything, if this is the last thread."""
        with self._lock:
            self._running -= 1
            if self._running:
                return
        if not self._has_failed:
            self._goodbye(self._handle)
        self._kernel.close(self._handle)
        self._close_events()

    def _read(self) -> int | str | None:
        """Read until told to stop (None), or until the error that ends it."""
        kernel, handle = self._kernel, self._handle
        pending: deque[Operation] = deque()  # the oldest first
        idle = list(self._reads)
        refusals = RETRIES  # the first time it must work
        while True:
            error = self._begin_reads(idle, pending)
            if error not in (ERROR_SUCCESS, ERROR_OPERATION_ABORTED):
                return error
            refusals = 0 if pending else refusals + 1
            if refusals > RETRIES or (error and not pending and not self._is_present()):
                return error
            events = (self._stop, pending[0].event) if pending else (self._stop,)
            which = kernel.wait(events, RETRY_INTERVAL if idle else INFINITE)
            if which == 0:
                return None
            if which is None:
                continue
            frames: list[bytes] = []
            calls = 0
            result = ERROR_SUCCESS
            while pending and calls < BURST:
                operation = pending[0]
                result = kernel.result(handle, operation)
                if result == ERROR_IO_INCOMPLETE:
                    break
                pending.popleft().is_pending = False
                if result == ERROR_SUCCESS:
                    frames.append(operation.received())
                elif result != ERROR_MORE_DATA:
                    break
                calls += 1
                idle.append(operation)
                if self._begin_reads(idle, pending):
                    break
            self._sink.arrived(frames, calls)
            if result not in (ERROR_SUCCESS, ERROR_IO_INCOMPLETE, ERROR_MORE_DATA):
                return result

    def _begin_reads(self, idle: list[Operation], pending: deque[Operation]) -> int:
        """Let idle reads wait for frames; 0, or why the driver does not want one now."""
        while idle:
            operation = idle[-1]
            error = self._kernel.read(self._handle, operation)
            if error not in (ERROR_SUCCESS, ERROR_IO_PENDING):
                return error
            operation.is_pending = True
            pending.append(idle.pop())
        return ERROR_SUCCESS

    def _write(self) -> None:
        """Write until told to stop."""
        kernel, handle, writes = self._kernel, self._handle, self._writes
        while (batch := self._queue.get()) is not None and not self._is_over:
            errors: list[int] = []
            for frame in batch:
                operation = writes[0]
                if operation.is_pending and not self._finish(operation, errors):
                    return
                error = kernel.write(handle, operation, frame)
                if error == ERROR_IO_PENDING:
                    operation.is_pending = True
                elif error:
                    errors.append(error)
                writes.rotate(-1)
            for operation in writes:  # the oldest first
                if operation.is_pending and not self._finish(operation, errors):
                    return
            self._done += len(batch)
            self._sink.written(len(batch) - len(errors), errors)

    def _finish(self, operation: Operation, errors: list[int]) -> bool:
        """Wait for a write's end, and note its error; False when told to stop before it ended."""
        result = self._kernel.result(self._handle, operation)
        if result == ERROR_IO_INCOMPLETE:
            if self._kernel.wait((self._stop, operation.event)) == 0:
                return False
            result = self._kernel.result(self._handle, operation)
        operation.is_pending = False
        if result:
            errors.append(result)
        return True

    def _end(self, error: int | str | None) -> None:
        """Tell both threads to leave; the first error to end it is reported, unless it was stopped before."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            self._has_failed = error is not None
            self._kernel.set_event(self._stop)
        self._queue.put(None)
        if error is not None:
            self._sink.ended(error)

    def _take_back(self, operations: deque[Operation]) -> None:
        """Cancel what is pending, and wait until the system has let go of it."""
        if any(operation.is_pending for operation in operations):
            self._kernel.cancel(self._handle)
        for operation in operations:
            if not operation.is_pending:
                continue
            if self._kernel.wait((operation.event,), _PATIENCE) is None:
                _abandoned.append(operation)
            else:
                operation.is_pending = False

    def _event(self) -> int:
        event = self._kernel.create_event()
        self._events.append(event)
        return event

    def _close_events(self) -> None:
        for event in self._events:
            self._kernel.close(event)
        self._events.clear()
