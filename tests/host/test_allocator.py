"""A process begins anew with a library, once, and only where nothing else is preloaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.tools import unavailable

from softlan.demo.processes import Process, environment
from softlan.host.allocator import begin_anew_with, find_tcmalloc

STAND_IN = "libBrokenLocale.so.1"  # part of every glibc, and hardly ever in use

# What it says twice was begun twice. At last: whether the library is there, and what is handed on to children.
PROGRAM = """
import os, sys
from pathlib import Path
from softlan.host.allocator import begin_anew_with
print("begun", os.getpid(), *sys.argv[1:], flush=True)
library = Path(sys.argv[1])
begin_anew_with(library)
print(str(library) in Path("/proc/self/maps").read_text(), os.environ.get("LD_PRELOAD"))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def run(*arguments: str, **variables: str) -> list[str]:
    """Run the program above; the lines it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library that nobody has loaded."""
    found = [Path(line.split()[-1]).with_name(STAND_IN) for line in maps(os.getpid()) if "/libc.so.6" in line]
    if not found or not found[0].exists():
        unavailable(f"there is no {STAND_IN}")
    copy = tmp_path / "library.so"
    copy.write_bytes(found[0].read_bytes())
    return copy


def maps(pid: int) -> list[str]:
    """What a process has mapped, a line each."""
    return Path(f"/proc/{pid}/maps").read_text().splitlines()


def test_it_begins_anew_once_as_the_same_process_with_the_same_words(library: Path) -> None:
    first, second, last = run(str(library), "two words", "")
    assert first == second
    assert first.endswith(f"{library} two words ")
    assert last == "True None"


@pytest.mark.parametrize("preloaded", ["", STAND_IN])
def test_what_is_preloaded_already_stays(library: Path, preloaded: str) -> None:
    _, last = run(str(library), LD_PRELOAD=preloaded)
    assert last == f"False {preloaded}"


def test_without_a_library_or_where_it_cannot_it_goes_on_as_it_is(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(library.with_name("no-python")))
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    begin_anew_with(None)
    begin_anew_with(library)
    assert "LD_PRELOAD" not in os.environ


def test_a_relay_has_tcmalloc(tmp_path: Path) -> None:
    if find_tcmalloc() is None:
        unavailable("libtcmalloc-minimal4 is not installed")
    words = ("relay", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state"), "--log-format", "json")
    relay = Process("relay", [sys.executable, "-m", "softlan", *words], tmp_path / "relay.log")
    try:
        relay.wait_for("listening", lambda: relay.events("relay.listening"), 20)
        assert any("libtcmalloc_minimal" in line for line in maps(relay.pid))
    finally:
        relay.stop()
