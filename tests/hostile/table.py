"""Trials as rows of a Markdown table."""

from tests.hostile.pulse import Figures
from tests.hostile.trial import Trial

_COLUMNS = (
    "attack",
    "sent, a second",
    "ping p50 / p99 in ms, at rest",
    "during",
    "lost",
    "memory in MiB: before, peak, after (s)",
    "CPU",
    "what the relay counted",
    "what the attacker saw",
)
HEADER = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
_OF_NO_INTEREST = ("recv_calls", "send_calls", "bytes_in", "bytes_out", "datagrams_in", "datagrams_out", "ignored")


def row(trial: Trial, after: tuple[float, float] | None = None) -> str:
    """One line; `after` is the memory afterwards, in MiB, and how many seconds that took, if it was waited for."""
    rates = [f"{_short(count / max(trial.seconds, 0.01))} {name}" for name, count in trial.sent.items()]
    counted = [f"{_short(n)} {name}" for name, n in trial.counted.items() if n and name not in _OF_NO_INTEREST]
    cells = (
        trial.attack,
        ", ".join(rates) or str(trial.failure),
        _pings(trial.rest),
        _pings(trial.during),
        f"{100 * trial.during.loss:.1f} %",
        f"{trial.rss[0]:.0f}, {trial.rss[1]:.0f}" + (f", {after[0]:.0f} ({after[1]:.0f})" if after else ""),
        f"{100 * trial.cpu:.0f} %",
        ", ".join(counted),
        ", ".join(f"{_short(n)} {name[:60]}" for name, n in trial.saw.items() if n),
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _pings(figures: Figures) -> str:
    return f"{figures.p50:.1f} / {figures.p99:.1f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.0f}k" if value < 1e6 else f"{value / 1e6:.1f}M"
