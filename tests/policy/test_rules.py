import dataclasses
import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.errors import UsageError
from softlan.policy.rules import Policy, from_mapping

FLAGS = [field.name for field in dataclasses.fields(Policy) if field.type is bool]
RATES = ["broadcast_rate", "unknown_unicast_rate", "total_rate", "frame_rate"]
INFINITE, NOT_A_NUMBER = float("inf"), float("nan")
BURSTS = {"broadcast_burst": 1, "unknown_unicast_burst": 1, "total_burst": 65536, "frame_burst": 1}

types = st.frozensets(st.integers(0x0600, 0xFFFF), max_size=5)
policies = st.builds(
    Policy,
    ethertypes=st.none() | types,
    refused_ethertypes=types,
    **dict.fromkeys(FLAGS, st.booleans()),
    **dict.fromkeys(RATES, st.floats(0, 1e12)),
    **{name: st.integers(least, 10**9) for name, least in BURSTS.items()},
)


def test_all_rules_are_on_and_all_of_the_lan_passes_by_default() -> None:
    policy = Policy()
    assert all(getattr(policy, name) is True for name in FLAGS)
    assert policy.ethertypes is None
    assert policy.refused_ethertypes == {0x8863, 0x8864}


def test_a_policy_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().jumbo = False  # type: ignore[misc]
    assert Policy() == Policy()
    assert hash(Policy(llc=False)) != hash(Policy())


def test_the_effective_policy_can_be_printed() -> None:
    mapping = Policy(ethertypes=frozenset((0x86DD, 0x0800, 0x0806))).to_mapping()
    assert list(mapping) == [field.name for field in dataclasses.fields(Policy)]
    assert mapping["ethertypes"] == ["0x0800", "0x0806", "0x86dd"]
    assert mapping["refused_ethertypes"] == ["0x8863", "0x8864"]
    assert Policy().to_mapping()["ethertypes"] == "all"


@given(policies)
def test_what_is_written_is_read_again(policy: Policy) -> None:
    assert from_mapping(policy.to_mapping()) == policy


@given(policies)
def test_an_empty_table_changes_nothing(policy: Policy) -> None:
    assert from_mapping({}, policy) == policy


def test_a_rooms_table_goes_on_top_of_the_relays() -> None:
    relay = Policy(jumbo=False, broadcast_rate=100.0)
    table = tomllib.loads('broadcast_rate = 50\nethertypes = [0x0800, "0x0806", "86DD"]\nrefused_ethertypes = []')
    assert from_mapping(table, relay) == dataclasses.replace(
        relay, broadcast_rate=50.0, ethertypes=frozenset((0x0800, 0x0806, 0x86DD)), refused_ethertypes=frozenset()
    )


def test_an_unknown_rule_is_named_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"^rooms\.den: there is no rule 'broadcast'; the rules are .*broadcast_rate"):
        from_mapping({"broadcast": 1}, where="rooms.den")


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        *((name, 1, "true or false") for name in FLAGS),
        ("jumbo", "true", "true or false"),
        *(
            (name, value, "a rate")
            for name in RATES
            for value in (-1, True, "5", None, float("inf"), float("nan"), 2**60)
        ),
        *((name, value, "a burst") for name in BURSTS for value in (0, -1, True, 1.5, "5", None, 10**400)),
        ("total_burst", 65535, "a burst: a whole number from 65536"),
        ("ethertypes", "some", "a list of EtherTypes"),
        ("ethertypes", 0x0800, "a list of EtherTypes"),
        ("ethertypes", [0x05FF], "a list of EtherTypes from 0x0600 to 0xffff: 1535 is none"),
        ("ethertypes", ["ipv4"], "a list of EtherTypes from 0x0600 to 0xffff: 'ipv4' is none"),
        ("ethertypes", [True], "a list of EtherTypes from"),
        ("ethertypes", [None], "a list of EtherTypes from"),
        ("refused_ethertypes", "all", "a list of EtherTypes"),
        ("refused_ethertypes", [0x10000], "a list of EtherTypes from"),
    ],
)
def test_a_bad_value_is_named_with_its_key(key: str, value: object, fault: str) -> None:
    with pytest.raises(UsageError, match=rf"^policy\.{key}: .* is not {re.escape(fault)}") as caught:
        from_mapping({key: value})
    assert "\n" not in str(caught.value)
