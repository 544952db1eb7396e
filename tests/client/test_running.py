"""Running until a signal, or until a part cannot go on."""

import asyncio
import contextlib
import os
import signal

import pytest

from softlan.client.running import Stop, running
from softlan.errors import HostError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_an_end_without_an_error(number: signal.Signals) -> None:
    async with running() as stop:
        assert not stop.event.is_set()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(1):
            await stop.event.wait()
        stop.check()


async def test_afterwards_the_system_handles_them_again() -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with running():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_first_part_that_fails_is_the_reason() -> None:
    stop = Stop()
    stop.check()
    stop.fail(HostError("interface", "the interface softlan0 is gone"))
    stop.fail(HostError("interface", "and again"))
    assert stop.event.is_set()
    with pytest.raises(HostError, match=r"^the interface softlan0 is gone$"):
        stop.check()
