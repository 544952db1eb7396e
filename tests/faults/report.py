"""What a fault did: times, and what was checked; a table of many."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Result:
    """What became of one kind of fault."""

    name: str
    bound: float
    """Seconds from the end of the fault within which everyone must be back."""
    checked: str = ""
    """In a few words."""
    heals: list[float] = field(default_factory=list)
    """Seconds from the end of each fault until the heart beat steadily."""
    outages: list[float] = field(default_factory=list)
    """Seconds that the heart stood still, for each fault; the fault's own time included."""
    broken: list[str] = field(default_factory=list)
    """Promises that were not kept."""
    notes: list[str] = field(default_factory=list)

    def healed(self, heal: float, outage: float) -> None:
        """Take down one fault."""
        self.heals.append(heal)
        self.outages.append(outage)
        if heal > self.bound:
            self.broken.append(f"back {heal:.1f} s after the fault's end, promised are {self.bound:g} s")


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    lines = [
        "| fault | times | back after its end: median, p90, max | still: median, p90, max | checked |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        count = str(len(result.heals)) if result.heals else "-"
        lines.append(
            f"| {result.name} | {count} | {_spread(result.heals)} | {_spread(result.outages)} "
            f"| {result.checked}{' **BROKEN**' if result.broken else ''} |"
        )
    for result in results:
        lines += [f"\nBROKEN {result.name}: {line}" for line in result.broken]
        lines += [f"\n{result.name}: {line}" for line in result.notes]
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    ordered = sorted(values)
    p90 = ordered[min(len(ordered) - 1, round(0.9 * len(ordered) + 0.5) - 1)]
    return f"{statistics.median(ordered):.2f}, {p90:.2f}, {ordered[-1]:.2f} s"
