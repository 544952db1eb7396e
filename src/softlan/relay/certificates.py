"""The relay's certificate as something that changes: read anew when its files change, and watched for its end."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softlan.errors import UsageError
from softlan.quic.trust import Credentials, load_credentials

LOOK_INTERVAL = 3.0  # seconds
WARN_BEFORE = datetime.timedelta(days=14)
WARN_INTERVAL = 86400.0  # seconds

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class PemFiles:
    """Where a chain and its key are, in PEM; may be one and the same file."""

    cert: Path
    key: Path

    def stamp(self) -> _Stamp:
        """What changes when one of them is written to, or another file takes its place."""
        return tuple(_stamp(path) for path in (self.cert, self.key))


class Certificates:
    """What newcomers are shown. Sessions that are up are never touched.

    `use` is the door's: it shows a certificate from then on, or raises UsageError. `log` is a structlog logger.
    `advice` says what to do when the certificate is about to end; `clock` gives the time in UTC.
    """

    def __init__(
        self,
        shown: Credentials,
        use: Callable[[Credentials], None],
        log: Any,
        *,
        files: PemFiles | None = None,
        advice: str,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self.shown = shown
        self._use = use
        self._log = log
        self._files = files
        self._advice = advice
        self._clock = clock
        self._next_look = 0.0
        self._next_warning = 0.0
        # Nothing of the files is known yet, so the first look reads them: they may have changed since the start.
        self._read: _Stamp | None = None
        self._refused: _Stamp | None = None
        self._warned: _Stamp | None = None

    @property
    def days_left(self) -> int:
        """Whole days until the certificate ends; negative when it has ended."""
        return self.shown.days_left(self._clock())

    def tick(self, now: float) -> None:
        """Look at the files and at the calendar, each in its time. `now` is in seconds, and only grows."""
        if now >= self._next_look:
            self._next_look = now + LOOK_INTERVAL
            self._look(asked=False)
        if now >= self._next_warning and self._ends_soon():
            self._next_warning = now + WARN_INTERVAL
            self._log.warning(
                "relay.certificate_ends",
                days_left=self.days_left,
                end=f"{self.shown.leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                advice=self._advice,
            )

    def reload(self) -> None:
        """Look at the files now, and say what came of it, as somebody has asked."""
        self._look(asked=True)

    def show(self, credentials: Credentials) -> None:
        """Show newcomers this one. Raises UsageError when it cannot be used; the old one stays then."""
        self._use(credentials)
        self.shown = credentials
        self._next_warning = 0.0
        self._tell("relay.certificate_changed")

    def _look(self, *, asked: bool) -> None:
        if self._files is None:
            if asked:
                self._tell("relay.certificate_kept")
            return
        stamp = self._files.stamp()
        if stamp == self._read and not asked:
            return
        # Certificate and key are written one after the other: what does not fit is only worth a word when it stays so.
        settled = asked or stamp == self._refused
        try:
            found = load_credentials(self._files.cert, self._files.key)
            if not found.holds(self._clock()):
                raise UsageError(
                    f"the certificate in {self._files.cert} is valid from {found.leaf.not_valid_before_utc:%Y-%m-%d} "
                    f"to {found.leaf.not_valid_after_utc:%Y-%m-%d}"
                )
            if found != self.shown:
                self.show(found)
            elif asked:
                self._tell("relay.certificate_kept")
        except UsageError as error:
            self._refused = stamp
            if settled and (asked or stamp != self._warned):
                self._warned = stamp
                self._log.warning("relay.certificate_refused", why=str(error), days_left=self.days_left)
        else:
            self._read = stamp
            self._refused = self._warned = None

    def _ends_soon(self) -> bool:
        leaf = self.shown.leaf
        # One of a few days or hours is renewed by a program, and only near its end late.
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        return leaf.not_valid_after_utc - self._clock() < min(WARN_BEFORE, life / 4)

    def _tell(self, event: str) -> None:
        end = f"{self.shown.leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        self._log.info(event, names=",".join(self.shown.names), end=end, days_left=self.days_left)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
