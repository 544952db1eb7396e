"""A network without a network: UDP sockets on a wire of one's choice, and QUIC endpoints on them in virtual time.

    world = World(Link(latency=0.02, loss=0.05))
    relay = world.serve()                      # an Endpoint with a Recorder for every connection
    player = world.connect()                   # a Recorder, its handshake under way
    world.run(lambda: player.ready)
    player.connection.send_datagram(b"frame")
    world.run(lambda: relay.peers[0].datagrams == [b"frame"])

A `World` is seeded: the same test has the same losses every time.
"""

import datetime
import functools
import random
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from qh3 import QuicConfiguration
from tests.support.clock import Clock
from tests.support.segments import together

from softlan.net.address import SocketAddress
from softlan.obs.counters import UdpCounters
from softlan.quic.configuration import client_configuration
from softlan.quic.connection import Connection
from softlan.quic.crowd import Caps
from softlan.quic.door import Door
from softlan.quic.endpoint import Endpoint
from softlan.quic.handler import CloseCause, Handler
from softlan.quic.segments import Segments
from softlan.quic.trust import Credentials, Trust, development_credentials, load_trust

RELAY: SocketAddress = ("192.0.2.1", 443)
SERVER_NAME = "lanparty-relay.local"

_HEADERS = {False: 28, True: 48}  # bytes before a UDP payload: IPv4, and IPv6
_BURST = 32  # datagrams that one recvmmsg takes


@dataclass
class Link:
    """What lies between a socket and the middle of the network, in both directions. May be changed at any time."""

    latency: float = 0.01
    """Seconds one way."""
    loss: float = 0.0
    """Share of the datagrams that vanish."""
    duplicate: float = 0.0
    """Share that comes twice."""
    reorder: float = 0.0
    """Share that is overtaken: it takes up to three times as long."""
    mtu: int = 1500
    """Bytes of an IP packet; larger ones vanish."""
    down: bool = False
    """Nothing passes."""


class Wire:
    """All sockets, by the address at which the others see them. `lost` and `oversized` count what vanished."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self.clock = clock
        self.lost = 0
        self.oversized = 0
        self.taps: list[Callable[[bytes, SocketAddress, SocketAddress], bytes | None]] = []
        """Each sees every datagram (data, source, destination), and returns it, another one, or None to lose it."""
        self._random = random.Random(seed)
        self._sockets: dict[SocketAddress, WireSocket] = {}

    def plug(self, sock: "WireSocket", public: SocketAddress) -> None:
        """From now on `sock` has this address for the others."""
        assert public not in self._sockets, f"{public} is taken"
        self._sockets[public] = sock

    def unplug(self, public: SocketAddress) -> None:
        """What is for this address goes nowhere."""
        del self._sockets[public]

    def carry(self, data: bytes, source: "WireSocket", destination: SocketAddress) -> None:
        """Take a datagram out of one socket, and let it arrive at another, or not."""
        public = source.public
        for tap in self.taps:
            tapped = tap(data, public, destination)
            if tapped is None:
                return
            data = tapped
        target = self._sockets.get(destination)
        size = len(data) + _HEADERS[":" in destination[0]]
        delay = self._pass(source.link, size)
        if target is None or delay is None:
            return
        further = self._pass(target.link, size)
        if further is None:
            return
        copies = 1 + (self._random.random() < max(source.link.duplicate, target.link.duplicate))
        for copy in range(copies):
            self.inject(data, public, destination, delay + further * (1 + copy))

    def inject(self, data: bytes, source: SocketAddress, destination: SocketAddress, delay: float = 0.0) -> None:
        """Let a datagram arrive that seems to come from `source`."""

        def arrive() -> None:
            target = self._sockets.get(destination)  # by then it may have moved
            if target is not None:
                target.inbox.append((data, source))

        self.clock.call_at(self.clock.now + delay, arrive)

    def _pass(self, link: Link, size: int) -> float | None:
        """Seconds to cross a link; None if the datagram does not make it."""
        if size > link.mtu:
            self.oversized += 1
            return None
        if link.down or self._random.random() < link.loss:
            self.lost += 1
            return None
        late = self._random.uniform(1, 3) if self._random.random() < link.reorder else 1.0
        return link.latency * late


class WireSocket:
    """A `softlan.quic.udp.UdpSocket` on a `Wire`."""

    express = None
    has_more = False

    def __init__(self, wire: Wire, address: SocketAddress, link: Link) -> None:
        self.counters = UdpCounters()
        self.public = address
        """Where the others see it: as behind a NAT, not necessarily its own address."""
        self.link = link
        self.inbox: deque[tuple[bytes, SocketAddress]] = deque()
        self.sent: list[tuple[int, SocketAddress]] = []
        """Length and destination of every datagram, in order."""
        self._wire = wire
        self._address = address
        wire.plug(self, address)

    @property
    def local_address(self) -> SocketAddress:
        return self._address

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET

    def fileno(self) -> int:
        return -1

    def recv(self) -> list[Segments]:
        inbox, counters = self.inbox, self.counters
        burst = [inbox.popleft() for _ in range(min(_BURST, len(inbox)))]
        if burst:
            counters.recv_calls += 1
            counters.datagrams_in += len(burst)
            counters.bytes_in += sum(len(data) for data, _ in burst)
        return together(burst)

    def send(self, datagrams: Sequence[bytes], address: SocketAddress) -> None:
        counters = self.counters
        counters.send_calls += 1
        for data in datagrams:
            counters.datagrams_out += 1
            counters.bytes_out += len(data)
            self.sent.append((len(data), address))
            self._wire.carry(data, self, address)

    def rebind(self, public: SocketAddress) -> None:
        """The NAT forgets us and gives us another address; what is for the old one is lost."""
        self._wire.unplug(self.public)
        self.public = public
        self._wire.plug(self, public)

    def close(self) -> None:
        self._wire.unplug(self.public)


class Recorder:
    """A `quic.connection.Handler` that remembers everything."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ready = False
        self.stream = b""
        self.stream_ended = False
        self.datagrams: list[bytes] = []
        self.bursts: list[int] = []
        """How many datagrams came at a time."""
        self.end: tuple[CloseCause, str] | None = None
        self.ended_at: float | None = None

    @property
    def sock(self) -> "WireSocket":
        """The socket of this side."""
        endpoint = self.connection._owner
        assert isinstance(endpoint, Endpoint)
        assert isinstance(endpoint.sock, WireSocket)
        return endpoint.sock

    def handshake_completed(self, now: float) -> None:
        self.ready = True

    def stream_received(self, data: bytes, end: bool, now: float) -> None:
        self.stream += data
        self.stream_ended |= end

    def datagrams_received(self, datagrams: list[bytes], now: float) -> None:
        self.datagrams += datagrams
        self.bursts.append(len(datagrams))

    def closed(self, cause: CloseCause, reason: str, now: float) -> None:
        assert self.end is None, "the end is told once"
        self.end, self.ended_at = (cause, reason), now


@dataclass
class Server:
    """An endpoint that accepts, and its connections' handlers in the order of their coming."""

    endpoint: Endpoint
    peers: list[Recorder] = field(default_factory=list)

    @property
    def sock(self) -> WireSocket:
        assert isinstance(self.endpoint.sock, WireSocket)
        return self.endpoint.sock


class World:
    """Endpoints on one wire, and one clock for all."""

    def __init__(self, link: Link | None = None, *, seed: int = 1) -> None:
        self.clock = Clock()
        self.wire = Wire(self.clock, seed)
        self.link = link or Link()
        """Of every socket but the relay's, unless it has its own."""
        self.turns: dict[Endpoint, int] = {}
        """How often each endpoint was woken: by its timers or by datagrams."""
        self._numbers = iter(range(1, 250))

    @property
    def now(self) -> float:
        return self.clock.now

    def sock(self, address: SocketAddress | None = None, link: Link | None = None) -> WireSocket:
        """A socket; without an address at one of its own."""
        return WireSocket(
            self.wire, address or (f"198.51.100.{next(self._numbers)}", 50000), link or replace(self.link)
        )

    def endpoint(self, sock: WireSocket, server: Door | None = None) -> Endpoint:
        """An endpoint that lives in this world."""
        endpoint = Endpoint(sock, server)
        self.turns[endpoint] = 0
        return endpoint

    def serve(
        self, accept: Callable[[Connection], Handler] | None = None, *, link: Link | None = None, **options: int
    ) -> Server:
        """A server at `RELAY`, on a perfect link unless told otherwise; `accept` makes Recorders unless given."""

        def record(connection: Connection) -> Handler:
            peers.append(Recorder(connection))
            return peers[-1]

        peers: list[Recorder] = []
        side = Door(credentials(), accept or record, caps=Caps(**options))
        return Server(self.endpoint(self.sock(RELAY, link or Link(latency=0.0)), side), peers)

    def connect(
        self,
        endpoint: Endpoint | None = None,
        *,
        to: SocketAddress = RELAY,
        link: Link | None = None,
        configuration: QuicConfiguration | None = None,
    ) -> Recorder:
        """Start a handshake with the relay, from an endpoint of its own unless given."""
        endpoint = endpoint or self.endpoint(self.sock(link=link))
        connection = endpoint.connect(configuration or client_configuration(trust()), to, Recorder, self.now)
        assert isinstance(connection.handler, Recorder)
        return connection.handler

    def pair(self, link: Link | None = None) -> tuple[Recorder, Recorder]:
        """A client and its server side, their handshake done."""
        server = self.serve()
        client = self.connect(link=link)
        self.run(lambda: client.ready and bool(server.peers) and server.peers[0].ready)
        return client, server.peers[0]

    def run(self, until: Callable[[], object] | None = None, *, within: float = 10.0) -> None:
        """Let time pass until `until()` is true; without it, for `within` seconds. Fails when it never comes."""
        end = self.now + within
        busy = 0
        while not (until is not None and until()):
            busy += 1
            assert busy < 10_000, "something keeps the world busy without letting time pass"
            if self._happen():
                continue
            upcoming = min((when for when in self._upcoming() if when is not None), default=None)
            if upcoming is None or upcoming > end:
                self.clock.now = end
                assert until is None, f"it did not come about within {within} s"
                return
            if upcoming > self.now:
                busy = 0
            self.clock.now = max(self.now, upcoming)

    def traffic(self, *sides: Recorder, interval: float = 0.005, size: int = 1400) -> None:
        """From now on let every side send a numbered datagram now and again, as long as its connection takes them."""
        numbers = [0] * len(sides)

        def send() -> None:
            for index, side in enumerate(sides):
                if side.connection.send_datagram(numbers[index].to_bytes(4, "big").ljust(size, b".")):
                    numbers[index] += 1

        self.clock.every(interval, send)

    def flows(self, *sides: Recorder) -> None:
        """Make sure that the `traffic` still reaches each side."""
        before = [len(side.datagrams) for side in sides]
        self.run(lambda: all(len(side.datagrams) > n + 20 for side, n in zip(sides, before, strict=True)), within=1)

    def flush(self) -> None:
        """Send what was queued from outside of the endpoints' turns."""
        for endpoint in self.turns:
            endpoint.flush(self.now)

    def _happen(self) -> bool:
        """Everything that happens at this moment; whether anything did."""
        happened = self.clock.run_due()
        self.flush()
        for endpoint in list(self.turns):
            assert isinstance(endpoint.sock, WireSocket)
            deadline = endpoint.next_deadline()
            if endpoint.sock.inbox:
                endpoint.receive(self.now)
            elif deadline is not None and deadline <= self.now:
                endpoint.run_timers(self.now)
            else:
                continue
            self.turns[endpoint] += 1
            happened = True
        return happened

    def _upcoming(self) -> list[float | None]:
        return [self.clock.next_due(), *(endpoint.next_deadline() for endpoint in self.turns)]


@functools.cache
def credentials() -> Credentials:
    """A development certificate."""
    with tempfile.TemporaryDirectory() as directory:
        return development_credentials(Path(directory), SERVER_NAME, datetime.datetime.now(datetime.UTC))


@functools.cache
def trust() -> Trust:
    """What pins it."""
    with tempfile.TemporaryDirectory() as directory:
        pin = Path(directory) / "relay.der"
        pin.write_bytes(credentials().leaf_der)
        return load_trust(pin, SERVER_NAME, datetime.datetime.now(datetime.UTC))
