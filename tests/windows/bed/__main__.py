"""Builds the bed and runs what runs in it.

    python -m tests.windows.bed                                          # all of `make test-windows`
    python -m tests.windows.bed python -m pytest tests/windows/inside    # the Windows Python, in a fresh Windows

Where the bed cannot be had, all of it is skipped, and what is missing is named.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from tests.windows.bed import needs
from tests.windows.bed.build import PYTHON, ROOT, build, fresh_windows

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci")
INSIDE = ("--confcutdir=tests/windows", "tests/windows/inside")
OUTSIDE = "tests/windows/outside"
SHARED = (
    "--noconftest",  # what it has is for Linux
    "tests/client/test_console.py",
    "tests/client/test_diagnostics.py",
    "tests/client/test_platform_windows.py",
    "tests/client/test_session.py",
    "tests/ctrl",
    "tests/device/test_overlapped.py",
    "tests/device/test_tap_adapters.py",
    "tests/device/test_tap_restart.py",
    "tests/device/test_tap_windows.py",
    "tests/device/test_win32.py",
    "tests/host/test_guard_settings.py",
    "tests/host/test_plan.py",
    "tests/host/test_scm.py",
    "tests/host/test_winapi.py",
    "tests/host/test_windows.py",
    "tests/obs",
    "tests/proto/test_mac.py",
)
"""Tests of `make test` that say something on Windows too: its own parts, and what both systems share."""

LIMIT = 300.0
"""Seconds for one run in Wine; one that hangs is ended."""


def main() -> int:
    """Return the exit status."""
    if lacking := needs.missing():
        print(f"SKIPPED: the Windows tests; missing here: {', '.join(lacking)}", flush=True)
        return 0
    build()
    if sys.argv[1:2] == ["python"]:
        return windows_python(*sys.argv[2:])
    steps = (
        ("in Windows: what is Windows' own", lambda: windows_python(*PYTEST, *INSIDE)),
        ("in Windows: what both systems share", lambda: windows_python(*PYTEST, *SHARED)),
        ("the whole client, at the demo's party", party),
    )
    return max([timed(title, run) for title, run in steps])


def timed(title: str, run: Callable[[], int]) -> int:
    """Run one part, between two lines about it."""
    print(f"== {title}", flush=True)
    started = time.monotonic()
    status = run()
    print(f"== {time.monotonic() - started:.0f} s", flush=True)
    return status


def windows_python(*arguments: str) -> int:
    """Run the Windows Python in a Windows of its own."""
    with fresh_windows() as wine:
        return wine.run(str(PYTHON / "python.exe"), *arguments, timeout=LIMIT)


def party() -> int:
    """Run the tests on Linux that drive a Windows PC."""
    environment = os.environ | {"SOFTLAN_WINDOWS_BED": "1"}
    command = [sys.executable, *PYTEST, "--durations=5", OUTSIDE]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=2 * LIMIT).returncode


if __name__ == "__main__":
    sys.exit(main())
