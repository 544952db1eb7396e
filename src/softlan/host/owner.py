"""Which process made the changes on the host, and whether it still runs."""

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process, told from a later one with the same number (proc_pid_stat(5))."""

    pid: int
    started: int
    """Clock ticks between the boot and the start of the process: field 22 of its `stat`."""
    boot: str
    """The boot's UUID (`/proc/sys/kernel/random/boot_id`)."""

    def is_of_this_boot(self) -> bool:
        """Whether what it did to the kernel's tables can still be there."""
        return self.boot == _boot_id()

    def is_alive(self) -> bool:
        """Whether the process still runs; a zombie does not."""
        return self.is_of_this_boot() and _start_time(self.pid) == self.started


def this_process() -> Owner:
    """The owner that this process is."""
    pid = os.getpid()
    started = _start_time(pid)
    assert started is not None, "our own /proc entry has no start time"
    return Owner(pid, started, _boot_id())


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> int | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name, field 2, is in parentheses and may hold any others.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])
