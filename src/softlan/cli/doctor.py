"""``softlan doctor``: the checks, as a list for a person or as JSON."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from softlan.cli.options import DEFAULT_TAP, SOFTWARE, TapOptions, checked_server_name
from softlan.client.doctor.finding import Finding, Outcome
from softlan.ctrl.messages import room_ok
from softlan.errors import UsageError
from softlan.net.address import parse_relay

_MARKS = {
    Outcome.OK: ("ok", "green"),
    Outcome.WARNING: ("warning", "yellow"),
    Outcome.FAILED: ("FAILED", "bold red"),
    Outcome.SKIPPED: ("skipped", "dim"),
}


@Parameter(name="*")
@dataclass(frozen=True)
class DoctorTarget:
    """The relay to look at, and perhaps a room."""

    relay: str
    """The relay: a DNS name or an address, with a port if it is not 443."""
    room: str | None = None
    """Look into this room too, as a player for a moment."""
    server_name: str | None = None
    """The name in the relay's certificate; by default the relay's own name."""
    relay_ca_cert: Path | None = None
    """The relay's certificate, or a CA that signed it (DER or PEM); by default what the system trusts."""


def doctor(
    *,
    target: DoctorTarget,
    tap: TapOptions = DEFAULT_TAP,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Check this machine, its network and the relay, and say what to do about what is wrong.

    Parameters
    ----------
    json_
        Print the findings as JSON.
    """
    from softlan.client.doctor.run import DoctorConfig, examine
    from softlan.obs.logging import configure

    configure("console", "error")  # what goes wrong is a finding, not a line of the log
    relay = parse_relay(target.relay)
    if target.room is not None and not room_ok(target.room):
        raise UsageError(f"--room {target.room!r}: a room is 1 to 32 characters of A-Z a-z 0-9 _ and -")
    config = DoctorConfig(
        relay=relay,
        server_name=relay.host if target.server_name is None else checked_server_name(target.server_name),
        pin=target.relay_ca_cert,
        room=target.room,
        software=SOFTWARE,
        tap_name=tap.checked_name(),
        tap_instance_id=tap.tap_instance_id,
        metric=tap.metric,
    )
    findings = examine(config)
    if json_:
        print(json.dumps([finding.to_json() for finding in findings], indent=1))
    else:
        show(findings, Console(highlight=False))
    if any(finding.outcome is Outcome.FAILED for finding in findings):
        sys.exit(1)


def show(findings: list[Finding], console: Console) -> None:
    """The findings as a list; what to do stands below what was found."""
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        word, style = _MARKS[finding.outcome]
        line = Text.assemble((f"{word:<8}", style), f" {finding.name:<{width}}  {finding.found}")
        console.print(line, soft_wrap=True)
        if finding.advice:
            console.print(Text(f"{'':<8} {'':<{width}}  -> {finding.advice}"), soft_wrap=True)
    counts = {outcome: sum(finding.outcome is outcome for finding in findings) for outcome in Outcome}
    told = [f"{count} {_MARKS[outcome][0]}" for outcome, count in counts.items() if count]
    console.print(Text(f"{', '.join(told)}."), soft_wrap=True)
