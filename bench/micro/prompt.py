"""The tests' virtual network, made prompt: what one socket sends is at once in the inbox of the other.

A connection is made in virtual time, as in the tests. From then on nothing is simulated any more, so that a
measured call costs what the endpoint costs, and hardly anything besides.
"""

from tests.support.virtual_room import Member, RoomWorld
from tests.support.wire import Recorder, Wire, WireSocket, World

from bench.micro.frames import plain
from softlan.ctrl.messages import Role
from softlan.net.address import SocketAddress
from softlan.quic.endpoint import Endpoint

_STEP = 0.01  # seconds from one burst to the next: above the delay of an acknowledgement


class PromptWire(Wire):
    """A `Wire` without latency, loss or clock."""

    def carry(self, data: bytes, source: WireSocket, destination: SocketAddress) -> None:
        target = self._sockets.get(destination)
        if target is not None:
            target.inbox.append((data, source.public))


class Pair:
    """Two connected endpoints; bursts go from the client to the server."""

    def __init__(self) -> None:
        self._world = World()
        self.client, self.server = self._world.pair()
        make_prompt(self._world)
        self.now = self._world.now
        self.sender, self.receiver = _endpoint(self.client), _endpoint(self.server)

    def fill(self, burst: int, size: int) -> list[bytes]:
        """A burst of datagrams."""
        return [plain(size)] * burst

    def settle(self) -> None:
        """Let time pass, and everything that is under way arrive."""
        self.now += _STEP
        settle(self.now, self.sender, self.receiver)
        for side in (self.client, self.server):
            side.datagrams.clear()
            side.bursts.clear()
            side.sock.sent.clear()

    def send(self, datagrams: list[bytes]) -> None:
        """What is measured of sending: queue all, flush once."""
        self.client.connection.send_datagrams(datagrams)
        self.sender.flush(self.now)

    def receive(self) -> None:
        """What is measured of receiving: as many turns as it takes."""
        drain(self.receiver, self.server.sock, self.now)


class Party:
    """A relay with a player and a gateway; bursts go from the player to the LAN."""

    def __init__(self) -> None:
        self._world = RoomWorld()
        self.gateway = self._world.join(Role.GATEWAY)
        self.player = self._world.join()
        # The gateway has been heard, so that its LAN's address is known at the relay.
        self.gateway.session.send_frames([plain(100, destination=self.player.mac, source=LAN_HOST)])
        self._world.run(lambda: self.player.frames)
        make_prompt(self._world)
        self.now = self._world.now
        self.relay = self._world.server.endpoint
        self._ends = [_endpoint_of(member) for member in (self.gateway, self.player)]

    def offer(self, frames: list[bytes]) -> None:
        """Let time pass; the player has sent, and the gateway has acknowledged what came before."""
        self.now += _STEP
        self.gateway.frames.clear()
        settle(self.now, self.relay, *self._ends)
        for member in (self.gateway, self.player):
            member.sock.sent.clear()
        self._world.server.sock.sent.clear()
        self.gateway.frames.clear()
        self.player.session.send_frames(frames)
        self._ends[1].flush(self.now)

    def turn(self) -> None:
        """What is measured: the relay reads, decides, sends."""
        drain(self.relay, self._world.server.sock, self.now)

    def arrived(self) -> list[bytes]:
        """What the gateway gets of it."""
        drain(self._ends[0], self.gateway.sock, self.now)
        return self.gateway.frames


LAN_HOST = bytes.fromhex("001b2101bb01")


def make_prompt(world: World) -> None:
    """From now on, nothing takes time."""
    world.wire.__class__ = PromptWire


def drain(endpoint: Endpoint, sock: WireSocket, now: float) -> None:
    """Give an endpoint turns until its socket is empty."""
    while sock.inbox:
        endpoint.receive(now)


def settle(now: float, *endpoints: Endpoint) -> None:
    """Let the endpoints read and send until there is nothing more, and nothing is owed."""
    for endpoint in endpoints * 3:
        assert isinstance(endpoint.sock, WireSocket)
        drain(endpoint, endpoint.sock, now)
        endpoint.run_timers(now)


def _endpoint(side: Recorder) -> Endpoint:
    owner = side.connection._owner
    assert isinstance(owner, Endpoint)
    return owner


def _endpoint_of(member: Member) -> Endpoint:
    owner = member.session.connection._owner
    assert isinstance(owner, Endpoint)
    return owner
