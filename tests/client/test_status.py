"""The status passes everything on, sees broadcasts, and says only what is new."""

import asyncio
import io
import ipaddress
import json
from types import SimpleNamespace
from typing import Any

import pytest

from softlan.client.status import Status, StatusOptions
from softlan.device.base import DeviceCounters
from softlan.errors import HostError
from softlan.host.base import IPInterface
from softlan.obs.counters import TrafficCounters
from softlan.obs.logging import configure

BROADCAST = b"\xff" * 6 + bytes(54)
GROUP = b"\x01\x00\x5e" + bytes(57)
UNICAST = b"\x02" + bytes(59)


class FakePlayer:
    """A `LocalSide` that writes down what it is told."""

    def __init__(self) -> None:
        self.interface, self.interface_id = "Ethernet 7", "{7}"
        self.mtu: int | None = 1418
        self.pin: str | None = "192.0.2.7/32 via 10.9.0.1 dev eth0"
        self.needs_pin = True
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("joined", "lost", "peer_joined", "peer_left", "frames_received", "tick"):
            return lambda *args: self.told.append((name, args))
        raise AttributeError(name)


class FakeBook:
    """An `AddressBook`."""

    def __init__(self) -> None:
        self.found: list[IPInterface] = []
        self.asked: list[str] = []
        self.is_broken = False

    def addresses(self, interface: str) -> list[IPInterface]:
        self.asked.append(interface)
        if self.is_broken:
            raise HostError("addresses", "not now")
        return self.found


class Rig:
    """A status with fakes around it, and a log that can be read."""

    def __init__(self) -> None:
        self.now = 100.0
        self.player, self.book = FakePlayer(), FakeBook()
        self.counters, self.device = TrafficCounters(), DeviceCounters()
        self.lines: list[str] = []
        self._log = io.StringIO()
        configure("json", "debug", self._log)
        self.status = Status(self.player, self.book, self.counters, self.device, room="DEN", clock=lambda: self.now)
        self.session = SimpleNamespace(
            connection=SimpleNamespace(address=("::ffff:192.0.2.7", 443, 0, 0)),
            gateway_present=True,
            rtt_ms=23.0,
            path=SimpleNamespace(budget=1440),
        )
        self.tunnel: Any = SimpleNamespace(session=self.session)
        self.status.watch(self.tunnel)

    def log(self) -> list[dict[str, Any]]:
        """What was logged since the last call."""
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        self._log.truncate(0)
        self._log.seek(0)
        return lines

    def join(self) -> None:
        self.status.joined(SimpleNamespace(), ("192.0.2.7", 443))  # type: ignore[arg-type]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_everything_is_passed_on(rig: Rig) -> None:
    welcome, relay, peer, left = object(), ("192.0.2.7", 443), object(), object()
    rig.status.joined(welcome, relay)  # type: ignore[arg-type]
    rig.status.peer_joined(peer, 1.0)  # type: ignore[arg-type]
    rig.status.peer_left(peer, left, 2.0)  # type: ignore[arg-type]
    rig.status.frames_received([UNICAST], 3.0)
    rig.status.tick(4.0)
    rig.status.lost()
    assert rig.player.told == [
        ("joined", (welcome, relay)),
        ("peer_joined", (peer, 1.0)),
        ("peer_left", (peer, left, 2.0)),
        ("frames_received", ([UNICAST], 3.0)),
        ("tick", (4.0,)),
        ("lost", ()),
    ]


def test_frames_that_go_out_are_passed_on_as_they_are(rig: Rig) -> None:
    sent: list[tuple[list[bytes], bool]] = []
    send = rig.status.outgoing(lambda *burst: sent.append(burst))
    bursts = [([UNICAST], True), ([BROADCAST, UNICAST], False), ([b""], True), ([], False)]
    for burst in bursts:
        send(*burst)
    assert sent == bursts


@pytest.mark.parametrize(("frame", "is_seen"), [(BROADCAST, True), (GROUP, False), (UNICAST, False), (b"", False)])
def test_broadcasts_are_seen_either_way(rig: Rig, frame: bytes, is_seen: bool) -> None:
    send = rig.status.outgoing(lambda *_: None)
    send([UNICAST, frame], True)
    rig.status.frames_received([UNICAST, frame], rig.now)
    rig.status.look(rig.now)
    later = rig.status.snapshot(rig.now + 3.0)
    assert (later.broadcast_in, later.broadcast_out) == ((3.0, 3.0) if is_seen else (None, None))


def test_a_broadcast_is_of_the_second_in_which_it_passed(rig: Rig) -> None:
    rig.status.frames_received([BROADCAST], rig.now)
    rig.status.look(100.0)
    rig.status.look(101.0)
    assert rig.status.snapshot(101.0).broadcast_in == 1.0
    rig.status.frames_received([BROADCAST], rig.now)
    rig.status.look(102.0)
    assert rig.status.snapshot(102.0).broadcast_in == 0.0


def test_the_snapshot_is_of_session_player_and_counters(rig: Rig) -> None:
    rig.join()
    rig.book.found = [ipaddress.ip_interface("10.0.0.5/24")]
    rig.counters.frames_in = 5
    rig.status.look(rig.now)
    snapshot = rig.status.snapshot(rig.now)
    assert (snapshot.relay, snapshot.gateway, snapshot.rtt_ms, snapshot.budget) == ("192.0.2.7", True, 23.0, 1440)
    assert (snapshot.interface, snapshot.mtu, snapshot.pin) == ("Ethernet 7", 1418, rig.player.pin)
    assert (snapshot.addresses, snapshot.counters["frames_in"]) == (("10.0.0.5/24",), 5)
    assert rig.book.asked == ["{7}"]


def test_a_session_that_is_not_in_the_room_is_no_relay_in_reach(rig: Rig) -> None:
    assert rig.status.snapshot(rig.now).was_joined is False
    rig.join()
    assert rig.status.snapshot(rig.now).relay == "192.0.2.7"
    rig.status.lost()
    assert rig.status.snapshot(rig.now).relay is None
    assert rig.status.snapshot(rig.now).was_joined is True


def test_only_news_are_logged_and_bad_ones_as_warnings(rig: Rig) -> None:
    rig.join()
    rig.status.look(100.0)
    first = rig.log()
    assert [line["event"] for line in first] == [
        "relay",
        "gateway",
        "route",
        "path",
        "interface",
        "address",
        "broadcast",
        "status",
    ]
    assert first[-1]["level"] == "info"
    rig.status.look(105.0)
    (quiet,) = rig.log()
    assert (quiet["event"], quiet["level"], quiet["rtt_ms"]) == ("status", "debug", 23.0)
    rig.session.gateway_present = False
    rig.status.look(110.0)
    gateway, figures = rig.log()
    assert (gateway["event"], gateway["level"], figures["level"]) == ("gateway", "warning", "info")


def test_the_figures_say_which_way_broadcasts_went(rig: Rig) -> None:
    rig.status.look(100.0)
    assert rig.log()[-1]["broadcasts"] is None
    rig.join()
    rig.status.look(105.0)
    assert rig.log()[-1]["broadcasts"] == "none"
    rig.status.frames_received([BROADCAST], rig.now)
    rig.status.look(110.0)
    assert rig.log()[-1]["broadcasts"] == "in"
    rig.status.outgoing(lambda *_: None)([BROADCAST], False)
    rig.status.look(115.0)
    assert rig.log()[-1]["broadcasts"] == "both ways"


def test_addresses_that_come_later_are_seen(rig: Rig) -> None:
    rig.join()
    rig.status.look(100.0)
    rig.log()
    rig.book.found = [ipaddress.ip_interface("10.0.0.5/24")]
    rig.status.look(105.0)
    assert [line.get("says") for line in rig.log()] == ["Ethernet 7 has 10.0.0.5/24.", None]
    rig.book.is_broken = True
    rig.status.look(110.0)
    assert rig.status.snapshot(110.0).addresses == ("10.0.0.5/24",)


def test_an_interface_that_is_not_up_is_not_asked_for_addresses(rig: Rig) -> None:
    rig.player.mtu = None
    rig.status.look(100.0)
    assert rig.book.asked == []


async def test_the_line_comes_each_second_and_the_log_each_interval(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softlan.client.status.LOOK", 0.001)
    seen = asyncio.Event()

    def show(line: str) -> None:
        rig.lines.append(line)
        rig.now += 1.0
        if len(rig.lines) == 8:
            seen.set()

    rig.join()
    rig.status.start(asyncio.get_running_loop(), StatusOptions(4.0, show))
    async with asyncio.timeout(10):
        await seen.wait()
    rig.status.stop()
    count = len(rig.lines)
    assert rig.lines[0] == (
        "DEN | relay 23 ms | budget 1440 | LAN | route pinned | Ethernet 7 no address yet | broadcasts none"
        " | in 0 out 0"
    )
    assert sum(line["event"] == "status" for line in rig.log()) == 2
    await asyncio.sleep(0)
    assert len(rig.lines) == count
