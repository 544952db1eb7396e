"""What the micro-benchmarks stand on still carries what they send."""

import pytest
from bench.micro.frames import BURSTS, FRAMES, OTHER, PLAYER, ROOM_MTU, SIZES, plain
from bench.micro.prompt import LAN_HOST, Pair, Party

from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("burst", BURSTS)
def test_a_burst_crosses_a_pair_again_and_again(burst: int, size: int) -> None:
    pair = Pair()
    datagrams = pair.fill(burst, size)
    for _ in range(3):
        pair.settle()
        pair.send(datagrams)
        pair.receive()
        assert pair.server.datagrams == datagrams


def test_a_burst_crosses_the_relay_again_and_again() -> None:
    party = Party()
    frames = [plain(1400, destination=LAN_HOST, source=party.player.mac)] * 64
    for _ in range(3):
        party.offer(frames)
        assert party.arrived() == []
        party.turn()
        assert party.arrived() == frames


@pytest.mark.parametrize("name", FRAMES)
def test_the_frames_are_such_as_pass(name: str) -> None:
    assert PolicyEngine(Policy()).verdict(FRAMES[name], 0, PLAYER, {OTHER: 1}, ROOM_MTU) is None


@pytest.mark.parametrize("size", SIZES)
def test_a_plain_frame_has_the_size_it_should(size: int) -> None:
    assert len(plain(size)) == size
