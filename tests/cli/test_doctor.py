"""``softlan doctor`` as a command: a list or JSON, and the exit status."""

import io
import json
import subprocess
from pathlib import Path

from rich.console import Console
from tests.cli.test_main import PATIENCE, command, start_relay

from softlan.cli.doctor import show
from softlan.client.doctor.finding import Finding, Outcome
from softlan.demo.processes import environment


def run(*flags: str) -> tuple[int, str]:
    done = subprocess.run(
        command("softlan", "doctor", *flags),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=environment(),
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_relay_that_is_well(tmp_path: Path) -> None:
    der = tmp_path / "relay.der"
    relay = start_relay(tmp_path / "relay.log", "--server-name", "relay.example.net", "--dev-cert-der-out", str(der))
    port = relay.events("relay.listening")[0]["port"]
    target = ("--relay", f"127.0.0.1:{port}", "--server-name", "relay.example.net", "--relay-ca-cert", str(der))
    _, text = run(*target, "--room", "DEN", "--json")
    assert relay.stop() == 0
    found = {finding["name"]: finding for finding in json.loads(text)}
    good = ("relay's name", "relay answers", "clock", "certificate", "path")
    assert [found[name]["outcome"] for name in good] == ["ok"] * len(good)
    assert found["room"]["outcome"] == "warning"  # no gateway is in it
    assert set(found) == {"privileges", "driver", "adapter", "route", "other VPNs", "firewall", "room", *good}


def test_something_failed() -> None:
    status, text = run("--relay", "relay.invalid")
    assert status == 1
    lines = text.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("FAILED   relay's name")]
    assert "-> Check the spelling of --relay" in lines[at + 1]


def test_the_list() -> None:
    out = io.StringIO()
    findings = [
        Finding("driver", Outcome.OK, "It is there."),
        Finding("relay's name", Outcome.FAILED, "No [such] name.", "Check it."),
        Finding("path", Outcome.SKIPPED, "Not looked at."),
    ]
    show(findings, Console(file=out, width=20))
    assert out.getvalue().splitlines() == [
        "ok       driver        It is there.",
        "FAILED   relay's name  No [such] name.",
        "                       -> Check it.",
        "skipped  path          Not looked at.",
        "1 ok, 1 FAILED, 1 skipped.",
    ]
