"""What an attack may do to others at most. docs/reference/robustness.md explains these numbers."""

from tests.hostile.trial import Trial

P99_FACTOR = 10.0
"""How much longer a round trip may take than at rest (99th percentile) ..."""
P99_MARGIN = 40.0
"""... plus so many milliseconds."""
LOSS = 0.05
"""Pings that may be lost, 0 to 1, beyond those at rest."""
RSS_CAP = 200.0
"""MiB: the relay's memory, whatever is done to it."""
RSS_BACK = 60.0
"""MiB above the idle level, to which the relay returns within `trial.RECOVERY` seconds."""
LOG_LINES = 500.0
"""A second: what an attacker can make the relay log, all levels together."""

FAULTS = ("session.fault", "tick_faults", "lines that are no event")
"""What the relay logs only when something of its own is wrong."""


def broken(trial: Trial) -> list[str]:
    """Say which bounds an attack has broken."""
    if trial.failure is not None:
        return [f"it did not take place: {trial.failure}"]
    found = []
    p99 = P99_FACTOR * trial.rest.p99 + P99_MARGIN
    if trial.during.p99 > p99:
        found.append(f"ping p99 {trial.during.p99:.1f} ms, above {p99:.1f}")
    if trial.during.loss > trial.rest.loss + LOSS:
        found.append(f"loss {trial.during.loss:.1%}")
    if trial.rss[1] > RSS_CAP:
        found.append(f"memory {trial.rss[1]:.0f} MiB")
    if trial.rejoined:
        found.append(f"the party had to join again {trial.rejoined} times")
    if trial.log_lines > LOG_LINES * max(trial.seconds, 1.0):
        found.append(f"{trial.log_lines} log lines in {trial.seconds:.1f} s")
    found += [f"{trial.counted[name]} {name}" for name in FAULTS if name in trial.counted]
    return found
