"""Keeps a certificate by ACME: the first one, and a new one whenever a third of its life is left."""

import asyncio
import contextlib
import datetime
import functools
import importlib.util
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softlan.errors import HostError, SoftlanError, UsageError
from softlan.net.address import HostPort
from softlan.net.passing import in_passing_thread
from softlan.quic.trust import Credentials, load_credentials
from softlan.relay.http01 import answering

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
FIRST_RETRY, LAST_RETRY = 60.0, 6 * 3600.0  # seconds; doubling. Let's Encrypt forgives five failures an hour
HTTP_PORT = HostPort("", 80)
CALENDAR = 60.0  # seconds between two looks at the calendar, which somebody may set
LINGER = 1.0
"""Seconds that the program's end waits for a thread that is at work.

One that waits for an answer may be left to the system. One that is at work in OpenSSL, as it is for a while before
that, must not be met there by OpenSSL's own clearing up at the process's exit, which ends in SIGSEGV.
"""


@dataclass(frozen=True)
class AcmeConfig:
    """Whose certificate to get, and from whom."""

    name: str
    """The relay's DNS name."""
    state_dir: Path
    email: str | None = None
    """For a new account: whom the CA may write to."""
    directory: str = LETS_ENCRYPT
    """URL of the ACME server's directory (RFC 8555, section 7.1.1)."""
    authorities: Path | None = None
    """PEM file of the CAs to trust in talking to that server; by default those that come with `requests`."""
    listen: HostPort = HTTP_PORT
    """Where to answer HTTP-01, by TCP. The server asks on port 80 of the name."""

    @property
    def directory_path(self) -> Path:
        """Where what belongs to this ACME server is kept: a trial's certificate must not be taken for a real one."""
        return self.state_dir / "acme" / re.sub(r"[^A-Za-z0-9.]+", "-", self.directory.partition("://")[2])[:100]

    @property
    def account_path(self) -> Path:
        """The account's private key."""
        return self.directory_path / "account.pem"

    @property
    def bundle_path(self) -> Path:
        """Key and chain, in one file so that they always fit together."""
        return self.directory_path / f"{self.name}.pem"


Obtain = Callable[[AcmeConfig, dict[str, bytes]], Credentials]
"""Gets a certificate, and blocks for that; what it is to be asked by HTTP-01 it puts into the dict, by path."""


def require_library() -> None:
    """Raise UsageError when the extra is not installed."""
    if importlib.util.find_spec("acme") is None:
        raise UsageError("--acme needs the library acme, which is not installed; pip install 'softlan[acme]'")


def renewal_due(credentials: Credentials, now: datetime.datetime) -> bool:
    """Whether a third of its life, or less, is left."""
    begin, end = credentials.leaf.not_valid_before_utc, credentials.leaf.not_valid_after_utc
    return now >= end - (end - begin) / 3


class Renewal:
    """Gets certificates, in a thread, with one attempt at a time; made in the running event loop."""

    def __init__(self, config: AcmeConfig, log: Any, obtain: Obtain | None = None) -> None:
        self._config = config
        self._log = log
        self._obtain = obtain if obtain is not None else _by_acme
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Try again at once, if it is waiting for that."""
        self._hurried.set()

    def kept(self) -> Credentials | None:
        """The certificate of last time, if it is still valid."""
        try:
            found = load_credentials(self._config.bundle_path, self._config.bundle_path)
        except UsageError:
            return None
        return found if found.holds(_today()) else None

    async def first(self) -> Credentials:
        """Get a certificate, however often that must be tried. Raises HostError when this machine is at fault."""
        self._log.info("acme.first", name=self._config.name, server=self._config.directory)
        return await self._get(patient=False)

    async def keep(self, shown: Credentials, show: Callable[[Credentials], None]) -> None:
        """Renew it for as long as the task lives; each new one goes to `show`, which may refuse it with UsageError."""
        while True:
            while not renewal_due(shown, _today()):
                await self._pause(CALENDAR)
            found = await self._get(patient=True)
            try:
                show(found)
                shown = found
            except UsageError as error:
                self._log.warning("acme.refused", why=str(error))
            if renewal_due(shown, _today()):  # it was refused, or the clock is wrong: the next one would be no better
                await self._pause(LAST_RETRY)

    async def _get(self, *, patient: bool) -> Credentials:
        delay = FIRST_RETRY
        while True:
            answers: dict[str, bytes] = {}
            try:
                async with answering(self._config.listen, answers):
                    work = functools.partial(self._obtain, self._config, answers)
                    found = await in_passing_thread(work, "acme", LINGER)
                self._log.info("acme.obtained", name=self._config.name, days_left=found.days_left(_today()))
                return found
            except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # answers go through libraries: whatever comes of them, a panic too
                if not patient and isinstance(error, HostError) and error.stage != "get certificate":
                    raise  # a port or a directory, which will not mend itself
                why = str(error) if isinstance(error, SoftlanError) else repr(error)[:300]
            wait = delay * random.uniform(0.9, 1.1)
            self._log.warning("acme.failed", why=why, again_in=f"{wait:.0f} s")
            await self._pause(wait)
            delay = min(2 * delay, LAST_RETRY)

    async def _pause(self, seconds: float) -> None:
        self._hurried.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), seconds)


def _by_acme(config: AcmeConfig, answers: dict[str, bytes]) -> Credentials:
    from softlan.relay.acme import obtain

    return obtain(config, answers)


def _today() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
