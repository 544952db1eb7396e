"""A table at the end: what one frame costs, by how many come at once."""

from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    session: Any = getattr(config, "_benchmarksession", None)
    told = [bench for bench in session.benchmarks if "us_per_frame" in bench.extra_info] if session else []
    if not told:
        return
    terminalreporter.section("us a frame (median of the burst, divided)")
    for bench in told:
        terminalreporter.write_line(f"{bench.name:<32} {bench.extra_info['us_per_frame']:>8.2f}")
