import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.relay.guesses import REMEMBERED, TokenGuesses

HERE, THERE = "192.0.2.1", "198.51.100.7"
ROOM = "den"


def guess(
    guesses: TokenGuesses, token: str, now: float = 0.0, *, address: str = HERE, room: str = ROOM
) -> float | None:
    return guesses.retry_after(address, room, token, False, now)


def prove(guesses: TokenGuesses, now: float = 0.0, *, address: str = HERE, room: str = ROOM) -> float | None:
    return guesses.retry_after(address, room, "right", True, now)


def emptied() -> TokenGuesses:
    guesses = TokenGuesses(10.0)
    for number in range(10):
        assert guess(guesses, f"wrong {number}") is None
    return guesses


def test_ten_wrong_tokens_are_judged_and_then_ten_a_minute() -> None:
    guesses = emptied()
    assert guess(guesses, "another") == pytest.approx(6.0)
    assert guess(guesses, "another", 5.0) == pytest.approx(1.0)
    assert guess(guesses, "another", 6.001) is None
    assert guess(guesses, "yet another", 6.001) == pytest.approx(6.0, abs=0.01)
    assert sum(guess(guesses, f"{tenth}", tenth / 10) is None for tenth in range(100, 6101)) == pytest.approx(
        100, abs=1
    )


def test_by_then_the_right_one_gets_the_same_answer() -> None:
    guesses = emptied()
    assert prove(guesses, 1.0) == guess(guesses, "wrong", 1.0) == guess(guesses, "wrong 9", 1.0) == pytest.approx(5.0)


def test_the_right_one_costs_nothing() -> None:
    guesses = TokenGuesses(10.0)
    for _ in range(100):
        assert prove(guesses) is None
        assert guess(guesses, "once") is None
    assert prove(guesses) is None


def test_the_same_wrong_one_costs_once_however_often_it_comes() -> None:
    """A party member with an old invitation, whose program tries it again and again, locks nobody out."""
    guesses = TokenGuesses(10.0)
    for _ in range(1000):
        for invitation in range(REMEMBERED):
            assert guess(guesses, f"of last year {invitation}") is None
    assert prove(guesses) is None


def test_another_room_and_another_address_are_not_held_up() -> None:
    guesses = emptied()
    assert prove(guesses, room="attic") is None
    assert guess(guesses, "wrong", room="attic") is None
    assert prove(guesses, address=THERE) is None
    assert guess(guesses, "wrong", address=THERE) is None


def test_of_ipv6_a_whole_64_is_one_address() -> None:
    guesses = TokenGuesses(10.0)
    for number in range(10):
        assert guess(guesses, f"wrong {number}", address=f"2001:db8::{number}") is None
    assert guess(guesses, "another", address="2001:db8::ffff:1") is not None
    assert guess(guesses, "another", address="2001:db8:0:1::1") is None


def test_what_is_remembered_is_bounded_and_holds_no_token() -> None:
    guesses = TokenGuesses(10.0)
    for number in range(guesses.MAX_ENTRIES + 500):
        guess(guesses, "a secret mistyped", room=f"room{number}")
    assert len(guesses._entries) == guesses.MAX_ENTRIES
    for number in range(2 * guesses.MAX_ENTRIES):
        assert prove(guesses, room=f"elsewhere{number}") is None
    assert not [room for _, room in guesses._entries if room.startswith("elsewhere")], "who is right leaves nothing"
    assert "secret" not in repr(guesses._entries)
    for _, known in guesses._entries.values():
        assert len(known) <= REMEMBERED


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 40)), max_size=80))
def test_no_answer_but_a_judged_one_depends_on_the_token(story: list[tuple[int, bool, int]]) -> None:
    """Whatever came before, asking with a right and with a wrong token is told the same, None or a wait."""
    one, other = TokenGuesses(10.0), TokenGuesses(10.0)
    now = 0.0
    judged: list[float] = []
    for token, is_right, quarters in story:
        now += quarters / 4
        answers = [each.retry_after(HERE, ROOM, f"{token}", is_right, now) for each in (one, other)]
        assert answers[0] == answers[1]
        if answers[0] is None and not is_right:
            judged.append(now)
    probe = one.retry_after(HERE, ROOM, "never seen", False, now), other.retry_after(HERE, ROOM, "right", True, now)
    assert probe[0] == probe[1]
