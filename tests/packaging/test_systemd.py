"""The units: least privilege, and command lines that softlan takes."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from softlan.demo.processes import environment
from softlan.device import packet_out, packet_ring
from softlan.quic import open_udp

PACKAGING = Path(__file__).parents[2] / "packaging"
UNITS = PACKAGING / "systemd"
NAMES = {"relay": "CAP_NET_BIND_SERVICE", "gateway": "CAP_NET_RAW"}


def unit(name: str) -> dict[str, list[str]]:
    """What `softlan-<name>.service` says: every setting with its values, in order."""
    settings: dict[str, list[str]] = {}
    for line in (UNITS / f"softlan-{name}.service").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(key, []).append(value)
    return settings


@pytest.mark.parametrize("name", NAMES)
def test_it_gets_one_capability_and_no_user_of_its_own(name: str) -> None:
    settings = unit(name)
    assert settings["AmbientCapabilities"] == settings["CapabilityBoundingSet"] == [NAMES[name]]
    assert settings["DynamicUser"] == settings["NoNewPrivileges"] == ["yes"]
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["Restart"] == ["always"]
    assert settings["StateDirectory"] == [f"softlan-{name}"]
    # Both would take the capability away again: it counts in the first user namespace only.
    assert not {"PrivateUsers", "PrivateNetwork"} & settings.keys()


@pytest.mark.parametrize("name", NAMES)
def test_its_command_line_has_flags_that_there_are(name: str) -> None:
    program, command, *arguments = shlex.split(unit(name)["ExecStart"][0])
    assert (program, command) == ("/opt/softlan/bin/softlan", name)
    argv = [sys.executable, "-m", "softlan", name, "--help"]
    known = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment()).stdout
    flags = [argument for argument in arguments if argument.startswith("--")]
    assert "--state-dir" in flags
    for flag in flags:
        assert f" {flag} " in known


def test_no_secret_is_on_a_command_line() -> None:
    gateway = unit("gateway")
    assert "INVITE" not in gateway["ExecStart"][0]
    assert gateway["EnvironmentFile"] == ["/etc/softlan/gateway.env"]


def test_the_system_grants_what_they_ask_for() -> None:
    settings = dict(
        line.split(" = ")
        for line in (PACKAGING / "sysctl/softlan.conf").read_text().splitlines()
        if not line.startswith("#")
    )
    udp = max(*open_udp._STREAMS, *open_udp._EXPRESS)
    assert int(settings["net.core.rmem_max"]) >= max(udp, packet_ring._COPIES)
    assert int(settings["net.core.wmem_max"]) >= max(udp, packet_out._SEND_BUFFER)
