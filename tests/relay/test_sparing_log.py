from typing import Any

import pytest
from tests.support.relay_fakes import CapturedLog

from softlan.relay.sparing_log import SparingLog


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_so_many_lines_and_then_how_many_there_were_more(level: str) -> None:
    captured = CapturedLog()
    log = SparingLog(captured, 3)
    for number in range(10):
        getattr(log, level)("said", number=number)
    assert captured.events == [("said", {"number": number}) for number in range(3)]
    captured.events.clear()
    log.renew()
    assert captured.events == [("log.left_out", {"lines": 7})]
    for number in range(3):
        getattr(log, level)("said", number=number)
    assert len(captured.events) == 4
    log.renew()
    log.renew()
    assert len(captured.events) == 4, "there was nothing to tell"


def test_what_is_of_no_interest_takes_no_place_from_what_is() -> None:
    captured = CapturedLog()
    log = SparingLog(captured, 1)
    for _ in range(5):
        log.debug("detail")
        log.info("event")
    log.warning("warning")
    assert [event for event, _ in captured.events] == ["detail", "event", "warning"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), ValueError("I/O operation on closed file")])
def test_what_cannot_be_written_is_lost(fault: Exception) -> None:
    class Full:
        def info(self, event: str, **members: Any) -> None:
            raise fault

    log = SparingLog(Full(), 1)
    log.info("one")
    log.info("two")
    log.renew()
    log.info("three")
