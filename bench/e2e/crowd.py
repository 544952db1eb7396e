"""Many players in one process: softlan's own sessions over loopback, each with a socket of its own."""

import select
import time
from collections.abc import Callable
from typing import Self

from softlan.client.session import Ended, Identity, Session
from softlan.ctrl.messages import PeerJoined, PeerLeft, Role, Welcome
from softlan.errors import HostError
from softlan.net.address import HostPort, SocketAddress
from softlan.obs.counters import TrafficCounters
from softlan.quic.configuration import client_configuration
from softlan.quic.connection import Connection
from softlan.quic.endpoint import Endpoint
from softlan.quic.open_udp import open_udp
from softlan.quic.trust import Trust

_TICK = 0.1  # seconds between two ticks of a session
_PATIENCE = 20.0  # seconds for all to join


class Player:
    """One of them; it counts what it gets."""

    def __init__(self, identity: Identity, relay: SocketAddress, trust: Trust, now: float) -> None:
        self.mac = identity.mac or b""
        self.joined = False
        self.received = 0
        """Frames from the room."""
        self.endpoint = Endpoint(open_udp(HostPort("127.0.0.1", 0)))
        self.session: Session

        def accept(connection: Connection) -> Session:
            self.session = Session(connection, identity, self, TrafficCounters(), now=now)
            return self.session

        self.endpoint.connect(client_configuration(trust), relay, accept, now)

    # session.Listener

    def session_ready(self, session: Session) -> None:
        """Say hello at once: there is one address only."""
        session.say_hello(time.monotonic())

    def session_joined(self, session: Session, welcome: Welcome) -> None:
        """Count it in."""
        self.joined = True

    def session_ended(self, session: Session, ended: Ended) -> None:
        """Give up: a crowd that melts away measures nothing. Raises HostError."""
        raise HostError("crowd", f"a player was lost: {ended.reason}")

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Somebody came: of no interest."""

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Somebody left: of no interest."""

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """Count a burst."""
        self.received += len(frames)


class Crowd:
    """Players of one relay, and the loop that gives them their turns. As a context manager they leave at the end."""

    def __init__(self, relay: SocketAddress, trust: Trust) -> None:
        self.players: list[Player] = []
        self._relay = relay
        self._trust = trust
        self._epoll = select.epoll()
        self._by_fd: dict[int, Player] = {}
        self._next_tick = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for player in self.players:
            player.session.leave("quit", "the measurement is over")
            player.endpoint.flush(time.monotonic())
            player.endpoint.sock.close()
        self._epoll.close()

    def join(self, count: int, room: str) -> list[Player]:
        """Let `count` players join a room; returns them when all are in. Errors: `HostError`."""
        newcomers = []
        for _ in range(count):
            mac = bytes.fromhex("02005e20") + len(self.players).to_bytes(2)
            identity = Identity(Role.CLIENT, room, mac, "softlan bench")
            player = Player(identity, self._relay, self._trust, time.monotonic())
            newcomers.append(player)
            self.players.append(player)
            self._by_fd[player.endpoint.sock.fileno()] = player
            self._epoll.register(player.endpoint.sock.fileno(), select.EPOLLIN)
            # One after the other: nothing is measured of how a relay takes a rush.
            self.run(_PATIENCE, until=lambda player=player: player.joined)  # type: ignore[misc]
            if not player.joined:
                raise HostError("crowd", f"player {len(self.players)} could not join within {_PATIENCE:g} s")
        return newcomers

    def run(self, seconds: float, *, until: Callable[[], bool] | None = None, wake: float | None = None) -> None:
        """Give everyone turns for so long, or until something is true, or until the time `wake` has come."""
        end = time.monotonic() + seconds if wake is None else wake
        while (now := time.monotonic()) < end and not (until is not None and until()):
            if now >= self._next_tick:
                self._next_tick = now + _TICK
                for player in self.players:
                    player.session.tick(now)
                    player.endpoint.flush(now)
            deadline = min(end, self._next_tick)
            for player in self.players:
                due = player.endpoint.next_deadline()
                if due is not None and due <= now:
                    player.endpoint.run_timers(now)
                elif due is not None:
                    deadline = min(deadline, due)
            for fd, _ in self._epoll.poll(max(0.0, deadline - time.monotonic())):
                self._by_fd[fd].endpoint.receive(time.monotonic())
