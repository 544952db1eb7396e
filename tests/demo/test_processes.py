import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from softlan.demo.processes import Process, end_pids, find_tool, wait_for
from softlan.errors import HostError


def python(tmp_path: Path, program: str) -> Process:
    return Process("it", [sys.executable, "-c", program], tmp_path / "it.log")


def test_what_a_process_says_is_kept_and_its_status_told(tmp_path: Path) -> None:
    process = python(tmp_path, "import sys; print('out'); sys.stdout.flush(); sys.exit('err')")
    assert process.finish(10) == 1
    assert process.output() == "out\nerr\n"
    assert process.tail(1) == ["err"]


def test_a_second_process_with_the_same_log_reads_its_own_part(tmp_path: Path) -> None:
    python(tmp_path, "print('first')").finish(10)
    second = python(tmp_path, "print('second')")
    second.finish(10)
    assert second.output() == "second\n"
    assert second.log.read_text() == "first\nsecond\n"


def test_events_are_found_among_other_lines(tmp_path: Path) -> None:
    process = python(
        tmp_path, r"""print('{"event": "joined", "n": 1}\njoined\n{"joined\n{"event": "x"}\n{"event": "joined"}')"""
    )
    process.finish(10)
    assert process.events("joined") == [{"event": "joined", "n": 1}, {"event": "joined"}]
    assert process.events("joined", skip=1) == [{"event": "joined"}]


def test_waiting_ends_at_once_when_the_process_does(tmp_path: Path) -> None:
    process = python(tmp_path, "import sys; sys.exit('no such interface: lan7')")
    with pytest.raises(HostError, match="it ended with status 1: no such interface: lan7"):
        process.wait_for("joined", lambda: process.events("joined"), 30)


def test_waiting_has_a_bound_and_names_what_did_not_happen() -> None:
    with pytest.raises(HostError, match=r"the answer: not within 0\.05 s"):
        wait_for("the answer", lambda: False, 0.05)


def test_a_process_that_will_not_end_is_killed(tmp_path: Path) -> None:
    process = python(
        tmp_path,
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()",
    )
    process.wait_for("deaf", lambda: "deaf" in process.output(), 10)
    assert process.stop(timeout=0.1) == -signal.SIGKILL


def test_processes_die_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "child.log")], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    with starter, starter.stdout:
        child = int(starter.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        starter.kill()
    wait_for("the child's end", lambda: not _runs(child), 10)


STARTER = """
import sys, signal
from pathlib import Path
from softlan.demo.processes import Process
program = "import signal; print('on', flush=True); signal.pause()"
child = Process("child", [sys.executable, "-c", program], Path(sys.argv[1]))
child.wait_for("on", lambda: "on" in child.output(), 10)
print(child.pid, flush=True)
signal.pause()
"""


def test_others_processes_are_ended_with_force_if_need_be() -> None:
    deaf = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()",
        ],
        stdout=subprocess.PIPE,
    )
    assert deaf.stdout is not None
    with deaf, deaf.stdout:
        deaf.stdout.readline()
        end_pids(lambda: [] if deaf.poll() is not None else [deaf.pid], timeout=0.2)
        assert deaf.returncode == -signal.SIGKILL


def test_a_tool_is_found_outside_of_a_users_path_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    find_tool.cache_clear()
    assert os.access(find_tool("setpriv"), os.X_OK)
    with pytest.raises(HostError, match="the command no-such-tool is missing"):
        find_tool("no-such-tool")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
