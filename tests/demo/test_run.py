"""The demo as a person runs it; each of these builds the whole party with the real commands."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.tools import require_tool, require_user_namespaces, unavailable

from softlan.demo import netns, userns
from softlan.demo.processes import Process
from softlan.errors import HostError

pytestmark = pytest.mark.netns

DEMO = (sys.executable, "-m", "softlan", "demo")


@pytest.fixture(autouse=True)
def can_be_held() -> None:
    for tool in ("ip", "ping", "dnsmasq", "udhcpc", "setpriv", "unshare", "nsenter"):
        require_tool(tool)
    try:
        userns.check_tun()
    except HostError as error:
        unavailable(str(error))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo puts its temporary directory: a new one, so that what is left can be seen."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def kept(temporary: Path) -> Iterator[str]:
    """What a demo that keeps its party prints; the party is ended (and any other that is kept here) at the end."""
    done = subprocess.run([*DEMO, "--keep"], capture_output=True, text=True, check=False, timeout=60)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield done.stdout
    finally:
        subprocess.run([*DEMO, "--end"], capture_output=True, check=True, timeout=60)


def test_a_party_that_is_kept_can_be_looked_at_and_ended(kept: str, temporary: Path) -> None:
    assert re.search(r"RTT through the tunnel .* 10 of 10 answered", kept)
    assert "sealed: the relay cannot read it" in kept
    assert re.search(r"frames .* [1-9]\d* forwarded", kept)
    (look,) = re.findall(r"ip netns exec (sl\d+-)player ip address show (\w+)", kept)
    player = netns.Namespace(look[0] + "player")
    link = player.link(look[1])
    assert link is not None
    assert any(address.startswith("10.77.0.") for address in link.addresses)
    running = [pid for namespace in netns.labs()[_owner(look[0])] for pid in namespace.pids()]
    assert len(running) == 5  # DHCP server, LAN host, relay, gateway, client
    assert_by_invitation(temporary, running)
    assert not set(netns.sweep()) & {player.name}, "a kept party has a living owner"

    ended = subprocess.run([*DEMO, "--end"], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.startswith("Ended ")
    assert _owner(look[0]) not in netns.labs()
    assert not any(_lives(pid) for pid in running)
    assert list(temporary.iterdir()) == []


def assert_by_invitation(temporary: Path, running: list[int]) -> None:
    """Gateway and client have come by the invitation, which neither a process list nor a log shows."""
    (file,) = temporary.glob("softlan-demo-*/DEMO.invite")
    assert file.stat().st_mode & 0o777 == 0o600
    secret = file.read_text().strip()
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in running]
    assert sum(f"@{file}" in line for line in lines) == 2
    for text in (*lines, *(log.read_text() for log in file.parent.glob("*.log"))):
        assert secret not in text


def test_a_party_in_a_user_namespace_can_be_looked_at_and_ended_from_outside(temporary: Path) -> None:
    require_user_namespaces()
    enter = f"from softlan.demo import userns; userns.enter({[*DEMO, '--keep']})"
    done = subprocess.run([sys.executable, "-c", enter], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        (look,) = re.findall(r"\S*nsenter .* ip address show .*", done.stdout)
        assert "inet 10.77.0." in subprocess.run(look.split(), capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run([*DEMO, "--end"], capture_output=True, check=True, timeout=60)
    assert subprocess.run(look.split(), capture_output=True, check=False).returncode != 0
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_party_at_any_step(number: signal.Signals, temporary: Path, tmp_path: Path) -> None:
    demo = Process("demo", list(DEMO), tmp_path / "demo.log")
    demo.wait_for("the relay", lambda: "relay   listens" in demo.output(), 30)
    running = [pid for namespace in netns.labs()[demo.pid] for pid in namespace.pids()]
    assert len(running) >= 3
    demo.send_signal(number)
    assert demo.finish(20) == 128 + number
    assert "the party is over" in demo.tail()[-1]
    assert demo.pid not in netns.labs()
    assert not any(_lives(pid) for pid in running)
    assert list(temporary.iterdir()) == []


def test_a_step_that_fails_is_named_with_what_the_processes_said(temporary: Path) -> None:
    program = "import sys; from softlan.demo import run, services; services.ROOM = 'a/b'; sys.exit(run.run_demo())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "FAILED  make an invitation: softlan room new: softlan: 'a/b' cannot be a room" in done.stdout
    assert "relay.listening" in done.stdout, "the relay's log is shown"
    (logs,) = temporary.iterdir()
    assert f"All of it is in {logs}" in done.stdout
    assert (logs / "invite.log").exists()


def _owner(prefix: str) -> int:
    return int(prefix.removeprefix("sl").rstrip("-"))


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").exists()
