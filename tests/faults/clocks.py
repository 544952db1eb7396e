"""Someone sets the clock: by an hour, forwards and back, during a session and between two.

Only the clock on the wall is set (CLOCK_REALTIME), for single processes, by libfaketime; nobody can set the other one.
"""

import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.faults.ground import Ground, Program, ground
from tests.faults.report import Result
from tests.support.tools import unavailable

from softlan.demo.probes import room_snapshot
from softlan.demo.processes import wait_for
from softlan.demo.services import ROOM

HOUR = 3600
STILL = 2.0  # seconds that a heart may stand still when a clock is set: a machine may be busy, no clock is
BACK = 10.0  # seconds to join with a clock that is wrong
WATCHED = 3.0  # seconds after each step
NOTICED = 3.0  # seconds until libfaketime has read its file again


class Clocks:
    """A clock for each process of a party, set by a file."""

    def __init__(self, directory: Path) -> None:
        found = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
        if not found:
            unavailable("libfaketime is missing: `make setup` as root installs it")
        self._library = found[0]
        self._directory = directory

    def inside(self, name: str) -> list[str]:
        """What stands before a command that goes by the clock `name`."""
        self.set(name, 0)
        settings: Mapping[str, object] = {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": self._file(name),
            "FAKETIME_CACHE_DURATION": 1,
            "DONT_FAKE_MONOTONIC": 1,
            "NO_FAKE_STAT": 1,
        }
        return ["env", *(f"{key}={value}" for key, value in settings.items())]

    def set(self, name: str, seconds: int) -> None:
        """Set it to the true time and `seconds`."""
        draft = self._file(name).with_suffix(".new")
        draft.write_text(f"{seconds:+d}")
        draft.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.clock"


NAMES = ("relay", "gateway", "player")
STEPS = (HOUR, 0, -HOUR, 0)
WHOSE = (NAMES, *((name,) for name in NAMES))


def _start(party: Ground, clocks: Clocks) -> None:
    party.start_relay(inside=clocks.inside("relay"))
    party.start_gateway(inside=clocks.inside("gateway"))
    party.start_player(party.player, inside=clocks.inside("player"))


def _set(party: Ground, clocks: Clocks, names: tuple[str, ...], seconds: int) -> None:
    for name in names:
        clocks.set(name, seconds)
    if "relay" in names:
        wait_for("the relay's clock", lambda: _is_off(party, seconds), NOTICED)


def _is_off(party: Ground, seconds: int) -> bool:
    """Whether the relay's own log goes by the clock that was set."""
    room_snapshot(party.relay.process, ROOM)
    stamp = str(party.relay.process.events("room.snapshot")[-1]["timestamp"])
    shown = datetime.datetime.fromisoformat(stamp)
    return abs((shown - datetime.datetime.now(datetime.UTC)).total_seconds() - seconds) < 60


def clock_set(directory: Path, whose: Sequence[tuple[str, ...]] = WHOSE, steps: Sequence[int] = STEPS) -> Result:
    """Set the clocks during a session: of all, and of each alone; after all `STEPS` also while the relay is away."""
    result = Result("clock set by an hour during a session", STILL, "no gap, no new session, the log has the new time")
    with ground(directory) as party:
        clocks = Clocks(party.services.directory)
        _start(party, clocks)
        party.beat()
        for names in whose:
            for seconds in steps:
                begun = time.monotonic()
                _set(party, clocks, names, seconds)
                party.heal(begun + WATCHED, WATCHED + STILL)
                still = party.player.heart.still(begun, time.monotonic())
                result.healed(still, still)
        if any(len(program.process.events("joined")) != 1 for program in party.programs[1:]):
            result.broken.append("a clock ended a session")
        result.broken += party.inspect()
        if steps == STEPS:
            killed = time.monotonic()
            party.kill(party.relay)
            for name in ("gateway", "player"):
                clocks.set(name, -HOUR)
            party.start_relay(inside=clocks.inside("relay"))
            back = time.monotonic()
            healed = party.heal(killed, 3 * BACK)
            result.notes.append(f"set while the relay was away: back {healed - back:.2f} s after it")
            result.broken += party.inspect()
        result.broken += party.farewell()
    return result


def clock_between(directory: Path) -> Result:
    """Set the clock of one between two sessions, and join again; the certificate was made by the true time."""
    result = Result("clock set by an hour between two sessions", BACK, "all three join again with a clock that is off")
    with ground(directory) as party:
        clocks = Clocks(party.services.directory)
        _start(party, clocks)
        for names in WHOSE:
            for seconds in (HOUR, -HOUR):
                for program in party.programs[::-1]:
                    result.broken += party.end(program)
                started = time.monotonic()
                before: list[Program] = party.programs
                _start_at(party, clocks, {name: seconds if name in names else 0 for name in NAMES})
                party.past += before
                result.healed(time.monotonic() - started, 0.0)
        party.beat()
        result.broken += party.inspect()
        result.broken += party.farewell()
    return result


def first_start_by_a_wrong_clock(directory: Path) -> Result:
    """The relay makes its certificate by a clock that is an hour ahead, or behind; the others' are right."""
    result = Result("certificate made by a clock an hour off", BACK, "all join at once")
    for seconds in (HOUR, -HOUR):
        with ground(directory / f"{seconds:+d}") as party:
            clocks = Clocks(party.services.directory)
            started = time.monotonic()
            _start_at(party, clocks, {"relay": seconds, "gateway": 0, "player": 0})
            result.healed(time.monotonic() - started, 0.0)
            party.beat()
            result.broken += party.inspect()
            result.broken += party.farewell()
    return result


def _start_at(party: Ground, clocks: Clocks, times: Mapping[str, int]) -> None:
    inside = {name: clocks.inside(name) for name in NAMES}
    for name, seconds in times.items():
        clocks.set(name, seconds)
    party.start_relay(inside=inside["relay"])
    party.start_gateway(inside=inside["gateway"])
    party.start_player(party.player, inside=inside["player"])
