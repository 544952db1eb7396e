"""The threat model names the test of each defence: these exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"`(test_[a-z0-9_]+)`")
DEFINED = re.compile(r"^ *(?:async )?def (test_[a-z0-9_]+)\(", re.MULTILINE)


def test_every_test_that_is_named_is_there() -> None:
    named = set(NAMED.findall((ROOT / "docs/design/threat-model.md").read_text()))
    there = {name for path in (ROOT / "tests").rglob("test_*.py") for name in DEFINED.findall(path.read_text())}
    assert len(named) > 40
    assert named - there == set()
