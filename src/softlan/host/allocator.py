"""Another malloc on Linux: tcmalloc, where it is installed.

Every packet that passes is several pieces of memory, Python's and the QUIC core's; docs/design/performance.md has what
it brings to have them from there. A process cannot change its allocator, so it begins anew, once, with the library
preloaded (ld.so(8)): to all others the same process, with the same arguments, before it has done anything.
"""

import contextlib
import os
import sys
import sysconfig
from pathlib import Path

_LIBRARY = "libtcmalloc_minimal.so.4"
_PRELOAD = "LD_PRELOAD"


def find_tcmalloc() -> Path | None:
    """The library, if it is where Debian, Fedora and Arch have it."""
    usr = Path("/usr")
    places = (usr / "lib" / (sysconfig.get_config_var("MULTIARCH") or ""), usr / "lib64", usr / "lib")
    return next((place / _LIBRARY for place in places if (place / _LIBRARY).exists()), None)


def begin_anew_with(library: Path | None) -> None:
    """Begin this process anew with `library` preloaded; return if it has been, if there is none, or if it cannot be.

    Nor is it where anything is preloaded already; so `LD_PRELOAD=`, which is nothing, keeps the system's own malloc.
    What this process starts does not get the library handed on.
    """
    if sys.platform != "linux" or library is None:
        return
    if _PRELOAD in os.environ:
        if os.environ[_PRELOAD] == str(library):
            del os.environ[_PRELOAD]
        return
    with contextlib.suppress(OSError):  # as it is, it does the same
        words = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, words, {**os.environ, _PRELOAD: str(library)})
