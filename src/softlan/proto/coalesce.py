"""Consecutive TCP segments of one flow as one super-frame, for a kernel that takes such as from a network card.

The kernel's receive path costs much the same for a segment of 1,400 bytes and for a super-frame of 64 KiB, and its
TCP acknowledges a super-frame once. What may be merged is what its own GRO would merge (`tcp_gro_receive`,
`inet_gro_receive` and `ipv6_gro_receive` of Linux 6), so `offload.segment` gives the same segments back.

Nothing here reads a payload, and yet a super-frame is not taken on trust: its checksum is made of the segments' own.
A right checksum says what the payload's sum is, so the sum over all of them follows from the headers alone. If a
segment was damaged before the tunnel, the super-frame's checksum is as wrong as the segment's, and the kernel, which
is left to verify it (`VIRTIO_NET_HDR_F_NEEDS_CSUM` is not set), drops it. The same holds for the IPv4 header's. As
within one segment, two damages may cancel each other out in a sum; here, also if they lie in two segments of a run.
A kernel that does not receive but forwards a super-frame makes new checksums when it splits it, unverified.

So does a network card that is to split one; for that, `offload.for_card` verifies them first.
"""

import struct
from collections.abc import Sequence

from softlan.proto.sums import word_sum

VNET_HEADER = struct.Struct("=BBHHHH")
"""A `virtio_net_hdr` (virtio 1.2 section 5.1.6): flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""
PLAIN = bytes(VNET_HEADER.size)
"""That of a frame that is complete and stands for itself."""

_GSO_TCP_V4, _GSO_TCP_V6 = 1, 4
_SMALLEST = 256
"""Bytes of a frame with which a run is worth to begin; below lie acknowledgements and most of what games send."""
_LARGEST_DATAGRAM = 65535
_TCP = 6
_ACK, _PSH = 0x10, 0x08
_RESERVED_OR_FRAGMENT = 0xBF  # all of the upper byte of IPv4's flags and offset but "don't fragment"
_IP = 14
_put16 = struct.Struct(">H").pack_into


def coalesce(frames: Sequence[bytes]) -> list[list[bytes]]:
    """What to write, in order: each a list of buffers, a virtio header first, then as many segments or one frame.

    So `len(buffers) - 1` is the number of frames that a write stands for. Frames of one flow keep their order;
    those of other flows may be passed by segments that join a run which was begun before them.
    """
    writes: list[list[bytes]] = []
    runs: dict[bytes, _Run] = {}
    index, count = 0, len(frames)
    while index < count:
        frame = frames[index]
        index += 1
        if runs:
            # Addresses and ports, where frames that may join a run have them.
            flow = frame[26:38] if frame[12:13] == b"\x08" else frame[22:58]
            run = runs.get(flow)
            if run is not None:
                if run.take(frame):
                    index = run.take_following(frames, index)
                    continue
                run.finish()
                del runs[flow]
                if run.took_last:
                    continue
        buffers = [PLAIN, frame]
        writes.append(buffers)
        if index < count and len(frame) >= _SMALLEST and (frame[23] == _TCP or frame[20] == _TCP):
            run = _begin(frame, buffers)
            if run is not None:
                runs[run.flow] = run
                index = run.take_following(frames, index)
    for run in runs.values():
        run.finish()
    return writes


class _Run:
    """Segments of one flow, and what the next one must look like: its header as one number, but for the checksum."""

    __slots__ = (
        "_expected",
        "_headers",
        "_last_network_sum",
        "_mask",
        "_mask_of_last",
        "_network_sum",
        "_room",
        "_step",
        "buffers",
        "first",
        "flow",
        "payload",
        "size",
        "took_last",
        "transport",
    )

    def __init__(self, frame: bytes, buffers: list[bytes], transport: int, payload: int) -> None:
        self.first = frame
        self.buffers = buffers
        self.transport = transport
        self.payload = payload
        self.size = len(frame)
        self.took_last = False
        header = int.from_bytes(frame[:payload], "big")
        self._headers = [header]
        gso_size = len(frame) - payload
        self._room = (_LARGEST_DATAGRAM - (payload - _IP)) // gso_size - 1
        self._step = gso_size << _shift(payload, transport + 4, 4)
        self._mask = (1 << 8 * payload) - 1 - (0xFFFF << _shift(payload, transport + 16, 2))
        self._mask_of_last = self._mask - (_PSH << _shift(payload, transport + 13, 1))
        if transport == _IP + 20:
            self.flow = frame[26:38]
            # The identification counts up, so the header's checksum counts down. Where one of them wraps, the
            # borrow makes the next header another one than expected, and a new run begins.
            self._step += (1 << _shift(payload, _IP + 4, 2)) - (1 << _shift(payload, _IP + 10, 2))
            self._mask_of_last -= (0xFFFF << _shift(payload, _IP + 2, 2)) + (0xFFFF << _shift(payload, _IP + 10, 2))
        else:
            self.flow = frame[22:58]
            self._mask_of_last -= 0xFFFF << _shift(payload, _IP + 4, 2)
        self._expected = header + self._step
        self._network_sum = self._last_network_sum = (header >> 8 * (payload - transport)) % 0xFFFF

    def take_following(self, frames: Sequence[bytes], index: int) -> int:
        """Take the frames from `index` on, as long as each follows the one before; the index of the next."""
        size, payload, mask, step = self.size, self.payload, self._mask, self._step
        expected = self._expected
        add_header = self._headers.append
        add_buffer = self.buffers.append
        from_bytes = int.from_bytes
        start = index
        end = min(len(frames), index + self._room)
        while index < end:
            frame = frames[index]
            if len(frame) != size:
                break
            header = from_bytes(frame[:payload], "big")
            if (header ^ expected) & mask:
                break
            add_header(header)
            add_buffer(frame[payload:])
            expected += step
            index += 1
        self._expected = expected
        self._room -= index - start
        return index

    def take(self, frame: bytes) -> bool:
        """Take a frame of this flow; False when the run has ended, with it (`took_last`) or without."""
        size, payload, transport = len(frame), self.payload, self.transport
        if self._room < 1 or not payload < size <= self.size:
            return False
        header = int.from_bytes(frame[:payload], "big")
        difference = header ^ self._expected
        if size == self.size and not difference & self._mask:
            self._headers.append(header)
            self.buffers.append(frame[payload:])
            self._expected += self._step
            self._room -= 1
            return True
        # The last one may be shorter, and be pushed.
        if difference & self._mask_of_last:
            return False
        network_sum = (header >> 8 * (payload - transport)) % 0xFFFF
        if transport == _IP + 20:
            if frame[16] << 8 | frame[17] != size - _IP or network_sum != self._network_sum:
                return False
        elif frame[18] << 8 | frame[19] != size - transport:
            return False
        self._last_network_sum = network_sum
        self._headers.append(header)
        self.buffers.append(frame[payload:])
        self.took_last = True
        return False

    def finish(self) -> None:
        """Make one frame of the segments; a single one stays as it is."""
        headers, buffers, first = self._headers, self.buffers, self.first
        payload, transport = self.payload, self.transport
        count = len(headers)
        if count == 1:
            return
        gso_size = self.size - payload
        last_size = len(buffers[-1])
        length = (count - 1) * gso_size + last_size
        header = bytearray(first[:payload])
        header[transport + 13] |= (headers[-1] >> _shift(payload, transport + 13, 1)) & _PSH
        if transport == _IP + 20:
            kind = _GSO_TCP_V4
            addresses = first[26:34]
            datagram = payload - _IP + length
            checksum = (first[24] << 8 | first[25]) + (first[16] << 8 | first[17]) - datagram
            _put16(header, 16, datagram)
            _put16(header, 24, checksum % 0xFFFF)
        else:
            kind = _GSO_TCP_V6
            addresses = first[22:54]
            _put16(header, 18, payload - transport + length)
        _put16(header, transport + 16, 0)
        # Of each segment, modulo 0xFFFF: header + pseudo-header + payload = 0, so the payload is less the others.
        pseudo_header = word_sum(addresses) + _TCP + payload - transport
        even = sum(headers[::2]) + (count + 1) // 2 * (pseudo_header + gso_size - self._network_sum)
        odd = sum(headers[1::2]) + count // 2 * (pseudo_header + gso_size - self._network_sum)
        correction = last_size - gso_size + self._network_sum - self._last_network_sum
        if count & 1:
            even += correction
        else:
            odd += correction
        if gso_size & 1:
            odd <<= 8  # each second one begins in the middle of a word
        own = word_sum(header[transport:]) + pseudo_header + length
        _put16(header, transport + 16, (even + odd - own) % 0xFFFF)
        buffers[0] = VNET_HEADER.pack(0, kind, payload, gso_size, 0, 0) + header
        buffers[1] = first[payload:]


def _begin(frame: bytes, buffers: list[bytes]) -> _Run | None:
    """A run, if `frame` is a plain TCP segment that others may follow."""
    size = len(frame)
    kind = frame[12:15]
    if kind == b"\x08\x00\x45":
        transport = 34
        if (
            frame[23] != _TCP
            or frame[20] & _RESERVED_OR_FRAGMENT
            or frame[21]
            or frame[16] << 8 | frame[17] != size - _IP
        ):
            return None
    elif kind[:2] == b"\x86\xdd":
        transport = 54
        if frame[20] != _TCP or frame[14] >> 4 != 6 or frame[18] << 8 | frame[19] != size - transport:
            return None
    else:
        return None
    data_offset = frame[transport + 12]
    payload = transport + (data_offset >> 4) * 4
    if data_offset & 0x0F or data_offset < 0x50 or payload >= size or frame[transport + 13] != _ACK:
        return None
    return _Run(frame, buffers, transport, payload)


def _shift(payload: int, offset: int, length: int) -> int:
    """By how many bits a field is shifted in the number that the first `payload` bytes are."""
    return 8 * (payload - offset - length)
