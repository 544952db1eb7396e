import pickle

import pytest

from softlan.proto.drop import Action, DropReason

FILTERED = {
    "invalid_source",
    "jumbo",
    "switch_control",
    "dhcp_server",
    "dhcpv6_server",
    "ipv6_ra",
    "ambiguous",
    "arp_spoof",
    "nd_spoof",
    "nd_redirect",
    "icmp_redirect",
    "ethertype",
}
RATE_LIMITED = {"rate_broadcast", "rate_unknown_unicast", "rate_total", "rate_probe"}


@pytest.mark.parametrize("reason", DropReason)
def test_value_is_the_name_in_lower_case(reason: DropReason) -> None:
    assert reason.value == reason.name.lower()


@pytest.mark.parametrize("reason", DropReason)
def test_action_follows_from_the_reason(reason: DropReason) -> None:
    expected = (
        Action.FILTERED
        if reason.value in FILTERED
        else Action.RATE_LIMITED
        if reason.value in RATE_LIMITED
        else Action.DROPPED
    )
    assert reason.action is expected


def test_every_name_of_the_protocol_exists() -> None:
    assert FILTERED | RATE_LIMITED | {
        "malformed",
        "no_gateway",
        "unknown_unicast",
        "egress_budget",
    } <= {reason.value for reason in DropReason}


def test_reasons_stay_good_keys_when_looked_up_or_copied() -> None:
    counts = {DropReason.JUMBO: 3}
    assert counts[DropReason("jumbo")] == 3
    assert counts[pickle.loads(pickle.dumps(DropReason.JUMBO))] == 3
