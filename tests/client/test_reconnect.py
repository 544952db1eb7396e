import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.client.reconnect import Backoff

randoms = st.floats(0, 1)


def test_steps_double_up_to_the_ceiling() -> None:
    backoff = Backoff()
    assert [backoff.next(1.0) for _ in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_reset_begins_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next(1.0)
    backoff.reset()
    assert backoff.next(1.0) == 0.25


@given(st.lists(randoms, min_size=1, max_size=30))
def test_every_delay_lies_between_half_and_whole_of_its_step(draws: list[float]) -> None:
    backoff = Backoff(first=0.25, factor=2.0, ceiling=4.0)
    for attempt, random in enumerate(draws):
        step = min(0.25 * 2**attempt, 4.0)
        assert step / 2 <= backoff.next(random) <= step


def test_a_lost_relay_is_tried_several_times_within_ten_seconds() -> None:
    backoff = Backoff()
    assert sum(backoff.next(1.0) for _ in range(5)) < 10


@pytest.mark.parametrize("random", [0.0, 0.5, 1.0])
def test_what_the_relay_asks_for_is_waited_and_the_crowd_still_spread(random: float) -> None:
    assert Backoff().next(random, retry_after=30.0) == 30.0 + Backoff().next(random)


def test_a_delay_that_the_relay_asked_for_counts_as_an_attempt() -> None:
    backoff = Backoff()
    backoff.next(1.0, retry_after=30.0)
    assert backoff.next(1.0) == 0.5


def test_a_first_step_above_the_ceiling_is_not_outgrown() -> None:
    backoff = Backoff(first=1.0, factor=10.0, ceiling=3.0)
    assert [backoff.next(1.0) for _ in range(3)] == [1.0, 3.0, 3.0]
