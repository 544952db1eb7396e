import asyncio
import errno
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw
from tests.device.kinds import is_tcp
from tests.device.namespaces import Namespace, namespaces, unprivileged

from softlan.device import tap_linux
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
    tap.write_burst([datagram(b"hello")])  # so the answers are in the queue that is read first
    for _ in range(3):
        application.sendto(b"x", ("10.9.0.2", 8))
    reads = []
    for count in (2, 1, 0):
        assert len(tap.read_burst(2)) == count
        reads.append(tap.counters.reads)
    assert tap.counters.frames_in == 3
    assert reads == [2, 2 + 3, 2 + 3 + 2], "a queue says that it is empty by one read more"


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


def test_has_room_for_a_flood_while_nobody_reads(player: Namespace, tap: LinuxTap, application: socket.socket) -> None:
    assert " qlen 1000\n" in player.ip("link", "show", "play0")
    tap.write_burst([datagram(b"hello")])
    for index in range(1000):
        application.sendto(index.to_bytes(2, "big"), ("10.9.0.2", 8))
    frames = []
    while burst := tap.read_burst():
        frames += burst
    assert [int.from_bytes(frame[42:44], "big") for frame in frames] == list(range(1000))


def test_closes_all_that_it_opened(player: Namespace) -> None:
    def descriptors() -> int:
        return sum(os.path.realpath(entry) == "/dev/net/tun" for entry in Path("/proc/self/fd").iterdir())

    before = descriptors()
    tap = LinuxTap.open("play0")
    assert descriptors() == before + 2
    refusal("play0")
    assert descriptors() == before + 2
    tap.close()
    assert descriptors() == before


ETHER, V4, V6 = Ether(), IP(), IPv6()


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (ETHER / V4 / TCP(), True),
        (ETHER / V6 / TCP(), True),
        (ETHER / V4 / UDP(), False),
        (ETHER / V6 / UDP(), False),
        (ETHER / V4 / ICMP(), False),
        (ETHER / V6 / IPv6ExtHdrDestOpt() / TCP(), False),
        (ETHER / ARP(), False),
        (ETHER / Dot1Q() / V4 / TCP(), False),
        (Ether(type=0x0800) / Raw(b"\x06" * 9), False),
        (Ether(type=0x86DD) / Raw(b"\x06" * 6), False),
        (Ether(type=0x88B5) / Raw(b"\x06" * 46), False),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else "",
)
def test_knows_tcp_from_the_rest(packet: Packet, expected: bool) -> None:
    assert is_tcp(bytes(packet)) is expected


class Link:
    """Two TAPs in namespaces of their own, and what carries the frames of one to the other, in a thread."""

    def __init__(self, one: LinuxTap, other: LinuxTap) -> None:
        self.damage = 0  # so many more bursts have a segment with a flipped bit
        self._taps = (one, other)
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> "Link":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is carried meanwhile; what the TAPs have is the caller's to read."""
        with self._turn:
            yield

    def _carry(self) -> None:
        one, other = self._taps
        poll = select.poll()
        for tap in self._taps:
            for queue in tap._queues:
                poll.register(queue, select.POLLIN)
        while not self._stop.is_set():
            if not poll.poll(50):
                continue
            with self._turn:
                self._carry_burst(one, other)
                self._carry_burst(other, one)

    def _carry_burst(self, source: LinuxTap, target: LinuxTap) -> None:
        frames = source.read_burst(64)
        for index in range(1, len(frames)):
            # One in a burst: two might cancel each other out in the sum of a run.
            if self.damage and len(frames[index]) == 1414:
                self.damage -= 1
                frames[index] = frames[index][:700] + bytes([frames[index][700] ^ 4]) + frames[index][701:]
                break
        target.write_burst(frames)


class Party:
    """Two players, each with a TAP, with what carries between them, and a connection from the one to the other."""

    def __init__(self, stack: ExitStack, family: int) -> None:
        here, there = stack.enter_context(namespaces(2))
        taps = []
        for number, namespace in enumerate((here, there), 1):
            with namespace.entered():
                Path("/proc/sys/net/ipv4/tcp_slow_start_after_idle").write_text("0")
                tap = LinuxTap.open("play0")
                stack.callback(tap.close)
                tap.configure(bytes((2, 0, 0, 0, 0, number)), 1400)
                tap.bring_up()
            namespace.ip("addr", "add", f"10.9.0.{number}/24", "dev", "play0")
            namespace.ip("addr", "add", f"fd09::{number}/64", "dev", "play0", "nodad")
            taps.append(tap)
        self.address = "10.9.0.2" if family == socket.AF_INET else "fd09::2"
        self.here, self.there = here, there
        self.taps = (taps[0], taps[1])
        self.link = stack.enter_context(Link(taps[0], taps[1]))
        with there.entered():
            server = stack.enter_context(socket.socket(family))
        server.bind(("", 7))
        server.listen()
        server.settimeout(20)
        with here.entered():
            self.client = stack.enter_context(socket.socket(family))
        self.client.settimeout(20)
        self.client.connect((self.address, 7))
        self.connection = stack.enter_context(server.accept()[0])
        self.connection.settimeout(20)

    def stream(self, content: bytes) -> bytes:
        """Send `content` from here to there, and return what arrived."""
        received = bytearray()
        sender = threading.Thread(target=self.client.sendall, args=(content,))
        sender.start()
        while len(received) < len(content) and (chunk := self.connection.recv(1 << 18)):
            received += chunk
        sender.join()
        return bytes(received)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("damage", [0, 20], ids=["clean", "damaged on the way"])
def test_a_stream_is_received_whole_and_in_fewer_writes_than_segments(family: int, damage: int) -> None:
    content = bytes(index * index >> 5 & 0xFF for index in range(1 << 20)) * 4
    with ExitStack() as stack:
        party = Party(stack, family)
        party.link.damage = damage
        assert party.stream(content) == content
        assert party.link.damage == 0
        tap = party.taps[1]
        assert tap.counters.drops == {}
        assert tap.counters.frames_out > 3000
        assert tap.counters.writes < tap.counters.frames_out / 2


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_a_game_does_not_wait_behind_a_stream_nor_the_stream_for_a_flood(family: int) -> None:
    with ExitStack() as stack:
        party = Party(stack, family)
        tap, far = party.taps
        # So much that the kernel then sends a hundred segments without an answer.
        for _ in range(2):
            party.stream(bytes(1 << 20))
        with party.there.entered():
            server = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        server.bind(("", 9))
        server.settimeout(20)
        games = []
        for index in range(8):  # of one or two the kernel might have chosen the right queue by chance
            with party.here.entered():
                game = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            game.settimeout(20)
            game.connect((party.address, 9))
            game.send(bytes([index]))
            server.sendto(*server.recvfrom(100))
            assert game.recv(100) == bytes([index])
            games.append(game)

        with party.link.held():
            party.client.setblocking(False)
            assert party.client.send(bytes(200_000)) > 100 * 1400
            burst = tap.read_burst(16)
            assert [is_tcp(frame) for frame in burst] == [True] * 16, "the stream fills its queue"
            for game in games:
                game.send(b"quick")
            burst = tap.read_burst(16)
            assert [is_tcp(frame) for frame in burst] == [False] * 8
            burst = tap.read_burst(16)
            assert [is_tcp(frame) for frame in burst] == [True] * 16
            for _ in range(10):
                for game in games:
                    game.send(b"flood")
            for kind in (False, True, False, True, False):
                burst = tap.read_burst(20)
                assert [is_tcp(frame) for frame in burst] == [kind] * 20, "they take turns"
                assert tap.express is not kind
        assert far.counters.drops == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give the kernel a program")
def test_what_nobody_has_answered_is_sorted_too(tap: LinuxTap, application: socket.socket) -> None:
    """Discovery, and the first packet of a game: the driver itself would choose by a hash."""
    assert len(tap._queues) == 2, tap.counters.last_error
    for number in range(32):
        application.sendto(b"first", ("10.9.0.2", 9000 + number))
    frames: list[bytes] = []
    tap._read(tap._queues[0], 64, frames)
    assert frames == []
    tap._read(tap._queues[1], 64, frames)
    assert len(frames) == 32


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give the kernel a program")
def test_a_stream_has_a_turn_only_right_after_a_burst_of_others(tap: LinuxTap, application: socket.socket) -> None:
    kinds = []
    with ExitStack() as stack:
        for between in (0, 1):
            application.sendto(b"x", ("10.9.0.2", 8))
            assert [is_tcp(frame) for frame in tap.read_burst()] == [False]
            for _ in range(between):
                assert tap.read_burst() == []
            stream = stack.enter_context(socket.socket())
            stream.setblocking(False)
            stream.connect_ex(("10.9.0.2", 9))
            application.sendto(b"x", ("10.9.0.2", 8))
            kinds.append([[is_tcp(frame) for frame in tap.read_burst()] for _ in range(3)])
    assert kinds == [[[True], [False], []], [[False], [True], []]]


def test_where_the_kernel_takes_no_program_there_is_one_queue(
    player: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(tap_linux, "steer", refuse)
    tap = LinuxTap.open("play0")
    try:
        assert tap.counters.last_error == "play0 has one queue: Operation not permitted"
        tap.configure(MAC, 1400)
        tap.bring_up()
        player.ip("addr", "add", "10.9.0.1/24", "dev", "play0")
        player.ip("neigh", "add", "10.9.0.2", "lladdr", PEER, "dev", "play0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, socket.socket() as stream:
            for _ in range(3):
                sock.sendto(b"x", ("10.9.0.2", 9))
            stream.setblocking(False)
            stream.connect_ex(("10.9.0.2", 9))
            frames = [frame for frame in tap.read_burst() if frame[12:14] == b"\x08\x00"]
        assert [is_tcp(frame) for frame in frames] == [False] * 3 + [True]
        assert tap.write_burst([datagram(b"y")]) == 1
    finally:
        tap.close()
