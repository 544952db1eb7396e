"""The doctor on Windows: adapter, route and relay for real; Wine has no PowerShell, which costs two checks."""

import socket
from collections.abc import Iterator

import pytest

from softlan.client.doctor.finding import Finding, Outcome
from softlan.client.doctor.run import DoctorConfig, examine
from softlan.device.tap_adapters import adapters
from softlan.net.address import HostPort


@pytest.fixture
def findings() -> Iterator[dict[str, Finding]]:
    """What the doctor finds while the relay is mute."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        relay = HostPort("127.0.0.1", mute.getsockname()[1])
        config = DoctorConfig(relay, "relay", None, None, "softlan test")
        yield {finding.name: finding for finding in examine(config, patience=0.5)}


def test_what_it_finds(findings: dict[str, Finding]) -> None:
    outcomes = {name: finding.outcome for name, finding in findings.items()}
    assert outcomes == {
        "privileges": Outcome.OK,
        "driver": Outcome.OK,
        "adapter": Outcome.OK,
        "route": Outcome.OK,
        "other VPNs": Outcome.SKIPPED,
        "firewall": Outcome.SKIPPED,
        "relay's name": Outcome.OK,
        "relay answers": Outcome.FAILED,
        "clock": Outcome.SKIPPED,
        "certificate": Outcome.SKIPPED,
        "path": Outcome.SKIPPED,
    }
    assert "9.27" in findings["driver"].found
    assert "{5AFE1A40-0001-4000-8000-534F46544C41}" in findings["adapter"].found
    assert adapters()[0].name in findings["adapter"].found
