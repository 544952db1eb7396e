"""What a path carries, found out by probes: by themselves, and with a real relay over paths of every width."""

import itertools
from collections.abc import Callable

import pytest
from tests.support.virtual_room import Member, RoomWorld
from tests.support.wire import Link

from softlan.client.path import ASK, FULL_AGAIN, FULL_INTERVAL, FULL_LOSSES, QUIET, SILENT, PathProber
from softlan.client.session import EndKind
from softlan.proto.budget import MAX_BUDGET
from softlan.proto.overlay import Kind, parse, probe_nonce
from softlan.quic.configuration import IDLE_TIMEOUT


class Path:
    """A prober, and an echo that answers after `delay` what `passes` lets through; time goes by ticks of 0.1 s."""

    def __init__(self, passes: Callable[[int], bool] = lambda size: True, *, max_budget: int = MAX_BUDGET) -> None:
        self.now = 1000.0
        self.passes = passes
        self.delay = 0.05
        self.sent: list[bytes] = []
        self.prober = PathProber(self._send, max_budget, self.now)
        self._echoes: list[tuple[float, bytes]] = []

    def _send(self, datagram: bytes) -> bool:
        self.sent.append(datagram)
        if self.passes(len(datagram)):
            self._echoes.append((self.now + self.delay, datagram))
        return True

    @property
    def sizes(self) -> list[int]:
        return [len(datagram) for datagram in self.sent]

    def step(self) -> None:
        self.now += 0.1
        arrived = [echo for echo in self._echoes if echo[0] <= self.now]
        self._echoes = [echo for echo in self._echoes if echo[0] > self.now]
        for when, datagram in arrived:
            self.prober.heard(when)
            self.prober.echoed(probe_nonce(datagram), when)

    def size(self, capacity: Callable[[float], int] = lambda elapsed: 1440) -> float:
        """Size the path; how many seconds that took."""
        start = self.now
        self.prober.start(capacity(0.0), self.delay, self.now)
        while not (self.prober.done or self.prober.failed):
            self.step()
            self.prober.size(capacity(self.now - start), self.now)
        return self.now - start

    def stay(self, seconds: float, *, busy: bool = False) -> None:
        """Be in the room; `busy`: frames come from there all the time."""
        end = self.now + seconds
        while self.now < end and not self.prober.narrowed:
            self.step()
            if busy:
                self.prober.heard(self.now)
            self.prober.keep_alive(self.now)


def up_to(limit: int) -> Callable[[int], bool]:
    return lambda size: size <= limit


# Before the hello


def test_all_sizes_are_tried_at_once_and_the_largest_echo_decides() -> None:
    path = Path()
    assert path.size() == pytest.approx(0.1)
    assert (path.prober.budget, path.prober.done, path.prober.failed) == (1440, True, False)
    assert path.sizes == [1440, 1420, 1318, 1248, 1168]
    assert {parse(datagram) for datagram in path.sent} == {(Kind.PROBE, 0)}
    assert path.prober.rtt == pytest.approx(0.05)


@pytest.mark.parametrize(("limit", "budget"), [(1439, 1420), (1419, 1318), (1317, 1248), (1200, 1168)])
def test_a_size_is_given_up_after_three_tries(limit: int, budget: int) -> None:
    path = Path(up_to(limit))
    assert path.size() < 1.0
    assert path.prober.budget == budget
    assert all(path.sizes.count(size) == 3 for size in (1440, 1420, 1318, 1248) if size > budget)
    assert path.sizes.count(budget) == 1, "what came back is not asked again"


def test_a_path_that_returns_nothing_fails() -> None:
    path = Path(lambda size: False)
    assert path.size() < 1.0
    assert path.prober.failed
    assert not path.prober.done


def test_a_lost_probe_is_not_a_narrow_path() -> None:
    lost = iter([True, True])
    path = Path(lambda size: not (size == 1440 and next(lost, False)))
    path.size()
    assert path.prober.budget == 1440


def test_a_capacity_that_grows_is_followed() -> None:
    """The library starts at its smallest packet after a lost first flight, and probes its way up in its own time."""
    steps = {0.0: 1168, 0.3: 1248, 0.6: 1318, 0.9: 1420, 1.2: 1440}
    path = Path()
    path.size(lambda elapsed: max(size for when, size in steps.items() if elapsed >= when))
    assert path.prober.budget == 1440
    assert path.sizes == [1168, 1248, 1318, 1420, 1440]


def test_a_capacity_that_does_not_grow_is_waited_for_a_moment_only() -> None:
    path = Path()
    assert path.size(lambda elapsed: 1168) < 1.0
    assert path.prober.budget == 1168


@pytest.mark.parametrize("max_budget", [1420, 1300, 1168, 700])
def test_a_smaller_budget_can_be_asked_for(max_budget: int) -> None:
    path = Path(max_budget=max_budget)
    path.size()
    assert path.prober.budget == max(s for s in (1420, 1248, 1168, 700) if s <= max_budget)


def test_a_slow_path_is_given_time_but_less_than_the_relay_waits_for_the_hello() -> None:
    path = Path(up_to(1400))
    path.delay = 0.8
    assert 1.5 < path.size() < 4.0
    assert path.prober.budget == 1318


# In the room


def in_room(path: Path) -> Path:
    path.size()
    path.prober.joined(7, path.now)
    path.sent.clear()
    return path


def test_a_quiet_path_is_asked_every_now_and_then() -> None:
    path = in_room(Path())
    path.stay(9.0)
    assert 4 <= len(path.sent) <= 6
    assert set(path.sizes) == {64}
    assert {parse(datagram) for datagram in path.sent} == {(Kind.PROBE, 7)}


def test_a_busy_path_is_measured_all_the_same_but_seldom() -> None:
    path = in_room(Path())
    path.delay = 0.02
    path.stay(9.5, busy=True)
    assert path.sizes == [64] * 3
    assert path.prober.rtt == pytest.approx(0.02)


@pytest.mark.parametrize("busy", [False, True])
def test_full_size_is_tried_now_and_then(busy: bool) -> None:
    path = in_room(Path())
    path.stay(60, busy=busy)
    assert 5 <= path.sizes.count(1440) <= 6
    assert not path.prober.narrowed


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "busy"])
def test_a_path_that_becomes_narrower_is_noticed(busy: bool) -> None:
    path = in_room(Path())
    path.passes = up_to(1300)
    start = path.now
    path.stay(60, busy=busy)
    assert path.prober.narrowed
    assert path.now - start < FULL_INTERVAL + (FULL_LOSSES + 1) * (FULL_AGAIN + 0.1) + 0.5


def test_full_size_probes_that_are_lost_now_and_then_mean_nothing() -> None:
    path = in_room(Path())
    tries = iter(range(1000))
    path.passes = lambda size: size < 1440 or next(tries) % FULL_LOSSES == FULL_LOSSES - 1
    path.stay(600)
    assert not path.prober.narrowed


def test_where_nothing_passes_the_size_is_not_blamed() -> None:
    path = in_room(Path())
    path.passes = lambda size: False
    path.stay(60)
    assert not path.prober.narrowed


def test_echoes_that_come_late_count() -> None:
    path = in_room(Path())
    path.delay = 2 * QUIET
    path.stay(120)
    assert not path.prober.narrowed


def test_silence_is_told_from_a_pause() -> None:
    path = in_room(Path())
    path.stay(30)
    assert not path.prober.silent(path.now)
    path.passes = lambda size: False
    start = path.now
    while not path.prober.silent(path.now):
        path.stay(0.1)
    assert SILENT - 2 < path.now - start <= SILENT + 0.2


def test_frames_of_others_are_no_answer() -> None:
    """Nothing of ours gets out, while the room goes on talking to us."""
    path = in_room(Path())
    path.stay(30, busy=True)
    path.passes = lambda size: False
    start = path.now
    while not path.prober.silent(path.now):
        path.stay(0.1, busy=True)
    assert SILENT < path.now - start <= ASK + SILENT + 0.2
    assert path.now - start < IDLE_TIMEOUT, "or the relay is the first to notice"


def test_a_probe_that_is_lost_now_and_then_is_no_silence() -> None:
    path = in_room(Path())
    numbers = itertools.count()
    path.passes = lambda size: next(numbers) % 4 == 0
    for _ in range(600):
        path.stay(0.1, busy=True)
        assert not path.prober.silent(path.now)


# With a relay


@pytest.mark.parametrize(
    ("mtu", "budget"), [(1500, 1440), (1492, 1420), (1400, 1318), (1308, 1248), (1280, 1168)], ids=str
)
class TestPaths:
    def test_every_width_gives_its_budget(self, mtu: int, budget: int) -> None:
        world = RoomWorld(Link(latency=0.02, mtu=mtu))
        member = world.join()
        self.check(world, member, budget)

    @pytest.mark.parametrize("seed", range(6))
    def test_and_so_it_does_where_packets_are_lost(self, mtu: int, budget: int, seed: int) -> None:
        world = RoomWorld(Link(latency=0.02, mtu=mtu, loss=0.05, reorder=0.05), seed=seed)
        member = world.join()
        self.check(world, member, budget)

    def check(self, world: RoomWorld, member: Member, budget: int) -> None:
        assert member.welcome is not None
        assert member.session.path.budget == member.welcome.datagram_budget == budget
        assert member.welcome.effective_mtu == budget - 22
        world.run(within=60)
        assert member.ended is None


def test_a_path_that_becomes_narrower_ends_the_session_for_a_smaller_budget() -> None:
    world = RoomWorld()
    member = world.join()
    member.sock.link.mtu = 1400
    world.run(lambda: member.ended, within=FULL_INTERVAL + (FULL_LOSSES + 2) * (FULL_AGAIN + 0.1))
    assert member.ended is not None
    assert member.ended.kind is EndKind.NARROWED
    assert "1440" in member.ended.reason


@pytest.mark.parametrize("traffic", [False, True])
def test_a_relay_that_goes_silent_is_noticed(traffic: bool) -> None:
    """Not by the idle timeout of 30 s: a restarted relay knows nothing of the session and answers nothing."""
    world = RoomWorld()
    member = world.join()
    if traffic:
        world.clock.every(0.05, lambda: member.session.send_frames([b"\xff" * 6 + member.mac + bytes(100)]))
    world.run(within=10)
    world.server.sock.link.down = True
    start = world.now
    world.run(lambda: member.ended)
    assert member.ended is not None
    assert member.ended.kind is EndKind.LOST
    assert world.now - start < SILENT + 0.5
