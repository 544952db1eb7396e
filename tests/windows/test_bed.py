"""What the Windows test bed is made of, and what happens where it cannot be made."""

import re
import sys
from pathlib import Path

import pytest
from tests.windows.bed import needs, wheels
from tests.windows.inside import bench

BED = Path(wheels.__file__).parent
LOCK = Path(__file__).parents[2] / "requirements" / "dev.txt"


def test_the_lock_is_read_as_on_windows() -> None:
    kept = wheels.windows_part(LOCK.read_text())
    names = {line.partition("==")[0] for line in kept.splitlines()}
    assert {"qh3", "cryptography", "pytest", "colorama"} <= names  # the last one is for Windows alone
    assert not names & {"pyroute2", *wheels.UNUSED}
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+( --hash=sha256:[0-9a-f]{64})+", line) for line in kept.splitlines())


def test_the_python_dlls_are_pinned() -> None:
    assert re.search(
        r"^panda3d==\S+ \\\n +--hash=sha256:[0-9a-f]{64}$", (BED / "panda3d.txt").read_text(), re.MULTILINE
    )


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no apt-get either
    assert {"wine", "gcc-mingw-w64-x86-64"} <= set(needs.missing())


def test_another_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    (reason,) = needs.missing()
    assert reason.startswith("Python 3.11 (this is 3.13")


def test_the_figures_of_c_and_python_are_the_same() -> None:
    header = (BED / "c" / "tap_bed.h").read_text()
    registry = (BED / "windows.reg").read_text()
    assert f'TAP_GUID L"{bench.GUID}"' in header
    assert f'"NetCfgInstanceId"="{bench.GUID}"' in registry
    assert bench.KEY.replace("\\", "\\\\") in header
    assert f'"Name"="{bench.NAME}"' in registry
    first_bytes = re.search(r"TAP_GUID_FIRST_BYTES (.*)", header)
    assert first_bytes is not None
    assert bytes(int(one, 16) for one in first_bytes[1].split(",")) == bench.PERMANENT_MAC[2:]
