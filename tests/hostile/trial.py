"""One attack on a stage, and what was seen meanwhile."""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.attack import PREPARATION, Attack
from tests.hostile.pulse import LATE, Figures
from tests.hostile.stage import Stage

from softlan.demo.processes import Process, wait_for
from softlan.errors import HostError

RECOVERY = 35.0
"""Seconds in which the relay has to get rid of what an attack has left: QUIC's idle timeout is 30."""

_TICKS = os.sysconf("SC_CLK_TCK")
_SNAPSHOT = signal.SIGUSR1
_GAUGES = ("rooms", "handshakes", "certificate_days_left")  # what of its snapshot is no counter, and of no interest


@dataclass(frozen=True, slots=True)
class Trial:
    """What one attack did."""

    attack: str
    rest: Figures
    during: Figures
    seconds: float
    """How long it went on."""
    rss: tuple[float, float]
    """The relay's memory before, and the most of it, in MiB."""
    cpu: float
    """The relay's share of its CPU, 0 to 1."""
    sent: dict[str, int]
    saw: dict[str, int]
    """What the attacker learnt of its fate."""
    counted: dict[str, int]
    """What the relay counted and logged meanwhile."""
    log_lines: int
    rejoined: int
    """How often the party's endpoints had to join again."""
    failure: str | None
    """Why the attack did not take place."""


def rest(stage: Stage, seconds: float) -> Figures:
    """The party's pings while nothing happens."""
    start = time.monotonic()
    time.sleep(seconds)  # not to wait for something: this is the measurement
    return _settled(stage, start, time.monotonic())


def try_out(stage: Stage, attack: Attack, seconds: float, calm: Figures) -> Trial:
    """Let one attack take place."""
    relay = stage.relay
    joins, skipped = stage.joins(), relay.log.stat().st_size
    before, memory = _counters(relay), rss(relay.pid)
    peak, failure = memory, None
    with stage.attacked(attack, seconds) as process:
        begun = _told(process, "begun", PREPARATION)
        start, spent = time.monotonic(), _cpu_time(relay.pid)
        if begun is not None:
            deadline = start + 2 * seconds + 5
            while process.status is None and time.monotonic() < deadline:
                peak = max(peak, rss(relay.pid))
                time.sleep(0.02)
        end, used = time.monotonic(), _cpu_time(relay.pid)
        ended = _told(process, "ended", 0.0)
        if ended is None:
            failure = (process.tail(1) or ["it said nothing"])[0]
    # An attack may have come to its end a little before its process did.
    end = min(end, ended["ended"]) if ended is not None else end
    during = _settled(stage, start, end)
    after = _counters(relay)
    text = relay.log.read_bytes()[skipped:].decode(errors="replace")
    counted = Counter({name: after[name] - before[name] for name in after if after[name] > before[name]})
    counted["connections"] = after["connections"]
    events = _events(text)
    for own in ("room.snapshot", "relay.snapshot"):
        events.pop(own, None)
    return Trial(
        attack.name,
        calm,
        during,
        end - start,
        (memory, max(peak, rss(relay.pid))),
        (used - spent) / max(end - start, 0.01),
        ended["sent"] if ended else {},
        ended["saw"] if ended else {},
        dict(counted | events),
        sum(events.values()),
        stage.joins() - joins,
        failure,
    )


def rss(pid: int) -> float:
    """A process's memory in MiB (VmRSS, proc(5)). Errors: `HostError` when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    except (OSError, StopIteration):
        raise HostError("measure", "the relay has ended") from None


def recovered(stage: Stage, at_most: float) -> tuple[float, float]:
    """Wait until the relay's memory is `at_most` MiB and only the party is connected; memory and seconds it took."""
    start = time.monotonic()
    while True:
        memory, connections = rss(stage.relay.pid), _counters(stage.relay)["connections"]
        passed = time.monotonic() - start
        if (memory <= at_most and connections <= 2) or passed > RECOVERY:
            return memory, passed
        time.sleep(0.5)


def _settled(stage: Stage, start: float, end: float) -> Figures:
    """The figures of a time that is over, once no answer can come any more."""
    time.sleep(max(0.0, end + LATE / 5 - time.monotonic()))
    return stage.pulse.figures(start, end)


def _told(process: Process, what: str, timeout: float) -> dict[str, Any] | None:
    """The line in which an attacker says so; None when it ends without."""

    def said() -> dict[str, Any] | None:
        for line in process.output().splitlines():
            if line.startswith("{") and what in (told := json.loads(line)):
                return dict(told)
        return None

    try:
        return process.wait_for(what, said, timeout)
    except HostError:
        return said()


def _counters(relay: Process) -> Counter[str]:
    """The relay's own counters, all rooms together: SIGUSR1 makes it log them."""
    seen = relay.log.stat().st_size
    relay.send_signal(_SNAPSHOT)

    def answered() -> str | None:
        with relay.log.open("rb") as log:
            log.seek(seen)
            text = log.read().decode(errors="replace")
        return text if '"relay.snapshot"' in text and text.endswith("\n") else None

    counters: Counter[str] = Counter()
    for line in wait_for("the relay's snapshot", answered, 20).splitlines():
        if '.snapshot"' not in line:
            continue
        event = json.loads(line)
        if event["event"] == "relay.snapshot":
            for name, value in event.items():
                if isinstance(value, int) and name not in _GAUGES:
                    counters[name] += value
        elif event["event"] == "room.snapshot":
            for reason, count in event["drops"].items():
                counters[f"drop {reason}"] += count
    return counters


def _events(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                event = json.loads(line)
            except ValueError:
                continue
            name = str(event.get("event"))
            found[f"{name} {event['code']}" if "code" in event else name] += 1
        else:
            found["lines that are no event"] += 1
    return found


def _cpu_time(pid: int) -> float:
    """Seconds of CPU that a process has had (utime and stime, proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise HostError("measure", "the relay has ended") from None
    return (int(fields[11]) + int(fields[12])) / _TICKS
