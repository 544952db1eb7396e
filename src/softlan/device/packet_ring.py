"""A packet socket's receive ring: frames in memory that the kernel shares with us, read without a system call.

Documentation/networking/packet_mmap.rst and `tpacket_rcv` in Linux's net/packet/af_packet.c. The ring is of version
2, not 3: the latter hands over blocks of frames, and one that is not full only when a timer of at least a millisecond
ends.
"""

import mmap
import os
import socket
import struct
import sys
from time import monotonic, time

from softlan.device.base import DeviceCounters
from softlan.net.buffers import set_buffers
from softlan.net.codel import CoDel
from softlan.proto import ethernet
from softlan.proto.coalesce import VNET_HEADER
from softlan.proto.drop import DropReason
from softlan.proto.offload import complete_checksums, segment

# linux/if_packet.h; Python's socket module has only a few of these.
_SOL_PACKET = 263
_PACKET_RX_RING = 5
_PACKET_COPY_THRESH = 7
_PACKET_VERSION = 10
_PACKET_VNET_HDR = 15
_TPACKET_V2 = 1
_RING_REQUEST = struct.Struct("@IIII")  # tp_block_size, tp_block_nr, tp_frame_size, tp_frame_nr

_SLOT = 2048
"""Bytes: room for a frame of a 1500-byte MTU, with tags."""
_SLOTS = 2048
"""25 ms of a full gigabit of such frames: more than a busy machine leaves us waiting for our turn."""
_BLOCK = 1 << 16
_COPIES = 1 << 20
"""Bytes of frames that no slot has room for: some 30 super-frames."""

_TARGET, _INTERVAL = 0.005, 0.1
"""How long frames may stand in the ring, see `CoDel`; seconds. These are the RFC's. On a machine with every processor
busy a ring that loses nothing stands at 3 to 4 ms, the wait for our turn; there, in single runs of 3 s each, targets of
1 and 2 ms showed no gain."""
_SPARED = 600
"""Bytes: a shorter frame is never dropped by CoDel. Such are a game's, and a stream's acknowledgements; they are not
what makes the queue, but among super-frames of 64 KiB they would be most of what is hit."""

# struct tpacket2_hdr, in words of 4 bytes: tp_status, tp_len, tp_snaplen, tp_mac and tp_net, tp_sec, tp_nsec, the tag
_header = struct.Struct("=IIIHHIIHH").unpack_from  # ..., tp_vlan_tci, tp_vlan_tpid
_LENGTH, _SECONDS, _NANOSECONDS = 1, 4, 5
_SLOT_WORDS = _SLOT // 4
_END_WORD = _SLOTS * _SLOT_WORDS
_MAY_READ_AHEAD = os.uname().machine not in ("x86_64", "i686", "i586", "i486", "i386")
"""Whether this processor may read a slot's frame before its status. The clock is asked in between then: on arm64 it is
read behind an instruction barrier (`__arch_get_hw_counter`); elsewhere nothing orders the two, as nothing orders the
copy before the slot is given back, but the length of the interpreter's way between them."""
_ABSURD = 10.0
"""Seconds: no frame is in the ring for so long while somebody reads it."""
_USER = 1 << 0
_COPY = 1 << 1
_VLAN_VALID = 1 << 4
_VLAN_TPID_VALID = 1 << 6
_IS_SPECIAL = _COPY | _VLAN_VALID

# A sockaddr_ll stands behind the header; then, aligned, the frame, with its virtio_net_hdr right before it.
_FRAME_OFFSET = 76
_VNET_LENGTH = VNET_HEADER.size
# tp_len, tp_snaplen, tp_mac, and of the virtio header of a frame at its usual place flags and gso_type, csum_start,
# and csum_offset.
_fields = struct.Struct(f"=4xIIH{_FRAME_OFFSET - _VNET_LENGTH - 14}xH4xHH").unpack_from
_vnet_header = VNET_HEADER.unpack_from
_NEEDS_CSUM = 1
_GSO_ECN = 0x80
# Of flags and gso_type. That a card found the checksum right (VIRTIO_NET_HDR_F_DATA_VALID) is no matter.
_IS_PARTIAL = int.from_bytes(bytes((_NEEDS_CSUM, 0)), sys.byteorder)
_IS_SUPER_FRAME = int.from_bytes(bytes((0, 0xFF)), sys.byteorder)
_LARGEST = _VNET_LENGTH + 65535 + 64
"""The largest IP packet as a super-frame, with its Ethernet header and tags."""


class PacketRing:
    """What a packet socket captures, as a queue that is bounded in length and, by CoDel, in time.

    It holds the socket's memory until `close`; the socket is the caller's.
    """

    __slots__ = ("_buffer", "_codel", "_counters", "_failure", "_memory", "_socket", "_word", "_words")

    def __init__(self, sock: socket.socket, counters: DeviceCounters) -> None:
        """Make the ring, before `sock` is bound. What is lost is counted in `counters`. Raises OSError."""
        self._socket = sock
        self._counters = counters
        self._codel = CoDel(_TARGET, _INTERVAL)
        self._buffer = memoryview(bytearray(_LARGEST))
        self._failure: OSError | None = None
        self._memory: mmap.mmap
        self._words: memoryview
        self._word: int
        set_buffers(sock, receive=_COPIES)
        sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)  # in a ring since Linux 4.6
        sock.setsockopt(_SOL_PACKET, _PACKET_COPY_THRESH, 1)
        self._map()

    def read(self, limit: int) -> list[bytes]:
        """Up to `limit` frames that are waiting, each as it was on the wire: tags are put back, checksums complete.

        A super-frame counts as what it is split into, so the last one may take the list above `limit`. That the list
        is empty does not say that nothing is waiting: what was looked at may have been dropped.
        """
        words = self._words
        word = self._word
        status = words[word]
        if not status & _USER:
            return []
        wall = time()
        sojourn = wall - words[word + _SECONDS] - words[word + _NANOSECONDS] * 1e-9
        codel = self._codel
        is_late = sojourn >= codel.target
        if codel.is_late and not is_late:
            codel.drops(0.0, monotonic())
        frames: list[bytes] = []
        add = frames.append
        partial: dict[tuple[int, int, int], list[int]] = {}  # by length and place, where they are in `frames`
        memory = self._memory
        fields = _fields
        may_read_ahead = _MAY_READ_AHEAD
        for _ in range(limit):
            base = word << 2
            is_lost = is_late and self._loses(word, wall)
            length, captured, offset, vnet, checksum_start, checksum_offset = fields(memory, base)
            if status & _IS_SPECIAL or vnet & _IS_SUPER_FRAME or captured != length or offset != _FRAME_OFFSET:
                try:
                    whole = self._restore(base)
                except Exception:  # a fault of ours, passed on; but the slot must not stop all that is behind it
                    words[word] = 0
                    self._word = (word + _SLOT_WORDS) % _END_WORD
                    raise
                frames += whole[1:] if is_lost else whole
            elif not is_lost:
                if vnet & _IS_PARTIAL:
                    partial.setdefault((length, checksum_start, checksum_offset), []).append(len(frames))
                base += _FRAME_OFFSET
                add(memory[base : base + length])
            words[word] = 0  # the slot is the kernel's again
            word += _SLOT_WORDS
            if word == _END_WORD:
                word = 0
            status = words[word]
            if not status & _USER:
                codel.emptied()
                break
            if len(frames) >= limit:
                break
            if may_read_ahead:
                time()
        self._word = word
        return self._complete(frames, partial) if partial else frames

    def is_empty(self) -> bool:
        """Whether nothing is waiting."""
        return not self._words[self._word] & _USER

    def failure(self) -> OSError | None:
        """What went wrong since the last call, if anything: an interface that goes down says so, once."""
        failure, self._failure = self._failure, None
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(number, os.strerror(number)) if number else failure

    def renew(self) -> None:
        """Begin with an empty ring. Raises OSError."""
        self.close()
        self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, _RING_REQUEST.pack(0, 0, 0, 0))
        self._map()

    def close(self) -> None:
        """Let go of the memory, which would keep the socket alive. There is nothing to read from then on."""
        self._words.release()
        self._memory.close()
        self._words = memoryview(bytes(_SLOT)).cast("I")
        self._word = 0

    def _map(self) -> None:
        size = _SLOT * _SLOTS
        request = _RING_REQUEST.pack(_BLOCK, size // _BLOCK, _SLOT, _SLOTS)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
        self._memory = mmap.mmap(self._socket.fileno(), size)
        self._words = memoryview(self._memory).cast("I")
        self._word = 0  # where the oldest slot's status is

    def _loses(self, word: int, wall: float) -> bool:
        """Whether the frame in a slot is dropped, since the queue stands; counted."""
        words = self._words
        if words[word + _LENGTH] < _SPARED:
            return False
        sojourn = wall - words[word + _SECONDS] - words[word + _NANOSECONDS] * 1e-9
        # Both clocks are CLOCK_REALTIME. Where one was set meanwhile, or the kernel's stamp is of another clock
        # (packets of pacing senders on this machine, before Linux 5.18), the difference says nothing.
        if self._codel.drops(sojourn if sojourn < _ABSURD else 0.0, monotonic()):
            self._counters.drop(DropReason.QUEUE_FULL)
            return True
        return False

    def _complete(self, frames: list[bytes], partial: dict[tuple[int, int, int], list[int]]) -> list[bytes]:
        """`frames`, with the checksums that local senders left to the card; without those where we can't."""
        for (_, start, offset), places in partial.items():
            completed = complete_checksums([frames[place] for place in places], start, offset)
            if completed is None:
                self._counters.drop(DropReason.UNSUPPORTED_OFFLOAD, len(places))
                completed = [b""] * len(places)
            for place, frame in zip(places, completed, strict=True):
                frames[place] = frame
        return [frame for frame in frames if frame]

    def _restore(self, base: int) -> list[bytes]:
        """What would have been on the wire instead of a slot's frame; [] and counted when we can't say."""
        status, length, captured, offset, _, _, _, tci, tpid = _header(self._memory, base)
        start = base + offset
        if status & _COPY:
            copy = self._take_copy()
            if copy is None:
                self._counters.drop(DropReason.UNSUPPORTED_OFFLOAD)
                return []
            frame = copy
        elif captured != length:
            self._counters.drop(DropReason.QUEUE_FULL)  # the socket had no room for a copy
            return []
        else:
            frame = self._memory[start : start + length]
        tag_length = 0
        if status & _VLAN_VALID:
            if not status & _VLAN_TPID_VALID:
                tpid = ethernet.VLAN
            frame = b"".join((frame[:12], struct.pack(">HH", tpid, tci), frame[12:]))
            tag_length = ethernet.TAG_LENGTH
        flags, gso, _, gso_size, csum_start, csum_offset = _vnet_header(self._memory, start - _VNET_LENGTH)
        gso &= ~_GSO_ECN
        if gso:
            segments = segment(frame, kind=gso, gso_size=gso_size)
            if segments is not None:
                return segments
        elif flags & _NEEDS_CSUM:
            # The kernel counted from the start of the frame without the tag that it took off.
            completed = complete_checksums([frame], csum_start + tag_length, csum_offset)
            if completed is not None:
                return completed
        else:
            return [frame]
        self._counters.drop(DropReason.UNSUPPORTED_OFFLOAD)
        return []

    def _take_copy(self) -> bytes | None:
        """The frame that was too long for its slot. Copies stand in the socket's queue, in the ring's order."""
        for _ in range(2):
            try:
                size, _, flags, _ = self._socket.recvmsg_into([self._buffer])
            except OSError as error:
                self._failure = error  # the interface went down: said once, before what is queued
                continue
            return None if flags & socket.MSG_TRUNC else bytes(self._buffer[_VNET_LENGTH:size])
        return None
