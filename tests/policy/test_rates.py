import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from softlan.policy.rates import FLOOD, HEAVY, HEAVY_SECONDS, ClientRates, LanMacs, MemberRates
from softlan.policy.rules import Policy
from softlan.proto.drop import Action, DropReason
from softlan.relay.limits import TokenBucket

LENGTH = 1000


def rates(**changes: float) -> ClientRates:
    return ClientRates(Policy(**changes), 0.0)  # type: ignore[arg-type]


def taken(take: object, count: int, now: float, length: int = LENGTH) -> int:
    """How many of `count` frames pass."""
    assert callable(take)
    return sum(take(length, now) is None for _ in range(count))


def test_a_burst_passes_and_then_the_rate() -> None:
    client = rates(broadcast_rate=10, broadcast_burst=5)
    assert taken(client.broadcast, 100, 0.0) == 5
    assert taken(client.broadcast, 100, 0.125) == 1
    assert taken(client.broadcast, 100, 0.375) == 2
    assert taken(client.broadcast, 100, 100.0) == 5


def test_a_limited_clients_other_traffic_keeps_flowing() -> None:
    client = rates(broadcast_rate=10, broadcast_burst=5, unknown_unicast_rate=10, unknown_unicast_burst=3)
    assert taken(client.broadcast, 100, 0.0) == 5
    assert client.broadcast(LENGTH, 0.0) is DropReason.RATE_BROADCAST
    assert taken(client.unknown_unicast, 100, 0.0) == 3
    assert client.unknown_unicast(LENGTH, 0.0) is DropReason.RATE_UNKNOWN_UNICAST
    assert taken(client.unicast, 100, 0.0) == 100


@pytest.mark.parametrize("name", ["broadcast", "unknown_unicast", "unicast"])
def test_the_total_is_over_all_frames_in_bytes(name: str) -> None:
    client = rates(total_rate=10_000, total_burst=65_536, broadcast_burst=10**6, unknown_unicast_burst=10**6)
    take = getattr(client, name)
    assert taken(take, 100, 0.0) == 65
    assert take(LENGTH, 0.0) is DropReason.RATE_TOTAL
    assert take(536, 0.0) is None
    assert client.unicast(1, 0.0) is DropReason.RATE_TOTAL
    assert taken(take, 100, 1.0) == 10


def test_a_stopped_frame_takes_nothing() -> None:
    client = rates(broadcast_rate=1, broadcast_burst=1, total_rate=1, total_burst=65_536)
    assert client.broadcast(70_000, 0.0) is DropReason.RATE_TOTAL
    assert client.broadcast(60_000, 0.0) is None, "the frame before took neither"
    assert client.broadcast(5_000, 0.0) is DropReason.RATE_BROADCAST
    assert client.unicast(5_000, 0.0) is None, "nor did that"


def test_several_frames_pass_together_or_none_of_them() -> None:
    client = rates(total_rate=10_000, total_burst=65_536)
    assert client.unicasts(60_000, 0.0)
    assert not client.unicasts(5_537, 0.0)
    assert client.unicasts(5_536, 0.0), "what did not pass took nothing"
    assert not client.unicasts(1, 0.0)
    assert client.unicasts(10_000, 1.0)
    assert client.report(1.0) is None, "and is not counted: some of it may pass yet"


def test_no_rate_is_no_limit() -> None:
    client = rates(broadcast_rate=0, unknown_unicast_rate=0, total_rate=0)
    for now in (0.0, 1.0):
        assert taken(client.broadcast, 2000, now) == 2000
        assert taken(client.unknown_unicast, 2000, now) == 2000
        assert taken(client.unicast, 2000, now, length=10**9) == 2000


def test_the_defaults_let_a_server_browser_and_a_scan_pass_and_stop_a_storm() -> None:
    client = rates()
    assert taken(client.broadcast, 100 + 254, 0.0) == 354
    storm = sum(taken(client.broadcast, 100, 10.0 + tick / 100) for tick in range(1000))
    assert storm == pytest.approx(500 + 10 * 250, rel=0.01)


def test_the_total_lets_a_gigabit_pass_by_default() -> None:
    client = rates()
    sent = sum(1418 * taken(client.unicast, 1000, tick / 100, length=1418) for tick in range(100))
    assert sent == pytest.approx(125_000_000, rel=0.05)


def test_time_that_goes_back_gives_nothing() -> None:
    client = rates(broadcast_rate=10, broadcast_burst=5)
    assert taken(client.broadcast, 5, 10.0) == 5
    assert taken(client.broadcast, 5, 0.0) == 0
    assert taken(client.broadcast, 5, 10.125) == 1


def test_what_was_cut_is_told_once_a_second() -> None:
    client = rates(broadcast_rate=1, broadcast_burst=1)
    assert client.report(0.0) is None
    assert taken(client.broadcast, 4, 0.0, length=100) == 1
    assert client.report(0.0) == {DropReason.RATE_BROADCAST: (3, 300)}
    assert taken(client.broadcast, 2, 0.5, length=100) == 0
    assert client.report(0.5) is None
    assert client.report(0.9) is None
    assert client.report(1.0) == {DropReason.RATE_BROADCAST: (2, 200)}
    assert client.report(2.0) is None


def test_who_leaves_is_told_of_at_once() -> None:
    client = rates(broadcast_rate=1, broadcast_burst=1)
    assert client.last_report() is None
    assert taken(client.broadcast, 4, 0.0, length=100) == 1
    assert client.report(0.0) is not None
    assert taken(client.broadcast, 2, 0.0, length=100) == 0
    assert client.report(0.1) is None
    assert client.last_report() == {DropReason.RATE_BROADCAST: (2, 200)}
    assert client.last_report() is None


def worked_for(member: MemberRates, bursts: int, frames: int, now: float) -> int:
    """How many of the bursts are worked for, if the caller does as the switch does."""
    worked = 0
    for _ in range(bursts):
        if member.left > 0.0 or member.has_frames(now):
            member.left -= frames
            worked += 1
    return worked


def test_frames_are_paid_for_by_the_burst_and_then_at_their_rate() -> None:
    member = MemberRates(Policy(frame_rate=100, frame_burst=50), 0.0)
    assert worked_for(member, 10, 20, 0.0) == 3, "the last one draws more than there is"
    assert member.left == -10
    assert not member.has_frames(0.1)
    assert member.has_frames(0.125)
    assert member.has_frames(100.0)
    assert member.left == 50


def test_over_a_longer_time_the_rate_of_frames_is_kept() -> None:
    member = MemberRates(Policy(frame_rate=1000, frame_burst=100), 0.0)
    worked = sum(worked_for(member, 5, 8, tick / 200) for tick in range(2001))
    assert worked * 8 == pytest.approx(10 * 1000 + 100, rel=0.01)


def test_frames_without_a_rate_never_run_out() -> None:
    member = MemberRates(Policy(frame_rate=0), 0.0)
    assert worked_for(member, 100, 10**9, 0.0) == 100


def test_the_default_lets_a_full_gigabit_of_tcp_pass() -> None:
    """Full frames of a room's default MTU, and an acknowledgement for every other one of as many."""
    member = MemberRates(Policy(), 0.0)
    frames = int(125_000_000 / 1432 * 1.5 / 1000)
    assert sum(worked_for(member, 1, frames, tick / 1000) for tick in range(5000)) == 5000


def seconds_borne(member: MemberRates, stopped: float, start: float = 0.0, tick: float = 0.5) -> float | None:
    """How long one that is stopped so often a second is borne, when asked each tick; None if for a minute."""
    for step in range(1, int(60 / tick)):
        member.stop(DropReason.RATE_TOTAL, int(stopped * tick), 0)
        if member.overdraws(start + step * tick):
            return step * tick
    return None


@pytest.mark.parametrize("tick", [0.1, 0.5, 0.7, 1.0, 2.5])
def test_who_overdraws_heavily_is_borne_for_three_seconds(tick: float) -> None:
    assert HEAVY_SECONDS == 3
    borne = seconds_borne(MemberRates(Policy(), 0.0), 2 * HEAVY, tick=tick)
    assert borne is not None
    assert 3.0 <= borne <= 3 * (1.0 + tick)


def test_a_flood_is_not_borne_at_all() -> None:
    assert seconds_borne(MemberRates(Policy(), 0.0), 2 * FLOOD + 4, tick=0.5) == 0.5
    member = MemberRates(Policy(), 0.0)
    member.stop(DropReason.RATE_TOTAL, FLOOD, 0)
    assert not member.overdraws(0.5)
    member.stop(DropReason.RATE_TOTAL, 1, 0)
    assert member.overdraws(0.5)
    assert not member.overdraws(1.0)


def test_who_is_stopped_less_is_borne_for_ever() -> None:
    assert seconds_borne(MemberRates(Policy(), 0.0), 0.99 * HEAVY) is None


def test_a_quiet_second_makes_good() -> None:
    member = MemberRates(Policy(), 0.0)
    for now in range(1, 30):
        member.stop(DropReason.RATE_TOTAL, int(2 * HEAVY) if now % 3 else 0, 0)
        assert not member.overdraws(float(now))


def test_who_comes_back_and_goes_on_goes_again_after_a_second() -> None:
    client = rates()
    assert seconds_borne(client, 2 * HEAVY) == 3.0
    assert seconds_borne(client, 2 * HEAVY, start=3.0) == 1.0
    assert seconds_borne(client, 0, start=4.0) is None


def test_who_waits_before_it_comes_back_begins_anew() -> None:
    client = rates()
    assert seconds_borne(client, 2 * HEAVY) == 3.0
    assert seconds_borne(client, 2 * HEAVY, start=600.0) == 3.5, "the first of it is part of the long wait"


def test_a_dry_bucket_says_so_until_it_has_something_again() -> None:
    client = rates(broadcast_rate=10, broadcast_burst=2, unknown_unicast_rate=5, unknown_unicast_burst=1)
    assert client.dry(0.0) == (False, False)
    assert taken(client.broadcast, 3, 0.0) == 2
    assert client.dry(0.0) == (True, False)
    assert taken(client.unknown_unicast, 2, 0.0) == 1
    assert client.dry(0.0625) == (True, True)
    assert client.dry(0.125) == (False, True)
    assert client.dry(0.25) == (False, False)


def test_rates_are_reasons_of_their_own_action() -> None:
    reasons = (DropReason.RATE_BROADCAST, DropReason.RATE_UNKNOWN_UNICAST, DropReason.RATE_TOTAL)
    assert {reason.action for reason in reasons} == {Action.RATE_LIMITED}


steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.5, 3.0]), st.sampled_from("bux"), st.integers(1, 30_000)), max_size=60
)


@given(steps)
def test_the_three_are_the_token_buckets_that_they_say(steps: list[tuple[float, str, int]]) -> None:
    policy = Policy(
        broadcast_rate=2,
        broadcast_burst=4,
        unknown_unicast_rate=3,
        unknown_unicast_burst=5,
        total_rate=10_000,
        total_burst=65_536,
    )
    client = ClientRates(policy, 0.0)
    buckets = {"b": TokenBucket(2, 4, 0.0), "u": TokenBucket(3, 5, 0.0), "x": TokenBucket(1e9, 1e9, 0.0)}
    total = TokenBucket(10_000, 65_536, 0.0)
    reasons = {"b": DropReason.RATE_BROADCAST, "u": DropReason.RATE_UNKNOWN_UNICAST}
    takes = {"b": client.broadcast, "u": client.unknown_unicast, "x": client.unicast}
    now = 0.0
    for pause, cast, length in steps:
        now += pause
        # `wait` is as of the last `take`; taking nothing brings the bucket up to date.
        for bucket in (*buckets.values(), total):
            bucket.take(now, 0.0)
        expected = None
        if buckets[cast].wait(1.0):
            expected = reasons[cast]
        elif total.wait(length):
            expected = DropReason.RATE_TOTAL
        else:
            buckets[cast].take(now)
            total.take(now, length)
        assert takes[cast](length, now) is expected


class LanMacsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.macs = LanMacs(capacity=3)
        self.model: list[int] = []

    @rule(number=st.integers(0, 6))
    def learn(self, number: int) -> None:
        self.macs.learn(bytes((2, 0, 0, 0, 0, number)))
        if number not in self.model:
            self.model = [*self.model, number][-3:]

    @rule()
    def clear(self) -> None:
        self.macs.clear()
        self.model = []

    @invariant()
    def holds_the_newest(self) -> None:
        assert len(self.macs) == len(self.model)
        known = [number for number in range(7) if bytes((2, 0, 0, 0, 0, number)) in self.macs]
        assert known == sorted(self.model)


TestLanMacs = LanMacsMachine.TestCase


def test_a_lan_may_be_learned_at_once_and_then_so_many_a_second() -> None:
    macs = LanMacs()
    assert sum(macs.may_learn(0.0) for _ in range(10_000)) == LanMacs.NEW_AT_ONCE
    assert sum(macs.may_learn(tick / 100) for tick in range(1, 1001) for _ in range(50)) == 10 * LanMacs.NEW_RATE
    assert not macs.may_learn(5.0), "a clock that goes back gives nothing"
    assert sum(macs.may_learn(1e6) for _ in range(10_000)) == LanMacs.NEW_AT_ONCE
