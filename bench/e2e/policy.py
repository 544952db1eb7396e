"""What the policy and the frame logs cost a whole party: with both, and with neither, by turns.

    python -m bench.e2e.policy

Two parties stand beside each other in namespaces of their own: one with the default policy and frame logs on
``drops``, one without any rule or rate and without frame logs. Each figure is measured at both before the next one is,
and who comes first changes from round to round; the ratio is of such a pair.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.e2e.figures import COLUMNS, GROUPS, Column
from bench.e2e.machine import wait_quiet
from bench.e2e.measure import Figures, Measurement
from bench.e2e.peers.base import Peer
from bench.e2e.peers.party import SoftlanGuarded, SoftlanOpen
from bench.e2e.run import alone, groups_of, prepare, say, site
from softlan.errors import SoftlanError

Pair = tuple[Figures, Figures]
"""With the policy, and without."""


def measure(groups: Sequence[str], rounds: int, length: float, patience: float, lock: Path | None) -> list[Pair]:
    """Measure `rounds` pairs. Errors: `HostError`."""
    pairs: list[Pair] = []
    with site(tag=1) as one, site(tag=2) as other:
        kinds: tuple[Peer, Peer] = SoftlanGuarded(one), SoftlanOpen(other)
        for peer in kinds:
            peer.start()
            peer.attach()
            peer.check()
        for number in range(rounds):
            pair: Pair = {}, {}
            for group in groups:
                with alone(lock):
                    wait_quiet(patience)
                    for which in (0, 1) if number % 2 == 0 else (1, 0):
                        say(f"round {number + 1}, {kinds[which].name}:")
                        found = Measurement(kinds[which], length, lambda text: say(f"  {text}"))
                        pair[which].update(found.run([group]))
            pairs.append(pair)
    return pairs


def table(pairs: Sequence[Pair]) -> str:
    """Tell the medians, and the median of the ratios, as Markdown."""
    lines = ["| | with | without | with / without |", "| --- | ---: | ---: | ---: |"]
    for column in COLUMNS:
        found = [(a[column.key], b[column.key]) for a, b in pairs if column.key in a and column.key in b]
        if found:
            lines.append(_row(column, found))
    return "\n".join(lines)


def _row(column: Column, found: Sequence[tuple[float, float]]) -> str:
    with_it, without = (statistics.median(values) for values in zip(*found, strict=True))
    ratios = [a / b for a, b in found if b]
    ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})" if ratios else ""
    return f"| {column.title} | {with_it:.{column.digits}f} | {without:.{column.digits}f} | {ratio} |"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.e2e.policy", description="What policy and frame logs cost.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--columns", type=groups_of, default=["tcp", "rate", "cpu"], help=f"of {','.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="a third of the time for each figure")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold this lock while a pair is measured (flock)")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds to wait for a quiet machine")
    options = parser.parse_args()
    try:
        prepare()
        length = 1 / 3 if options.quick else 1.0
        pairs = measure(options.columns, options.rounds, length, options.patience, options.lock)
    except SoftlanError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print("\n" + table(pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
