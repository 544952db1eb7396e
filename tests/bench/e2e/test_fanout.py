import pytest
from bench.e2e.fanout import FanOut, slope


def test_the_slope_is_what_one_more_client_costs() -> None:
    assert slope({0: 50_000.0, 100: 55_000.0, 200: 60_000.0}) == pytest.approx(50)
    assert slope({0: 50_000.0, 100: 56_000.0, 200: 60_000.0}) == pytest.approx(50)


def test_processor_time_is_told_for_each_copy_that_arrived() -> None:
    assert FanOut(sent=10, copies=250, cpu=0.001).us_per_copy == pytest.approx(4)
    assert FanOut(sent=10, copies=0, cpu=0.001).us_per_copy == pytest.approx(1000)
