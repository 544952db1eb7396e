"""Commands as processes: started with their output in a file, watched through it, ended within a bound."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from softlan.errors import HostError

_POLL = 0.02  # seconds; short beside what is waited for, and no load
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"

_T = TypeVar("_T")


class Process:
    """A command whose standard output and error go to the file `log`. `name` is what messages call it.

    It has a session of its own, so that Ctrl-C at the terminal is ours to handle. Unless `outlive` is set
    it dies with the thread that started it, even when that is killed (PR_SET_PDEATHSIG, prctl(2), set by
    setpriv(1)).
    """

    def __init__(self, name: str, argv: list[str], log: Path, *, outlive: bool = False) -> None:
        self.name = name
        self.log = log
        bound = [] if outlive else [find_tool("setpriv"), "--pdeathsig", "KILL", "--"]
        with log.open("ab") as output:
            self._start = output.tell()
            try:
                self._popen = subprocess.Popen(
                    [*bound, *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment(),
                    start_new_session=True,
                )
            except OSError as error:
                raise HostError("start", f"cannot start {name}: {error}") from error

    @property
    def pid(self) -> int:
        """The process id; that of the command itself."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """Return what it has said so far."""
        with self.log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="replace")

    def events(self, event: str, skip: int = 0) -> list[dict[str, object]]:
        """Return the JSON log objects with this `event`, less the first `skip`; other lines are ignored."""
        found = []
        for line in self.output().splitlines():
            if event in line:
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if isinstance(record, dict) and record.get("event") == event:
                        found.append(record)
        return found[skip:]

    def tail(self, lines: int = 8) -> list[str]:
        """Return the last lines it said."""
        return self.output().splitlines()[-lines:]

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; fine when it has ended."""
        self._popen.send_signal(number)

    def wait_for(self, what: str, condition: Callable[[], _T | None], timeout: float) -> _T:
        """Wait like `wait_for`, but fail at once when the process ends first."""

        def still_running() -> _T | None:
            status = self.status
            value = condition()
            if not value and status is not None:
                last = next((line for line in reversed(self.tail()) if line.strip()), "it said nothing")
                raise HostError("wait", f"{self.name} ended with status {status}: {last}")
            return value

        return wait_for(f"{self.name}: {what}", still_running, timeout)

    def finish(self, timeout: float) -> int:
        """Wait until it ends by itself and return its exit status."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise HostError("wait", f"{self.name} did not end within {timeout:g} s") from None

    def stop(self, timeout: float = 5.0) -> int:
        """Ask it to end (SIGTERM), kill it after `timeout` seconds; return the exit status."""
        self._popen.terminate()
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()


def wait_for(what: str, condition: Callable[[], _T | None], timeout: float) -> _T:
    """Ask `condition` until it answers something true; return that. Errors: `HostError` after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise HostError("wait", f"{what}: not within {timeout:g} s")
        time.sleep(_POLL)
    return value


def end_pids(pids: Callable[[], list[int]], timeout: float = 3.0) -> None:
    """End processes that are not our children: SIGTERM, and after `timeout` seconds SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in (left := pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(HostError):
            if not left or wait_for("end", lambda: not pids(), timeout):
                return


@functools.cache
def find_tool(name: str) -> str:
    """Return the path of a system command. Errors: `HostError` that names the missing command."""
    found = shutil.which(name, path=environment()["PATH"])
    if found is None:
        raise HostError("find tool", f"the command {name} is missing: `make setup` as root installs it")
    return found


def environment() -> Mapping[str, str]:
    """Return our environment with the system directories on PATH (a user's PATH on Debian lacks them)."""
    return os.environ | {
        "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:{_SYSTEM_PATH}",
        "LC_ALL": "C.UTF-8",
    }
