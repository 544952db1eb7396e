"""A status line at the bottom of a terminal, with the log above it."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.text import Text

from softlan.cli.options import LogOptions
from softlan.obs.logging import configure


class _Above:
    """A stream for the log, whose lines appear above the status line."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        """Print whole lines, as they are."""
        if text.strip("\n"):
            self._console.print(Text(text.rstrip("\n")), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


@contextlib.contextmanager
def live_line(log: LogOptions, console: Console | None = None) -> Iterator[Callable[[str], None] | None]:
    """What shows a new status line, or None where nobody would see it: no terminal, or a log for machines."""
    console = console or Console(stderr=True, highlight=False)
    if log.log_format != "console" or not console.is_terminal:
        yield None
        return
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)

    def show(line: str) -> None:
        text = Text(line, style="reverse", no_wrap=True, overflow="ellipsis")
        live.update(text, refresh=True)

    configure(log.log_format, log.log_level, cast(TextIO, _Above(console)))
    try:
        with live:
            yield show
    finally:
        configure(log.log_format, log.log_level, sys.stderr)
