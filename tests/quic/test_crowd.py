"""Counting by network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.net.address import SocketAddress
from softlan.quic.crowd import Crowd, network_of


@pytest.mark.parametrize(
    ("one", "other", "are_neighbours"),
    [
        (("192.0.2.1", 1), ("192.0.2.254", 9), True),
        (("192.0.2.1", 1), ("192.0.3.1", 1), False),
        (("192.0.2.1", 1), ("::ffff:192.0.2.77", 1, 0, 0), True),
        (("2001:db8:1::1", 1, 0, 0), ("2001:db8:1:ffff::9", 1, 0, 0), True),
        (("2001:db8:1::1", 1, 0, 0), ("2001:db8:2::1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 3), ("fe80::2%eth1", 1, 0, 4), True),
    ],
)
def test_a_network_is_a_24_or_a_48(one: SocketAddress, other: SocketAddress, are_neighbours: bool) -> None:
    assert (network_of(one) == network_of(other)) is are_neighbours


@given(st.lists(st.tuples(st.sampled_from("esl"), st.integers(0, 7)), max_size=60))
def test_the_counts_are_those_of_who_is_inside(steps: list[tuple[str, int]]) -> None:
    """Whatever the order, and however often something is told."""
    crowd = Crowd()
    inside: dict[int, bool] = {}
    networks = [b"abc", b"xyz"]
    for step, who in steps:
        if step == "e" and who not in inside:
            crowd.enter(who, networks[who % 2])
            inside[who] = True
        elif step == "s":
            crowd.settle(who)
            inside.update({who: False} if who in inside else {})
        elif step == "l":
            crowd.leave(who)
            inside.pop(who, None)
        assert (len(crowd), crowd.pending) == (len(inside), sum(inside.values()))
        for parity, network in enumerate(networks):
            here = [pending for other, pending in inside.items() if other % 2 == parity]
            assert crowd.connections_of(network) == len(here)
            assert crowd.pending_of(network) == sum(here)
    for who in list(inside):
        crowd.leave(who)
    assert [crowd._all, crowd._pending, crowd._inside] == [{}, {}, {}], "nothing is kept of those who left"
