"""The status line is for terminals, and the log stays whole above it."""

import io

import pytest
from rich.console import Console

from softlan.cli.live_line import live_line
from softlan.cli.options import LogOptions
from softlan.obs.logging import get_logger


@pytest.mark.parametrize(("terminal", "form"), [(False, "console"), (True, "json")])
def test_nobody_to_look_at_it(terminal: bool, form: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with live_line(LogOptions(log_format=form), console) as show:  # type: ignore[arg-type]
        assert show is None


def test_lines_of_the_log_are_whole_and_the_status_line_goes() -> None:
    out = io.StringIO()
    with live_line(LogOptions(), Console(file=out, force_terminal=True, width=40)) as show:
        assert show is not None
        show("DEN | relay 23 ms | LAN | softlan0 10.0.0.5 | in 12 out 7")
        get_logger("client").info("event", text="[bold]no markup[/bold]", long="x" * 60)
        show("DEN | relay out of reach")
    text = out.getvalue()
    assert "DEN | relay 23 ms | LAN | softlan0" in text
    assert f'text="[bold]no markup[/bold]" long={"x" * 60}\n' in text
    assert "in 12 out 7" not in text  # cut at the width, never wrapped
    assert text.rstrip().endswith("\x1b[2K")  # the line is erased at the end
