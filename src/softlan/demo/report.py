"""What a person sees of the demo: a line for each step as it happens, and a table at the end."""

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from softlan.demo.lan_player import Found
from softlan.demo.probes import Rtt
from softlan.demo.processes import Process
from softlan.proto.drop import Action


@dataclass(slots=True)
class Measurements:
    """What was found out on the way; the rows of the table."""

    host_address: str
    player_address: str = ""
    player_mac: str = ""
    player_mtu: int = 0
    tunnel: Rtt | None = None
    player_leg: Rtt | None = None
    gateway_leg: Rtt | None = None
    found: list[Found] = field(default_factory=list)
    is_sealed: bool = False
    frames: dict[Action, int] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)


class Report:
    """Prints to `console`, with the seconds since it was made."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def line(self, who: str, text: str) -> None:
        """Say what has happened; `who` is a word for where."""
        self._print((f"{self.elapsed:6.2f} s  ", "dim"), (f"{who:<8}", "bold cyan"), text)

    def failed(self, step: str, why: str) -> None:
        """Say which step failed."""
        self._print((f"{self.elapsed:6.2f} s  ", "dim"), ("FAILED  ", "bold red"), f"{step}: {why}")

    def plain(self, text: str = "") -> None:
        """Print a line as it is."""
        self._print(text)

    def logs(self, processes: list[Process], lines: int = 8) -> None:
        """Print the last lines that each process said, and where the rest is."""
        for process in processes:
            state = "running" if process.status is None else f"ended with status {process.status}"
            self._print((f"\n{process.name}", "bold"), f" ({state}), the end of {process.log}:")
            for text in process.tail(lines):
                self._print(("  " + text, "dim"))

    def table(self, measured: Measurements) -> None:
        """Print what was measured."""
        table = Table(title="The party, measured", title_justify="left", show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in rows(measured):
            table.add_row(name, Text(value))
        self._console.print(table)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        # Text, not markup: nothing that a process said may be read as a style. Lines are left to the
        # terminal to wrap.
        self._console.print(Text.assemble(*parts), soft_wrap=True)


def rows(measured: Measurements) -> list[tuple[str, str]]:
    """Return the table's rows, name and value; what was not measured has none."""
    table = [("LAN host", measured.host_address)]
    if measured.player_address:
        table.append(("player", f"{measured.player_address}, by DHCP"))
        table.append(("player's interface", f"MAC {measured.player_mac}, MTU {measured.player_mtu}"))
    if measured.tunnel:
        table.append(("RTT through the tunnel", _rtt(measured.tunnel)))
    if measured.player_leg and measured.gateway_leg:
        below = measured.player_leg.average + measured.gateway_leg.average
        table.append(("RTT of the path below", f"{below:.2f} ms, the sum of"))
        table.append(("  player to relay", _rtt(measured.player_leg)))
        table.append(("  gateway to relay", _rtt(measured.gateway_leg)))
    table.extend((found.sort, f"{found.text} ({found.address}, {found.ms:.1f} ms)") for found in measured.found)
    if measured.is_sealed:
        table.append(("room", "sealed: the relay cannot read it"))
    if measured.frames:
        frames = (f"{count} {action.value.replace('_', ' ')}" for action, count in measured.frames.items())
        table.append(("frames", ", ".join(frames)))
    if measured.drops:
        table.append(("  not forwarded", ", ".join(f"{count} {reason}" for reason, count in measured.drops.items())))
    return table


def _rtt(rtt: Rtt) -> str:
    return f"{rtt.average:.2f} ms ({rtt.minimum:.2f} to {rtt.maximum:.2f}, {rtt.received} of {rtt.sent} answered)"
