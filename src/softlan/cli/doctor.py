"""``softlan doctor``: the checks, as a list for a person or as JSON."""

import json
import sys
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from softlan.cli.options import DEFAULT_TAP, NOWHERE, SOFTWARE, RelayOptions, TapOptions, destination
from softlan.client.doctor.finding import Finding, Outcome

_MARKS = {
    Outcome.OK: ("ok", "green"),
    Outcome.WARNING: ("warning", "yellow"),
    Outcome.FAILED: ("FAILED", "bold red"),
    Outcome.SKIPPED: ("skipped", "dim"),
}


def doctor(
    *,
    target: RelayOptions = NOWHERE,
    tap: TapOptions = DEFAULT_TAP,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Check this machine, its network and the relay, and say what to do about what is wrong.

    With an invitation, or with --room, it also looks into the room, as a player for a moment.

    Parameters
    ----------
    json_
        Print the findings as JSON.
    """
    from softlan.client.doctor.run import DoctorConfig, examine
    from softlan.obs.logging import configure

    configure("console", "error")  # what goes wrong is a finding, not a line of the log
    where = destination(target)
    config = DoctorConfig(
        relay=where.relay,
        server_name=where.server_name,
        ca_cert=where.ca_cert,
        room=where.room,
        software=SOFTWARE,
        tap_name=tap.checked_name(),
        tap_instance_id=tap.tap_instance_id,
        metric=tap.metric,
        pin=where.pin,
        room_token=where.room_token,
        frame_key=where.frame_key,
        is_invited=where.is_invited,
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
