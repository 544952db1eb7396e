"""Structured logs, for people (console) or machines (JSON, one object a line).

Libraries that use the standard `logging` come out in the same form, from `warning` up. A log tells no secret:
tracebacks show no variables, and an invitation that got into a text is cut out of it.
"""

import contextlib
import json
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from softlan.errors import UsageError

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_INVITATION = re.compile(r"softlan1_[A-Za-z0-9_-]+")


def configure(format: str, level: str, stream: TextIO | None = None) -> None:
    """Set up logging for the process; may be called again.

    `format` is `console` or `json`, `level` one of `LEVELS`; the stream is standard error unless given.
    Raises UsageError for another format or level. Logging itself raises nothing: a line that cannot be written is lost.
    """
    if level not in LEVELS:
        raise UsageError(f"log level {level!r} is unknown; take one of {', '.join(LEVELS)}")
    threshold = LEVELS[level]
    render: Processor
    if format == "console":
        stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        render = _render_console
    elif format == "json":
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        render = structlog.processors.JSONRenderer(default=str)
    else:
        raise UsageError(f"log format {format!r} is unknown; take console or json")
    render = _hiding(render)
    stream = cast(TextIO, _Careless(sys.stderr if stream is None else stream))
    common: list[Processor] = [
        structlog.processors.add_log_level,
        stamp,
        structlog.processors.format_exc_info,  # as Python prints them; rich's and the dictionaries show variables
    ]
    structlog.configure(
        processors=[*common, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,  # module-level loggers must follow a second call
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
            foreign_pre_chain=[_name_component, *common],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    logging.getLogger("quic").setLevel(logging.ERROR)  # qh3 warns of every goodbye; our own lines tell those apart


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger that says where its lines come from; follows `configure` whenever that is called."""
    return cast(FilteringBoundLogger, structlog.get_logger(component=name))


def without_invitations(text: str) -> str:
    """A text for others, without the invitation that somebody may have put where something else belongs."""
    return _INVITATION.sub("softlan1_...", text)


class _Careless:
    """A stream that takes everything: who logs must not pay for a full disk, or for a reader that went away."""

    def __init__(self, stream: TextIO | None) -> None:
        """None is for a process that has no standard error."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose it."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):  # of a stream that was closed
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what the stream has kept back, or let it keep that."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()


def _hiding(render: Processor) -> Processor:
    """The last step for each line."""

    def hide(logger: WrappedLogger, method: str, event: EventDict) -> str:
        line = str(render(logger, method, event))
        return without_invitations(line) if "softlan1_" in line else line

    return hide


def _name_component(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say of a standard logger's record where it comes from, as `get_logger` does."""
    event["component"] = event["_record"].name
    return event


def _render_console(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """`12:34:56 info    relay: peer joined  room=den peer=2`, a traceback on the lines after it."""
    members: MutableMapping[str, Any] = dict(event)
    time, level, text = (str(members.pop(key, "")) for key in ("timestamp", "level", "event"))
    name = members.pop("component", None)
    traceback = members.pop("exception", None)
    line = f"{time} {level:<7} {name + ': ' if name else ''}{_printable(text)}"
    if members:
        line += "  " + " ".join(f"{key}={_value(value)}" for key, value in members.items())
    return "\n".join((line, *map(_printable, str(traceback).split("\n")))) if traceback else line


def _value(value: object) -> str:
    """A value as it is, or quoted when its end would not be seen."""
    text = str(value)
    plain = text.isprintable()
    return text if text and plain and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=not plain)


def _printable(text: str) -> str:
    """Escape what could move the cursor: some texts were written by the other side."""
    return text if text.isprintable() else json.dumps(text)[1:-1]
