"""What a Windows console tells a process: Ctrl-C, and that it is about to end (HandlerRoutine, learn.microsoft.com)."""

import threading
from collections.abc import Callable

CTRL_C_EVENT, CTRL_BREAK_EVENT = 0, 1
CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT = 2, 5, 6

PATIENCE = 4.5
"""Seconds in which everything has to be put back when the console goes: after 5 Windows ends the process."""


def console_handler(request: Callable[[], None], finished: threading.Event) -> Callable[[int], bool]:
    """A handler of console events, called on threads of Windows' own.

    `request` begins the end. Windows ends the process when the handler returns from an event that says so; then it
    waits until `finished`. CTRL_LOGOFF_EVENT comes to services alone, whoever logs off, and means nothing to them.
    """

    def handle(event: int) -> bool:
        if event == CTRL_LOGOFF_EVENT:
            return True
        request()
        if event in (CTRL_CLOSE_EVENT, CTRL_SHUTDOWN_EVENT):
            finished.wait(PATIENCE)
        return True

    return handle
