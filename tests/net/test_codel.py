from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.net.codel import CoDel

TARGET, INTERVAL = 0.005, 0.1
LATE = 0.02


def drops(packets: list[tuple[float, float]]) -> list[int]:
    """Which of the packets, each (sojourn, now), are dropped."""
    codel = CoDel(TARGET, INTERVAL)
    return [index for index, (sojourn, now) in enumerate(packets) if codel.drops(sojourn, now)]


def test_a_queue_that_drains_within_the_interval_loses_nothing() -> None:
    burst = [(LATE, 1.0 + 0.001 * index) for index in range(99)]
    assert drops([*burst, (TARGET * 0.9, 1.1), *((sojourn, now + 0.1) for sojourn, now in burst)]) == []


def test_a_queue_that_stands_loses_one_after_an_interval_then_more_and_more_often() -> None:
    packets = [(LATE, 0.001 * index) for index in range(1000)]
    dropped = drops(packets)
    assert dropped[0] == 100
    gaps = [after - before for before, after in pairwise(dropped)]
    assert gaps[0] == pytest.approx(100, abs=1)
    assert gaps[1] == pytest.approx(100 / sqrt(2), abs=1)
    assert gaps[2] == pytest.approx(100 / sqrt(3), abs=1)


def test_nothing_is_lost_once_a_packet_came_in_time() -> None:
    standing = [(LATE, 0.001 * index) for index in range(300)]
    later = [(LATE, 0.3 + 0.001 * index) for index in range(100)]
    assert max(drops([*standing, (0.0, 0.3), *later])) < 300


def test_it_takes_up_its_rate_again_when_the_queue_is_soon_back() -> None:
    standing = [(LATE, 0.001 * index) for index in range(1000)]
    again = [(0.0, 1.0), *((LATE, 1.0 + 0.001 * index) for index in range(200))]
    much_later = [(sojourn, now + 10) for sojourn, now in again]
    assert len(drops(standing + again)) - len(drops(standing)) > 5
    assert len(drops(standing + much_later)) - len(drops(standing)) == 1


def test_an_empty_queue_is_a_new_one() -> None:
    """However late the packets are that come then: they waited for something else than those before them."""
    codel = CoDel(TARGET, INTERVAL)
    assert any(codel.drops(LATE, 0.001 * index) for index in range(300))
    codel.emptied()
    assert not codel.is_late
    assert not any(codel.drops(LATE, 60.0 + INTERVAL / 200 * index) for index in range(200))


def test_says_when_it_need_not_be_asked() -> None:
    codel = CoDel(TARGET, INTERVAL)
    assert not codel.is_late
    codel.drops(TARGET, 0.0)
    assert codel.is_late
    codel.drops(-3.0, 0.0)
    assert not codel.is_late


@given(
    st.lists(
        st.tuples(st.floats(0, 2 * TARGET), st.floats(0.0001, 0.05), st.integers(1, 40)),
        max_size=40,
    )
)
def test_whatever_comes_no_packet_is_lost_that_was_in_time_nor_any_within_an_interval_after(
    phases: list[tuple[float, float, int]],
) -> None:
    packets = []
    now = 1.0
    for sojourn, step, count in phases:
        for _ in range(count):
            now += step
            packets.append((sojourn, now))
    for index in drops(packets):
        assert packets[index][0] >= TARGET
        assert all(sojourn >= TARGET for sojourn, now in packets[:index] if now > packets[index][1] - INTERVAL * 0.999)


@given(st.floats(0.01, 3.0), st.floats(0.00005, 0.001))
def test_the_rate_rises_with_the_square_root_of_what_was_dropped(seconds: float, step: float) -> None:
    dropped = len(drops([(LATE, step * index) for index in range(int(seconds / step))]))
    expected = 0
    at = INTERVAL
    while at < seconds:
        expected += 1
        at += INTERVAL / sqrt(expected)
    assert dropped == pytest.approx(expected, abs=1)
