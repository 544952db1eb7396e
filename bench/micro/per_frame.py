"""One way to measure a burst: a fresh one for each call, and what a single frame of it costs."""

from collections.abc import Callable
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

_ROUNDS = 300


def measure_burst(
    benchmark: BenchmarkFixture, burst: int, call: Callable[..., object], prepare: Callable[[], tuple[object, ...]]
) -> None:
    """Time `call` with the arguments that `prepare` makes each time; notes the median per frame as ``us_per_frame``."""
    pedantic: Any = benchmark.pedantic  # the plugin has types in part only
    pedantic(call, setup=lambda: (prepare(), {}), rounds=_ROUNDS, warmup_rounds=5)
    if benchmark.stats is not None:  # with --benchmark-disable there are none
        benchmark.extra_info["us_per_frame"] = round(benchmark.stats.stats.median / burst * 1e6, 3)
