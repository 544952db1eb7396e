"""A log whose lines others may provoke: nobody fills a disk with them, and a full disk ends nobody's session."""

import contextlib
from typing import Any


class SparingLog:
    """A structlog logger that says at most `lines` of each level until the next `renew`, and how many it left out.

    What cannot be written is lost; nothing is raised.
    """

    def __init__(self, log: Any, lines: int) -> None:
        self._log = log
        self._lines = lines
        self._said = dict.fromkeys(("debug", "info", "warning"), 0)

    def debug(self, event: str, **members: object) -> None:
        """Say what is of interest when something is looked for."""
        self._say("debug", event, members)

    def info(self, event: str, **members: object) -> None:
        """Say what happens."""
        self._say("info", event, members)

    def warning(self, event: str, **members: object) -> None:
        """Say what somebody may want to do something about."""
        self._say("warning", event, members)

    def renew(self) -> None:
        """Begin anew; called at each tick."""
        for level, said in self._said.items():
            self._said[level] = 0
            if said > self._lines:
                self._say(level, "log.left_out", {"lines": said - self._lines})
                self._said[level] = 0

    def _say(self, level: str, event: str, members: dict[str, object]) -> None:
        self._said[level] += 1
        if self._said[level] <= self._lines:
            with contextlib.suppress(OSError, ValueError):  # a full disk; a stream that was closed
                getattr(self._log, level)(event, **members)
