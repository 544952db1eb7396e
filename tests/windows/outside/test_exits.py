"""However the client on Windows ends, the PC is as it was before: routes, interfaces and registry, compared whole."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.windows.outside.conftest import WindowsParty
from tests.windows.outside.machine import CTRL_BREAK, CTRL_C, CTRL_CLOSE, CTRL_SHUTDOWN, WindowsMachine, WindowsProcess

from softlan.demo import topology
from softlan.demo.processes import wait_for

pytestmark = pytest.mark.netns

AF_INET, AF_INET6, TAP_INDEX = 2, 23, 7
GRACE = 5.0
"""Seconds that Windows gives a process whose console is closed."""


@pytest.fixture(scope="module")
def pc(windows_party: WindowsParty) -> WindowsMachine:
    return windows_party.machine


@pytest.fixture(scope="module")
def untouched(windows_party: WindowsParty) -> dict[str, Any]:
    """The PC after a first game: from now on its adapter has the player's address, and keeps it."""
    far = windows_party.machine.far
    new = far.snapshot()
    client = windows_party.join()
    far.console_event(far.client(), CTRL_C)
    assert client.finish() == 0
    after: dict[str, Any] = far.snapshot()
    mac = client.event("joined")["mac"]
    assert after["registry"] == new["registry"] | {"NetworkAddress": [mac.replace(":", "").upper(), 1]}
    assert after | {"registry": None} == new | {"registry": None}
    return after


@pytest.fixture
def client(windows_party: WindowsParty, untouched: dict[str, Any]) -> Iterator[WindowsProcess]:
    """A client in the room, with all that it changes changed."""
    client = windows_party.join()
    assert windows_party.machine.far.snapshot() != untouched
    assert windows_party.journals() == ["host.json"]
    yield client
    client.close()


def as_before(party: WindowsParty, untouched: dict[str, Any]) -> None:
    """The PC is as it was, nothing is left to undo, and nobody uses the adapter."""
    assert party.machine.far.snapshot() == untouched
    assert party.journals() == []
    adapter = party.machine.far.adapter()
    assert (adapter["opened"], adapter["media"]) == (False, False)


@pytest.mark.parametrize(
    "event",
    [CTRL_C, CTRL_BREAK, CTRL_CLOSE, CTRL_SHUTDOWN],
    ids=["Ctrl-C", "Ctrl-Break", "the console is closed", "the computer shuts down"],
)
def test_console(
    windows_party: WindowsParty, pc: WindowsMachine, client: WindowsProcess, untouched: dict[str, Any], event: int
) -> None:
    started = time.monotonic()
    pc.far.console_event(pc.far.client(), event)
    assert client.finish() == 0
    assert time.monotonic() - started < GRACE - 1, "Windows would have ended it"
    as_before(windows_party, untouched)
    windows_party.relay.wait_for("a goodbye", lambda: "disconnect:quit" in windows_party.relay.output(), GRACE)


def test_ctrl_c_at_a_terminal(windows_party: WindowsParty, pc: WindowsMachine, untouched: dict[str, Any]) -> None:
    with pc.at_terminal("-m", "softlan", "client", *windows_party.flags()) as terminal:
        terminal.wait_for("tap.up")
        assert pc.far.snapshot() != untouched
        terminal.type(b"\x03")
        assert terminal.finish() == 0
    as_before(windows_party, untouched)


def test_adapter_removed(
    windows_party: WindowsParty, pc: WindowsMachine, client: WindowsProcess, untouched: dict[str, Any]
) -> None:
    pc.far.remove()
    assert client.finish() == 1
    assert "the adapter Ethernet 7 is gone: disabled or removed" in client.lines[-1]
    pc.far.insert()
    as_before(windows_party, untouched)


def test_adapter_removed_with_its_settings(
    windows_party: WindowsParty, pc: WindowsMachine, client: WindowsProcess, untouched: dict[str, Any]
) -> None:
    """What could not be put back then is put back by the next start, when the adapter is there again."""
    pc.far.remove()
    for family in (AF_INET, AF_INET6):
        pc.far.family(TAP_INDEX, family, False)
    assert client.finish() == 1
    assert windows_party.journals() == ["host.json"]
    pc.far.insert()
    for family in (AF_INET, AF_INET6):
        pc.far.family(TAP_INDEX, family, True)
    assert pc.far.snapshot() != untouched
    end_by_ctrl_c(windows_party, windows_party.join())
    as_before(windows_party, untouched)


def test_relay_gone(
    windows_party: WindowsParty, pc: WindowsMachine, client: WindowsProcess, untouched: dict[str, Any]
) -> None:
    """The client waits for it, with the PC prepared for its return, and can be ended meanwhile."""
    windows_party.relay.stop()
    client.event("lost")
    assert pc.far.adapter()["media"]
    end_by_ctrl_c(windows_party, client)
    as_before(windows_party, untouched)
    windows_party.relay = windows_party.services.relay()


def test_refused_before_it_is_in_the_room(windows_party: WindowsParty, untouched: dict[str, Any]) -> None:
    client = windows_party.machine.start(
        "client", "-m", "softlan", "client", *windows_party.flags(), "--virtual-mac", "00:11:22:33:44:55"
    )
    assert client.finish() == 1
    assert "00:11:22:33:44:55 cannot be the adapter's address" in client.lines[-1]
    as_before(windows_party, untouched)


def test_killed(
    windows_party: WindowsParty, pc: WindowsMachine, client: WindowsProcess, untouched: dict[str, Any]
) -> None:
    """As by the task manager or a power cut: the next start cleans up."""
    client.kill()
    wait_for("the adapter is free", lambda: not pc.far.adapter()["opened"], GRACE)
    assert pc.far.snapshot() != untouched
    again = windows_party.join()
    recovered = [event["what"] for event in again.events("recovered")]
    assert len(recovered) == 7  # the route, and three settings for each version of IP
    assert any(line.startswith(f"removed the route {topology.RELAY}/32") for line in recovered)
    end_by_ctrl_c(windows_party, again)
    as_before(windows_party, untouched)


def test_service_stopped(windows_party: WindowsParty, pc: WindowsMachine, untouched: dict[str, Any]) -> None:
    log = windows_party.services.directory / "client" / "service.log"
    install = pc.start("install", "-m", "softlan", "service", "install", *windows_party.flags())
    assert install.finish() == 0, install.lines
    wait_for("the service has joined", lambda: log.exists() and '"tap.up"' in log.read_text(), 30)
    assert pc.far.snapshot() != untouched
    assert pc.far.adapter()["media"]
    remove = pc.start("remove", "-m", "softlan", "service", "remove")
    assert remove.finish() == 0, remove.lines
    as_before(windows_party, untouched)
    assert '"stopped"' in log.read_text()


def end_by_ctrl_c(party: WindowsParty, client: WindowsProcess) -> None:
    party.machine.far.console_event(party.machine.far.client(), CTRL_C)
    assert client.finish() == 0
