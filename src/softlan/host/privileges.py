"""Least privilege on Linux: what a program no longer needs once its interfaces are open (capabilities(7)).

A gateway needs nothing more: its packet sockets stay open, and making a ring anew or asking for an interface asks for
no capability. A client keeps CAP_NET_ADMIN: the relay's route is pinned anew when interfaces come and go, and the
TAP's MTU follows the room's. A relay needs none once its port is open, but with ACME CAP_NET_BIND_SERVICE, for TCP
port 80 at each renewal.

The user stays who it is. State files are root's when a program was started as root, and must be written to the end
(the journal, to put the host back); another user would need them handed over, and the next start as root would find
them in somebody else's hand. So a process of root's that was taken over may still write what root owns. Who wants more
starts it as an ordinary user with the capabilities (`AmbientCapabilities=` of systemd.exec(5)); that works as well.
"""

import contextlib
import ctypes
import enum
import errno
import os
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from structlog.typing import FilteringBoundLogger


class Capability(enum.IntEnum):
    """Those that we may keep, by their numbers in linux/capability.h."""

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12


_SETPCAP = 8

# linux/prctl.h
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

# capset(2): the header (version 3, this thread), and for each half of the numbers effective, permitted, inheritable.
_HEADER = struct.pack("=Ii", 0x20080522, 0)
_SETS = struct.Struct("=6I")


def hide_memory() -> None:
    """Let nobody but an administrator read this process' memory and environment, which may hold a room's secret.

    It leaves no core dump, and other processes of the same user cannot trace it or open its files in /proc (prctl(2),
    PR_SET_DUMPABLE). Does nothing where there is no such thing.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def one_thread() -> None:
    """Let numpy, if it is imported from now on, start no threads, as its BLAS does for each processor.

    Each thread has capabilities of its own, those of the one that started it: such as are there already would keep
    theirs in `drop_privileges`. We have no work for them.
    """
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"


def drop_privileges(
    needed: frozenset[Capability],
    state_dir: Path | None,
    log: FilteringBoundLogger,
    *,
    read_again: Sequence[Path] = (),
) -> None:
    """Keep `needed` and nothing else, now and in programs that this one might start; say what is really kept.

    Root without capabilities is an ordinary user among files. Where `state_dir` is another user's and closed to us,
    CAP_DAC_OVERRIDE is kept as well; where the files in `read_again` are, or this program itself, as in a home
    directory that sudo was used from, CAP_DAC_READ_SEARCH, since not all of it is loaded yet. Raises nothing: what the
    system does not allow is said in a line of the debug log. It is for this thread and those that it starts from now
    on; what others have shows in `kept`.
    """
    if sys.platform != "linux":
        log.debug("privileges.unchanged", reason=f"{sys.platform} has no capabilities of this kind")
        return
    complaints: list[str] = []

    def attempt(what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:
            complaints.append(f"{what}: {error.strerror}")

    kept = sum(1 << capability for capability in needed)
    attempt("try without", lambda: _reduce(kept, keep_permitted=True))
    if not all(_may(file, os.R_OK) for file in (Path(__file__), Path(os.__file__), *read_again)):
        kept |= 1 << Capability.DAC_READ_SEARCH
    if state_dir is not None and not _is_ours(state_dir):
        kept |= 1 << Capability.DAC_OVERRIDE
    attempt("clear the ambient set", lambda: _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    attempt("clear the bounding set", _clear_bounding_set)
    attempt("set no_new_privs", lambda: _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    attempt("drop capabilities", lambda: _reduce(kept))
    if complaints:
        log.debug("privileges.refused", reason="; ".join(complaints))
    log.info("privileges", kept=_names(_permitted_anywhere()))


def _is_ours(directory: Path) -> bool:
    """Whether, with what is effective now, state can be kept in `directory`, and what is in there read and replaced.

    While it is missing, the first directory above it counts, where it is to be made; what else is in there does not.
    """
    try:
        files = [entry for entry in directory.iterdir() if entry.is_file()] if directory.exists() else []
        while not directory.exists():
            directory = directory.parent
    except OSError:
        return False
    return _may(directory, os.R_OK | os.W_OK | os.X_OK) and all(_may(file, os.R_OK | os.W_OK) for file in files)


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _clear_bounding_set() -> None:
    """Nothing can be gained by starting another program, not even by root. Raises OSError: it needs CAP_SETPCAP."""
    _set(effective=1 << _SETPCAP & _permitted(), permitted=_permitted())
    number = 0
    while (is_in := _prctl_read(number)) is not None:
        if is_in:
            _call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1


def _reduce(kept: int, *, keep_permitted: bool = False) -> None:
    """Leave no more than `kept`. Raises OSError."""
    permitted = _permitted()
    _set(effective=kept & permitted, permitted=permitted if keep_permitted else kept & permitted)


def _set(*, effective: int, permitted: int) -> None:
    low, high = 0xFFFFFFFF, 32
    sets = _SETS.pack(effective & low, permitted & low, 0, effective >> high, permitted >> high, 0)
    _call("capset", _HEADER, sets)


def _permitted() -> int:
    """The permitted set, by its bits; 0 when the system does not say."""
    sets = ctypes.create_string_buffer(_SETS.size)
    with contextlib.suppress(OSError):
        _call("capget", ctypes.create_string_buffer(_HEADER, len(_HEADER)), sets)
    _, low, _, _, high, _ = _SETS.unpack(sets.raw)
    return int(low | high << 32)


def _permitted_anywhere() -> int:
    """What some thread of ours is permitted, as the kernel tells it (proc_pid_status(5))."""
    kept = _permitted()
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # it has ended
                for line in (task / "status").read_text(errors="replace").splitlines():
                    if line.startswith("CapPrm:"):
                        kept |= int(line.partition(":")[2], 16)
    return kept


def _names(kept: int) -> str:
    """`net_admin`, `none`; a number for one that we never meant to keep."""
    names = {int(capability): capability.name.lower() for capability in Capability}
    numbers = [number for number in range(64) if kept >> number & 1]
    return ",".join(names.get(number, str(number)) for number in numbers) or "none"


def _prctl_read(number: int) -> bool | None:
    """Whether a capability is in the bounding set; None when the kernel knows no such."""
    try:
        return bool(_call("prctl", _PR_CAPBSET_READ, number, 0, 0, 0))
    except OSError:
        return None


def _call(function: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """A call of the C library; what it returns. Raises OSError."""
    call = getattr(ctypes.CDLL(None, use_errno=True), function, None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result = int(call(*(ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
