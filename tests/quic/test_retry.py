"""Retry tokens: for one address, two connection IDs and a moment."""

from hypothesis import given
from hypothesis import strategies as st

from softlan.net.address import SocketAddress
from softlan.quic.retry import LIFETIME, RetryTokens

HERE: SocketAddress = ("192.0.2.1", 40000)
cids = st.binary(max_size=20)


@given(original=cids, retry=cids, elapsed=st.floats(0, LIFETIME))
def test_what_was_sealed_is_opened(original: bytes, retry: bytes, elapsed: float) -> None:
    tokens = RetryTokens()
    now = 1000.0
    token = tokens.seal(HERE, original, retry, now)
    assert tokens.open(token, HERE, now + elapsed * 0.999) == (original, retry)


def test_the_same_is_never_sealed_the_same_way() -> None:
    tokens = RetryTokens()
    assert len({tokens.seal(HERE, b"original", b"retry", 0.0) for _ in range(100)}) == 100


def test_a_token_is_good_for_a_moment() -> None:
    tokens = RetryTokens()
    token = tokens.seal(HERE, b"original", b"retry", 1000.0)
    assert tokens.open(token, HERE, 1000.0 + LIFETIME + 0.1) is None
    assert tokens.open(token, HERE, 999.0) is None, "it was not made in the future"


def test_a_token_is_good_for_one_address_and_port() -> None:
    tokens = RetryTokens()
    token = tokens.seal(HERE, b"original", b"retry", 0.0)
    elsewhere: list[SocketAddress] = [("192.0.2.1", 40001), ("192.0.2.2", 40000), ("2001:db8::1", 40000, 0, 0)]
    assert [tokens.open(token, address, 1.0) for address in elsewhere] == [None] * 3


def test_a_token_is_good_at_one_relay() -> None:
    token = RetryTokens().seal(HERE, b"original", b"retry", 0.0)
    assert RetryTokens().open(token, HERE, 0.0) is None
    key = bytes(16)
    assert RetryTokens(key).open(RetryTokens(key).seal(HERE, b"a", b"b", 0.0), HERE, 0.0) == (b"a", b"b")


@given(st.binary(max_size=100))
def test_noise_opens_nothing(token: bytes) -> None:
    assert RetryTokens().open(token, HERE, 0.0) is None


@given(st.data())
def test_a_token_that_was_changed_opens_nothing(data: st.DataObject) -> None:
    tokens = RetryTokens()
    token = bytearray(tokens.seal(HERE, b"original", b"retry", 0.0))
    token[data.draw(st.integers(0, len(token) - 1))] ^= data.draw(st.integers(1, 255))
    assert tokens.open(bytes(token), HERE, 0.0) is None
    assert tokens.open(bytes(token[:-1]), HERE, 0.0) is None
