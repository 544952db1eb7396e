"""Which process made the changes on the host, and whether it still runs."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from softlan.host.kernel32 import creation_time

_PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process, told from a later one with the same number."""

    pid: int
    started: int
    """When: on Linux clock ticks after the boot, field 22 of its `stat` (proc_pid_stat(5)); on Windows its creation
    time, in units of 100 ns since 1601."""
    boot: str
    """On Linux the boot's UUID (`/proc/sys/kernel/random/boot_id`). Windows has no such name for it, and the creation
    time, by the clock on the wall, tells processes of two boots apart as well: there it is empty."""

    def is_of_this_boot(self) -> bool:
        """Whether what it did to the kernel's tables can still be there; on Windows that is always thought possible."""
        return self.boot == _boot_id()

    def is_alive(self) -> bool:
        """Whether the process still runs; a zombie does not."""
        return self.is_of_this_boot() and _start_time(self.pid) == self.started


def this_process() -> Owner:
    """The owner that this process is."""
    pid = os.getpid()
    started = _start_time(pid)
    assert started is not None, "this process has no start time"
    return Owner(pid, started, _boot_id())


def _boot_id() -> str:
    if sys.platform == "win32":
        return ""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> int | None:
    if sys.platform == "win32":
        return creation_time(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name, field 2, is in parentheses and may hold any others.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])
