"""``python -m tests.hostile [--seconds 5] [name ...]``: all attacks, or some, one after the other; a Markdown table.

The exit status is 1 if a bound was broken. Needs root, or `python -m softlan.demo.userns` before it.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.hostile.attack import all_attacks
from tests.hostile.bounds import RSS_BACK, broken
from tests.hostile.stage import Stage, stage
from tests.hostile.table import HEADER, row
from tests.hostile.trial import recovered, rest, rss, try_out

from softlan.demo.netns import sweep
from softlan.errors import HostError


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("names", nargs="*", metavar="name", help="attacks; all of them if none is named")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each of them goes on")
    parser.add_argument("--list", action="store_true", help="print the attacks and what they send")
    parser.add_argument("--keep-log", type=Path, help="write the relay's log here")
    given = parser.parse_args()
    attacks = all_attacks()
    if given.list:
        for attack in attacks.values():
            print(f"{attack.name:24} {attack.what}")
        return 0
    if unknown := [name for name in given.names if name not in attacks]:
        parser.error(f"there is no attack {unknown[0]}; --list prints them")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the party is taken down then, too
    sweep()
    try:
        with tempfile.TemporaryDirectory() as directory, stage(Path(directory)) as party:
            try:
                return _run(party, given.names or list(attacks), given.seconds)
            finally:
                if given.keep_log is not None:
                    given.keep_log.write_bytes(party.relay.log.read_bytes())
    except KeyboardInterrupt:
        return 130
    except HostError as error:
        print(error, file=sys.stderr)
        return 1


def _run(party: Stage, names: list[str], seconds: float) -> int:
    attacks, faults = all_attacks(), []
    idle = rss(party.relay.pid)
    print(f"Idle: {idle:.0f} MiB.\n\n{HEADER}", flush=True)
    for name in names:
        trial = try_out(party, attacks[name], seconds, rest(party, seconds / 2))
        after = recovered(party, idle + RSS_BACK)
        print(row(trial, after), flush=True)
        why = broken(trial)
        if after[0] > idle + RSS_BACK:
            why.append(f"afterwards {after[0]:.0f} MiB, idle {idle:.0f}")
        faults += [f"{name}: {reason}" for reason in why]
    print("\nAll bounds were kept." if not faults else "\nBroken bounds:\n\n- " + "\n- ".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
