"""What the relay's parts stand on in their tests: a port without a connection, a connection without a network."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, cast

from softlan.ctrl.framing import FrameDecoder, encode_frame
from softlan.ctrl.messages import Hello, Message, Role, decode, encode
from softlan.net.address import SocketAddress
from softlan.obs.frame_log import FrameLog
from softlan.policy.rates import ClientRates, MemberRates
from softlan.policy.rules import Policy
from softlan.proto.budget import mtu_of_budget
from softlan.proto.mac import format_mac
from softlan.quic.connection import Connection
from softlan.quic.handler import CloseCode
from softlan.relay.limits import RelayLimits, TokenBucket
from softlan.relay.relay import Relay
from softlan.relay.room import Member
from softlan.relay.session import Session
from softlan.relay.settings import RoomBook, RoomSettings

QUIET = FrameLog.off()


def mac(number: int) -> bytes:
    """A client's address."""
    return bytes((2, 0, 0, 0, 0, number))


def taken_in_order(send: Callable[[bytes], bool], burst: list[bytes]) -> int:
    """How many of a burst are sent, one by one, until one is refused."""
    return len(list(itertools.takewhile(send, burst)))


class FakePort:
    """A port of the switch that keeps what it is given; its connection carries datagrams up to `capacity`."""

    def __init__(self, capacity: int = 65535) -> None:
        self.capacity = capacity
        self.datagrams: list[bytes] = []
        self.messages: list[Message] = []
        self.ended: str | None = None

    def send_datagram(self, data: bytes) -> bool:
        if len(data) > self.capacity:
            return False
        self.datagrams.append(data)
        return True

    def send_datagrams(self, burst: list[bytes]) -> int:
        return taken_in_order(self.send_datagram, burst)

    def send_message(self, message: Message) -> None:
        self.messages.append(message)

    def end(self, reason: str) -> None:
        self.ended = reason


def member(
    peer_id: int,
    address: bytes | None,
    *,
    budget: int = 1440,
    port: FakePort | None = None,
    probes: float = 20.0,
    policy: Policy | None = None,
    sealed: bool = False,
) -> Member:
    """A member that joined at 0.0; the gateway if it has no address."""
    return Member(
        peer_id,
        Role.GATEWAY if address is None else Role.CLIENT,
        address,
        budget=budget,
        effective_mtu=min(1418, mtu_of_budget(budget, sealed=sealed)),
        resume=f"resume-{peer_id}",
        software="test 1.0",
        port=port or FakePort(),
        probes=TokenBucket(probes, probes, 0.0),
        rates=(ClientRates if address is not None else MemberRates)(policy or Policy(), 0.0),
        now=0.0,
        seal=salt(peer_id) if sealed else None,
    )


def salt(number: int) -> str:
    """What the hello of one who seals says."""
    return f"{number:032x}"


def sealed(datagram: bytes) -> bytes:
    """A plain datagram as a sealed one of the same frame, as far as a relay can tell."""
    return b"\x11" + datagram[1:18] + bytes(8) + datagram[18:] + bytes(16)


class FakeConnection:
    """A `quic.connection.Connection` of which the test is the other side."""

    def __init__(self, address: SocketAddress = ("192.0.2.1", 40000), *, capacity: int = 1440) -> None:
        self.address = address
        self.capacity = capacity
        self.datagram_limit: int | None = 65535
        self.closed: tuple[CloseCode, str] | None = None
        self.datagrams: list[bytes] = []
        self.messages: list[Message] = []
        """Control messages that left."""
        self.reads = True
        """Whether the peer takes what is sent on the control stream; else it stays here."""
        self.refuses: Exception | None = None
        """What the library raises when something is to be sent."""
        self.unsent_stream_bytes = 0
        self._decoder = FrameDecoder()

    def send_datagram(self, data: bytes) -> bool:
        if self.closed or len(data) > self.capacity or self.refuses:
            return False
        self.datagrams.append(data)
        return True

    def send_datagrams(self, burst: list[bytes]) -> int:
        return taken_in_order(self.send_datagram, burst)

    def limit_packets(self, capacity: int) -> None:
        self.capacity = min(self.capacity, capacity)

    def send_stream(self, data: bytes) -> None:
        if self.closed:
            return
        if self.refuses:
            raise self.refuses
        if not self.reads:
            self.unsent_stream_bytes += len(data)
            return
        for payload in self._decoder.feed(data):
            message = decode(payload)
            assert message is not None
            self.messages.append(message)

    def close(self, code: CloseCode, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    def read(self) -> list[Message]:
        """The messages since the last look."""
        messages, self.messages = self.messages, []
        return messages


class CapturedLog:
    """A structlog logger as far as the relay uses one; `events` are its lines as (event, members)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def _take(self, event: str, **members: Any) -> None:
        self.events.append((event, members))

    debug = info = warning = _take

    def named(self, event: str) -> Iterator[dict[str, Any]]:
        """The members of every line of this event."""
        return (members for name, members in self.events if name == event)


class RelayBench:
    """A relay whose connections are fakes and whose clock is `now`."""

    def __init__(self, book: RoomBook | None = None, **limits: Any) -> None:
        self.now = 1000.0
        self.log = CapturedLog()
        resumes = (f"resume-{number}" for number in range(1, 1 << 20))
        self.relay = Relay(
            RelayLimits(**limits), book or RoomBook(RoomSettings()), QUIET, self.log, new_resume=lambda: next(resumes)
        )

    def connect(self, connection: FakeConnection | None = None, *, handshake: bool = True) -> "Peer":
        """A connection comes in, and its handshake ends."""
        connection = connection or FakeConnection()
        session = self.relay.accept(cast(Connection, connection), self.now)
        if handshake:
            session.handshake_completed(self.now)
        return Peer(self, connection, session)

    def join(self, number: int | None, room: str = "den", *, host: str = "192.0.2.1", **changes: Any) -> "Peer":
        """A client with address `mac(number)` joins, or a gateway; what it was told is still to be read."""
        peer = self.connect(FakeConnection((host, 40000 + (number or 0))))
        peer.hello(number, room, **changes)
        return peer


class Peer:
    """One connection's far side."""

    def __init__(self, bench: RelayBench, connection: FakeConnection, session: Session) -> None:
        self.bench = bench
        self.connection = connection
        self.session = session

    def write(self, data: bytes, *, end: bool = False) -> None:
        """Bytes on the control stream; none arrive once the relay has closed."""
        if self.connection.closed is None:
            self.session.stream_received(data, end, self.bench.now)

    def say(self, message: Message) -> None:
        """A control message."""
        self.write(encode_frame(encode(message)))

    def say_json(self, text: str) -> None:
        """Anything as a control message."""
        self.write(encode_frame(text.encode()))

    def hello(self, number: int | None, room: str = "den", **changes: Any) -> None:
        """A well-formed hello of client `number`, or of a gateway."""
        role = Role.GATEWAY if number is None else Role.CLIENT
        address = None if number is None else format_mac(mac(number))
        members = {"version": 1, "role": role, "room": room, "mac": address, "datagram_budget": 1440}
        self.say(Hello(**members | changes))

    def send(self, *datagrams: bytes) -> None:
        """A burst of datagrams."""
        if self.connection.closed is None:
            self.session.datagrams_received(list(datagrams), self.bench.now)

    def read(self) -> list[Message]:
        """The messages since the last look."""
        return self.connection.read()

    @property
    def peer_id(self) -> int:
        """As the relay knows it."""
        assert self.session.member is not None
        return self.session.member.peer_id
