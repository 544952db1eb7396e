from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.relay_fakes import mac

from softlan.policy.rates import ClientRates, MemberRates
from softlan.policy.rules import Policy
from softlan.relay.leavers import CAPACITY, KEPT_FOR, Leavers

HERE, THERE = "192.0.2.1", "198.51.100.7"


def rates() -> ClientRates:
    return ClientRates(Policy(), 0.0)


def test_who_comes_back_goes_on_with_what_is_left() -> None:
    leavers, used = Leavers(), rates()
    leavers.left(mac(1), HERE, used, 7, 100.0)
    assert leavers.back(mac(1), HERE, 160.0) == (used, 7)
    assert leavers.back(mac(1), HERE, 160.0) == (None, 0), "once"


@pytest.mark.parametrize("whose", [mac(1), None], ids=["client", "gateway"])
def test_from_elsewhere_it_goes_on_with_its_rates_and_not_with_what_was_malformed(whose: bytes | None) -> None:
    """It may have moved. Or somebody else had its MAC, or was the gateway, while it was away."""
    leavers, used = Leavers(), rates()
    leavers.left(whose, THERE, used, 32, 100.0)
    assert leavers.back(whose, HERE, 160.0) == (used, 0)


def test_a_new_mac_is_no_new_start_either() -> None:
    leavers, used = Leavers(), rates()
    leavers.left(mac(1), HERE, used, 7, 100.0)
    assert leavers.back(mac(2), HERE, 101.0) == (used, 0)
    assert leavers.back(mac(3), HERE, 102.0) == (None, 0), "a third one there is one more"
    assert leavers.back(mac(1), HERE, 103.0) == (None, 7), "its rates are in use"


def test_somebody_elsewhere_has_nothing_to_do_with_it() -> None:
    leavers = Leavers()
    leavers.left(mac(1), HERE, rates(), 7, 100.0)
    assert leavers.back(mac(2), THERE, 101.0) == (None, 0)


def test_of_several_at_one_address_each_gets_its_own_and_a_new_one_the_last() -> None:
    leavers = Leavers()
    of = {number: rates() for number in (1, 2, 3)}
    for number, used in of.items():
        leavers.left(mac(number), HERE, used, number, 100.0)
    assert leavers.back(mac(3), HERE, 101.0) == (of[3], 3)
    assert leavers.back(mac(9), HERE, 101.0) == (of[2], 0)
    assert leavers.back(mac(1), HERE, 101.0) == (of[1], 1)


def test_a_gateway_goes_on_with_its_own_and_neither_takes_nor_gives_any() -> None:
    leavers, used, gateways = Leavers(), rates(), MemberRates(Policy(), 0.0)
    leavers.left(mac(1), HERE, used, 0, 100.0)
    leavers.left(None, HERE, gateways, 5, 100.0)
    assert leavers.back(mac(2), HERE, 101.0) == (used, 0)
    assert leavers.back(mac(3), HERE, 101.0) == (None, 0), "a client cannot do with a gateway's"
    assert leavers.back(None, HERE, 101.0) == (gateways, 5)
    leavers.left(mac(2), HERE, used, 0, 102.0)
    assert leavers.back(None, HERE, 103.0) == (None, 0), "nor a gateway with a client's"


def test_after_a_while_all_is_forgotten() -> None:
    leavers = Leavers()
    leavers.left(mac(1), HERE, rates(), 7, 100.0)
    leavers.left(mac(2), THERE, rates(), 7, 200.0)
    assert leavers.back(mac(1), HERE, 100.1 + KEPT_FOR) == (None, 0)
    assert len(leavers) == 1
    assert leavers.back(mac(3), HERE, 200.1 + KEPT_FOR) == (None, 0)
    assert len(leavers) == 0


def test_they_are_bounded_and_who_left_first_goes_first() -> None:
    leavers = Leavers()
    for number in range(CAPACITY + 10):
        leavers.left(mac(number), f"192.0.2.{number}", rates(), 1, float(number))
    assert len(leavers) == CAPACITY
    assert leavers.back(mac(9), "192.0.2.9", 100.0) == (None, 0)
    assert leavers.back(mac(10), "192.0.2.10", 100.0)[1] == 1


events = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([HERE, THERE])), max_size=60)


@given(events)
def test_one_address_never_has_more_rates_than_it_had_members_at_a_time(story: list[tuple[int, str]]) -> None:
    """Whoever comes and goes there, under whatever MAC; and nobody's rates are somebody else's at the same time."""
    leavers = Leavers()
    present: dict[int, tuple[str, Any]] = {}
    made: dict[str, int] = {HERE: 0, THERE: 0}
    most: dict[str, int] = {HERE: 0, THERE: 0}
    home: dict[int, str] = {}
    for number, anywhere in story:
        address = home.setdefault(number, anywhere)  # nobody moves
        if number in present:
            _, used = present.pop(number)
            leavers.left(mac(number), address, used, 0, 0.0)
            continue
        used, _ = leavers.back(mac(number), address, 0.0)
        if used is None:
            used = rates()
            made[address] += 1
        present[number] = (address, used)
        most[address] = max(most[address], sum(where == address for where, _ in present.values()))
        assert len({id(each) for _, each in present.values()}) == len(present)
    assert all(made[address] <= most[address] for address in made)


@pytest.mark.parametrize("number", [1, 2])
def test_leaving_again_replaces_what_was_kept(number: int) -> None:
    leavers, used = Leavers(), rates()
    leavers.left(mac(1), HERE, rates(), 3, 100.0)
    leavers.left(mac(1), HERE, used, 4, 200.0)
    assert leavers.back(mac(number), HERE, 201.0)[0] is used
    assert len(leavers) == number - 1
