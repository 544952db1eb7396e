"""``softlan doctor`` as a command: a list or JSON, and the exit status."""

import io
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import cast

from rich.console import Console
from tests.cli.test_main import PATIENCE, command, start_relay

from softlan.cli.doctor import show
from softlan.client.doctor.finding import Finding, Outcome
from softlan.client.invitation import parse
from softlan.demo.processes import environment
from softlan.net.address import HostPort


def run(*flags: str) -> tuple[int, str]:
    status, out, err = softlan("doctor", *flags)
    assert err == ""
    return status, out


def softlan(*argv: str) -> tuple[int, str, str]:
    """Exit status, standard output and error of a command."""
    done = subprocess.run(
        command("softlan", *argv),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=environment(),
    )
    return done.returncode, done.stdout, done.stderr


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


def test_rooms_of_a_relay_that_takes_listed_ones_only(tmp_path: Path) -> None:
    """From the invitations to the relay's config and back: only who has one of the room's looks into it."""
    relay = start_relay(tmp_path / "first.log")  # makes the certificate
    assert relay.stop() == 0
    made = {}
    for room in ("DEN", "PLAIN", "OTHER"):
        _, made[room], _ = softlan("room", "new", room, "--relay", "127.0.0.1", "--state-dir", str(tmp_path / "state"))
    lines = [softlan("room", "show", "--relay-config", made[room].strip())[1] for room in ("DEN", "PLAIN")]
    config = tmp_path / "relay.toml"
    config.write_text("open_rooms = false\n" + "".join(lines) + "sealed = false\n")
    log = tmp_path / "relay.log"
    relay = start_relay(log, "--config", str(config))
    there = HostPort("127.0.0.1", cast(int, relay.events("relay.listening")[0]["port"]))
    den, plain, other = (replace(parse(text), relay=there).text() for text in made.values())

    def room(*flags: str) -> dict[str, str]:
        _, text = run(*flags, "--json")
        (found,) = [finding for finding in json.loads(text) if finding["name"] == "room"]
        return found

    assert room("--invite", den)["found"].startswith("Room DEN lets us in, sealed, and has no gateway")
    refused = room("--invite", other)
    assert (refused["outcome"], "needs another room token" in refused["found"]) == ("failed", True)
    assert "--invite" in refused["advice"]
    assert "join with --no-seal" in room("--invite", plain)["found"]
    assert room("--invite", plain, "--no-seal")["found"].startswith("Room PLAIN lets us in, and has no gateway")
    assert relay.stop() == 0
    for text in (den, plain, other, *(line.split('"')[1] for line in lines)):
        assert text not in log.read_text()


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
