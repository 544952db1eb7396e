"""What every test shares: the skip policy, and the fixtures of tests/support."""

import pytest
from hypothesis import settings
from tests.support.tools import require_namespaces

# No test depends on how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

pytest_plugins = ["tests.support.netns"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns") is not None:
        require_namespaces()
