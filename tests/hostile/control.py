"""Members that abuse the control stream, and a room whose members come and go."""

from collections import deque

from tests.hostile.attack import Field, attack
from tests.hostile.peer import CONTROL, Peer, message, stream_frame

STATS = message(type="stats", counters={"a": 1}, rtt_ms=1.5)
UNKNOWN = message(type="news")
CHATTERERS = 4
SILENT = 24  # members that are gone, and of whom the relay does not know it yet; a room has 64 places


@attack("stats of 60 bytes and messages of unknown type, as fast as flow control lets four members write")
def control_flood(field: Field) -> None:
    crowd = [field.joined(field.own_room(), field.mac(number)) for number in range(1, CHATTERERS + 1)]
    batch = (STATS * 9 + UNKNOWN) * 50
    field.begin()
    while field.on("messages"):
        for peer in crowd:
            if _unsent(peer) < len(batch):
                peer.quic.send_stream_data(CONTROL, batch)
                field.sent["messages"] += 500
            peer.pump()
        crowd = [field.kept(peer) for peer in crowd]
    field.note_end(*crowd)


@attack(
    "large stats (256 counters, 15 KB) from four members that read and acknowledge nothing", count=100_000, variant=True
)
def control_unread(field: Field) -> None:
    large = message(type="stats", counters={f"{'n' * 50}{number}": number for number in range(240)}, rtt_ms=None)
    crowd = [field.joined(field.own_room(), field.mac(number)) for number in range(1, CHATTERERS + 1)]
    offsets = {peer: peer.quic._streams[CONTROL].sender._buffer_stop for peer in crowd}  # behind its hello
    limits = {peer: peer.quic._streams[CONTROL].max_stream_data_remote for peer in crowd}
    field.begin()
    while field.on("messages"):
        for peer in crowd:
            if offsets[peer] + len(large) > limits[peer]:
                peer.send(peer.packet(stream_frame(CONTROL, offsets[peer] - 1, b"}")))  # once more, what it has
                field.sent["repeated"] += 1
                continue
            for start in range(0, len(large), 1000):
                part = large[start : start + 1000]
                peer.send(peer.packet(stream_frame(CONTROL, offsets[peer] + start, part)))
            offsets[peer] += len(large)
            field.sent["messages"] += 1
        _drain(crowd)
    field.saw["members"] = len(crowd)


@attack("joins and leaves in the party's room with a new MAC each time, from many addresses", count=5000)
def mac_flapping(field: Field) -> None:
    field.begin()
    number = 0
    silent: deque[Peer] = deque()
    while field.on("joins"):
        number += 1
        peer = field.peer()
        if not peer.join(field.room, field.mac(number)):
            field.saw[str(peer.messages[0].get("code") if peer.messages else peer.closed or "refused")] += 1
            continue
        field.sent["joins"] += 1
        if number % 3 == 0:
            peer.say(type="disconnect", reason="quit", message="bye")
        elif number % 3 == 1:
            peer.quic.close(reason_phrase="gone")
            peer.transmit()
        else:  # and every third without a word, but some places in the room are left for others
            silent.append(peer)
            if len(silent) <= SILENT:
                continue
            peer = silent.popleft()
            peer.quic.close()
            peer.transmit()
        peer.sock.close()
    field.saw["in the room"] = field.sent["joins"]


@attack("a room of 16 that reads nothing, while others join and leave it: news for nobody", count=5000, variant=True)
def news_unread(field: Field) -> None:
    room = field.own_room()
    crowd = [field.joined(room, field.mac(number)) for number in range(1, 17)]
    field.begin()
    number = 100
    while field.on("joins"):
        number += 1
        peer = field.peer()
        if peer.join(room, field.mac(number)):
            field.sent["joins"] += 1
            peer.quic.close()
            peer.transmit()
        else:
            field.saw["refused"] += 1
        peer.sock.close()
        for deaf in crowd:
            deaf.send(deaf.packet(b"\1"))  # a PING, so that it seems to live
        _drain(crowd)
    field.note_end(*crowd)


def _unsent(peer: Peer) -> int:
    sender = peer.quic._streams[CONTROL].sender
    return int(sender._buffer_stop - sender._buffer_start)


def _drain(crowd: list[Peer]) -> None:
    for peer in crowd:
        while peer.receive() is not None:
            pass
