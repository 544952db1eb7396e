"""Asks Windows by PowerShell what no plain call answers, without building a command line from anyone's words.

The scripts are constants; what varies goes in as environment variables, so nothing has to be quoted, and nothing
that a person has named an adapter can become a command.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, Protocol

from softlan.errors import HostError
from softlan.host.kernel32 import system_directory

TIMEOUT = 60.0  # seconds; a cold start on a slow disk takes ten

# PSModulePath is inherited: PowerShell 7's leads to modules that 5.1 cannot load, and anybody's to anybody's modules.
_PROLOGUE = (
    "$ErrorActionPreference = 'Stop'; $env:PSModulePath = $PSHOME + '\\Modules'; "
    "[Console]::OutputEncoding = [Text.Encoding]::UTF8; "
)


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    status: int
    out: str
    err: str


class Runner(Protocol):
    """Runs a program."""

    def __call__(self, argv: list[str], variables: Mapping[str, str]) -> Done:
        """Run `argv`, with `variables` added to the environment, and wait. Raises OSError and TimeoutExpired."""
        ...


def run_process(argv: list[str], variables: Mapping[str, str]) -> Done:
    """The real `Runner`. Raises HostError where there is no Windows."""
    if sys.platform != "win32":
        raise HostError("platform", f"unsupported platform: PowerShell is asked on Windows, not on {sys.platform}")
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
        env={**os.environ, **variables},
        creationflags=subprocess.CREATE_NO_WINDOW,
    )
    return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


class PowerShell:
    """Windows PowerShell 5.1, which every Windows 10 and 11 has; by its full path, as an administrator should."""

    def __init__(self, runner: Runner = run_process, system: str | None = None) -> None:
        """`system` is the directory of Windows' own programs; None asks Windows, when one is to be run."""
        self._runner = runner
        self._system = system

    def run(self, script: str, **variables: str) -> str:
        """What `script` prints; it finds each of `variables` as ``$env:NAME``. Raises HostError."""
        try:
            program = str(PureWindowsPath(self._system or system_directory(), r"WindowsPowerShell\v1.0\powershell.exe"))
            argv = [program, "-NoLogo", "-NoProfile", "-NonInteractive", "-Command", _PROLOGUE + script]
            done = self._runner(argv, variables)
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:  # ValueError: a zero character in a name
            raise HostError("PowerShell", f"cannot ask PowerShell: {_one_line(str(error))}") from error
        if done.status != 0:
            said = _one_line(done.err) or _one_line(done.out) or f"status {done.status}"
            raise HostError("PowerShell", f"PowerShell refused: {said}")
        return done.out

    def ask(self, script: str, **variables: str) -> Any:
        """What `script` prints, read as JSON. Raises HostError."""
        out = self.run(script, **variables)
        try:
            return json.loads(out)
        except ValueError as error:
            raise HostError("PowerShell", f"PowerShell answered what we do not understand: {out[:80]!a}") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
