"""What every test shares: the skip policy, and the fixtures of tests/support."""

import pytest
from tests.support.tools import require_namespaces

pytest_plugins = ["tests.support.netns"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns") is not None:
        require_namespaces()
