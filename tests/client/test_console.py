import threading

import pytest

from softlan.client import console
from softlan.client.console import console_handler

ENDS = [console.CTRL_CLOSE_EVENT, console.CTRL_SHUTDOWN_EVENT]


@pytest.mark.parametrize("event", [console.CTRL_C_EVENT, console.CTRL_BREAK_EVENT])
def test_a_key_asks_for_the_end_and_is_dealt_with(event: int) -> None:
    asked: list[int] = []
    handle = console_handler(lambda: asked.append(1), threading.Event())
    assert handle(event), "or Windows' own handler would end the process"
    assert asked == [1]


@pytest.mark.parametrize("event", ENDS)
def test_when_the_console_goes_the_handler_holds_until_all_is_put_back(event: int) -> None:
    asked, finished, answers = threading.Event(), threading.Event(), []
    handle = console_handler(asked.set, finished)
    thread = threading.Thread(target=lambda: answers.append(handle(event)))
    thread.start()
    assert asked.wait(5)
    assert answers == [], "Windows ends the process as soon as it returns"
    finished.set()
    thread.join(5)
    assert answers == [True]


def test_a_user_who_logs_off_is_no_concern_of_a_service() -> None:
    asked: list[int] = []
    handle = console_handler(lambda: asked.append(1), threading.Event())
    assert handle(console.CTRL_LOGOFF_EVENT), "or Windows' own handler would end the process"
    assert asked == []


@pytest.mark.parametrize("event", ENDS)
def test_it_does_not_hold_for_ever(event: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert console.PATIENCE < 5.0, "Windows' own"
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    assert console_handler(lambda: None, threading.Event())(event)
