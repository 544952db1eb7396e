"""The gateway's side of the tunnel: the wired LAN, with its switches kept aware of who is behind us."""

import asyncio

from softlan.client.bridge import Bridge
from softlan.ctrl.messages import PeerJoined, PeerLeft, Welcome
from softlan.gateway.cam import CamRefresh
from softlan.gateway.second_look import SecondLook
from softlan.net.address import SocketAddress
from softlan.obs.logging import get_logger

MAX_SILENT = 1024
"""Players that are remembered until they speak; of others, what they say is enough as well."""

_SOURCE = slice(6, 12)


class Lan:
    """A `FrameSink` on a wired interface."""

    def __init__(self, bridge: Bridge, cam: CamRefresh, look: SecondLook, *, sealed: bool = False) -> None:
        """`sealed`: in such a room, who is there is the relay's word alone, and only frames prove it.

        So a player is shown to the switches once it has said something. Otherwise a relay could name the MAC of the
        LAN's router, and draw everything that is for it to us.
        """
        self._bridge = bridge
        self._cam = cam
        self._look = look
        self._sealed = sealed
        self._silent: dict[bytes, int] = {}  # MACs that were announced and have proved nothing yet, and their peer id
        self._started = False
        self._log = get_logger("gateway")

    def joined(self, welcome: Welcome, relay: SocketAddress) -> None:
        """Bridge from now on."""
        self._look.joined(welcome.room, welcome.room_mtu)
        if not self._started:
            self._started = True
            self._bridge.forget_waiting()  # captured since the interface was opened, which may be long ago
            self._bridge.start(asyncio.get_running_loop())
            self._log.info("bridging", interface=self._bridge.device.name, room=welcome.room)

    def lost(self) -> None:
        """The remote players are not behind us for now: let the switches forget them."""
        self._cam.clear()
        self._silent.clear()

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Show the newcomer's MAC to the LAN, even before it sends anything, unless the room is sealed."""
        mac = peer.mac_bytes
        if mac is None:
            return
        early = self._look.peer_joined(peer.peer_id, mac)
        if self._sealed:
            self._forget(peer.peer_id)
            self._silent[mac] = peer.peer_id
            if len(self._silent) > MAX_SILENT:
                del self._silent[next(iter(self._silent))]
        else:
            self._cam.joined(peer.peer_id, mac, now)
            self.tick(now)
        if early:
            self.frames_received(early, now)

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Show it no more."""
        self._look.peer_left(left.peer_id)
        self._cam.left(left.peer_id)
        self._forget(left.peer_id)

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """From the room onto the wire, as far as the policy lets them."""
        frames = self._look.passed(frames, now)
        seen = self._cam.seen
        for source in {frame[_SOURCE] for frame in frames}:
            if self._silent and (peer_id := self._silent.pop(source, None)) is not None:
                self._cam.joined(peer_id, source, now)
            seen(source, now)
        self._bridge.deliver(frames)

    def tick(self, now: float) -> None:
        """Refresh what is due."""
        self._look.tick(now)
        self._bridge.report(now)
        deadline = self._cam.next_deadline()
        if deadline is not None and now >= deadline:
            self._bridge.deliver(self._cam.due(now))

    def close(self) -> None:
        """Let go of the interface."""
        self._bridge.stop()
        self._bridge.device.close()

    def _forget(self, peer_id: int) -> None:
        """Of those that proved nothing."""
        if peer_id in self._silent.values():
            self._silent = {mac: known for mac, known in self._silent.items() if known != peer_id}
