import os
import re

from bench.e2e.machine import process_seconds, processors, resident_megabytes

NOBODY = 2**22 + 1  # above the largest process id of Linux


def spin() -> None:
    """Use more than a tick of processor time."""
    before = os.times().user
    while os.times().user - before < 0.05:
        pass


def test_processor_time_is_that_of_the_process() -> None:
    before = process_seconds([os.getpid()])
    spin()
    assert 0.04 <= process_seconds([os.getpid()]) - before < 10


def test_one_that_has_ended_counts_nothing() -> None:
    assert process_seconds([NOBODY]) == 0
    assert resident_megabytes([NOBODY]) == 0


def test_resident_memory_is_in_megabytes() -> None:
    assert 5 < resident_megabytes([os.getpid()]) < 2000


def test_a_report_says_which_processors_these_are() -> None:
    assert re.fullmatch(rf"{os.cpu_count()} processors \(\S.*\)", processors())
