"""Directory entries that survive a power cut, on Linux and on Windows."""

import os
import sys
from pathlib import Path

from softlan.host.kernel32 import move_through


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
