"""What a frame costs at an endpoint and at a whole relay, by how many come at once."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.frames import BURSTS, SIZES, plain
from bench.micro.per_frame import measure_burst
from bench.micro.prompt import LAN_HOST, Pair, Party


@pytest.mark.benchmark(group="endpoint, send")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("burst", BURSTS)
def test_endpoint_send(benchmark: BenchmarkFixture, burst: int, size: int) -> None:
    pair = Pair()
    datagrams = pair.fill(burst, size)

    def fresh() -> tuple[object, ...]:
        pair.settle()
        return (datagrams,)

    measure_burst(benchmark, burst, pair.send, fresh)
    pair.receive()
    assert pair.server.datagrams == datagrams


@pytest.mark.benchmark(group="endpoint, receive")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("burst", BURSTS)
def test_endpoint_receive(benchmark: BenchmarkFixture, burst: int, size: int) -> None:
    pair = Pair()
    datagrams = pair.fill(burst, size)

    def fresh() -> tuple[object, ...]:
        pair.settle()
        pair.send(datagrams)
        return ()

    measure_burst(benchmark, burst, pair.receive, fresh)
    assert pair.server.datagrams == datagrams


@pytest.mark.benchmark(group="relay, player to LAN")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("burst", BURSTS)
def test_relay_turn(benchmark: BenchmarkFixture, burst: int, size: int) -> None:
    party = Party()
    frames = [plain(size, destination=LAN_HOST, source=party.player.mac)] * burst

    def fresh() -> tuple[object, ...]:
        party.offer(frames)
        return ()

    measure_burst(benchmark, burst, party.turn, fresh)
    assert party.arrived() == frames
