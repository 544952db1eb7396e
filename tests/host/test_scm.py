"""What can be said of Windows services without Windows; tests/windows/inside/test_service.py has the rest."""

import ctypes
import sys
import threading
from typing import Any

import pytest

from softlan.errors import HostError
from softlan.host import scm
from softlan.host.scm import (
    ServiceAction,
    ServiceControl,
    ServiceDescription,
    ServiceFailureActions,
    ServiceStatus,
    ServiceTableEntry,
)

# winsvc.h, on 64 bit: name: size, and the offset of each member.
LAYOUT = {
    ServiceStatus: (28, [0, 4, 8, 12, 16, 20, 24]),
    ServiceTableEntry: (16, [0, 8]),
    ServiceDescription: (8, [0]),
    ServiceAction: (8, [0, 4]),
    ServiceFailureActions: (40, [0, 8, 16, 24, 32]),
}


@pytest.mark.parametrize("structure", LAYOUT, ids=lambda structure: structure.__name__)
def test_layout(structure: type[ctypes.Structure]) -> None:
    size, offsets = LAYOUT[structure]
    assert ctypes.sizeof(structure) == size
    assert [getattr(structure, field[0]).offset for field in structure._fields_] == offsets


def test_stop_calls_once() -> None:
    calls: list[str] = []
    control = ServiceControl()
    control.on_stop(lambda: calls.append("stop"))
    assert (control.is_stopping, calls) == (False, [])
    control.stop()
    control.stop()
    assert (control.is_stopping, calls) == (True, ["stop"])


def test_a_stop_that_came_before_anyone_listened() -> None:
    calls: list[str] = []
    control = ServiceControl()
    control.stop()
    control.on_stop(lambda: calls.append("stop"))
    assert calls == ["stop"]


def test_a_stop_from_another_thread() -> None:
    called = threading.Event()
    control = ServiceControl()
    control.on_stop(called.set)
    threading.Thread(target=control.stop).start()
    assert called.wait(10)


class Manager:
    """Stands for advapi32: a manager that registers a service, and starts it or not. Handles are 1 and 2."""

    def __init__(self, *, starts: bool) -> None:
        self.calls: list[str] = []
        self._starts = starts

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: object) -> int:
            self.calls.append(name)
            return {"OpenSCManagerW": 1, "CreateServiceW": 2, "StartServiceW": int(self._starts)}.get(name, 1)

        return call


@pytest.mark.parametrize("starts", [True, False])
def test_what_cannot_be_started_is_not_left_registered(starts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would start with Windows, without the invitation that goes when this fails."""
    manager = Manager(starts=starts)
    monkeypatch.setattr(scm, "_advapi32", lambda: manager)
    monkeypatch.setattr(scm, "_last_error", lambda: 1053)
    if starts:
        scm.install("softlan service run")
    else:
        with pytest.raises(HostError, match=r"^cannot start the service: Windows error 1053$"):
            scm.install("softlan service run")
    end = manager.calls[manager.calls.index("StartServiceW") + 1 :]
    assert end == ([] if starts else ["DeleteService"]) + ["CloseServiceHandle"] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has services")
@pytest.mark.parametrize("call", [lambda: scm.install("x"), scm.remove, lambda: scm.serve(lambda control: 0)])
def test_elsewhere_than_on_windows(call: object) -> None:
    assert callable(call)
    with pytest.raises(HostError, match="unsupported platform"):
        call()
