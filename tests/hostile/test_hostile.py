"""Hostile peers beside a party that plays: each for two seconds, one after the other, against one relay.

Nothing here depends on how fast the machine is: what an attack may cost is measured by what the same party has at rest.
"""

from pathlib import Path

import pytest
from tests.hostile.attack import all_attacks
from tests.hostile.bounds import RSS_BACK, broken
from tests.hostile.stage import stage
from tests.hostile.table import HEADER, row
from tests.hostile.trial import recovered, rest, rss, try_out

pytestmark = pytest.mark.netns

SECONDS = 2.0


def test_no_attack_takes_more_from_the_party_than_it_may(swept: None, tmp_path: Path) -> None:
    """All in one test: only one of them may be under way at a time, on any number of workers."""
    with stage(tmp_path) as party:
        calm, idle = rest(party, SECONDS), rss(party.relay.pid)
        faults, rows = [], [HEADER]
        for attack in all_attacks().values():
            if attack.variant:
                continue
            trial = try_out(party, attack, SECONDS, calm)
            if broken(trial):  # in so short a time a machine that stands still for 0.1 s breaks a bound: not twice
                rows.append(row(trial))
                trial = try_out(party, attack, SECONDS, calm)
            faults += [f"{attack.name}: {reason}" for reason in broken(trial)]
            rows.append(row(trial))
        memory, seconds = recovered(party, idle + RSS_BACK)
        if memory > idle + RSS_BACK:
            faults.append(f"{seconds:.0f} s later the relay has {memory:.0f} MiB, at first {idle:.0f}")
        again = rest(party, 1.0)
        if again.loss > calm.loss + 0.02:
            faults.append(f"and the party still loses {again.loss:.1%}")
    assert not faults, "\n".join([*faults, "", *rows])
