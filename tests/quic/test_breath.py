"""When the stream gets a moment of its own."""

import pytest

from softlan.quic.breath import AFTER, HOLD_LIMIT, LENGTH, Breath


def congested() -> bool:
    return True


def free() -> bool:
    return False


def test_nothing_is_held_back_while_nothing_is_said() -> None:
    breath = Breath()
    assert not any(breath.is_on(now / 10, congested, 0) for now in range(100))


def test_on_a_free_path_nothing_is_held_back() -> None:
    breath = Breath()
    breath.wrote()
    assert not any(breath.is_on(now / 10, free, 0) for now in range(100))


def test_on_a_full_one_there_are_three_breaths_of_bounded_length() -> None:
    breath = Breath()
    breath.wrote()
    on = [now for now in range(5000) if breath.is_on(now / 1000, congested, 0)]
    begins = [now for now in on if now - 1 not in on]
    assert [begin / 1000 for begin in begins] == list(AFTER)
    assert len(on) == pytest.approx(3 * LENGTH * 1000, abs=5)


def test_a_breath_ends_as_soon_as_the_path_is_free() -> None:
    breath = Breath()
    breath.wrote()
    assert breath.is_on(0.0, congested, 0)
    assert not breath.is_on(0.01, free, 10)
    assert breath.end is None


def test_a_breath_ends_before_too_much_is_held_back() -> None:
    breath = Breath()
    breath.wrote()
    assert breath.is_on(0.0, congested, 0)
    assert breath.is_on(0.01, congested, HOLD_LIMIT - 1)
    assert not breath.is_on(0.02, congested, HOLD_LIMIT)
    assert not breath.is_on(0.03, congested, 0), "and the next one is not at once"


def test_what_is_said_later_gets_its_own() -> None:
    breath = Breath()
    breath.wrote()
    assert breath.is_on(0.0, congested, 0)
    assert not breath.is_on(0.1, free, 0)
    breath.wrote()
    assert breath.is_on(0.1, congested, 0)
