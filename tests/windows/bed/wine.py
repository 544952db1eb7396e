"""Windows programs under Wine: in a prefix of the bed's own, each run bounded, and nothing left running."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wine:
    """One Wine prefix: a registry, a drive C, and while anything runs in it a wineserver of its own."""

    prefix: Path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return our environment for a program in this prefix, and `more`."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WINE"))}
        return ours | {
            "WINEPREFIX": str(self.prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree=;mshtml=",  # else the first start asks to download these two
            **(more or {}),
        }

    def run(self, *argv: str, timeout: float, quiet: bool = False, more: Mapping[str, str] | None = None) -> int:
        """Run a Windows program and return its exit status; past `timeout` seconds it is killed, and TimeoutExpired.

        What it prints is shown as it comes, or not at all with `quiet`. It goes through a pipe, since Windows programs
        are particular about what else their output may be.
        """
        with subprocess.Popen(
            ["wine", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else subprocess.STDOUT,
            env=self.environment(more),
            start_new_session=True,
        ) as process:
            killer = threading.Timer(timeout, _kill, [process])
            killer.start()
            try:
                for line in process.stdout or ():
                    sys.stdout.buffer.write(line.replace(b"\r\n", b"\n"))
                    sys.stdout.flush()
                status = process.wait()
            except BaseException:
                _kill(process)
                raise
            finally:
                in_time = killer.is_alive()
                killer.cancel()
        if not in_time:
            raise subprocess.TimeoutExpired(argv, timeout)
        return status

    def boot(self, timeout: float = 120) -> None:
        """Make the prefix, or bring it up to date."""
        self.run("wineboot", "--init", timeout=timeout, quiet=True)

    def settle(self, timeout: float = 30) -> None:
        """Wait until all that ran has ended by itself and the registry is on disk; what does not end is ended."""
        try:
            subprocess.run(["wineserver", "-w"], env=self.environment(), check=False, timeout=timeout)
        except subprocess.TimeoutExpired:
            self.end()

    def end(self) -> None:
        """End everything that runs in this prefix, and nothing else."""
        subprocess.run(["wineserver", "-k"], env=self.environment(), check=False, capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["wineserver", "-w"], env=self.environment(), check=False, timeout=15)


@contextlib.contextmanager
def copied(prefix: Path, copy: Path) -> Iterator[Wine]:
    """A copy of a prefix in which nothing runs, for as long as the context lasts; then all that runs in it is ended.

    All but the registry are links to the files of the original: Wine does not write to those.
    """
    wine = Wine(copy)
    shutil.copytree(prefix, copy, symlinks=True, copy_function=os.link)
    for file in copy.glob("*.reg"):  # into a file with several links Wine writes directly
        file.unlink()
        shutil.copy2(prefix / file.name, file)
    try:
        yield wine
    finally:
        wine.end()
        shutil.rmtree(copy, ignore_errors=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program with what it has started on this machine; its Windows children are the wineserver's to end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
