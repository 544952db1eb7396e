"""Every frame of a wired interface, and frames onto its wire: Linux's packet socket (packet(7)).

The machine's own traffic on that interface stays out: what it sends is not captured, nor what is sent to its own
address, and what is sent here goes to the wire only. So the tunnel's players reach the LAN behind the card, but not
this machine by it; and a machine with one card for both does not carry the relay's own packets to the relay.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from softlan.device.base import DeviceCounters, DeviceGone
from softlan.device.wired import check_wired
from softlan.errors import HostError
from softlan.proto import ethernet
from softlan.proto.drop import DropReason
from softlan.proto.offload import complete_checksum, segment

_STAGE = "open interface"

# linux/if_packet.h; Python's socket module has only a few of these.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_STATISTICS = 6
_PACKET_AUXDATA = 8
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_PACKET_MR_PROMISC = 1
_PACKET_HOST = 0
_PACKET_OUTGOING = 4
_TP_STATUS_VLAN_VALID = 1 << 4
_TP_STATUS_VLAN_TPID_VALID = 1 << 6
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33

_VNET_HEADER = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_VNET_LENGTH = _VNET_HEADER.size
_PLAIN = bytes(_VNET_LENGTH)
_NEEDS_CSUM = 1
_GSO_ECN = 0x80
_AUXDATA = struct.Struct("=I12xHH")  # tp_status, ..., tp_vlan_tci, tp_vlan_tpid
_AUXDATA_SPACE = socket.CMSG_SPACE(20)
_STATISTICS = struct.Struct("=II")  # tp_packets, tp_drops; read and reset

_RECEIVE_BUFFER = 4 << 20
"""Bytes that the kernel may keep for us: some 30 ms of a full gigabit, as it counts them."""
_LARGEST = _VNET_LENGTH + 65535 + 64
"""The largest IP packet as a super-frame, with its Ethernet header and tags."""
_GONE = (errno.ENXIO, errno.ENODEV)


class PacketSocket:
    """A `FrameDevice` on a wired interface of this machine, promiscuous for as long as it is open."""

    __slots__ = (
        "_buffer",
        "_index",
        "_kernel_drops",
        "_loop",
        "_skip_outgoing",
        "_socket",
        "_view",
        "counters",
        "name",
    )

    def __init__(self, name: str, index: int, sock: socket.socket, *, skip_outgoing: bool) -> None:
        """For `open`, which prepares the socket."""
        self.name = name
        self.counters = DeviceCounters()
        self._index = index
        self._socket = sock
        self._skip_outgoing = skip_outgoing
        self._buffer = bytearray(_LARGEST)
        self._view = memoryview(self._buffer)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kernel_drops = 0

    @classmethod
    def open(cls, interface: str, sysfs: Path = Path("/sys")) -> "PacketSocket":
        """Capture on `interface`. Raises HostError when it is not wired Ethernet, or not for us to use."""
        check_wired(interface, sysfs)
        try:
            # Protocol 0 receives nothing, so no other interface's frames are queued before the bind.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise HostError(
                _STAGE,
                f"capturing on {interface} needs CAP_NET_RAW; run it as root, or with that capability",
            ) from None
        try:
            index = socket.if_nametoindex(interface)
            skip_outgoing = _prepare(sock, index)
            sock.bind((interface, _ETH_P_ALL))
            return cls(interface, index, sock, skip_outgoing=skip_outgoing)
        except OSError as error:
            sock.close()
            raise HostError(_STAGE, f"cannot capture on {interface}: {error.strerror or error}") from error

    def attach(self, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` from `loop` while frames are waiting."""
        self.detach()
        self._loop = loop
        loop.add_reader(self._socket.fileno(), on_readable)

    def detach(self) -> None:
        """Stop calling."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None

    def read_burst(self, limit: int = 64) -> list[bytes]:
        """The frames that are waiting, with at most `limit` system calls; [] when there are none.

        Each is as it was on the wire: tags are put back, checksums complete, super-frames split. A
        super-frame counts as what it is split into, so the last one may take the list above `limit`.
        """
        frames: list[bytes] = []
        add = frames.append
        receive = self._socket.recvmsg_into
        view = self._view
        buffers = [view]
        skip_outgoing = self._skip_outgoing
        buffer = self._buffer
        calls = 0
        while calls < limit and len(frames) < limit:
            calls += 1
            try:
                size, ancillary, flags, address = receive(buffers, _AUXDATA_SPACE)
            except BlockingIOError:
                break
            except OSError as error:
                self._receive_failed(error)
                continue
            if flags & socket.MSG_TRUNC:
                self.counters.drop(DropReason.UNSUPPORTED_OFFLOAD)
                continue
            kind = address[2]
            if kind == _PACKET_HOST or (skip_outgoing and kind == _PACKET_OUTGOING):
                continue
            tag_length = 0
            frame = bytes(view[_VNET_LENGTH:size])
            for _, _, auxdata in ancillary:
                status, tci, tpid = _AUXDATA.unpack(auxdata)
                if status & _TP_STATUS_VLAN_VALID:
                    if not status & _TP_STATUS_VLAN_TPID_VALID:
                        tpid = ethernet.VLAN
                    frame = b"".join((frame[:12], struct.pack(">HH", tpid, tci), frame[12:]))
                    tag_length = ethernet.TAG_LENGTH
            if buffer[0] & _NEEDS_CSUM or buffer[1]:
                frames += self._finish(frame, tag_length)
            else:
                add(frame)
        self.counters.reads += calls
        self.counters.frames_in += len(frames)
        return frames

    def write_burst(self, frames: Sequence[bytes]) -> int:
        """Send `frames`, each complete; returns how many the interface's queue took.

        A card pads frames of less than 60 bytes itself.
        """
        send = self._socket.sendmsg
        taken = 0
        for index, frame in enumerate(frames):
            try:
                send((_PLAIN, frame))
                taken += 1
            except OSError as error:
                if self._send_failed(error, len(frames) - index):
                    self.counters.writes += index + 1
                    break
        else:
            self.counters.writes += len(frames)
        self.counters.frames_out += taken
        return taken

    def kernel_drops(self) -> int:
        """Frames that found the receive buffer full, since the start."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        self._kernel_drops += _STATISTICS.unpack(statistics)[1]
        return self._kernel_drops

    def close(self) -> None:
        """Detach and close; the kernel ends the promiscuous membership with the socket."""
        self.detach()
        self._socket.close()

    def _finish(self, frame: bytes, tag_length: int) -> list[bytes]:
        """What the card would have made of a frame that was left to it; [] and counted when we can't."""
        _, gso, _, gso_size, csum_start, csum_offset = _VNET_HEADER.unpack_from(self._buffer)
        gso &= ~_GSO_ECN
        if gso:
            segments = segment(frame, kind=gso, gso_size=gso_size)
            if segments is not None:
                return segments
        else:
            # The kernel counted from the start of the frame without the tag that it took off.
            completed = complete_checksum(frame, csum_start + tag_length, csum_offset)
            if completed is not None:
                return [completed]
        self.counters.drop(DropReason.UNSUPPORTED_OFFLOAD)
        return []

    def _receive_failed(self, error: OSError) -> None:
        counters = self.counters
        counters.last_error = f"receive on {self.name}: {error.strerror}"
        if error.errno == errno.EINVAL:
            # The kernel consumes a frame whose offload it cannot put into a virtio header, and says so.
            counters.drop(DropReason.UNSUPPORTED_OFFLOAD)
        elif error.errno in _GONE or not self._exists():
            raise DeviceGone("capture", f"the interface {self.name} is gone") from error
        # ENETDOWN, once: the interface is down. Capturing goes on by itself when it is up again.

    def _send_failed(self, error: OSError, left: int) -> bool:
        """Count what is lost; whether the `left` frames from this one on are all lost."""
        counters = self.counters
        counters.last_error = f"send on {self.name}: {error.strerror}"
        if error.errno == errno.EMSGSIZE:
            counters.drop(DropReason.OVER_BUDGET)
            return False
        if error.errno in (errno.EAGAIN, errno.ENOBUFS):
            counters.drop(DropReason.QUEUE_FULL, left)
            return True
        if error.errno in _GONE or not self._exists():
            raise DeviceGone("send", f"the interface {self.name} is gone") from error
        if error.errno == errno.ENETDOWN:
            counters.drop(DropReason.DEVICE_ERROR, left)
            return True
        counters.drop(DropReason.DEVICE_ERROR)
        return False

    def _exists(self) -> bool:
        try:
            socket.if_indextoname(self._index)
        except OSError:
            return False
        return True


def _prepare(sock: socket.socket, index: int) -> bool:
    """Set the options that must stand before the bind; whether outgoing frames are ours to skip."""
    sock.setblocking(False)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    membership = struct.pack("=iHH8x", index, _PACKET_MR_PROMISC, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
    try:
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    except OSError:
        return True  # before Linux 4.20
    return False
