import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.proto import budget


@pytest.mark.parametrize(
    ("payload", "expected"), [(1472, 1440), (1452, 1420), (1350, 1318), (1280, 1248), (1200, 1168)]
)
def test_budgets_of_the_protocol(payload: int, expected: int) -> None:
    assert budget.budget_of_payload(payload) == expected
    assert payload in budget.UDP_PAYLOADS


def test_mtus_of_the_protocol() -> None:
    assert budget.mtu_of_budget(1440) == budget.DEFAULT_ROOM_MTU == 1418
    assert budget.mtu_of_budget(1440, sealed=True) == 1394


def test_sizes_to_try_fall_and_end_at_what_every_path_carries() -> None:
    assert list(budget.UDP_PAYLOADS) == sorted(set(budget.UDP_PAYLOADS), reverse=True)
    assert budget.UDP_PAYLOADS[-1] == 1200


def test_the_smallest_path_stays_above_the_default_floor_even_sealed() -> None:
    smallest = budget.budget_of_payload(budget.UDP_PAYLOADS[-1])
    assert budget.mtu_of_budget(smallest, sealed=True) > budget.DEFAULT_MTU_FLOOR


@given(st.integers(budget.MIN_BUDGET, budget.MAX_BUDGET), st.booleans())
def test_a_full_frame_of_the_mtu_fills_the_budget_exactly(size: int, sealed: bool) -> None:
    mtu = budget.mtu_of_budget(size, sealed=sealed)
    seal = 8 + 16 if sealed else 0
    assert 4 + 14 + 4 + mtu + seal == size


@given(st.integers(0, 65535))
def test_a_budget_is_what_quic_leaves_of_a_payload(payload: int) -> None:
    size = budget.budget_of_payload(payload)
    assert payload - size == 1 + 8 + 4 + 16 + 3
