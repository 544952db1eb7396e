"""This machine's processors, and what they did: by process, in all, and whether others are at work. See proc(5)."""

import os
import re
import time
from collections.abc import Iterable

_TICK = os.sysconf("SC_CLK_TCK")
_PROCESSORS = os.cpu_count() or 1
_KTHREADD = "2"


def process_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes so far, all threads, user and system. One that has ended counts nothing."""
    return sum(sum(map(int, fields[11:13])) for pid in pids if (fields := _stat(pid))) / _TICK


def resident_megabytes(pids: Iterable[int]) -> float:
    """Memory of these processes that is in RAM (VmRSS), in MB of 1,000,000 bytes; shared pages count in each."""
    kilobytes = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/status").splitlines():
            if line.startswith("VmRSS:"):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024 / 1e6


def others_seconds(ours: Iterable[int]) -> float:
    """Processor time so far of all processes but these, this one and the kernel's; their ended children included."""
    skipped = {os.getpid(), *ours}
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) not in skipped]
    return sum(sum(map(int, stat[11:15])) for pid in pids if (stat := _stat(pid)) and stat[1] != _KTHREADD) / _TICK


def processors() -> str:
    """Tell how many there are, and of what kind, where Linux names it; on ARM it does not."""
    kind = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return f"{_PROCESSORS} processors ({kind[1] if kind else 'of no name'})"


def wait_quiet(patience: float, limit: float = 0.04) -> float:
    """Wait until the processors were busy for at most `limit` of half a second; return how busy they were last.

    Gives up waiting after `patience` seconds: then the answer is above `limit`.
    """
    end = time.monotonic() + patience
    while True:
        before, started = _idle_seconds(), time.monotonic()
        time.sleep(0.5)
        idle = (_idle_seconds() - before) / ((time.monotonic() - started) * _PROCESSORS)
        busy = max(0.0, 1.0 - idle)
        if busy <= limit or time.monotonic() > end:
            return busy


def _idle_seconds() -> float:
    # idle and iowait; a tick that the hypervisor gave to somebody else (steal) is not ours, so it counts as busy.
    return sum(map(int, _read("/proc/stat").split(maxsplit=10)[4:6])) / _TICK


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on: the second, the name, may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # it has ended
        return ""
