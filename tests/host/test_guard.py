import ipaddress
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softlan.errors import HostError
from softlan.host.base import HostRoute
from softlan.host.guard import HostGuard
from softlan.host.memory import MemoryNetwork
from softlan.host.owner import Owner, this_process
from softlan.host.plan import AddRoute

ip = ipaddress.ip_address
BEFORE = Owner(pid=1, started=this_process().started + 1, boot=this_process().boot)
"""A process of this boot that is no more: process 1 started at another time."""
OTHER_BOOT = Owner(pid=os.getpid(), started=this_process().started, boot="another")


def route(destination: str, gateway: str = "192.168.1.1", interface: str = "eth0") -> HostRoute:
    return HostRoute(ipaddress.ip_network(destination), ip(gateway), interface)


DEFAULT = route("0.0.0.0/0")
RELAYS = [route(f"203.0.113.{index}/32") for index in range(1, 4)]
CHANGES = [AddRoute(relay) for relay in RELAYS]


class Crash(BaseException):
    """The process ends here: nothing catches it."""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "state" / "host.json"


def test_a_run_leaves_the_host_as_it_was(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    guard = HostGuard(network, journal)
    assert guard.recover() == []
    guard.apply(CHANGES)
    assert network.ours == RELAYS
    assert guard.restore() == []
    assert network.ours == []
    assert network.routes == [DEFAULT]
    assert not journal.exists()


def test_restoring_twice_does_nothing_the_second_time(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    guard = HostGuard(network, journal)
    guard.apply(CHANGES)
    guard.restore()
    calls = network.calls
    assert guard.restore() == []
    assert network.calls == calls


def test_the_journal_is_private_and_names_what_was_done_and_by_whom(journal: Path) -> None:
    HostGuard(MemoryNetwork(DEFAULT), journal).apply(CHANGES[:1])
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert [path.name for path in journal.parent.iterdir()] == ["host.json"]
    content = json.loads(journal.read_text())
    assert content["owner"]["pid"] == os.getpid()
    assert [change["destination"] for change in content["changes"]] == ["203.0.113.1/32"]


def test_each_change_is_in_the_journal_before_it_is_made(journal: Path) -> None:
    class Watching(MemoryNetwork):
        def add_route(self, route: HostRoute) -> None:
            named = [change["destination"] for change in json.loads(journal.read_text())["changes"]]
            assert named[-1] == str(route.destination)
            super().add_route(route)

    network = Watching(DEFAULT)
    HostGuard(network, journal).apply(CHANGES)
    assert network.ours == RELAYS


def test_what_is_there_already_is_not_ours_to_remove(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT, RELAYS[0])
    guard = HostGuard(network, journal)
    guard.apply(CHANGES)
    assert network.ours == RELAYS[1:]
    guard.restore()
    assert network.routes == [DEFAULT, RELAYS[0]]


def test_making_a_change_again_is_no_change(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    guard = HostGuard(network, journal)
    guard.apply(CHANGES[:2])
    guard.apply(CHANGES)
    assert network.ours == RELAYS
    assert guard.restore() == []
    assert network.ours == []


def test_a_route_that_went_away_by_itself_is_no_failure(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    guard = HostGuard(network, journal)
    guard.apply(CHANGES)
    del network.ours[1]
    assert guard.restore() == []
    assert network.ours == []
    assert not journal.exists()


def test_changes_are_undone_last_first(journal: Path) -> None:
    class Watching(MemoryNetwork):
        deleted: list[HostRoute] = []  # noqa: RUF012

        def delete_route(self, route: HostRoute) -> None:
            self.deleted.append(route)
            super().delete_route(route)

    guard = HostGuard(Watching(DEFAULT), journal)
    guard.apply(CHANGES)
    guard.restore()
    assert Watching.deleted == RELAYS[::-1]


def test_a_change_that_does_not_appear_is_an_error(journal: Path) -> None:
    class Forgetful(MemoryNetwork):
        def add_route(self, route: HostRoute) -> None:
            super().add_route(route)
            self.ours.clear()

    with pytest.raises(HostError, match=r"^the route 203\.0\.113\.1/32 via 192\.168\.1\.1 dev eth0 did not appear$"):
        HostGuard(Forgetful(DEFAULT), journal).apply(CHANGES)
    assert not journal.exists()


def test_restoring_goes_on_past_a_failure_and_reports_it(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    guard = HostGuard(network, journal)
    guard.apply(CHANGES)
    network.fail(network.calls + 2, HostError("delete route", "the kernel says no"))
    assert guard.restore() == [f"could not remove the route {RELAYS[1]}: the kernel says no"]
    assert network.ours == [RELAYS[1]]
    assert json.loads(journal.read_text())["changes"][0]["destination"] == "203.0.113.2/32"
    assert guard.restore() == []
    assert network.ours == []
    assert not journal.exists()


def test_a_failed_roll_back_is_said_and_tried_again_later(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    guard = HostGuard(network, journal)
    network.fail(5, HostError("add route", "no memory"))  # the second route; 1 to 3 were the first
    network.fail(6, HostError("delete route", "still none"))
    with pytest.raises(HostError) as caught:
        guard.apply(CHANGES)
    assert caught.value.stage == "add route"
    assert str(caught.value) == f"no memory; could not remove the route {RELAYS[0]}: still none"
    assert journal.exists()
    assert guard.restore() == []
    assert network.ours == []


def test_a_failure_leaves_what_earlier_calls_made(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    guard = HostGuard(network, journal)
    guard.apply(CHANGES[:1])
    network.fail(network.calls + 5, HostError("add route", "no"))
    with pytest.raises(HostError):
        guard.apply(CHANGES[1:])
    assert network.ours == RELAYS[:1]
    guard.restore()
    assert network.ours == []


CALLS = 3 * len(CHANGES)
"""has, add, has for each change."""


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_whatever_call_fails_the_routes_are_as_before(journal: Path, call: int) -> None:
    network = MemoryNetwork(DEFAULT)
    network.fail(call, HostError("test", "ordered failure"))
    guard = HostGuard(network, journal)
    with pytest.raises(HostError, match=r"^ordered failure$"):
        guard.apply(CHANGES)
    assert network.routes == [DEFAULT]
    assert network.ours == []
    assert not journal.exists()
    guard.apply(CHANGES)
    assert network.ours == RELAYS


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(1, CALLS + len(CHANGES) + 1))
def test_wherever_the_process_ends_the_next_one_recovers(journal: Path, call: int, after: bool) -> None:
    network = MemoryNetwork(DEFAULT)
    network.fail(call, Crash(), after=after)
    guard = HostGuard(network, journal, owner=BEFORE)

    def run() -> None:
        guard.apply(CHANGES)
        guard.restore()

    with pytest.raises(Crash):
        run()
    left = list(network.ours)
    undone = HostGuard(network, journal).recover()
    assert all(any(str(one) in line for line in undone) for one in left)
    assert network.routes == [DEFAULT]
    assert network.ours == []
    assert not journal.exists()


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_an_interrupt_that_the_process_outlives_is_undone_by_restore(journal: Path, call: int) -> None:
    network = MemoryNetwork(DEFAULT)
    network.fail(call, KeyboardInterrupt(), after=True)
    guard = HostGuard(network, journal)
    with pytest.raises(KeyboardInterrupt):
        guard.apply(CHANGES)
    assert guard.restore() == []
    assert network.ours == []
    assert not journal.exists()


@given(
    foreign=st.sets(st.sampled_from(RELAYS)),
    faults=st.dictionaries(st.integers(1, 16), st.booleans(), max_size=3),
    runs=st.integers(1, 3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_ends_with_the_host_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, foreign: set[HostRoute], faults: dict[int, bool], runs: int
) -> None:
    journal = tmp_path_factory.mktemp("history") / "host.json"
    routes = [DEFAULT, *sorted(foreign, key=str)]
    network = MemoryNetwork(*routes)
    for call, is_crash in faults.items():
        network.fail(call, Crash() if is_crash else HostError("test", "ordered"))
    for run in range(runs):
        guard = HostGuard(network, journal, owner=replace(BEFORE, started=BEFORE.started + run))
        try:
            guard.recover()
            guard.apply(CHANGES)
            guard.restore()
        except (Crash, HostError):
            continue
    network._before.clear()
    HostGuard(network, journal).recover()
    assert network.routes == routes
    assert network.ours == []
    assert not journal.exists()


def crashed(network: MemoryNetwork, journal: Path, owner: Owner = BEFORE) -> None:
    """A run that never came to its end."""
    HostGuard(network, journal, owner=owner).apply(CHANGES)


def test_recovering_says_what_was_left(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    crashed(network, journal)
    undone = HostGuard(network, journal).recover()
    assert undone == [f"removed the route {relay}, left by an earlier run" for relay in RELAYS]
    assert HostGuard(network, journal).recover() == []


def test_a_failure_to_recover_is_said_and_tried_again(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    crashed(network, journal)
    network.fail(network.calls + 1, HostError("delete route", "no"))
    said = HostGuard(network, journal).recover()
    assert f"could not remove the route {RELAYS[2]}: no" in said
    assert len(said) == 3
    assert HostGuard(network, journal).recover() == [f"removed the route {RELAYS[2]}, left by an earlier run"]
    assert network.ours == []


def test_what_could_not_be_recovered_becomes_ours(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    crashed(network, journal)
    guard = HostGuard(network, journal)
    network.fail(network.calls + 1, HostError("delete route", "no"))
    guard.apply([AddRoute(route("203.0.113.9/32"))])
    assert network.ours == [RELAYS[2], route("203.0.113.9/32")]
    assert guard.restore() == []
    assert network.ours == []


def test_a_running_processs_journal_is_left_alone(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    HostGuard(network, journal).apply(CHANGES[:1])
    second = HostGuard(network, journal, owner=BEFORE)
    assert second.recover() == []
    with pytest.raises(HostError, match=rf"^another softlan, process {os.getpid()}, uses .*host\.json: "):
        second.apply(CHANGES[1:])
    assert second.restore() == []
    assert network.ours == RELAYS[:1]
    assert journal.exists()


def test_after_a_reboot_there_is_nothing_to_undo(journal: Path) -> None:
    network = MemoryNetwork(DEFAULT)
    crashed(network, journal, owner=OTHER_BOOT)
    calls = network.calls
    assert HostGuard(network, journal).recover() == []
    assert network.calls == calls
    assert not journal.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "\udcff",
        '{"version": 2, "owner": {}, "changes": []}',
        '{"version": 1, "owner": {"pid": 1}, "changes": []}',
        '{"version": 1, "owner": {"pid": 1, "started": 1, "boot": "x"}, "changes": [{"kind": "metric"}]}',
        '{"version": 1, "owner": {"pid": 1, "started": 1, "boot": "x"}, "changes": 7}',
    ],
)
def test_a_journal_that_cannot_be_read_is_moved_aside_and_said(journal: Path, text: str) -> None:
    journal.parent.mkdir()
    journal.write_text(text, errors="surrogateescape")
    network = MemoryNetwork(DEFAULT)
    guard = HostGuard(network, journal)
    (line,) = guard.recover()
    assert line.startswith(f"moved the journal {journal} to ")
    assert journal.with_suffix(".unreadable").read_text(errors="surrogateescape") == text
    guard.apply(CHANGES)
    guard.restore()
    assert network.calls == 4 * len(CHANGES)


@pytest.mark.parametrize("use", [HostGuard.recover, lambda guard: guard.apply(CHANGES)], ids=["recover", "apply"])
def test_a_journal_that_cannot_be_used_stops_before_any_change(
    journal: Path, use: Callable[[HostGuard], object]
) -> None:
    journal.mkdir(parents=True)
    network = MemoryNetwork(DEFAULT)
    with pytest.raises(
        HostError, match=r"^cannot use .*host\.json: Is a directory; choose another place with --state-dir$"
    ):
        use(HostGuard(network, journal))
    assert network.calls == 0


def test_no_change_is_made_that_cannot_be_written_down(journal: Path) -> None:
    journal.parent.write_text("a file where the directory should be")
    network = MemoryNetwork(DEFAULT)
    with pytest.raises(HostError, match=r"^cannot use .*host\.json: "):
        HostGuard(network, journal).apply(CHANGES)
    assert network.ours == []
