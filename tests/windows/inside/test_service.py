"""A real service: registered, started by the manager, stopped and removed by it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from softlan.errors import UsageError
from softlan.host import scm

PATIENCE = 30.0

BODY = """
import sys, threading
sys.path[:0] = {path!r}
from softlan.host import scm
log = open({log!r}, "a", buffering=1)
def work(control):
    stop = threading.Event()
    control.on_stop(stop.set)
    log.write("running\\n")
    stop.wait(60)
    log.write("stopping\\n")
    return 0
log.write(f"served {{scm.serve(work)}}\\n")
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The log of a service that is registered and started."""
    path, body = tmp_path / "service.log", tmp_path / "body.py"
    body.write_text(BODY.format(path=sys.path, log=str(path)))
    scm.install(subprocess.list2cmdline([sys.executable, str(body)]))
    yield path
    try:
        scm.remove()
    except UsageError:  # the test has removed it
        pass


def wait_for(log: Path, line: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (log.exists() and line in log.read_text().splitlines()):
        assert time.monotonic() < deadline, f"no {line!r} within {PATIENCE:g} s"
        time.sleep(0.05)


def test_a_services_life(log: Path) -> None:
    wait_for(log, "running")
    with pytest.raises(UsageError, match="exists already"):
        scm.install("x")
    scm.remove()
    wait_for(log, "served 0")
    assert log.read_text().splitlines() == ["running", "stopping", "served 0"]
    with pytest.raises(UsageError, match="there is no service"):
        scm.remove()
