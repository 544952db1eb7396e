"""Files of state: nobody else's to read, and there after a power cut, on Linux and on Windows.

Modes are Linux's. On Windows a file has its directory's access list, and the usual place for state is the user's own.
"""

import errno
import os
import sys
from pathlib import Path

from softlan.host.kernel32 import move_through


def private_directory(directory: Path) -> None:
    """Make `directory`, and what is missing above it, for us alone (0700), whatever the umask. Raises OSError.

    One that is there stays as it is: it is somebody's choice, such as a service manager's.
    """
    missing = [directory, *directory.parents]
    while missing and missing[-1].exists():
        missing.pop()
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        if sys.platform != "win32":
            each.chmod(0o700)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))


def write_private(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a whole file that only we may read (0600), whatever the umask. Raises OSError.

    It is on the disk when this returns, unless `sync` says that nobody minds. It is always a new file: one that is
    there is removed, as is a link, since somebody else may own it or hold it open.
    """
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if sys.platform != "win32":
            os.fchmod(file.fileno(), 0o600)
        file.write(text)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def replace_file(new: Path, old: Path) -> None:
    """Let `new`, which is on the disk already, take the place of `old` in one step. Raises OSError.

    On Linux follows `sync_directory`; on Windows the entry is on the disk when this returns.
    """
    if sys.platform == "win32":
        move_through(new, old)
    else:
        new.replace(old)


def sync_directory(directory: Path) -> None:
    """Write the entries of `directory` to the disk (fsync(2)). Windows has no call for it. Raises OSError."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
