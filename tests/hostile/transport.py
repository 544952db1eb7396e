"""Frames that QUIC allows, or nearly, and that make a careless implementation keep or do too much."""

import os
import struct
from collections.abc import Callable

from aioquic import tls
from tests.hostile.attack import Field, attack
from tests.hostile.peer import CONTROL, Peer, stream_frame, varint

SHORT_HEADER = 1 + 8  # bytes before the packet number
NETWORK_FILLED = 240  # connections left behind, which count until they are missed; of one network the relay takes 256
ROOMFUL = 32  # peers that come one after the other into one room, of whom none has said that it leaves
PACKETS = 64  # made by hand between two looks at what the relay says


@attack("key updates: with every packet, whether the relay has followed or not", count=NETWORK_FILLED)
def key_updates(field: Field) -> None:
    field.begin()
    while field.on("connections"):
        number = field.sent["connections"] + 1
        peer = field.joined(field.own_room(f"-{number // ROOMFUL}"), field.mac(number))
        for _ in range(8 * PACKETS):
            peer.next_keys()
            field.sent["packets"] += peer.send(peer.packet(b"\1"))
        field.sent["connections"] = number
        peer.sock.close()  # nothing that comes can be read any more: whether this one lives we cannot tell


@attack("key updates by the book, each as soon as the relay has answered the one before", count=300_000, variant=True)
def key_updates_in_turn(field: Field) -> None:
    peer = field.joined(field.own_room(), field.mac(1))
    field.begin()
    while field.on("updates") and peer.closed is None:
        crypto = peer.quic._cryptos[tls.Epoch.ONE_RTT]
        before = crypto.recv.key_phase
        peer.quic.request_key_update()
        peer.quic.send_ping(field.sent["updates"])
        peer.transmit()
        answered = peer.saw["packets"]
        peer.until(lambda c=crypto, b=before, a=answered: c.recv.key_phase != b or peer.saw["packets"] > a, 0.05)
        field.sent["updates"] += 1
    field.note_end(peer)


@attack("one byte on every stream that the relay allows, far from its start; then reset, so that it allows more")
def many_streams(field: Field) -> None:
    state = {"next": 1}

    def frames(peer: Peer) -> bytes:
        out = b""
        for _ in range(20):
            index = state["next"]
            state["next"] = index + 1
            limit = peer.quic._remote_max_streams_bidi, peer.quic._remote_max_streams_uni
            for kind in (0, 2):
                stream = (index % max(1, limit[kind // 2])) * 4 + kind
                if stream == CONTROL:
                    continue
                if state["next"] // max(1, limit[0]) % 2:
                    out += stream_frame(stream, 1000, b"x")
                else:
                    out += b"\x04" + varint(stream) + varint(0) + varint(1001)  # RESET_STREAM
        return out + b"\x16" + varint(limit[0]) + b"\x17" + varint(limit[1])  # STREAMS_BLOCKED

    _storm(field, frames)


@attack("every second byte of the control stream up to the end of its window, one frame for each", variant=True)
def stream_gaps(field: Field) -> None:
    state = {"offset": 2}

    def frames(peer: Peer) -> bytes:
        start = 1000 + state["offset"] % 120_000
        state["offset"] += 300
        return b"".join(stream_frame(CONTROL, start + 2 * at, b"x") for at in range(150))

    _storm(field, frames)


@attack("NEW_CONNECTION_ID with a rising retire_prior_to, and RETIRE_CONNECTION_ID for all that the relay gave")
def connection_ids(field: Field) -> None:
    state = {"sequence": 8, "retire": 1}

    def frames(peer: Peer) -> bytes:
        out = b""
        for _ in range(20):
            state["sequence"] += 1
            sequence = state["sequence"]
            out += b"\x18" + varint(sequence) + varint(sequence) + b"\x08" + os.urandom(8 + 16)
        for _ in range(4):
            out += b"\x19" + varint(state["retire"])
            state["retire"] += 1
        return out

    def reset() -> None:
        state.update(sequence=8, retire=1)

    _storm(field, frames, reset)


@attack("only RETIRE_CONNECTION_ID: of each connection ID as soon as the relay has given it", variant=True)
def retired_ids(field: Field) -> None:
    state = {"retire": 1}

    def frames(peer: Peer) -> bytes:
        out = b""
        for known in list(peer.quic._peer_cid_available):
            out += b"\x19" + varint(known.sequence_number)
            peer.quic._peer_cid_available.remove(known)
            state["retire"] += 1
        return out or b"\1"

    _storm(field, frames)


@attack(
    "packets whose numbers leave out every second one, so that no two can be acknowledged as one range", variant=True
)
def number_gaps(field: Field) -> None:
    def frames(peer: Peer) -> bytes:
        peer.quic._packet_number = peer.number = peer.number + 1
        return b"\1"

    _storm(field, frames)


@attack("ACK frames with 300 ranges, most of them of packets that were never sent", variant=True)
def many_ack_ranges(field: Field) -> None:
    ranges = b"\0\0" * 300

    def frames(peer: Peer) -> bytes:
        return b"\x02" + varint(700) + varint(0) + varint(300) + varint(0) + ranges

    _storm(field, frames)


@attack("ACK frames for packets that were never sent, 2^61 of them in one range", variant=True)
def acks_of_nothing(field: Field) -> None:
    largest = (1 << 61) - 1

    def frames(peer: Peer) -> bytes:
        return b"\x02" + varint(largest) + varint(0) + varint(0) + varint(largest)

    _storm(field, frames)


@attack("PATH_CHALLENGEs, 120 in a packet, whose answers are not read", variant=True)
def path_challenges(field: Field) -> None:
    challenges = b"".join(b"\x1a" + struct.pack(">Q", number) for number in range(120))
    _storm(field, lambda peer: challenges)


@attack("the same, and before each packet 80 datagrams of noise to the same connection", variant=True)
def path_challenges_in_noise(field: Field) -> None:
    challenges = b"".join(b"\x1a" + struct.pack(">Q", number) for number in range(120))

    def frames(peer: Peer) -> bytes:
        head = peer.packet(b"\1")[:SHORT_HEADER]
        for _ in range(80):
            field.sent["noise"] += peer.send(head + bytes(20))
        return challenges

    _storm(field, frames)


@attack("CRYPTO frames after the handshake, with gaps", variant=True)
def late_crypto(field: Field) -> None:
    state = {"offset": 0}

    def frames(peer: Peer) -> bytes:
        start = state["offset"] = (state["offset"] + 400) % 60_000
        return b"".join(b"\x06" + varint(1 + start + 2 * at) + b"\1\0" for at in range(150))

    _storm(field, frames)


def _storm(field: Field, frames: Callable[[Peer], bytes], reset: Callable[[], None] = lambda: None) -> None:
    """Send packets with such frames from one member, and from another one whenever the relay has ended it."""
    peer = field.joined(field.own_room(), field.mac(1))
    peer.packet(b"\1")
    field.begin()
    while field.on("packets"):
        for _ in range(PACKETS):
            field.sent["packets"] += peer.send(peer.packet(frames(peer)))
        peer.pump()
        present, peer = peer, field.kept(peer, field.mac(2 + field.sent["packets"] // PACKETS % 60_000))
        if peer is not present:
            reset()
            peer.packet(b"\1")
    field.note_end(peer)
