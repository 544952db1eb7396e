"""Every frame of a wired interface, and frames onto its wire: Linux's packet socket (packet(7)).

The machine's own traffic on that interface stays out: what it sends is not captured, nor what is sent to its own
address, and what is sent here goes to the wire only. So the tunnel's players reach the LAN behind the card, but not
this machine by it; and a machine with one card for both does not carry the relay's own packets to the relay.

There are two queues towards the tunnel, TCP's and one for all else, so that a game does not wait behind a download:
neither here, nor in a burst, which is all of one queue.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from softlan.device.base import DeviceGone
from softlan.device.capture_filter import capture_filter
from softlan.device.packet_out import GONE, PacketOut, exists
from softlan.device.packet_ring import PacketRing
from softlan.device.wired import check_wired
from softlan.errors import HostError
from softlan.net.classic_bpf import attach
from softlan.net.loop import add_express_reader
from softlan.proto.drop import DropReason

_STAGE = "open interface"

# linux/if_packet.h; Python's socket module has only a few of these.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_STATISTICS = 6
_PACKET_IGNORE_OUTGOING = 23
_PACKET_MR_PROMISC = 1
_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26

_STATISTICS = struct.Struct("=II")  # tp_packets, tp_drops; read and reset

_LOOK = 1.0
"""Seconds between two looks at what the kernel lost."""


class PacketSocket:
    """A `FrameDevice` on a wired interface of this machine, promiscuous for as long as it is open."""

    __slots__ = (
        "_captures",
        "_end",
        "_index",
        "_kernel_drops",
        "_loop",
        "_out",
        "_rings",
        "_taken",
        "_taken_at_look",
        "_timer",
        "counters",
        "express",
        "name",
    )

    def __init__(self, name: str, index: int, captures: Sequence[socket.socket], out: PacketOut) -> None:
        """For `open`, which prepares them; TCP's is the last of `captures`. Raises OSError."""
        self.name = name
        self.counters = out.counters
        self._index = index
        self._captures = captures
        self._rings = [PacketRing(capture, self.counters) for capture in captures]
        self.express = False
        self._out = out
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end: DeviceGone | None = None
        self._kernel_drops = 0
        self._taken = [0] * len(captures)
        self._taken_at_look = self._taken[:]

    @classmethod
    def open(cls, interface: str, sysfs: Path = Path("/sys")) -> "PacketSocket":
        """Capture on `interface`. Raises HostError when it is not wired Ethernet, or not for us to use."""
        check_wired(interface, sysfs)
        with ExitStack() as stack:
            try:
                # Protocol 0 receives nothing, so no other interface's frames are queued before the bind.
                captures = [stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) for _ in range(2)]
            except PermissionError:
                raise HostError(
                    _STAGE,
                    f"capturing on {interface} needs CAP_NET_RAW; run it as root, or with that capability",
                ) from None
            try:
                index = socket.if_nametoindex(interface)
                for capture, tcp in zip(captures, (False, True), strict=True):
                    _prepare(capture, capture_filter(tcp=tcp))
                membership = struct.pack("=iHH8x", index, _PACKET_MR_PROMISC, 0)
                captures[0].setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
                out = PacketOut.open(interface, index)
                stack.callback(out.close)
                device = cls(interface, index, captures, out)
                stack.callback(device.close)
                for capture in captures:
                    capture.bind((interface, _ETH_P_ALL))
            except OSError as error:
                raise HostError(_STAGE, f"cannot capture on {interface}: {error.strerror or error}") from error
            stack.pop_all()
            return device

    def attach(self, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], object]) -> None:
        """Call `on_readable` from `loop` while frames are waiting."""
        self.detach()
        self._loop = loop
        rest, tcp = self._captures
        add_express_reader(loop, rest.fileno(), on_readable)
        loop.add_reader(tcp.fileno(), on_readable)
        self._timer = loop.call_later(_LOOK, self._look)

    def detach(self) -> None:
        """Stop calling."""
        if self._loop is not None:
            for capture in self._captures:
                self._loop.remove_reader(capture.fileno())
            self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def read_burst(self, limit: int = 64) -> list[bytes]:
        """Up to `limit` of the frames that are waiting in one ring; see `PacketRing`.

        The others' come before TCP's. When both rings have frames, they take turns. `counters.reads` counts the
        bursts: the rings are memory, so reading them takes no system call.
        """
        rings = self._rings
        which = 1 if self.express else 0
        frames = rings[which].read(limit)
        if not frames:
            which = 1 - which
            frames = rings[which].read(limit)
        counters = self.counters
        counters.reads += 1
        if frames:
            self.express = which == 0
            counters.frames_in += len(frames)
            self._taken[which] += len(frames)
        else:
            self.express = False
            if self._end is not None:
                raise self._end
            for ring in self._rings:
                failure = ring.failure()
                if failure is not None:
                    self._receive_failed(failure)
        return frames

    def write_burst(self, frames: Sequence[bytes]) -> int:
        """Send `frames`, each complete; returns how many the interface's queue took; see `PacketOut`."""
        return self._out.send(frames)

    def kernel_drops(self) -> int:
        """Frames that found no room in their ring, since the start; these are counted as drops, too."""
        for capture in self._captures:
            self._count_drops(capture)
        return self._kernel_drops

    def close(self) -> None:
        """Detach and close; the kernel ends the promiscuous membership with the socket."""
        self.detach()
        for ring, capture in zip(self._rings, self._captures, strict=True):
            ring.close()
            capture.close()
        self._out.close()

    def _look(self) -> None:
        """Count what the kernel lost, see what the interface carries now, and help a ring that has stuck.

        A super-frame that no virtio header can describe (SCTP's, say) is lost in Linux, and so is all that follows:
        `tpacket_rcv` leaves the slot marked in `rx_owner_map` (seen with 6.18). So when frames are lost though there
        is room, and none has come since the last look, the ring is made anew. Each by itself: the other may be busy.
        """
        assert self._loop is not None
        self._timer = self._loop.call_later(_LOOK, self._look)
        self._out.look()
        idle = [taken == before for taken, before in zip(self._taken, self._taken_at_look, strict=True)]
        self._taken_at_look = self._taken[:]
        for ring, capture, is_idle in zip(self._rings, self._captures, idle, strict=True):
            if self._count_drops(capture) and is_idle and ring.is_empty():
                self.counters.last_error = f"receive on {self.name}: the ring was stuck, and made anew"
                try:
                    ring.renew()
                except OSError as error:
                    self._end = DeviceGone("capture", f"the ring of {self.name} cannot be made anew: {error.strerror}")

    def _count_drops(self, capture: socket.socket) -> int:
        """Count what the kernel lost of one ring since it was last asked, and say how much."""
        statistics = capture.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        dropped: int = _STATISTICS.unpack(statistics)[1]
        self._kernel_drops += dropped
        self.counters.drop(DropReason.QUEUE_FULL, dropped)
        return dropped

    def _receive_failed(self, error: OSError) -> None:
        self.counters.last_error = f"receive on {self.name}: {error.strerror}"
        if error.errno in GONE or not exists(self._index):
            raise DeviceGone("capture", f"the interface {self.name} is gone") from error
        # ENETDOWN, once: the interface is down. Capturing goes on by itself when it is up again.


def _prepare(capture: socket.socket, which: bytes) -> None:
    """Set the options that must stand before the bind."""
    capture.setblocking(False)
    attach(capture, _SO_ATTACH_FILTER, which)
    try:
        capture.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    except OSError:
        pass  # before Linux 4.20: the filter is enough, this only saves its work
