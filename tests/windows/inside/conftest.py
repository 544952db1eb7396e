"""The bed as a test finds it: the adapter in, nobody using it, and the host as at first."""

import sys
from collections.abc import Iterator

import pytest
from tests.windows.inside.bench import STACK, Adapter, End, Host, delete_value

from softlan.device.win32 import Win32Kernel


def pytest_runtest_setup() -> None:
    if sys.platform != "win32":
        pytest.skip("runs in the Windows test bed: `make test-windows`")


@pytest.fixture
def kernel() -> Win32Kernel:
    return Win32Kernel()


@pytest.fixture
def adapter(kernel: Win32Kernel) -> Iterator[Adapter]:
    """The adapter, without an address of anyone's choice."""
    adapter = Adapter(kernel)
    adapter.remove()
    for value in ("NetworkAddress", "MAC"):
        delete_value(value)
    adapter.insert()
    yield adapter
    adapter.claim_version(9, 27)


@pytest.fixture
def stack(kernel: Win32Kernel, adapter: Adapter) -> Iterator[End]:
    """The end where Windows has its network stack."""
    with End(kernel, STACK) as stack:
        yield stack


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    host.reset()
    yield host
    host.reset()
