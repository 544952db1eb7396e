"""Checksums and segmentation that Linux left to the network card, done here instead.

A frame that a packet socket delivers may not be what was, or would be, on the wire: a local sender leaves
the checksum to its card, and GRO or TSO hands over up to 64 KiB of a stream as one super-frame. The
`virtio_net_hdr` that comes with each frame (virtio 1.2 section 5.1.6, `linux/virtio_net.h`) says which.
And in the other direction, a super-frame of ours that is left to the card.
"""

import enum
import struct
from collections.abc import Sequence

from softlan.proto import ethernet
from softlan.proto.chunk_sums import chunk_sums, tail_sum, tail_sums
from softlan.proto.coalesce import VNET_HEADER
from softlan.proto.sums import word_sum


class Gso(enum.IntEnum):
    """`VIRTIO_NET_HDR_GSO_*`: what a super-frame consists of."""

    TCP_V4 = 1
    UDP_FRAGMENTS = 3  # one IP datagram to be fragmented (UFO); not supported, and gone from Linux
    TCP_V6 = 4
    UDP_DATAGRAMS = 5


SCTP_CHECKSUM_OFFSET = 8
"""SCTP's checksum is a CRC32c, which the virtio header cannot say; the offset gives it away."""

_TCP, _UDP = 6, 17
_TCP_CHECKSUM = 16  # where it is in the header
_IP = ethernet.HEADER_LENGTH  # of a frame without tags
_NEEDS_CSUM = 1
_HOP_BY_HOP, _DESTINATION_OPTIONS = 0, 60
_FIN_PSH, _CWR = 0x09, 0x80

_put16 = struct.Struct(">H").pack_into
_put32 = struct.Struct(">I").pack_into


def complete_checksums(frames: Sequence[bytes], start: int, offset: int) -> list[bytes] | None:
    """Fill in each frame's checksum over `frame[start:]` at `start + offset`, where the pseudo-header's sum is now.

    The frames are of one length: it is less work for many. None when the place lies outside them, or is SCTP's. A
    result of 0 is written as 0xFFFF, as Linux does (`skb_checksum_help`): the same to TCP, and in UDP 0 would mean that
    there is none (RFC 768).
    """
    place = start + offset
    rest = place + 2
    if start < 0 or offset < 0 or rest > len(frames[0]) or offset == SCTP_CHECKSUM_OFFSET:
        return None
    return [
        b"".join((frame[:place], (-total % 0xFFFF or 0xFFFF).to_bytes(2, "big"), frame[rest:]))
        for frame, total in zip(frames, tail_sums(frames, start), strict=True)
    ]


def segment(frame: bytes, *, kind: int, gso_size: int) -> list[bytes] | None:
    """Split a super-frame into frames of at most `gso_size` bytes of payload, each complete in itself.

    `kind` is a `Gso`, without the ECN bit. None when it is not one that can be split, or the frame is not
    what it says (a tunnel around such a stream, say); never raises. The headers are read here: the virtio
    header's `hdr_len` is only as much as the kernel happened to hold in one piece.

    As in the kernel (`tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment`): lengths and checksums are
    each segment's own; the IPv4 identification counts up; TCP's sequence number advances, FIN and PSH stay on
    the last segment and CWR on the first (RFC 3168 section 6.1.2).
    """
    if gso_size < 1:
        return None
    if kind in (Gso.TCP_V4, Gso.TCP_V6):
        protocol = _TCP
    elif kind == Gso.UDP_DATAGRAMS:
        protocol = _UDP
    else:
        return None
    view = ethernet.parse(frame)
    if view is None:
        return None
    ip = view.payload_offset
    is_ipv4 = view.ethertype == ethernet.IPV4
    if is_ipv4 and kind != Gso.TCP_V6:
        bounds = _ipv4_bounds(frame, ip, protocol)
        addresses = frame[ip + 12 : ip + 20]
    elif view.ethertype == ethernet.IPV6 and kind != Gso.TCP_V4:
        bounds = _ipv6_bounds(frame, ip, protocol)
        addresses = frame[ip + 8 : ip + 40]
    else:
        return None
    if bounds is None:
        return None
    transport, end = bounds
    payload = _payload_offset(frame, transport, end, protocol)
    if payload is None:
        return None

    gso_size = min(gso_size, max(end - payload, 1))

    # The header is a large number, of a segment of full size from the middle; what differs is added to it.
    header = bytearray(frame[:payload])
    checksum_at = transport + (16 if protocol == _TCP else 6)
    _put16(header, checksum_at, 0)
    length_at = ip + 2 if is_ipv4 else ip + 4
    header_length = payload - (ip if is_ipv4 else ip + 40)
    _put16(header, length_at, header_length + gso_size)
    length_shift = 8 * (payload - length_at - 2)
    checksum_shift = 8 * (payload - checksum_at - 2)
    id_shift = network_sum_shift = sequence_shift = flags_shift = 0
    identification = sequence = flags = 0
    if is_ipv4:
        identification = header[ip + 4] << 8 | header[ip + 5]
        id_shift = length_shift - 16
        network_sum_shift = length_shift - 64
        _put16(header, ip + 4, 0)
        _put16(header, ip + 10, 0)
    if protocol == _TCP:
        sequence = int.from_bytes(frame[transport + 4 : transport + 8], "big")
        flags = header[transport + 13]
        _put32(header, transport + 4, 0)
        header[transport + 13] = flags & ~_FIN_PSH & ~_CWR
        sequence_shift = checksum_shift + 80
        flags_shift = checksum_shift + 32
    else:
        _put16(header, transport + 4, 8 + gso_size)
    template = int.from_bytes(header, "big")
    # None of these is a sum of zeros, so its complement modulo 0xFFFF is the checksum.
    network_sum = word_sum(header[ip:transport])
    transport_sum = word_sum(header[transport:]) + word_sum(addresses) + protocol + payload - transport + gso_size

    segments: list[bytes] = []
    add = segments.append
    start = payload
    more_flags = flags & _CWR
    for payload_sum in chunk_sums(frame, payload, end, gso_size):
        stop = start + gso_size
        if stop >= end or more_flags:
            missing = 0
            if stop >= end:
                missing = stop - end
                stop = end
                more_flags |= flags & _FIN_PSH
            template += (more_flags << flags_shift) - (missing << length_shift)
            network_sum -= missing
            transport_sum += more_flags - missing
            if protocol == _UDP:
                template -= missing << checksum_shift + 16
                transport_sum -= missing
        checksum = -(transport_sum + sequence + payload_sum) % 0xFFFF
        if protocol == _TCP:
            value = template + (sequence << sequence_shift) + (checksum << checksum_shift)
            sequence = (sequence + gso_size) & 0xFFFFFFFF
        else:
            value = template + ((checksum or 0xFFFF) << checksum_shift)
        if is_ipv4:
            network_checksum = -(network_sum + identification) % 0xFFFF
            value += (identification << id_shift) + (network_checksum << network_sum_shift)
            identification = (identification + 1) & 0xFFFF
        add(value.to_bytes(payload, "big") + frame[start:stop])
        start = stop
        if more_flags:
            template -= more_flags << flags_shift
            transport_sum -= more_flags
            more_flags = 0
    return segments


def for_card(buffers: Sequence[bytes]) -> list[bytes] | None:
    """A super-frame that `coalesce` made, for a card that is to split it and to make the checksums, in two pieces.

    As the stack would leave it (`VIRTIO_NET_HDR_F_NEEDS_CSUM`): with the pseudo-header's sum where TCP's checksum
    will be. None when a checksum is wrong: the card would make it right. Linux's GRO merges no such segment either.
    """
    start = VNET_HEADER.size
    _, kind, payload, gso_size, _, _ = VNET_HEADER.unpack_from(buffers[0])
    header = buffers[0][start:]
    stream = b"".join(buffers[1:])
    if kind == Gso.TCP_V4:
        transport = _IP + 20
        addresses = header[26:34]
        if word_sum(header[_IP:transport]) % 0xFFFF:
            return None
    else:
        transport = _IP + 40
        addresses = header[22:54]
    pseudo_header = word_sum(addresses) + _TCP + payload - transport + len(stream)
    if (pseudo_header + word_sum(header[transport:]) + tail_sum(stream, 0)) % 0xFFFF:
        return None
    place = transport + _TCP_CHECKSUM
    virtio = VNET_HEADER.pack(_NEEDS_CSUM, kind, payload, gso_size, transport, _TCP_CHECKSUM)
    partial = (pseudo_header % 0xFFFF).to_bytes(2, "big")
    return [b"".join((virtio, header[:place], partial, header[place + 2 :])), stream]


def _ipv4_bounds(frame: bytes, ip: int, protocol: int) -> tuple[int, int] | None:
    """Where the transport header starts and the datagram ends; None unless whole and of `protocol`."""
    if len(frame) < ip + 20 or frame[ip] >> 4 != 4 or frame[ip + 9] != protocol:
        return None
    header_length = (frame[ip] & 0x0F) * 4
    end = ip + int.from_bytes(frame[ip + 2 : ip + 4], "big")
    is_fragment = int.from_bytes(frame[ip + 6 : ip + 8], "big") & 0x3FFF
    if header_length < 20 or end < ip + header_length or end > len(frame) or is_fragment:
        return None
    return ip + header_length, end


def _ipv6_bounds(frame: bytes, ip: int, protocol: int) -> tuple[int, int] | None:
    """As `_ipv4_bounds`. Only options are followed: a routing header would change the pseudo-header."""
    if len(frame) < ip + 40 or frame[ip] >> 4 != 6:
        return None
    end = ip + 40 + int.from_bytes(frame[ip + 4 : ip + 6], "big")
    if end > len(frame):
        return None
    following = frame[ip + 6]
    transport = ip + 40
    while following in (_HOP_BY_HOP, _DESTINATION_OPTIONS):
        if transport + 8 > end:
            return None
        following = frame[transport]
        transport += 8 + 8 * frame[transport + 1]
    if following != protocol or transport > end:
        return None
    return transport, end


def _payload_offset(frame: bytes, transport: int, end: int, protocol: int) -> int | None:
    """Where the payload of TCP or UDP starts; None when the header does not fit."""
    if protocol == _UDP:
        payload = transport + 8
    elif transport + 20 > end:
        return None
    else:
        data_offset = frame[transport + 12] >> 4
        if data_offset < 5:
            return None
        payload = transport + 4 * data_offset
    return payload if payload <= end else None
