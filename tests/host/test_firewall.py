"""The rule is written down before it is made, made for one interface, and gone afterwards, whatever happens."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from softlan.errors import HostError
from softlan.host import firewall
from softlan.host.firewall import AllowInbound
from softlan.host.owner import Owner, this_process
from softlan.host.powershell import Done, PowerShell

SYSTEM = r"C:\Windows\System32"
ALIAS = "Ethernet [7] '*"
DEAD = Owner(2**22 + 1, 1, "another boot")


class FakeFirewall:
    """A Windows whose firewall has rules; `fail` breaks the next calls of a script."""

    def __init__(self, journal: Path) -> None:
        self.rules: dict[str, str] = {}
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.broken: set[str] = set()
        self.half: set[str] = set()
        self._journal = journal

    def __call__(self, argv: list[str], variables: Mapping[str, str]) -> Done:
        script = argv[-1]
        adds = "New-NetFirewallRule" in script
        kind = "add" if adds else "remove"
        self.calls.append((kind, dict(variables)))
        if kind in self.broken:
            return Done(1, "", f"{kind}: access denied")
        rule = variables["SOFTLAN_RULE"]
        if adds:
            assert json.loads(self._journal.read_text())["rule"] == rule, "made before it was written down"
            self.rules[rule] = variables["SOFTLAN_ALIAS"]
            if kind in self.half:
                raise KeyboardInterrupt
            return Done(0, "" if "mute" in self.broken else "made\r\n", "")
        self.rules.pop(rule, None)
        return Done(0, "", "")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "state" / "firewall.json"


@pytest.fixture
def windows(journal: Path) -> FakeFirewall:
    return FakeFirewall(journal)


def rule(journal: Path, windows: FakeFirewall, owner: Owner | None = None) -> AllowInbound:
    return AllowInbound(journal, ALIAS, shell=PowerShell(windows, SYSTEM), owner=owner)


def test_a_usual_life(journal: Path, windows: FakeFirewall) -> None:
    allow = rule(journal, windows)
    assert allow.recover() == []
    allow.add()
    (name,) = windows.rules
    assert windows.rules == {name: ALIAS}
    assert Owner(**json.loads(journal.read_text())["owner"]) == this_process()
    assert allow.remove() == []
    assert (windows.rules, journal.exists()) == ({}, False)
    assert allow.remove() == []
    title = f"softlan: the LAN party on {ALIAS}"
    added = {"SOFTLAN_RULE": name, "SOFTLAN_ALIAS": ALIAS, "SOFTLAN_TITLE": title, "SOFTLAN_GROUP": "softlan"}
    assert windows.calls == [("add", added), ("remove", {"SOFTLAN_RULE": name})]


def test_nothing_of_the_name_is_in_a_script_or_in_the_rules_name(journal: Path, windows: FakeFirewall) -> None:
    scripts: list[str] = []

    def runner(argv: list[str], variables: Mapping[str, str]) -> Done:
        scripts.append(" ".join(argv))
        return windows(argv, variables)

    AllowInbound(journal, ALIAS, shell=PowerShell(runner, SYSTEM)).add()
    assert scripts
    assert all(ALIAS not in script for script in scripts)
    (name,) = windows.rules
    assert name.startswith("softlan-")
    assert set(name) <= set("softlan-0123456789abcdef")


def test_the_rule_is_inbound_and_for_one_interface() -> None:
    for words in (
        "-Direction Inbound -Action Allow -Profile Any -InterfaceAlias $alias",
        "[Management.Automation.WildcardPattern]::Escape($env:SOFTLAN_ALIAS)",
        "-notcontains $env:SOFTLAN_ALIAS",
    ):
        assert words in firewall._ADD
    assert "-InterfaceAlias" not in firewall._REMOVE


def test_the_next_start_removes_what_a_dead_run_left(journal: Path, windows: FakeFirewall) -> None:
    rule(journal, windows, DEAD).add()
    (name,) = windows.rules
    assert AllowInbound(journal, "", shell=PowerShell(windows, SYSTEM)).recover() == [
        f"removed the firewall rule {name}, left by an earlier run"
    ]
    assert (windows.rules, journal.exists()) == ({}, False)


def test_a_living_runs_rule_is_left_alone(journal: Path, windows: FakeFirewall) -> None:
    rule(journal, windows).add()
    second = rule(journal, windows)
    assert second.recover() == []
    with pytest.raises(HostError, match="another softlan"):
        second.add()
    assert second.remove() == []
    assert len(windows.rules) == 1


def test_a_rule_that_cannot_be_made(journal: Path, windows: FakeFirewall) -> None:
    windows.broken = {"add"}
    allow = rule(journal, windows)
    with pytest.raises(HostError, match="no firewall rule was made: PowerShell refused: add: access denied"):
        allow.add()
    assert (windows.rules, journal.exists()) == ({}, False)


def test_a_powershell_that_does_nothing(journal: Path, windows: FakeFirewall) -> None:
    windows.broken = {"mute"}
    with pytest.raises(HostError, match="did not say that it is there"):
        rule(journal, windows).add()
    assert (windows.rules, journal.exists()) == ({}, False)


def test_an_interrupt_in_the_middle(journal: Path, windows: FakeFirewall) -> None:
    windows.half = {"add"}
    with pytest.raises(KeyboardInterrupt):
        rule(journal, windows).add()
    assert (windows.rules, journal.exists()) == ({}, False)


def test_a_rule_that_cannot_be_removed_stays_written_down(journal: Path, windows: FakeFirewall) -> None:
    allow = rule(journal, windows, DEAD)
    allow.add()
    windows.broken = {"remove"}
    (complaint,) = allow.remove()
    assert "could not remove the firewall rule softlan-" in complaint
    (again,) = rule(journal, windows).recover()
    assert "could not remove" in again
    with pytest.raises(HostError, match="could not remove"):
        rule(journal, windows).add()
    windows.broken = set()
    assert len(rule(journal, windows).recover()) == 1
    assert (windows.rules, journal.exists()) == ({}, False)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"rule": 7}', '{"rule": "*"}', '{"rule": "softlan-*"}', '{"rule": "CoreNet-DHCP-In"}']
)
def test_a_journal_that_is_none_removes_nothing(journal: Path, windows: FakeFirewall, text: str) -> None:
    journal.parent.mkdir()
    journal.write_text(text)
    (complaint,) = rule(journal, windows).recover()
    assert "is not one of ours" in complaint
    assert (windows.calls, journal.read_text()) == ([], text)


def test_a_directory_that_cannot_be_written(tmp_path: Path, windows: FakeFirewall) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(HostError, match="cannot"):
        rule(tmp_path / "state" / "firewall.json", windows).add()
    assert windows.calls == []
