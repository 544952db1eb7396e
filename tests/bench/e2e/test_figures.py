import pytest
from bench.e2e.figures import COLUMNS, GROUPS, highest_rate, percentile
from hypothesis import given
from hypothesis import strategies as st


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile(values, 100) == 100
    assert percentile(values, 0) == 1
    assert percentile([7.5], 99) == 7.5


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    enough = percent / 100 * len(values)
    assert sum(value <= found for value in values) >= enough
    assert sum(value < found for value in values) < enough


@given(st.floats(1_000, 399_000))
def test_the_highest_rate_is_found_to_four_percent(limit: float) -> None:
    found = highest_rate(lambda rate: rate <= limit, start=16_000, ceiling=400_000)
    assert found <= limit <= found * 1.04


def test_a_limit_below_the_floor_is_no_rate() -> None:
    tried: list[float] = []
    assert highest_rate(lambda rate: bool(tried.append(rate)), start=16_000, ceiling=400_000) == 0
    assert min(tried) >= 500


def test_nothing_above_the_ceiling_is_tried() -> None:
    tried: list[float] = []
    found = highest_rate(lambda rate: not tried.append(rate), start=16_000, ceiling=100_000)
    assert found == max(tried) == 100_000


def test_one_hiccup_on_the_way_up_is_not_the_limit() -> None:
    def passes(rate: float) -> bool:
        return rate <= 100_000 and rate != 24_000

    assert highest_rate(passes, start=16_000, ceiling=400_000) > 96_000


def test_a_start_that_fails_by_accident_does_not_hold_the_search_down() -> None:
    assert highest_rate(lambda rate: rate != 16_000 and rate <= 50_000, start=16_000, ceiling=400_000) > 48_000


def test_every_column_has_a_key_and_a_title_of_its_own() -> None:
    assert len({column.key for column in COLUMNS}) == len({column.title for column in COLUMNS}) == len(COLUMNS)
    assert GROUPS == ("idle", "tcp", "loaded", "rate", "cpu", "rss")
