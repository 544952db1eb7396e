"""The gateway's second look at what goes onto the LAN."""

import itertools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.frames import BURSTS, FRAMES, PLAYER, ROOM_MTU
from bench.micro.per_frame import measure_burst
from softlan.gateway.second_look import LookMode, SecondLook
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy


@pytest.mark.benchmark(group="second look")
@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("burst", BURSTS)
def test_second_look(benchmark: BenchmarkFixture, burst: int, name: str) -> None:
    look = SecondLook(LookMode.ON, PolicyEngine(Policy()), TrafficCounters(), FrameLog.off())
    look.joined("den", ROOM_MTU)
    look.peer_joined(1, PLAYER)
    frames, now = [FRAMES[name]] * burst, itertools.count(1.0)
    measure_burst(benchmark, burst, look.passed, lambda: (frames, next(now)))
    assert look.passed(frames, 0.0) == frames
