"""Fixtures for tests that run in network namespaces of their own; mark such tests with `pytest.mark.netns`.

`lab` is empty, for a topology of the test's own; `party` is the demo's topology, wired up with nothing running;
`services` starts commands in it. All are gone when the test ends, however it ends.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.tools import require_namespaces

from softlan.demo.netns import Lab, sweep
from softlan.demo.services import Services
from softlan.demo.topology import Party

_tags = itertools.count(1)


@pytest.fixture(scope="session")
def swept() -> None:
    """Put away what killed runs have left behind, once."""
    require_namespaces()
    sweep()


@pytest.fixture
def lab(swept: None) -> Iterator[Lab]:
    with Lab(tag=next(_tags)) as lab:
        yield lab


@pytest.fixture
def party(lab: Lab) -> Party:
    return Party.build(lab)


@pytest.fixture
def services(party: Party, tmp_path: Path) -> Iterator[Services]:
    with Services(party, tmp_path) as services:
        yield services
