"""The guard with settings of interfaces, which stay after the process, and some after the machine's restart."""

import ipaddress
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from softlan.errors import HostError
from softlan.host.base import HostRoute, Setting
from softlan.host.guard import HostGuard
from softlan.host.memory import MemoryNetwork
from softlan.host.owner import Owner, this_process
from softlan.host.plan import AddRoute, Change, SetInterface

TAP = "{11111111-0000-4000-8000-00000000000C}"
HOME = HostRoute(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_address("192.168.1.1"), "wlan0")
PIN = AddRoute(HostRoute(ipaddress.ip_network("203.0.113.5/32"), HOME.gateway, "wlan0"))
DEFAULT_ROUTES = SetInterface(TAP, 4, Setting.DEFAULT_ROUTES, 0)
METRIC = SetInterface(TAP, 4, Setting.METRIC, 1)
MTU = SetInterface(TAP, 4, Setting.MTU, 1418)
CHANGES: list[Change] = [PIN, DEFAULT_ROUTES, METRIC, MTU]
BEFORE = Owner(pid=1, started=this_process().started + 1, boot=this_process().boot)
OTHER_BOOT = Owner(pid=os.getpid(), started=this_process().started, boot="another")
AS_IT_WAS = {
    (TAP, version, setting): value
    for version in (4, 6)
    for setting, value in ((Setting.MTU, 1500), (Setting.METRIC, 0), (Setting.DEFAULT_ROUTES, 1))
}


class Crash(BaseException):
    """The process ends here: nothing catches it."""


class Machine(MemoryNetwork):
    """Notes what is written, in order."""

    def __init__(self) -> None:
        super().__init__(HOME)
        self.settings = dict(AS_IT_WAS)
        self.written: list[str] = []

    def add_route(self, route: HostRoute) -> None:
        super().add_route(route)
        self.written.append("pin")

    def delete_route(self, route: HostRoute) -> None:
        super().delete_route(route)
        self.written.append("unpin")

    def write_setting(self, interface: str, version: int, setting: Setting, value: int) -> None:
        super().write_setting(interface, version, setting, value)
        self.written.append(f"{setting.value} {value}")

    @property
    def is_as_it_was(self) -> bool:
        return (self.routes, self.ours, self.settings) == ([HOME], [], AS_IT_WAS)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "host.json"


def guard_of(machine: Machine, journal: Path, owner: Owner | None = None) -> HostGuard:
    return HostGuard(machine, journal, owner=owner, interfaces=machine)


def named(journal: Path) -> list[dict[str, object]]:
    content: list[dict[str, object]] = json.loads(journal.read_text())["changes"]
    return content


def test_settings_are_made_in_order_and_put_back_in_reverse(machine: Machine, journal: Path) -> None:
    guard = guard_of(machine, journal)
    assert guard.apply(CHANGES) == CHANGES
    assert machine.settings == AS_IT_WAS | {
        (TAP, 4, Setting.DEFAULT_ROUTES): 0,
        (TAP, 4, Setting.METRIC): 1,
        (TAP, 4, Setting.MTU): 1418,
    }
    assert guard.restore() == []
    assert machine.is_as_it_was
    assert machine.written == [
        *("pin", "default routes 0", "metric 1", "mtu 1418"),
        *("mtu 1500", "metric 0", "default routes 1", "unpin"),
    ]
    assert not journal.exists()


def test_what_was_before_is_in_the_journal_before_it_is_changed(machine: Machine, journal: Path) -> None:
    machine.fail(2, Crash())  # the first is the look at what is set
    with pytest.raises(Crash):
        guard_of(machine, journal).apply([MTU])
    assert [(change["value"], change["previous"]) for change in named(journal)] == [(1418, 1500)]


def test_what_is_set_already_is_not_ours_to_change(machine: Machine, journal: Path) -> None:
    machine.settings[TAP, 4, Setting.METRIC] = 1
    guard = guard_of(machine, journal)
    assert guard.apply(CHANGES) == [PIN, DEFAULT_ROUTES, MTU]
    guard.restore()
    assert machine.settings == AS_IT_WAS | {(TAP, 4, Setting.METRIC): 1}


def test_what_somebody_else_has_set_since_is_left_to_them(machine: Machine, journal: Path) -> None:
    guard = guard_of(machine, journal)
    guard.apply(CHANGES)
    machine.settings[TAP, 4, Setting.METRIC] = 77
    assert guard.restore() == []
    assert machine.settings == AS_IT_WAS | {(TAP, 4, Setting.METRIC): 77}
    assert not journal.exists()


@pytest.mark.parametrize("meanwhile", [0, 77])
def test_what_was_lost_is_set_again_and_the_first_value_put_back(
    machine: Machine, journal: Path, meanwhile: int
) -> None:
    guard = guard_of(machine, journal)
    guard.apply(CHANGES)
    machine.settings[TAP, 4, Setting.METRIC] = meanwhile
    assert guard.apply(CHANGES) == [METRIC]
    assert len(named(journal)) == len(CHANGES)
    assert guard.restore() == []
    assert machine.is_as_it_was


def test_one_change_can_be_withdrawn_while_the_others_stay(machine: Machine, journal: Path) -> None:
    guard = guard_of(machine, journal)
    guard.apply(CHANGES)
    assert guard.withdraw([PIN, MTU]) == []
    assert machine.ours == []
    assert machine.settings[TAP, 4, Setting.MTU] == 1500
    assert machine.settings[TAP, 4, Setting.METRIC] == 1
    assert [change["setting"] for change in named(journal)] == ["default routes", "metric"]
    assert guard.withdraw([PIN, MTU]) == []
    guard.apply([replace(MTU, value=1296), PIN])
    assert guard.restore() == []
    assert machine.is_as_it_was


def test_what_cannot_be_withdrawn_stays_held(machine: Machine, journal: Path) -> None:
    guard = guard_of(machine, journal)
    guard.apply(CHANGES)
    machine.fail(machine.calls + 2, HostError("write setting", "no"))
    assert guard.withdraw([MTU]) == [f"could not put back the {MTU}: no"]
    assert len(named(journal)) == len(CHANGES)
    assert guard.restore() == []
    assert machine.is_as_it_was


def test_a_setting_that_does_not_take_is_an_error(machine: Machine, journal: Path) -> None:
    class Stubborn(Machine):
        def write_setting(self, interface: str, version: int, setting: Setting, value: int) -> None:
            self.calls += 1

    stubborn = Stubborn()
    with pytest.raises(HostError, match=r"^the IPv4 setting mtu = 1418 of \{.*\} did not appear$"):
        guard_of(stubborn, journal).apply([*CHANGES[:1], MTU])
    assert stubborn.is_as_it_was
    assert not journal.exists()


def test_an_interface_that_is_gone_has_nothing_to_put_back(machine: Machine, journal: Path) -> None:
    guard = guard_of(machine, journal)
    guard.apply(CHANGES)
    machine.settings.clear()
    assert guard.restore() == []
    assert not journal.exists()
    with pytest.raises(HostError, match="there is no interface"):
        guard.apply([MTU])


def test_an_interface_that_is_off_for_now_is_put_back_later(machine: Machine, journal: Path) -> None:
    guard = guard_of(machine, journal, BEFORE)
    guard.apply(CHANGES)
    off = {key: machine.settings.pop(key) for key in list(machine.settings) if key[1] == 4}
    assert len(guard.restore()) == 3
    machine.settings |= off
    said = guard_of(machine, journal).recover()
    assert said == [f"put back the {change}, left by an earlier run" for change in (DEFAULT_ROUTES, METRIC, MTU)]
    assert machine.is_as_it_was


def test_an_interface_that_is_disabled_is_put_back_once_it_is_enabled(machine: Machine, journal: Path) -> None:
    machine.installed.add(TAP)
    guard = guard_of(machine, journal, BEFORE)
    guard.apply(CHANGES)
    disabled, machine.settings = machine.settings, {}
    assert guard.restore() == [
        f"could not put back the {change}: {TAP} is disabled now" for change in (MTU, METRIC, DEFAULT_ROUTES)
    ]
    assert len(guard_of(machine, journal).recover()) == 3
    assert [change["setting"] for change in named(journal)] == ["default routes", "metric", "mtu"]
    machine.settings = disabled
    guard_of(machine, journal).recover()
    assert machine.is_as_it_was
    assert not journal.exists()


def test_an_interface_that_was_disabled_and_then_removed_is_forgotten(machine: Machine, journal: Path) -> None:
    machine.installed.add(TAP)
    guard = guard_of(machine, journal, BEFORE)
    guard.apply(CHANGES)
    machine.settings.clear()
    assert len(guard.restore()) == 3
    machine.installed.clear()
    assert len(guard_of(machine, journal).recover()) == 3
    assert not journal.exists()


CALLS = 3 * len(CHANGES)
UNDO = 1 + 2 * 3


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_whatever_call_fails_the_machine_is_as_before(machine: Machine, journal: Path, call: int) -> None:
    machine.fail(call, HostError("test", "ordered failure"))
    guard = guard_of(machine, journal)
    with pytest.raises(HostError, match=r"^ordered failure$"):
        guard.apply(CHANGES)
    assert machine.is_as_it_was
    assert not journal.exists()
    guard.apply(CHANGES)
    guard.restore()
    assert machine.is_as_it_was


@pytest.mark.parametrize("call", range(CALLS + 1, CALLS + UNDO + 1))
def test_whatever_fails_while_restoring_is_put_back_at_the_next_start(
    machine: Machine, journal: Path, call: int
) -> None:
    machine.fail(call, HostError("test", "ordered failure"))
    guard = guard_of(machine, journal, BEFORE)
    guard.apply(CHANGES)
    (complaint,) = guard.restore()
    assert complaint.endswith(": ordered failure")
    assert not machine.is_as_it_was
    assert len(guard_of(machine, journal).recover()) == 1
    assert machine.is_as_it_was
    assert not journal.exists()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(1, CALLS + UNDO + 1))
def test_wherever_the_process_ends_the_next_one_recovers(
    machine: Machine, journal: Path, call: int, after: bool
) -> None:
    machine.fail(call, Crash(), after=after)
    guard = guard_of(machine, journal, BEFORE)

    def run() -> None:
        guard.apply(CHANGES)
        guard.restore()

    with pytest.raises(Crash):
        run()
    guard_of(machine, journal).recover()
    assert machine.is_as_it_was
    assert not journal.exists()


@pytest.mark.parametrize("call", range(1, CALLS + UNDO + 1))
def test_after_a_power_cut_settings_are_put_back_and_routes_are_gone_by_themselves(
    machine: Machine, journal: Path, call: int
) -> None:
    machine.fail(call, Crash(), after=True)
    guard = guard_of(machine, journal, OTHER_BOOT)

    def run() -> None:
        guard.apply(CHANGES)
        guard.restore()

    with pytest.raises(Crash):
        run()
    machine.ours.clear()
    machine.written.clear()
    guard_of(machine, journal).recover()
    assert "unpin" not in machine.written
    assert machine.is_as_it_was
    assert not journal.exists()


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_an_interrupt_that_the_process_outlives_is_undone_by_restore(
    machine: Machine, journal: Path, call: int
) -> None:
    machine.fail(call, KeyboardInterrupt(), after=True)
    guard = guard_of(machine, journal)
    with pytest.raises(KeyboardInterrupt):
        guard.apply(CHANGES)
    assert guard.restore() == []
    assert machine.is_as_it_was
    assert not journal.exists()


@example(faults={13: False, 17: False}, runs=["withdraw"])
@given(
    faults=st.dictionaries(st.integers(1, 40), st.booleans(), max_size=4),
    runs=st.lists(st.sampled_from(["apply", "again", "withdraw"]), min_size=1, max_size=4),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_ends_with_the_machine_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, faults: dict[int, bool], runs: list[str]
) -> None:
    journal = tmp_path_factory.mktemp("history") / "host.json"
    machine = Machine()
    for call, is_crash in faults.items():
        machine.fail(call, Crash() if is_crash else HostError("test", "ordered"))
    for number, run in enumerate(runs):
        guard = guard_of(machine, journal, replace(BEFORE, started=BEFORE.started + number))
        try:
            guard.recover()
            guard.apply(CHANGES)
            if run == "again":
                machine.settings[TAP, 4, Setting.MTU] = 1500
                guard.apply(CHANGES)
            if run == "withdraw":
                guard.withdraw([MTU])
                guard.apply([replace(MTU, value=1296)])
            guard.restore()
        except (Crash, HostError):
            continue
    machine._before.clear()
    guard_of(machine, journal).recover()
    assert machine.is_as_it_was
    assert not journal.exists()


def test_a_system_without_such_settings_says_so(machine: Machine, journal: Path) -> None:
    guard = HostGuard(machine, journal)
    with pytest.raises(HostError, match=r"^unsupported platform: settings of interfaces are changed on Windows only$"):
        guard.apply(CHANGES)
    assert machine.is_as_it_was
    guard_of(machine, journal, BEFORE).apply([MTU])
    (complaint,) = guard.recover()
    assert "unsupported platform" in complaint
    assert journal.exists()
