"""The pure parts that see every frame or every message."""

import itertools
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from tests.support.relay_fakes import QUIET, FakePort, mac, member, sealed

from bench.micro.frames import BROADCAST, BURSTS, FRAMES, OTHER, PLAYER, ROOM_MTU, SIZES, datagram, plain
from bench.micro.per_frame import measure_burst
from softlan.ctrl.framing import FrameDecoder, encode_frame
from softlan.ctrl.messages import Hello, Role, decode, encode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rates import ClientRates
from softlan.policy.rules import Policy
from softlan.proto.drop import DropReason
from softlan.proto.ip import walk
from softlan.proto.overlay import HEADER_LENGTH, Kind, header, parse
from softlan.relay.room import Room
from softlan.relay.switch import SealedSwitch, Switch

HELLO = Hello(version=1, role=Role.CLIENT, room="den", mac="02:00:5e:10:00:01", datagram_budget=1440)


def seconds() -> Iterator[float]:
    """A clock in which a second passes at each look, so that rates are always full again."""
    return map(float, itertools.count(1))


@pytest.mark.benchmark(group="overlay")
def test_overlay_header(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(header, Kind.ETHERNET, 7)) == HEADER_LENGTH


@pytest.mark.benchmark(group="overlay")
def test_overlay_parse(benchmark: BenchmarkFixture) -> None:
    assert benchmark(parse, datagram(plain(100), 7)) == (Kind.ETHERNET, 7)


@pytest.mark.benchmark(group="control framing")
def test_control_message_out(benchmark: BenchmarkFixture) -> None:
    assert benchmark(lambda: encode_frame(encode(HELLO)))


@pytest.mark.benchmark(group="control framing")
def test_control_message_in(benchmark: BenchmarkFixture) -> None:
    data = encode_frame(encode(HELLO))
    assert benchmark(lambda: [decode(payload) for payload in FrameDecoder().feed(data)]) == [HELLO]


@pytest.mark.benchmark(group="walker")
@pytest.mark.parametrize("name", FRAMES)
def test_walk(benchmark: BenchmarkFixture, name: str) -> None:
    assert benchmark(walk, FRAMES[name])


@pytest.mark.benchmark(group="policy")
@pytest.mark.parametrize("name", FRAMES)
def test_verdict(benchmark: BenchmarkFixture, name: str) -> None:
    verdict = PolicyEngine(Policy()).verdict
    assert benchmark(verdict, datagram(FRAMES[name]), HEADER_LENGTH, PLAYER, {OTHER: 1}, ROOM_MTU) is None


@pytest.mark.benchmark(group="policy")
def test_rate_of_a_unicast_frame(benchmark: BenchmarkFixture) -> None:
    rates, clock = ClientRates(Policy(), 0.0), seconds()
    assert benchmark(lambda: rates.unicast(1400, next(clock))) is None


@pytest.mark.benchmark(group="switch, unicast")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("burst", BURSTS)
def test_forward_unicast(benchmark: BenchmarkFixture, burst: int, size: int) -> None:
    forward_burst(benchmark, plain(size, destination=mac(2), source=mac(1)), burst, members=2)


@pytest.mark.benchmark(group="switch, unicast, sealed")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("burst", BURSTS)
def test_forward_sealed_unicast(benchmark: BenchmarkFixture, burst: int, size: int) -> None:
    forward_burst(benchmark, plain(size, destination=mac(2), source=mac(1)), burst, members=2, is_sealed=True)


@pytest.mark.benchmark(group="switch, flood of broadcasts")
def test_drop_a_flood(benchmark: BenchmarkFixture) -> None:
    """Of one who has used up its rate: the clock stands still."""
    room, burst = Room("den", ROOM_MTU, None), 256
    for number in range(1, 34):
        room.add(member(number, mac(number)))
    flooder, switch = room.members[1], Switch(room, PolicyEngine(Policy(frame_rate=0)), QUIET)
    datagrams = [datagram(plain(100, destination=BROADCAST, source=mac(1)))] * burst
    measure_burst(benchmark, burst, switch.forward, lambda: (flooder, datagrams, 0.0))
    assert flooder.counters.drops.get(DropReason.RATE_BROADCAST, 0) == max(0, flooder.counters.frames_in - 500)


@pytest.mark.benchmark(group="switch, broadcast to 32")
@pytest.mark.parametrize("burst", BURSTS)
def test_forward_broadcast(benchmark: BenchmarkFixture, burst: int) -> None:
    forward_burst(benchmark, plain(200, destination=BROADCAST, source=mac(1)), burst, members=33)


def forward_burst(
    benchmark: BenchmarkFixture, frame: bytes, burst: int, members: int, *, is_sealed: bool = False
) -> None:
    """Forward a burst of one frame from the first member, into ports that keep what they get."""
    room = Room("den", ROOM_MTU, None, sealed=is_sealed)
    ports = [FakePort() for _ in range(members)]
    room_members = [member(number, mac(number), port=port, sealed=is_sealed) for number, port in enumerate(ports, 1)]
    for one in room_members:
        room.add(one)
    switch, clock = (SealedSwitch if is_sealed else Switch)(room, PolicyEngine(Policy()), QUIET), seconds()
    datagrams = [sealed(datagram(frame)) if is_sealed else datagram(frame)] * burst

    def fresh() -> tuple[object, ...]:
        for port in ports:
            port.datagrams.clear()
        return room_members[0], datagrams, next(clock)

    measure_burst(benchmark, burst, switch.forward, fresh)
    assert [len(port.datagrams) for port in ports] == [0] + [burst] * (members - 1)
