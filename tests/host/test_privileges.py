"""What a process is left with, asked of the kernel: each case in a process of its own, since nothing comes back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs
from tests.support.tools import require_tool, require_user_namespaces, unavailable

from softlan.host.privileges import Capability, drop_privileges
from softlan.obs.logging import get_logger

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")

STRANGER = 12345
"""A user and a group that own nothing."""

DROP = """
import json, sys, threading
from pathlib import Path
from softlan.host.privileges import Capability, drop_privileges
from softlan.obs.logging import configure, get_logger
configure("json", "debug")
needed = frozenset(Capability[name] for name in sys.argv[2:])
drop_privileges(needed, Path(sys.argv[1]), get_logger("test"))
thread = threading.Thread(target=lambda: print(Path("/proc/thread-self/status").read_text()))
thread.start()
thread.join()
"""


def run(*argv: str, program: str = DROP, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", program, *argv], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


def sets(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """The sets of a thread that was started afterwards, as the kernel tells them (proc_pid_status(5))."""
    lines = (line.partition(":\t") for line in done.stdout.splitlines())
    return {key: int(value, 16) for key, _, value in lines if key.startswith("Cap") or key == "NoNewPrivs"}


def events(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, object]]:
    return {record["event"]: record for record in map(json.loads, done.stderr.splitlines())}


@pytest.fixture
def is_root() -> None:
    if os.geteuid():
        unavailable("needs root, to have something to give up")


@pytest.fixture
def setpriv(is_root: None) -> str:
    return require_tool("setpriv")


def test_nothing_is_kept_that_is_not_needed(is_root: None, tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert sets(done) == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0) | {"NoNewPrivs": 1}
    assert events(done).keys() == {"privileges"}
    assert events(done)["privileges"]["kept"] == "none"


def test_what_is_needed_is_kept_and_cannot_be_passed_on(is_root: None, tmp_path: Path) -> None:
    done = run(str(tmp_path / "not" / "there" / "yet"), "NET_ADMIN")
    only = 1 << Capability.NET_ADMIN
    assert sets(done) == {"CapInh": 0, "CapPrm": only, "CapEff": only, "CapBnd": 0, "CapAmb": 0, "NoNewPrivs": 1}
    assert events(done)["privileges"]["kept"] == "net_admin"


def test_another_program_gets_nothing_though_root_starts_it(is_root: None, tmp_path: Path) -> None:
    program = DROP + "import subprocess; subprocess.run(['cat', '/proc/self/status'])"
    after = run(str(tmp_path), "NET_ADMIN", program=program).stdout.rpartition("Name:\tcat")[2]
    assert "CapEff:\t0000000000000000" in after
    assert "CapPrm:\t0000000000000000" in after


def test_without_the_right_to_clear_the_bounding_set_all_else_is_done(setpriv: str, tmp_path: Path) -> None:
    done = run(str(tmp_path), "NET_ADMIN", wrapper=(setpriv, "--bounding-set", "-setpcap"))
    assert sets(done)["CapPrm"] == sets(done)["CapEff"] == 1 << Capability.NET_ADMIN
    assert sets(done)["CapBnd"] != 0
    assert sets(done)["NoNewPrivs"] == 1
    refused = events(done)["privileges.refused"]
    assert (refused["level"], refused["reason"]) == ("debug", "clear the bounding set: Operation not permitted")


def test_an_ordinary_user_with_ambient_capabilities_keeps_what_is_needed(setpriv: str, tmp_path: Path) -> None:
    both = "+net_admin,+net_raw"
    # With CAP_DAC_READ_SEARCH, Python is found wherever it is installed; it goes, or is said to stay for that.
    wrapper: tuple[str, ...] = (setpriv, f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
    wrapper += ("--inh-caps", f"{both},+dac_read_search", "--ambient-caps", f"{both},+dac_read_search")
    done = run("/nowhere", "NET_ADMIN", wrapper=wrapper)
    kept = str(events(done)["privileges"]["kept"]).split(",")
    assert kept[-1] == "net_admin"
    assert "net_raw" not in kept
    assert sets(done)["CapAmb"] == sets(done)["CapInh"] == 0
    assert sets(done)["CapPrm"] == sum(1 << Capability[name.upper()] for name in kept)


def test_one_without_any_has_none_and_nothing_fails(setpriv: str, tmp_path: Path) -> None:
    done = run(str(tmp_path), "NET_ADMIN", wrapper=(setpriv, "--bounding-set=-all", "--inh-caps=-all"))
    assert sets(done)["CapPrm"] == 0
    assert events(done)["privileges"]["kept"] == "none"


def test_root_of_a_user_namespace_gives_up_the_same(tmp_path: Path) -> None:
    require_user_namespaces()
    wrapper = (require_tool("unshare"), "--user", "--map-root-user", "--net")
    done = run(str(tmp_path), "NET_ADMIN", wrapper=wrapper)
    assert sets(done)["CapPrm"] == sets(done)["CapEff"] == 1 << Capability.NET_ADMIN
    assert sets(done)["CapBnd"] == 0


def test_where_the_state_is_somebody_elses_the_right_to_write_there_is_kept(is_root: None, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, STRANGER, STRANGER)
    program = DROP + "Path(sys.argv[1]).mkdir(); (Path(sys.argv[1]) / 'file').touch()"
    done = run(str(closed / "state"), "NET_ADMIN", program=program)
    assert events(done)["privileges"]["kept"] == "dac_override,net_admin"
    assert (closed / "state" / "file").exists()


def test_and_where_a_file_in_it_is(is_root: None, tmp_path: Path) -> None:
    (tmp_path / "identity.json").touch(mode=0o600)
    os.chown(tmp_path / "identity.json", STRANGER, STRANGER)
    assert events(run(str(tmp_path)))["privileges"]["kept"] == "dac_override"


def test_what_is_beside_a_directory_that_is_missing_is_not_its_state(is_root: None, tmp_path: Path) -> None:
    """As in a home directory that has somebody else's file in it."""
    (tmp_path / "theirs").touch(mode=0o600)
    os.chown(tmp_path / "theirs", STRANGER, STRANGER)
    assert events(run(str(tmp_path / "not" / "there" / "yet")))["privileges"]["kept"] == "none"


def test_files_that_are_read_again_and_are_somebody_elses(is_root: None, tmp_path: Path) -> None:
    """A relay has no state to keep, but certificates that others renew."""
    mine, theirs = tmp_path / "mine.pem", tmp_path / "theirs.pem"
    for file in (mine, theirs):
        file.touch(mode=0o600)
    os.chown(theirs, STRANGER, STRANGER)
    program = DROP.replace(
        'Path(sys.argv[1]), get_logger("test")', 'None, get_logger("test"), read_again=[Path(sys.argv[1])]'
    )
    program += "Path(sys.argv[1]).read_text()"
    assert events(run(str(mine), program=program))["privileges"]["kept"] == "none"
    assert events(run(str(theirs), program=program))["privileges"]["kept"] == "dac_read_search"


def test_where_the_program_is_somebody_elses_the_right_to_read_it_is_kept(is_root: None, tmp_path: Path) -> None:
    home = tmp_path / "home"
    package = home / "softlan"
    package.parent.mkdir()
    (home / "late.py").write_text("LATE = True\n")
    source = Path(sys.modules["softlan"].__file__ or "").parent
    subprocess.run(["cp", "-r", str(source), str(package)], check=True)
    os.chown(home, STRANGER, STRANGER)
    home.chmod(0o700)
    program = f"import sys; sys.path.insert(0, {str(home)!r})\n" + DROP + "import late; assert late.LATE"
    assert events(run(str(tmp_path), program=program))["privileges"]["kept"] == "dac_read_search"


def test_a_thread_that_was_there_before_does_not_go_unsaid(is_root: None, tmp_path: Path) -> None:
    program = DROP.replace(
        "needed =", "end = threading.Event(); threading.Thread(target=end.wait).start()\nneeded =", 1
    )
    kept = str(events(run(str(tmp_path), program=program + "end.set()"))["privileges"]["kept"])
    assert "net_admin" in kept.split(",")


def test_numpy_starts_no_thread(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    program = """
import os, sys
from softlan.host.privileges import one_thread
import softlan.gateway.service
one_thread()
import softlan.device.af_packet
print("numpy" in sys.modules, len(os.listdir("/proc/self/task")))
"""
    assert run(program=program).stdout.split() == ["True", "1"]


def test_elsewhere_that_is_a_line_of_the_debug_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    structlog.reset_defaults()  # of whatever another test has configured
    with capture_logs() as lines:
        drop_privileges(frozenset((Capability.NET_ADMIN,)), Path(), get_logger("test"))
    [line] = lines
    assert (line["event"], line["log_level"]) == ("privileges.unchanged", "debug")


# What a gateway does without any


def test_a_packet_socket_works_on_and_makes_its_ring_anew_without_any_capability(setpriv: str, tmp_path: Path) -> None:
    program = DROP.replace(
        "configure(",
        """
import subprocess
from softlan.device.af_packet import PacketSocket
subprocess.run("ip link add one type veth peer two; ip link set one up; ip link set two up", shell=True, check=True)
device, other = PacketSocket.open("one"), PacketSocket.open("two")
configure(""",
        1,
    )
    program += """
for ring in device._rings:
    ring.renew()
frame = bytes.fromhex("02005e100001" "02005e100002" "88b5") + bytes(50)
assert other.write_burst([frame]) == 1
while frame not in device.read_burst():
    pass
assert device.kernel_drops() == 0
device.close()
"""
    done = run(str(tmp_path), program=program, wrapper=(require_tool("unshare"), "--net"))
    assert sets(done)["CapPrm"] == 0


# Memory


def test_nobody_of_the_same_user_reads_our_memory(setpriv: str) -> None:
    program = """
import os, subprocess, sys
from softlan.host.privileges import hide_memory
def others_see():
    # The bounding set is kept out of it: only the user is the same.
    wrapper = [sys.argv[1], "--bounding-set=-all", "--inh-caps=-all"]
    return subprocess.run([*wrapper, "cat", f"/proc/{os.getpid()}/environ"], capture_output=True).returncode == 0
before = others_see() if os.environ.get("HAS_NONE") else None
hide_memory()
print(before, others_see(), open("/proc/self/stat").read() != "")
"""
    wrapper = (setpriv, "--bounding-set=-all", "--inh-caps=-all", "env", "HAS_NONE=1")
    assert run(setpriv, program=program, wrapper=wrapper).stdout.split() == ["True", "False", "True"]


def test_a_crash_leaves_no_core() -> None:
    program = """
import ctypes
from softlan.host.privileges import hide_memory
hide_memory()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE; core(5): without it there is no core dump
"""
    assert run(program=program).stdout == "0\n"
