"""Each way in which a relay can disappoint has its own finding, and its own advice."""

import datetime
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from softlan.client.doctor.finding import Finding, Outcome
from softlan.client.doctor.verdicts import Certificate, RelayLook, judge_relay
from softlan.ctrl.messages import Welcome
from softlan.net.address import HostPort

NOW = datetime.datetime(2030, 6, 15, 12, 0, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
RELAY = HostPort("relay.example.net", 443)
SHOWN = Certificate(NOW - 10 * DAY, NOW + 100 * DAY, ("localhost", "relay.example.net"))
GOOD = RelayLook(
    addresses=("192.0.2.7", "2001:db8::7"),
    address="192.0.2.7",
    answered=True,
    verified=True,
    certificate=SHOWN,
    rtt_ms=23.0,
    budget=1440,
)
REFUSED = replace(GOOD, verified=False, rtt_ms=None, budget=None)
SELF_SIGNED = "the relay could not be verified: unable to get local issuer certificate"


def judged(look: RelayLook, **how: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in judge_relay(look, RELAY, "relay.example.net", NOW, **how)}


def welcome(*, gateway: bool) -> Welcome:
    return Welcome(
        version=1,
        mode="ethernet",
        peer_id=2,
        room="DEN",
        datagram_budget=1440,
        effective_mtu=1418,
        room_mtu=1418,
        gateway_present=gateway,
        stats_interval=10,
        resume="0" * 32,
    )


def test_all_is_well() -> None:
    found = judged(replace(GOOD, welcome=welcome(gateway=True)))
    assert list(found) == ["relay's name", "relay answers", "clock", "certificate", "path", "room"]
    assert {finding.outcome for finding in found.values()} == {Outcome.OK}
    assert found["relay's name"].found == "relay.example.net is 192.0.2.7, 2001:db8::7."
    assert found["relay answers"].found == "192.0.2.7 answers QUIC on UDP port 443 after 23 ms."
    assert found["certificate"].found == "The relay's certificate is accepted, and good for 100 more days."
    assert found["path"].found == "The path carries datagrams of 1440 bytes: an MTU of 1418."


def test_a_sealed_room() -> None:
    found = judged(replace(GOOD, welcome=msgspec.structs.replace(welcome(gateway=True), sealed=True)))
    assert found["room"].found == "Room DEN lets us in, sealed, and has its LAN's gateway."
    assert found["path"].found == "The path carries datagrams of 1440 bytes: an MTU of 1394 when sealed."


def test_the_path_into_a_room_that_does_not_let_us_in() -> None:
    refused = replace(GOOD, refused=True, reject="unauthorized", trouble="room DEN needs another room token")
    for is_sealed, mtu in ((True, "1394 when sealed"), (False, "1418")):
        found = judged(refused, is_sealed=is_sealed)
        assert found["path"].found == f"The path carries datagrams of 1440 bytes: an MTU of {mtu}."


def test_a_room_that_was_not_asked_for_is_not_judged() -> None:
    assert "room" not in judged(GOOD)


F, W = Outcome.FAILED, Outcome.WARNING
TROUBLE: dict[str, tuple[RelayLook, dict[str, Any], str, Outcome, str, str]] = {
    "no such name": (
        RelayLook(unresolved="cannot resolve relay.example.net: Name not known; check it"),
        {},
        "relay's name",
        F,
        "(cannot resolve relay.example.net: Name not known).",
        "spelling of --relay",
    ),
    "silence": (
        RelayLook(addresses=("192.0.2.7",)),
        {},
        "relay answers",
        F,
        "Nothing came back from UDP port 443 of 192.0.2.7.",
        "blocks UDP",
    ),
    "far": (replace(GOOD, rtt_ms=250.0), {}, "relay answers", W, "after 250 ms: far or slow", "nearer"),
    "clock behind": (
        replace(REFUSED, certificate=replace(SHOWN, not_before=NOW + DAY)),
        {},
        "clock",
        F,
        "2030-06-15 12:00 UTC, before",
        "Set the clock",
    ),
    "not valid yet": (
        replace(REFUSED, certificate=replace(SHOWN, not_before=NOW + DAY)),
        {},
        "certificate",
        F,
        "begins on 2030-06-16",
        "Set the clock",
    ),
    "clock ahead": (
        replace(REFUSED, certificate=replace(SHOWN, not_after=NOW - DAY)),
        {},
        "clock",
        W,
        "after the end",
        "Check the clock",
    ),
    "expired": (
        replace(REFUSED, certificate=replace(SHOWN, not_after=NOW - DAY)),
        {},
        "certificate",
        F,
        "ended on 2030-06-14",
        "new certificate",
    ),
    "pinned, and before its time": (
        replace(GOOD, certificate=replace(SHOWN, not_before=NOW + DAY)),
        {},
        "clock",
        W,
        "2030-06-15 12:00 UTC, before",
        "Set the clock",
    ),
    "pinned, and over": (
        replace(GOOD, certificate=replace(SHOWN, not_after=NOW - DAY)),
        {},
        "certificate",
        W,
        "accepted, though it ended on 2030-06-14",
        "new invitations",
    ),
    "no relay there, though an invitation says so": (
        replace(REFUSED, certificate=None, trouble="no ALPN"),
        {"is_invited": True},
        "certificate",
        F,
        "before the relay showed a certificate: no ALPN",
        "ask the party's host",
    ),
    "expires soon": (
        replace(GOOD, certificate=replace(SHOWN, not_after=NOW + 3 * DAY)),
        {},
        "certificate",
        W,
        "for 3 more days",
        "operator",
    ),
    "unknown issuer": (
        replace(REFUSED, trouble=SELF_SIGNED),
        {},
        "certificate",
        F,
        "does not trust the relay's certificate: unable to get",
        "Add --relay-ca-cert",
    ),
    "another name": (
        replace(REFUSED, certificate=replace(SHOWN, names=("a.example", "b.example"))),
        {},
        "certificate",
        F,
        "for a.example, b.example, not for relay.example.net",
        "--server-name b.example",
    ),
    "another name than an invitation's": (
        replace(REFUSED, certificate=replace(SHOWN, names=("a.example", "b.example"))),
        {"is_invited": True, "has_pin": True},
        "certificate",
        F,
        "for a.example, b.example, not for relay.example.net",
        "Ask the party's host for an invitation that is made with --server-name b.example",
    ),
    "another certificate than the pinned one": (
        replace(REFUSED, trouble='Fingerprints did not match. Expected "00"'),
        {"has_pin": True},
        "certificate",
        F,
        "another certificate than the file",
        "current certificate file",
    ),
    "another CA": (
        replace(REFUSED, trouble=SELF_SIGNED),
        {"has_pin": True},
        "certificate",
        F,
        "did not sign the relay's: unable to get",
        "current certificate file",
    ),
    "a file that will not do": (
        REFUSED,
        {"pin_fault": "the certificate in x.der does not name relay; give one of its names: a, b"},
        "certificate",
        F,
        "the certificate in x.der does not name relay.",
        "Give one of its names: a, b.",
    ),
    "no softlan": (
        replace(REFUSED, certificate=None, trouble="no application protocol"),
        {},
        "certificate",
        F,
        "failed before the relay showed a certificate: no application protocol.",
        "address and the port",
    ),
    "large packets are lost": (
        replace(GOOD, budget=None, rtt_ms=None),
        {},
        "path",
        F,
        "no datagram of the usual sizes",
        "another network",
    ),
    "narrow": (replace(GOOD, budget=1168), {}, "path", W, "an MTU of 1146", "VPN"),
    "no gateway": (replace(GOOD, welcome=welcome(gateway=False)), {}, "room", W, "no gateway", "--room"),
    "full room": (
        replace(GOOD, refused=True, reject="room_full", trouble="room DEN is full"),
        {},
        "room",
        F,
        "does not let us in: room DEN is full.",
        "Wait until",
    ),
    "wrong token": (
        replace(GOOD, refused=True, reject="unauthorized", trouble="room DEN needs another room token"),
        {"is_invited": True},
        "room",
        F,
        "does not let us in: room DEN needs another room token.",
        "Ask the party's host for the room's current invitation",
    ),
    "another relay": (
        replace(GOOD, refused=True, reject="redirect", trouble="go to other.example.net"),
        {},
        "room",
        F,
        "go to other.example.net",
        "with --relay",
    ),
    "another relay than an invitation's": (
        replace(GOOD, refused=True, reject="redirect", trouble="go to other.example.net"),
        {"is_invited": True},
        "room",
        F,
        "go to other.example.net",
        "Ask the party's host for an invitation with the relay that it names",
    ),
    "lost while joining": (
        replace(GOOD, refused=True, trouble="the relay is silent"),
        {},
        "room",
        F,
        "does not let us in: the relay is silent.",
        "Try again",
    ),
    "an invitation with a name that nobody knows": (
        RelayLook(unresolved="cannot resolve relay.example.net: Name not known; check it"),
        {"is_invited": True},
        "relay's name",
        F,
        "(cannot resolve relay.example.net: Name not known).",
        "for another invitation",
    ),
    "an invitation of before": (
        replace(REFUSED, trouble="the relay could not be verified: Fingerprints did not match"),
        {"is_invited": True},
        "certificate",
        F,
        "shows another certificate than the invitation says",
        "new invitation, made on the relay's machine",
    ),
    "an invitation without a pin": (
        replace(REFUSED, trouble=SELF_SIGNED),
        {"is_invited": True},
        "certificate",
        F,
        "does not trust the relay's certificate, and the invitation pins none: unable to get local issuer",
        "new invitation, made on the relay's machine",
    ),
    "no gateway for an invitation": (
        replace(GOOD, welcome=welcome(gateway=False)),
        {"is_invited": True},
        "room",
        W,
        "no gateway",
        "Ask the party's host",
    ),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble(name: str) -> None:
    look, how, which, outcome, found, advice = TROUBLE[name]
    finding = judged(look, **how)[which]
    assert (finding.outcome, found in finding.found, advice in finding.advice) == (outcome, True, True), finding


@pytest.mark.parametrize("wildcard", ["*.example.net", "RELAY.EXAMPLE.NET"])
def test_a_name_is_compared_as_tls_does(wildcard: str) -> None:
    look = replace(REFUSED, trouble=SELF_SIGNED, certificate=replace(SHOWN, names=(wildcard,)))
    assert "does not trust" in judged(look)["certificate"].found


@pytest.mark.parametrize("look", [RelayLook(unresolved="no"), RelayLook(addresses=("192.0.2.7",))])
def test_what_was_not_seen_is_skipped_and_not_blamed(look: RelayLook) -> None:
    found = judged(look)
    assert [finding.outcome for finding in found.values()].count(Outcome.FAILED) == 1
    assert {found[name].outcome for name in ("clock", "certificate", "path")} == {Outcome.SKIPPED}


def test_every_finding_is_a_sentence() -> None:
    for look, how, *_ in TROUBLE.values():
        for finding in judged(look, **how).values():
            assert finding.found.endswith("."), finding
            assert finding.outcome not in (F, W) or finding.advice.endswith("."), finding


def test_a_finding_as_json() -> None:
    finding = Finding("path", W, "Narrow.", "Widen it.")
    assert finding.to_json() == {"name": "path", "outcome": "warning", "found": "Narrow.", "advice": "Widen it."}
