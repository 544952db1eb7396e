"""Each check of a Windows machine, with what Windows would say given."""

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from softlan.client.doctor import windows
from softlan.client.doctor.finding import Outcome
from softlan.client.doctor.windows import Facts
from softlan.device.tap_adapters import TapAdapter
from softlan.errors import HostError
from softlan.host.base import HostRoute
from softlan.host.memory import MemoryNetwork
from softlan.host.powershell import Done, PowerShell

SYSTEM = r"C:\Windows\System32"
GUID = "{5AFE1A40-0001-4000-8000-534F46544C41}"
TAP = TapAdapter(GUID, "Ethernet 7", "tap0901", "9.27.0.0", r"ROOT\NET\0000", "key")
OTHER = replace(TAP, instance_id="{5AFE1A40-0002-4000-8000-534F46544C41}", name="Ethernet 8")
RELAY = ipaddress.ip_address("192.0.2.7")
ANY = ipaddress.ip_network("0.0.0.0/0")

ANSWER: dict[str, Any] = {
    "networks": [{"alias": "WLAN", "category": 1}],
    "profiles": [
        {"name": "Domain", "enabled": 1, "inbound": 4},
        {"name": "Private", "enabled": 1, "inbound": 2},
        {"name": "Public", "enabled": 1, "inbound": 0},
    ],
    "metrics": [{"alias": "WLAN", "metric": 45}, {"alias": "Work VPN", "metric": 26}],
    "adapters": [{"alias": "WLAN", "description": "Intel(R) Wi-Fi 6"}],
    "rules": 0,
}
FACTS = windows.read_facts(ANSWER)


def test_facts_are_numbers_and_names_and_no_translated_words() -> None:
    assert (
        Facts(
            categories={"WLAN": windows.PRIVATE},
            blocking=frozenset({"Domain", "Public"}),
            metrics={"WLAN": 45, "Work VPN": 26},
            descriptions={"WLAN": "Intel(R) Wi-Fi 6"},
            has_rule=False,
        )
        == FACTS
    )


@pytest.mark.parametrize("answer", [None, [], {}, {**ANSWER, "metrics": [{"alias": "x"}]}, {**ANSWER, "rules": "many"}])
def test_an_answer_that_makes_no_sense(answer: Any) -> None:
    with pytest.raises(HostError, match="do not understand"):
        windows.read_facts(answer)


def test_without_powershell_the_checks_are_skipped() -> None:
    def broken(argv: list[str], variables: object) -> Done:
        raise FileNotFoundError(2, "No such file")

    facts = windows.gather(PowerShell(broken, SYSTEM))
    assert isinstance(facts, str)
    assert "cannot ask PowerShell" in facts
    assert windows.firewall(facts, "Ethernet 7").outcome is Outcome.SKIPPED
    assert windows.other_vpns(facts, "Ethernet 7", 1).outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("elevated", "outcome"), [(True, Outcome.OK), (False, Outcome.FAILED), (None, Outcome.SKIPPED)]
)
def test_privileges(elevated: bool | None, outcome: Outcome) -> None:
    assert windows.privileges(elevated).outcome is outcome


@pytest.mark.parametrize(
    ("adapters", "outcome", "words"),
    [
        ([], Outcome.FAILED, "no TAP-Windows6 adapter"),
        ([TAP], Outcome.OK, "version 9.27.0.0"),
        ([replace(TAP, driver_version=None)], Outcome.OK, "version unknown"),
        ([TAP, replace(OTHER, driver_version="9.24.7.601")], Outcome.WARNING, "CVE-2024-1305"),
    ],
)
def test_driver(adapters: list[TapAdapter], outcome: Outcome, words: str) -> None:
    found = windows.driver(lambda: adapters)
    assert (found.outcome, words in found.found) == (outcome, True), found


def test_a_registry_that_cannot_be_read() -> None:
    def broken() -> list[TapAdapter]:
        raise HostError("find adapter", "cannot read the network adapters")

    assert windows.driver(broken).outcome is Outcome.SKIPPED
    finding, chosen = windows.adapter(broken, None, None)
    assert (finding.outcome, chosen) == (Outcome.FAILED, None)


@pytest.mark.parametrize(
    ("adapters", "guid", "name", "outcome", "chosen"),
    [
        ([], None, None, Outcome.SKIPPED, None),
        ([TAP], None, None, Outcome.OK, TAP),
        ([TAP, OTHER], None, None, Outcome.FAILED, None),
        ([TAP, OTHER], OTHER.instance_id.lower(), None, Outcome.OK, OTHER),
        ([TAP, OTHER], None, "ethernet 7", Outcome.OK, TAP),
        ([TAP], None, "nope", Outcome.FAILED, None),
    ],
)
def test_adapter(
    adapters: list[TapAdapter], guid: str | None, name: str | None, outcome: Outcome, chosen: TapAdapter | None
) -> None:
    finding, found = windows.adapter(lambda: adapters, guid, name)
    assert (finding.outcome, found) == (outcome, chosen)


def test_route() -> None:
    wlan = HostRoute(ANY, ipaddress.ip_address("10.9.0.1"), "{wlan}", label="WLAN")
    good = windows.route(lambda: MemoryNetwork(wlan), RELAY, TAP)
    assert (good.outcome, good.found) == (Outcome.OK, "The relay 192.0.2.7 is reached via 10.9.0.1 on {wlan}.")
    loop = windows.route(lambda: MemoryNetwork(HostRoute(ANY, None, GUID.lower())), RELAY, TAP)
    assert (loop.outcome, "the tunnel itself" in loop.found) == (Outcome.FAILED, True)
    assert windows.route(MemoryNetwork, RELAY, TAP).outcome is Outcome.FAILED
    assert windows.route(MemoryNetwork, None, TAP).outcome is Outcome.SKIPPED


def test_a_route_that_cannot_be_asked_for() -> None:
    def broken() -> MemoryNetwork:
        raise HostError("find route", "not now")

    assert windows.route(broken, RELAY, TAP).outcome is Outcome.SKIPPED


CONNECTED = replace(FACTS, categories={**FACTS.categories, "Ethernet 7": windows.PUBLIC})


@pytest.mark.parametrize(
    ("facts", "outcome", "words"),
    [
        (CONNECTED, Outcome.WARNING, "has the firewall profile Public"),
        (FACTS, Outcome.WARNING, "will have, once it is connected, the firewall profile Public"),
        (replace(CONNECTED, categories={"Ethernet 7": windows.PRIVATE}), Outcome.OK, "on private networks"),
        (replace(CONNECTED, categories={"Ethernet 7": windows.DOMAIN}), Outcome.WARNING, "profile Domain"),
        (replace(CONNECTED, blocking=frozenset()), Outcome.OK, "on public networks"),
        (replace(CONNECTED, has_rule=True), Outcome.OK, "A rule of softlan's"),
    ],
)
def test_firewall(facts: Facts, outcome: Outcome, words: str) -> None:
    found = windows.firewall(facts, "Ethernet 7")
    assert (found.outcome, words in found.found) == (outcome, True), found
    assert (outcome is Outcome.WARNING) == ("--allow-inbound" in found.advice)


def rivals(**metrics: int) -> Facts:
    descriptions = {
        "WLAN": "Intel(R) Wi-Fi 6",
        "Hamachi": "LogMeIn Hamachi Virtual Ethernet Adapter",
        "WG": "WireGuard",
    }
    return replace(FACTS, metrics=metrics, descriptions=descriptions)


@pytest.mark.parametrize(
    ("facts", "outcome", "words"),
    [
        (rivals(WLAN=45, WG=5), Outcome.OK, "'Hamachi' and 'WG'"),
        (rivals(WLAN=45, WG=1), Outcome.WARNING, "may leave by 'WG' (metric 1)"),
        (rivals(WLAN=1, WG=0), Outcome.WARNING, "'WG' (metric 0) and 'WLAN' (metric 1)"),
        (rivals(WLAN=45, Work=1), Outcome.WARNING, "may leave by 'Work' (metric 1)"),  # Windows' own: no adapter
        (FACTS, Outcome.OK, "No other connection"),
    ],
)
def test_other_vpns(facts: Facts, outcome: Outcome, words: str) -> None:
    found = windows.other_vpns(facts, "Ethernet 7", 1)
    assert (found.outcome, words in found.found) == (outcome, True), found


def test_the_tap_is_no_rival_of_its_own() -> None:
    facts = replace(
        FACTS, metrics={"Ethernet 7": 1, "WLAN": 45}, descriptions={"Ethernet 7": "TAP-Windows Adapter V9", "WLAN": "x"}
    )
    assert windows.other_vpns(facts, "Ethernet 7", 1).found.startswith("No other connection")
