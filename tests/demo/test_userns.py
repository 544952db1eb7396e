import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.tools import require_tool, require_user_namespaces

from softlan.demo import netns, userns
from softlan.errors import HostError

INSIDE = """
import os
from softlan.demo import netns
from softlan.demo.topology import Party
with netns.Lab() as lab:
    Party.build(lab)
    print(os.geteuid(), len(netns.labs()[os.getpid()]), os.getpid())
print(netns.labs())
"""


def test_a_user_namespace_holds_a_party_that_nobody_else_sees() -> None:
    require_tool("ip")
    require_user_namespaces()
    enter = f"from softlan.demo import userns; userns.enter([{sys.executable!r}, '-c', {INSIDE!r}])"
    done = subprocess.run([sys.executable, "-c", enter], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    first, last = done.stdout.splitlines()
    assert first.split()[:2] == ["0", "7"]
    assert last == "{}"
    assert int(first.split()[2]) not in netns.labs()


def test_a_missing_tun_device_is_told_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="tun is missing: as root, `modprobe tun`"):
        userns.check_tun(tmp_path / "tun")


def test_a_closed_tun_device_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tun = tmp_path / "tun"
    tun.touch(mode=0o600)
    userns.check_tun(tun)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may open anything
    with pytest.raises(HostError, match=r"tun is closed to us \(mode 0600\): run as root"):
        userns.check_tun(tun)
