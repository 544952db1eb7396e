"""What is measured, by name; and the arithmetic with it: percentiles, medians, the search for a rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a peer."""

    key: str
    group: str
    """What `--columns` calls it."""
    title: str
    digits: int
    """After the point."""
    higher_is_better: bool


def _rtt(key: str, group: str, title: str) -> tuple[Column, Column]:
    return (
        Column(f"{key}_p50", group, f"RTT {title} p50 ms", 2, False),
        Column(f"{key}_p99", group, f"RTT {title} p99 ms", 2, False),
    )


COLUMNS: tuple[Column, ...] = (
    *_rtt("rtt_idle", "idle", "idle"),
    Column("tcp_up", "tcp", "TCP up Mbit/s", 0, True),
    Column("tcp_down", "tcp", "TCP down Mbit/s", 0, True),
    *_rtt("rtt_up", "loaded", "during TCP up"),
    *_rtt("rtt_down", "loaded", "during TCP down"),
    Column("kpps_100", "rate", "100 B, < 0.5 % loss, kpps", 1, True),
    Column("kpps_1200", "rate", "1200 B, < 0.5 % loss, kpps", 1, True),
    Column("cpu_100_relay", "cpu", "CPU us/packet, relay, 10 kpps of 100 B", 1, False),
    Column("cpu_100_all", "cpu", "CPU us/packet, all, 10 kpps of 100 B", 1, False),
    Column("cpu_1200_relay", "cpu", "CPU us/packet, relay, 5 kpps of 1200 B", 1, False),
    Column("cpu_1200_all", "cpu", "CPU us/packet, all, 5 kpps of 1200 B", 1, False),
    Column("rss_player", "rss", "RSS MB, player", 1, False),
    Column("rss_relay", "rss", "RSS MB, relay", 1, False),
    Column("rss_gateway", "rss", "RSS MB, gateway", 1, False),
)
GROUPS = tuple(dict.fromkeys(column.group for column in COLUMNS))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of all do not exceed (nearest rank). Errors: `ValueError` for none."""
    if not values:
        raise ValueError("no values")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def highest_rate(
    passes: Callable[[float], bool],
    *,
    start: float,
    ceiling: float,
    step: float = 1.5,
    precision: float = 1.04,
    floor: float = 500.0,
) -> float:
    """Search the highest rate that passes; 0 if none does.

    It climbs by `step` until two rates in a row are refused (one alone may be a hiccup of the machine), or goes down
    by it until one passes, then halves the gap until its ends are within `precision`. Steps and gaps are ratios.
    Nothing below `floor` or above `ceiling` is tried.
    """
    good, bad = 0.0, math.inf
    rate = start
    while rate < bad * step * 1.01:
        if passes(rate):
            good, bad = rate, math.inf
        else:
            bad = min(bad, rate)
        if rate >= ceiling:
            break
        rate = min(rate * step, ceiling)
    while not good and bad / step >= floor:
        rate = bad / step
        if passes(rate):
            good = rate
        else:
            bad = rate
    while good and bad < math.inf and bad / good > precision:
        rate = math.sqrt(good * bad)
        if passes(rate):
            good = rate
        else:
            bad = rate
    return good
