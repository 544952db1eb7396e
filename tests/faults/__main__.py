"""`python -m tests.faults [--quick] [--sealed] [--jobs N] [--seed N] [name ...]`: does the faults, as root; a table.

A name may be a pattern, `cut-player-*`; without any all are done. The exit status is 1 when a promise was broken.
Logs and state stay in a directory, which is named at the end.
"""

import argparse
import fnmatch
import random
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.faults.catalog import FAULTS
from tests.faults.ground import Ground
from tests.faults.report import Result, table

from softlan.demo.netns import sweep
from softlan.errors import SoftlanError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Inject faults into a real party.")
    parser.add_argument("--quick", action="store_true", help="a few of each, for a first impression")
    parser.add_argument("--sealed", action="store_true", help="play in sealed rooms, by invitation")
    parser.add_argument("--jobs", type=int, default=1, help="parties at a time; they mostly wait")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1 << 16), help="of everything that is left to chance"
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(FAULTS)}")
    options = parser.parse_args()
    names = [name for name in FAULTS if any(fnmatch.fnmatch(name, wanted) for wanted in options.names or ["*"])]
    if not names:
        parser.error(f"no fault is called so; there are {', '.join(FAULTS)}")
    Ground.sealed = options.sealed
    sweep()
    directory = Path(tempfile.mkdtemp(prefix="softlan-faults-"))
    print(f"seed {options.seed}, in {directory}", file=sys.stderr)

    def one(name: str) -> list[Result]:
        started = time.monotonic()
        try:
            found = FAULTS[name](directory / name, options.seed, options.quick)
        except pytest.skip.Exception as missing:
            found = [Result(name, 0.0, f"left out: {missing}")]
        except (SoftlanError, AssertionError) as error:
            place = traceback.extract_tb(error.__traceback__)
            where = next((frame for frame in place[::-1] if "/faults/" in frame.filename), place[-1])
            found = [Result(name, 0.0, broken=[f"{error} ({Path(where.filename).name}, line {where.lineno})"])]
        print(f"{time.monotonic() - started:5.0f} s  {name}", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        results = [result for found in pool.map(one, names) for result in found]
    print(table(results))
    print(f"\nseed {options.seed}; logs and state are in {directory}", file=sys.stderr)
    return int(any(result.broken for result in results))


if __name__ == "__main__":
    sys.exit(main())
