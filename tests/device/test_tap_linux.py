import asyncio
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from tests.device.namespaces import Namespace, namespaces, unprivileged

from softlan.device.base import DeviceGone, TapDevice
from softlan.device.tap_linux import LinuxTap
from softlan.errors import HostError
from softlan.proto.drop import DropReason

pytestmark = pytest.mark.netns

MAC = bytes.fromhex("02c0ffee0001")
PEER = "02:c0:ff:ee:00:02"


@pytest.fixture
def player() -> Iterator[Namespace]:
    with namespaces(1) as (namespace,), namespace.entered():
        yield namespace


@pytest.fixture
def tap(player: Namespace) -> Iterator[LinuxTap]:
    """A TAP that is up, 10.9.0.1, with 10.9.0.2 known as its neighbour."""
    tap = LinuxTap.open("play0")
    try:
        player.ip("link", "set", "play0", "addrgenmode", "none")  # no IPv6 chatter between the frames
        tap.configure(MAC, 1400)
        tap.bring_up()
        player.ip("addr", "add", "10.9.0.1/24", "dev", "play0")
        player.ip("neigh", "add", "10.9.0.2", "lladdr", PEER, "dev", "play0")
        yield tap
    finally:
        tap.close()


@pytest.fixture
def application(tap: LinuxTap) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("10.9.0.1", 7))
        sock.setblocking(False)
        yield sock


def datagram(payload: bytes) -> bytes:
    packet = Ether(src=PEER, dst=MAC.hex(":")) / IP(src="10.9.0.2", dst="10.9.0.1") / UDP(sport=8, dport=7)
    return bytes(packet / Raw(payload))


def links(namespace: Namespace) -> list[str]:
    return [line.split()[0].split("@")[0] for line in namespace.ip("-br", "link").splitlines()]


def refusal(name: str) -> str:
    with pytest.raises(HostError) as caught:
        LinuxTap.open(name)
    assert caught.value.stage == "create interface"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_exists_from_open_to_close(player: Namespace) -> None:
    tap: TapDevice = LinuxTap.open("play0")
    assert "play0" in links(player)
    tap.close()
    assert "play0" not in links(player)
    tap.close()


def test_has_the_address_and_mtu_that_it_was_given(player: Namespace, tap: LinuxTap) -> None:
    shown = player.ip("link", "show", "play0")
    assert f"link/ether {MAC.hex(':')} " in shown
    assert " mtu 1400 " in shown
    assert ",UP" in shown
    tap.set_mtu(9000)
    assert " mtu 9000 " in player.ip("link", "show", "play0")


def test_takes_its_address_back_when_someone_changed_it_before_it_came_up(player: Namespace) -> None:
    tap = LinuxTap.open("play0")
    try:
        tap.configure(MAC, 1400)
        player.ip("link", "set", "play0", "address", PEER)
        tap.bring_up()
        assert f"link/ether {MAC.hex(':')} " in player.ip("link", "show", "play0")
    finally:
        tap.close()


@pytest.mark.parametrize("mtus", [(1400,), (600, 1400), (1400, 600, 1300)])
def test_no_router_of_the_lan_becomes_the_default_route(player: Namespace, mtus: tuple[int, ...]) -> None:
    tap = LinuxTap.open("play0")
    try:
        tap.configure(MAC, mtus[0])
        tap.bring_up()
        for mtu in mtus[1:]:
            tap.set_mtu(mtu)
        assert Path("/proc/sys/net/ipv6/conf/play0/accept_ra_defrtr").read_text() == "0\n"
        assert Path("/proc/sys/net/ipv6/conf/default/accept_ra_defrtr").read_text() == "1\n"
    finally:
        tap.close()


def test_an_mtu_that_the_kernel_refuses_is_said(tap: LinuxTap) -> None:
    with pytest.raises(HostError, match=r"^play0: cannot set the MTU to 70000: Invalid argument$"):
        tap.set_mtu(70000)


async def test_frames_that_the_machine_sends_are_read_whole(tap: LinuxTap, application: socket.socket) -> None:
    frames: list[bytes] = []
    done = asyncio.Event()

    def read() -> None:
        frames.extend(tap.read_burst(2))
        if len(frames) == 5:
            done.set()

    tap.attach(asyncio.get_running_loop(), read)
    for index in range(5):
        application.sendto(bytes([index]) * 1372, ("10.9.0.2", 8))
    await asyncio.wait_for(done.wait(), 5)
    packets = [Ether(frame) for frame in frames]
    assert [bytes(packet[UDP].payload) for packet in packets] == [bytes([index]) * 1372 for index in range(5)]
    assert {(packet.src, packet.dst, len(packet)) for packet in packets} == {(MAC.hex(":"), PEER, 1414)}
    assert tap.counters.frames_in == 5
    assert tap.counters.reads >= 5


def test_a_burst_ends_at_the_limit_or_when_nothing_is_left(tap: LinuxTap, application: socket.socket) -> None:
    for _ in range(3):
        application.sendto(b"x", ("10.9.0.2", 8))
    assert len(tap.read_burst(2)) == 2
    assert len(tap.read_burst(2)) == 1
    assert tap.read_burst(2) == []
    assert (tap.counters.frames_in, tap.counters.reads) == (3, 5)


async def test_the_machine_receives_what_is_written(tap: LinuxTap, application: socket.socket) -> None:
    assert tap.write_burst([datagram(b"one"), datagram(b"two")]) == 2
    loop = asyncio.get_running_loop()
    received = [await asyncio.wait_for(loop.sock_recv(application, 100), 5) for _ in range(2)]
    assert received == [b"one", b"two"]
    assert (tap.counters.frames_out, tap.counters.writes, tap.counters.drops) == (2, 2, {})


async def test_frames_that_cannot_be_written_are_counted_and_the_rest_goes_on(
    tap: LinuxTap, application: socket.socket
) -> None:
    assert tap.write_burst([bytes(13), datagram(b"one")]) == 1
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(application, 100), 5) == b"one"
    assert tap.counters.drops == {DropReason.DEVICE_ERROR: 1}
    assert tap.counters.last_error == "write on play0: Invalid argument"


def test_while_it_is_down_frames_are_counted_as_lost(player: Namespace, tap: LinuxTap) -> None:
    player.ip("link", "set", "play0", "down")
    assert tap.write_burst([datagram(b"one"), datagram(b"two")]) == 0
    assert tap.counters.drops == {DropReason.DEVICE_ERROR: 2}
    assert tap.read_burst() == []
    player.ip("link", "set", "play0", "up")
    assert tap.write_burst([datagram(b"three")]) == 1


async def test_says_when_someone_deleted_it(player: Namespace, tap: LinuxTap) -> None:
    gone = asyncio.get_running_loop().create_future()

    def read() -> None:
        try:
            tap.read_burst()
        except DeviceGone as error:
            tap.detach()
            gone.set_result(str(error))

    tap.attach(asyncio.get_running_loop(), read)
    player.ip("link", "del", "play0")
    assert await asyncio.wait_for(gone, 5) == "the interface play0 is gone"
    with pytest.raises(DeviceGone):
        tap.write_burst([datagram(b"one")])
    with pytest.raises(HostError, match="No such device"):
        tap.set_mtu(1300)


async def test_may_be_closed_while_attached(player: Namespace) -> None:
    loop = asyncio.get_running_loop()
    first = LinuxTap.open("play0")
    first.attach(loop, lambda: None)
    first.close()
    second = LinuxTap.open("play0")  # with the same descriptor
    try:
        called = asyncio.Event()
        second.attach(loop, called.set)
        player.ip("link", "del", "play0")
        await asyncio.wait_for(called.wait(), 5)
    finally:
        second.close()


def test_a_name_that_is_taken_is_left_to_its_owner(player: Namespace, tap: LinuxTap) -> None:
    player.ip("tuntap", "add", "name", "other0", "mode", "tap")  # persistent, and nobody has it open
    for name in ("play0", "other0", "lo"):
        assert refusal(name) == f"{name} exists already: choose another name, or remove that interface"
    assert "other0" in links(player)


@pytest.mark.parametrize("name", ["", "a-name-too-long-", "a b", "../x", "tap%d"])
def test_an_impossible_name_is_refused(player: Namespace, name: str) -> None:
    assert refusal(name).startswith(f"{name!r} cannot be an interface's name: ")
    assert links(player) == ["lo"]


def test_says_what_privilege_it_needs(player: Namespace) -> None:
    with unprivileged():
        assert refusal("play0") == "making play0 needs CAP_NET_ADMIN; run it as root, or with it"


def test_says_what_privilege_setting_it_up_needs(tap: LinuxTap) -> None:
    with unprivileged(), pytest.raises(HostError, match=r"^play0: cannot set the MTU .*CAP_NET_ADMIN$"):
        tap.set_mtu(1300)


def test_the_queue_is_short_for_a_stream_and_long_for_small_frames(
    player: Namespace, tap: LinuxTap, application: socket.socket
) -> None:
    def send_bursts(length: int) -> None:
        for _ in range(30):
            for _ in range(4):
                application.sendto(bytes(length), ("10.9.0.2", 8))
            assert len(tap.read_burst(4)) == 4

    assert " qlen 1000" in player.ip("link", "show", "play0")
    send_bursts(1372)
    assert " qlen 100\n" in player.ip("link", "show", "play0")
    send_bursts(100)
    assert " qlen 1000" in player.ip("link", "show", "play0")


class Link:
    """Two TAPs in namespaces of their own, and what carries the frames of one to the other, in a thread."""

    def __init__(self, one: LinuxTap, other: LinuxTap) -> None:
        self.damage = 0  # so many more bursts have a segment with a flipped bit
        self._taps = (one, other)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> "Link":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _carry(self) -> None:
        one, other = self._taps
        poll = select.poll()
        for tap in self._taps:
            poll.register(tap._fd, select.POLLIN)
        while not self._stop.is_set():
            if not poll.poll(50):
                continue
            for source, target in ((one, other), (other, one)):
                frames = source.read_burst(64)
                for index in range(1, len(frames)):
                    # One in a burst: two might cancel each other out in the sum of a run.
                    if self.damage and len(frames[index]) == 1414:
                        self.damage -= 1
                        frames[index] = frames[index][:700] + bytes([frames[index][700] ^ 4]) + frames[index][701:]
                        break
                target.write_burst(frames)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("damage", [0, 20], ids=["clean", "damaged on the way"])
def test_a_stream_is_received_whole_and_in_fewer_writes_than_segments(family: int, damage: int) -> None:
    content = bytes(index * index >> 5 & 0xFF for index in range(1 << 20)) * 4
    received = bytearray()
    with namespaces(2) as (here, there), ExitStack() as stack:
        taps = []
        for number, namespace in enumerate((here, there), 1):
            with namespace.entered():
                tap = LinuxTap.open("play0")
                stack.callback(tap.close)
                tap.configure(bytes((2, 0, 0, 0, 0, number)), 1400)
                tap.bring_up()
            namespace.ip("addr", "add", f"10.9.0.{number}/24", "dev", "play0")
            namespace.ip("addr", "add", f"fd09::{number}/64", "dev", "play0", "nodad")
            taps.append(tap)
        link = stack.enter_context(Link(taps[0], taps[1]))
        with there.entered():
            server = stack.enter_context(socket.socket(family))
            server.bind(("", 7))
            server.listen()
            server.settimeout(20)
        with here.entered():
            client = stack.enter_context(socket.socket(family))
        client.settimeout(20)
        client.connect(("10.9.0.2" if family == socket.AF_INET else "fd09::2", 7))
        link.damage = damage
        sender = threading.Thread(target=lambda: (client.sendall(content), client.shutdown(socket.SHUT_WR)))
        sender.start()
        connection = stack.enter_context(server.accept()[0])
        connection.settimeout(20)
        while chunk := connection.recv(1 << 18):
            received += chunk
        sender.join()
        assert received == content
        assert link.damage == 0
        assert taps[1].counters.drops == {}
        assert taps[1].counters.frames_out > 3000
        assert taps[1].counters.writes < taps[1].counters.frames_out / 2
