"""Connections that are up, and what an attacker does instead of a hello that would be admitted."""

import os
import select
import time
from collections.abc import Callable
from typing import Any

from tests.hostile.attack import Field, attack
from tests.hostile.peer import CONTROL, Peer, hello, message, stream_frame

CROWD = 24  # connections at a time: as many as one attacker's core can keep up


@attack("handshakes one after the other, and no hello", count=5000)
def hello_never_sent(field: Field) -> None:
    field.begin()
    waiting: list[Peer] = []
    while field.on("handshakes"):
        peer = field.peer()
        if not peer.connect():
            field.saw["refused"] += 1
            continue
        field.sent["handshakes"] += 1
        waiting.append(peer)
    field.note_end(*waiting)


@attack("hellos of 16 KiB in 1-byte STREAM frames, 150 frames a packet, and never the last byte", count=2_000_000)
def hello_in_single_bytes(field: Field) -> None:
    longest = message(**hello(field.own_room(), field.mac(1)), padding="x" * 16200)
    crowd = _connected(field, CROWD)
    offsets = [0] * len(crowd)
    field.begin()
    while field.on("frames") and crowd:
        for index, peer in enumerate(crowd):
            offset = offsets[index]
            part = longest[offset : min(offset + 150, len(longest) - 1)]
            frames = b"".join(stream_frame(CONTROL, offset + at, part[at : at + 1]) for at in range(len(part)))
            # At the end again from the start: what is known already must cost nothing either.
            offsets[index] = offset + len(part) if part else 0
            field.sent["frames"] += len(part)
            peer.send(peer.packet(frames))
            while peer.receive() is not None:
                pass
    field.note_end(*crowd)


@attack("hellos with a wrong room token, on new connections as fast as they come up", count=5000)
def wrong_room_tokens(field: Field) -> None:
    room = field.own_room()
    owner = field.joined(room, field.mac(1), room_token="r" * 43)

    def guess(number: int) -> dict[str, Any]:
        return hello(room, field.mac(2 + number), room_token=os.urandom(32).hex()[:43])

    _knock(field, guess, owner)


@attack("hellos with a stolen resume string, but another MAC, room or token; and strings that are made up", count=5000)
def stolen_resume(field: Field) -> None:
    room, mac = field.own_room(), field.mac(1)
    victim = field.joined(room, mac, room_token="r" * 43)
    stolen = victim.messages[0]["resume"]

    def guess(number: int) -> dict[str, Any]:
        return (
            hello(room, field.mac(2 + number), room_token="w" * 43, resume=stolen),
            hello(room, mac, room_token="w" * 43, resume=stolen),
            hello(field.own_room("b"), mac, room_token="r" * 43, resume=stolen),
            hello(room, mac, room_token="r" * 43, resume=os.urandom(16).hex()),
            hello(field.room, mac, resume=stolen),
        )[number % 5]

    _knock(field, guess, victim)


@attack(
    "one hello after the other that resumes its own session, with every string used twice", count=5000, variant=True
)
def resume_replay(field: Field) -> None:
    room, mac = field.own_room(), field.mac(1)
    last = field.joined(room, mac)
    used: list[str] = []
    field.begin()
    while field.on("hellos"):
        resume = last.messages[0]["resume"]
        peer = field.peer()
        if peer.join(room, mac, resume=resume):
            field.saw["replaced"] += 1
            used.append(resume)
            last = peer
        else:
            field.saw[_answer(peer)] += 1
            last.pump()
        field.sent["hellos"] += 1
        if used:
            replay = field.peer()
            replay.join(room, mac, resume=used[-1])
            field.saw[f"again: {_answer(replay)}"] += 1
            field.sent["hellos"] += 1


@attack(
    "hellos that are none: lengths of 4 GiB, JSON 5000 deep, members twice, bytes that are no text",
    count=5000,
    variant=True,
)
def bad_hellos(field: Field) -> None:
    good = message(**hello(field.own_room(), field.mac(1)))
    deep = b'{"type":"hello","version":1,"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
    twice = good[4:-1] + b',"version":1}'
    nonsense = (
        b"\xff\xff\xff\xff" + bytes(1000),
        b"\0\0\0\0",
        len(deep).to_bytes(4, "big") + deep,
        len(twice).to_bytes(4, "big") + twice,
        b"\0\0\1\0" + os.urandom(256),
        message(**hello(field.own_room(), field.mac(1), version=10**300)),
        message(type="stats", counters={}, rtt_ms=1),
    )
    field.begin()
    while field.on("hellos"):
        peer = field.peer()
        if not peer.connect():
            field.saw["refused"] += 1
            continue
        peer.write(nonsense[field.sent["hellos"] % len(nonsense)])
        field.sent["hellos"] += 1
        peer.until(lambda peer=peer: peer.messages, 1.0)
        field.saw[_answer(peer)] += 1


def _connected(field: Field, count: int) -> list[Peer]:
    """Connections that are up, as many of them as the relay lets us have."""
    crowd = [peer for peer in (field.peer() for _ in range(count)) if peer.connect()]
    field.saw["connections"] = len(crowd)
    if not crowd:
        raise SystemExit(f"{field.name}: the relay lets nobody in")
    return crowd


def _knock(field: Field, guess: Callable[[int], dict[str, Any]], owner: Peer) -> None:
    """Say such hellos, several connections at a time; `owner` must stay in its room meanwhile."""
    field.begin()
    waiting: list[tuple[Peer, float]] = []
    said: set[Peer] = set()
    while field.on("hellos"):
        while len(waiting) < CROWD:
            peer = field.peer()
            peer.start()
            waiting.append((peer, time.monotonic()))
        select.select([peer.sock for peer, _ in waiting], [], [], 0.01)
        owner.pump()
        now = time.monotonic()
        for item in list(waiting):
            peer, since = item
            peer.pump()
            if peer.established and peer not in said:
                said.add(peer)
                peer.say(**guess(field.sent["hellos"]))
                field.sent["hellos"] += 1
            if peer.messages or peer.closed is not None or now - since > 2:
                field.saw[_answer(peer)] += 1
                waiting.remove(item)
                said.discard(peer)
                peer.sock.close()
    field.saw[f"owner: {owner.closed or 'undisturbed'}"] = 1


def _answer(peer: Peer) -> str:
    first = peer.messages[0] if peer.messages else {}
    return str(first.get("code", first.get("type", peer.closed or "no answer")))
