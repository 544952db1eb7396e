"""All faults by name, each as a function of a directory, a seed, and whether it is to be quick."""

from collections.abc import Callable
from pathlib import Path

from tests.faults import clocks, cuts, disks, kills, lines, moves
from tests.faults.report import Result

Fault = Callable[[Path, int, bool], list[Result]]


def _cut(who: str, kind: str) -> Fault:
    return lambda directory, seed, quick: [cuts.cut(directory, who, kind, (1.0, 6.0) if quick else cuts.DURATIONS)]


def _move(name: str) -> Fault:
    return lambda directory, seed, quick: [moves.moved(directory, name, 1 if quick else 5)]


def _one(fault: Callable[[Path], Result]) -> Fault:
    return lambda directory, seed, quick: [fault(directory)]


FAULTS: dict[str, Fault] = {
    "relay-killed": lambda directory, seed, quick: [kills.relay_killed(directory, seed, 2 if quick else 25)],
    "relay-away": lambda directory, seed, quick: [kills.relay_killed(directory, seed, 2 if quick else 25, 3.0)],
    "client-killed": lambda directory, seed, quick: [kills.client_killed(directory, seed, 10 if quick else 50)],
    **{f"cut-{who}-{kind}": _cut(who, kind) for who in cuts.WHO for kind in cuts.KINDS},
    "nat": lambda directory, seed, quick: moves.nat_rebound(directory, 1 if quick else 10),
    **{name: _move(name) for name in moves.MOVES},
    "clock-set": lambda directory, seed, quick: [clocks.clock_set(directory, clocks.WHOSE[: 1 if quick else None])],
    "clock-between": _one(clocks.clock_between),
    "clock-first": _one(clocks.first_start_by_a_wrong_clock),
    "disk-at-start": lambda directory, seed, quick: [
        disks.full_at_start(directory, ("no page", "no file") if quick else disks.FILLS)
    ],
    "disk-in-session": _one(disks.full_in_session),
    "disk-of-logs": _one(disks.log_full),
    "resume-lost": _one(disks.resume_lost),
    "bad-line": lambda directory, seed, quick: [lines.bad_line(directory, seed, 3 if quick else 20)],
    "bad-line-joins": lambda directory, seed, quick: [lines.bad_line_at_the_start(directory, seed, 3 if quick else 20)],
}
