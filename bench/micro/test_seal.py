"""Sealed frames: what AES-GCM and all around it costs, and how much slower an endpoint's own part gets by it."""

from collections import deque

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.frames import OTHER, PLAYER, ROOM_MTU, datagram, plain
from bench.micro.per_frame import measure_burst
from softlan.client.frames import PlainFrames, SealedFrames
from softlan.ctrl.messages import PeerJoined, Role
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog
from softlan.proto.keys import sender_key
from softlan.proto.mac import format_mac
from softlan.proto.overlay import Kind, header
from softlan.proto.seal import Opener, Sealer

KEY, SALT = bytes(32), bytes(16)
BURST = 64
SIZES = (100, 1200)


def sealer() -> Sealer:
    return Sealer(sender_key(KEY, SALT, PLAYER), header(Kind.SEALED, 1))


def endpoint(kind: str) -> PlainFrames:
    """An endpoint's part of a session: the player's, or in a sealed room somebody's who knows the player."""
    keep = deque[bytes](maxlen=BURST)

    def send(data: bytes) -> bool:
        keep.append(data)
        return True

    where = (send, TrafficCounters(), FrameLog.off(), "den")
    frames = PlainFrames(*where) if kind == "plain" else SealedFrames(*where, KEY, OTHER, SALT, None)
    frames.joined(2, 1440, ROOM_MTU)
    frames.peer_joined(PeerJoined(peer_id=1, role=Role.CLIENT, mac=format_mac(PLAYER), seal=SALT.hex()), 0.0)
    return frames


@pytest.mark.benchmark(group="seal")
@pytest.mark.parametrize("size", SIZES)
def test_seal(benchmark: BenchmarkFixture, size: int) -> None:
    seal, frames = sealer().seal, [plain(size)] * BURST
    measure_burst(benchmark, BURST, lambda frames: [seal(frame) for frame in frames], lambda: (frames,))


@pytest.mark.benchmark(group="seal")
@pytest.mark.parametrize("size", SIZES)
def test_open(benchmark: BenchmarkFixture, size: int) -> None:
    author, opener, frame = sealer(), Opener(KEY), plain(size)
    opener.add(1, PLAYER, SALT)
    open_ = opener.open

    def fresh() -> tuple[object, ...]:
        return ([author.seal(frame) for _ in range(BURST)],)

    measure_burst(benchmark, BURST, lambda datagrams: [open_(data) for data in datagrams], fresh)
    assert open_(author.seal(frame)) == frame


@pytest.mark.benchmark(group="an endpoint's frames, out")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["plain", "sealed"])
def test_frames_out(benchmark: BenchmarkFixture, kind: str, size: int) -> None:
    frames, burst = endpoint(kind), [plain(size)] * BURST
    measure_burst(benchmark, BURST, frames.send, lambda: (burst, 0.0))


@pytest.mark.benchmark(group="an endpoint's frames, in")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["plain", "sealed"])
def test_frames_in(benchmark: BenchmarkFixture, kind: str, size: int) -> None:
    frames, author, frame = endpoint(kind), sealer(), plain(size)

    def fresh() -> tuple[object, ...]:
        burst = [datagram(frame)] * BURST if kind == "plain" else [author.seal(frame) for _ in range(BURST)]
        return burst, 0.0

    measure_burst(benchmark, BURST, frames.received, fresh)
    assert frames.received(*fresh())[0] == [frame] * BURST  # type: ignore[arg-type]
