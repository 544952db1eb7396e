"""Frames onto the wire of an interface, by packet sockets that only send (packet(7)).

A burst of one TCP stream goes to the card as a super-frame, which the card splits, or the kernel in its place: the wire
carries the same frames. That is one trip through the kernel instead of as many, and a receiver whose card puts them
together again acknowledges them at once. Their checksums are verified before (`for_card`), which takes numpy; without
it, each frame is sent by itself.
"""

import errno
import socket
from collections.abc import Sequence

from softlan.device.base import DeviceCounters, DeviceGone
from softlan.device.netdev import NetDevice
from softlan.device.send_many import SendMany
from softlan.net.buffers import set_buffers
from softlan.proto.chunk_sums import IS_FAST
from softlan.proto.coalesce import coalesce
from softlan.proto.drop import DropReason
from softlan.proto.ethernet import HEADER_LENGTH
from softlan.proto.offload import for_card

GONE = (errno.ENXIO, errno.ENODEV)
"""What the kernel answers when an interface was removed."""

# linux/if_packet.h
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15

_SEND_BUFFER = 256 << 10
"""Bytes: some 200 long frames, 2.5 ms of a full gigabit."""
_FEW = 8
"""So many frames are sent with less work one by one."""
_NOTHING = -HEADER_LENGTH
"""The MTU that no frame keeps to."""


class PacketOut:
    """Sends bursts; what it loses is counted in `counters`."""

    __slots__ = ("_each", "_index", "_mtu", "_name", "_send_many", "_whole", "counters")

    def __init__(self, name: str, index: int, each: socket.socket, whole: socket.socket | None) -> None:
        """For `open`. `each` sends frames as they are, `whole` those with a virtio header, where it can be."""
        self.counters = DeviceCounters()
        self._name = name
        self._index = index
        self._each = each
        self._whole = whole
        self._send_many = SendMany(each).send
        self._mtu = 0
        self.look()

    @classmethod
    def open(cls, name: str, index: int) -> "PacketOut":
        """On the interface of that name and index. Raises OSError."""
        sockets: list[socket.socket] = []
        try:
            for has_header in (False, True)[: 1 + IS_FAST]:
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                sockets.append(sock)
                sock.setblocking(False)
                set_buffers(sock, send=_SEND_BUFFER)
                sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, has_header)
                sock.bind((name, 0))
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        return cls(name, index, sockets[0], sockets[1] if IS_FAST else None)

    def send(self, frames: Sequence[bytes]) -> int:
        """Send `frames`, each complete; returns how many the interface's queue took.

        A card pads frames of less than 60 bytes itself. Those of different streams may leave in another order.
        """
        if len(frames) <= _FEW or self._whole is None or max(map(len, frames)) > self._mtu + HEADER_LENGTH:
            return self._send_each(frames)
        writes = coalesce(frames)
        if len(writes) == len(frames):
            return self._send_each(frames)
        whole = self._whole
        taken = 0
        single: list[bytes] = []
        for buffers in writes:
            if len(buffers) == 2:
                single.append(buffers[1])
                continue
            if single:
                taken += self._send_each(single)
                single = []
            taken += self._send_whole(whole, buffers)
        return taken + self._send_each(single) if single else taken

    def _send_each(self, frames: Sequence[bytes]) -> int:
        count = len(frames)
        send = self._each.send
        taken = index = calls = 0
        while index < count:
            calls += 1
            try:
                if count - index > _FEW:
                    sent = self._send_many(frames[index:] if index else frames)
                else:
                    send(frames[index])
                    sent = 1
                index += sent
                taken += sent
            except OSError as error:
                if self._failed(error, count - index):
                    break
                index += 1
        self.counters.writes += calls
        self.counters.frames_out += taken
        return taken

    def _send_whole(self, whole: socket.socket, buffers: list[bytes]) -> int:
        """Send one super-frame; how many frames went with it."""
        count, counters = len(buffers) - 1, self.counters
        checked = for_card(buffers)
        if checked is None:  # whoever received them would drop the damaged one; its neighbours are sent again
            counters.drop(DropReason.MALFORMED, count)
            return 0
        counters.writes += 1
        try:
            whole.sendmsg(checked)
        except OSError as error:
            if error.errno == errno.EINVAL:
                self._mtu = _NOTHING  # this interface takes no super-frames
            if not self._failed(error, count):
                counters.drop(DropReason.DEVICE_ERROR, count - 1)
            return 0
        counters.frames_out += count
        return count

    def look(self) -> None:
        """See what the interface carries now: for super-frames, the kernel does not."""
        if self._whole is None or self._mtu == _NOTHING:
            return
        try:
            with NetDevice(self._name) as device:
                self._mtu = device.mtu()
        except OSError:
            self._mtu = 0  # it is gone

    def close(self) -> None:
        """Close the sockets."""
        self._each.close()
        if self._whole is not None:
            self._whole.close()

    def _failed(self, error: OSError, left: int) -> bool:
        """Count what is lost; whether the `left` frames from this one on are all lost."""
        counters = self.counters
        counters.last_error = f"send on {self._name}: {error.strerror}"
        if error.errno == errno.EMSGSIZE:
            counters.drop(DropReason.OVER_BUDGET)
            return False
        if error.errno in (errno.EAGAIN, errno.ENOBUFS):
            counters.drop(DropReason.QUEUE_FULL, left)
            return True
        if error.errno in GONE or not exists(self._index):
            raise DeviceGone("send", f"the interface {self._name} is gone") from error
        if error.errno == errno.ENETDOWN:
            counters.drop(DropReason.DEVICE_ERROR, left)
            return True
        counters.drop(DropReason.DEVICE_ERROR)
        return False


def exists(index: int) -> bool:
    """Whether an interface is still there, maybe under another name."""
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True
