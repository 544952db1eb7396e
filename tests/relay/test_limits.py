from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.relay.limits import AddressLimiter, TokenBucket


def test_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(10.4)
    assert bucket.take(10.5)
    assert not bucket.take(10.5)
    assert [bucket.take(99.0) for _ in range(4)] == [True, True, True, False]


def test_an_amount_is_taken_whole_or_not_at_all() -> None:
    bucket = TokenBucket(rate=100.0, burst=1000.0, now=0.0)
    assert not bucket.take(0.0, 1001.0)
    assert bucket.take(0.0, 900.0)
    assert not bucket.take(0.0, 200.0)
    assert bucket.take(1.0, 200.0)


def test_wait_is_how_long_it_takes() -> None:
    bucket = TokenBucket(rate=4.0, burst=1.0, now=0.0)
    assert bucket.wait() == 0.0
    bucket.take(0.0)
    assert bucket.wait() == pytest.approx(0.25)
    assert not bucket.take(0.2499)
    assert bucket.take(0.2499 + bucket.wait())


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=1.0, now=100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.9)
    assert bucket.take(101.0)


# Steps of quarter seconds, so that the sums below are exact.
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 10))
def test_it_refuses_exactly_what_a_burst_and_its_rate_do_not_cover(steps: list[int], rate: int, burst: int) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    taken: list[float] = []
    for at in (total / 4 for total in accumulate(steps)):
        covered = all(sum(t >= start for t in taken) + 1 <= burst + (at - start) * rate for start in taken)
        assert bucket.take(at) is covered
        if covered:
            taken.append(at)


def test_each_address_has_its_own_bucket() -> None:
    limiter = AddressLimiter(rate=0.5, burst=2.0)
    assert [limiter.retry_after("192.0.2.1", 0.0) for _ in range(2)] == [None, None]
    assert limiter.retry_after("192.0.2.1", 0.0) == pytest.approx(2.0)
    assert limiter.retry_after("192.0.2.2", 0.0) is None
    assert limiter.retry_after("192.0.2.1", 2.0) is None


def test_a_host_with_a_whole_prefix_of_ipv6_is_one() -> None:
    limiter = AddressLimiter(rate=0.5, burst=2.0)
    assert [limiter.retry_after(f"2001:db8:0:7::{number}", 0.0) for number in (1, 2)] == [None, None]
    assert limiter.retry_after("2001:db8:0:7:ffff::3", 0.0) is not None
    assert limiter.retry_after("2001:db8:0:8::1", 0.0) is None


def test_it_remembers_a_bounded_number_of_addresses_and_forgets_the_longest_unseen() -> None:
    limiter = AddressLimiter(rate=1e-9, burst=1.0)
    assert limiter.retry_after("unseen", 0.0) is None
    assert limiter.retry_after("noisy", 0.0) is None
    for number in range(AddressLimiter.MAX_ADDRESSES - 2):
        assert limiter.retry_after(str(number), 0.0) is None
    assert limiter.retry_after("noisy", 0.0) is not None
    assert limiter.retry_after("one more", 0.0) is None
    assert limiter.retry_after("noisy", 0.0) is not None, "whoever keeps trying stays known"
    assert limiter.retry_after("unseen", 0.0) is None, "forgotten, and so it starts anew"
    assert len(limiter._buckets) == AddressLimiter.MAX_ADDRESSES
