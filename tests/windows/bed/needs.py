"""What the bed needs of this machine, and how it comes by it."""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "/usr/lib/wine/wine64": "wine64",
    "wine": "wine",
    "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64",
}
"""Commands, and Debian's packages that have them. Nothing of the 32-bit half of Wine is needed."""

PYTHON = (3, 11)
"""The Python whose DLLs there are: its standard library has to be of the same version."""


def missing() -> list[str]:
    """Say what stands in the way of the bed, by name. As root, install what can be installed first."""
    if sys.version_info[:2] != PYTHON:
        here, wanted = (".".join(map(str, version[:2])) for version in (sys.version_info, PYTHON))
        return [f"Python {wanted} (this is {here}, and the standard library must fit the Windows DLLs)"]
    packages = _packages()
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing: {' '.join(packages)}", flush=True)
        _apt("update")
        _apt("install", "--no-install-recommends", "-y", *packages)
        packages = _packages()
    return packages


def _packages() -> list[str]:
    return [package for command, package in PACKAGES.items() if shutil.which(command) is None]


def _apt(*arguments: str) -> None:
    """Run apt-get; whether it worked shows in what is there afterwards."""
    subprocess.run(
        ["apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0", *arguments],
        check=False,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )
