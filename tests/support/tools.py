"""What a test does when this machine lacks something: it is skipped by name, or fails where all must run."""

import functools
import os
import subprocess
from typing import NoReturn

import pytest

from softlan.demo.processes import find_tool
from softlan.errors import HostError


def unavailable(reason: str) -> NoReturn:
    """Skip the running test for `reason`; with CI=true in the environment fail it: there, nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_tool(name: str) -> str:
    """Return the path of a system command that the running test needs."""
    try:
        return find_tool(name)
    except HostError as error:
        unavailable(str(error))


def require_namespaces() -> None:
    """Make sure that the running test may build network namespaces."""
    require_tool("ip")
    if why := _namespaces_forbidden():
        unavailable(why)


def require_user_namespaces() -> None:
    """Make sure that the running test may make a user namespace and be root in it."""
    trial = [require_tool("unshare"), "--user", "--map-root-user", "--net", "true"]
    done = subprocess.run(trial, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"user namespaces are forbidden here: {done.stderr.strip()}")


@functools.cache
def _namespaces_forbidden() -> str:
    if os.geteuid() != 0:
        return (
            "needs root over network namespaces: as root, or `.venv/bin/python -m softlan.demo.userns "
            ".venv/bin/pytest -m netns`"
        )
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"network namespaces are forbidden here: {done.stderr.strip()}" if done.returncode else ""
