"""Known answers of keys and sealed frames, as docs/reference/protocol.md tells them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent.parent / "data" / "seal.json"


@dataclass(frozen=True)
class SealedFrame:
    """A frame, and its datagram."""

    counter: int
    frame: bytes
    datagram: bytes


@dataclass(frozen=True)
class Sender:
    """A session, and what it sends."""

    mac: bytes | None
    salt: bytes
    peer_id: int
    key: bytes
    frames: tuple[SealedFrame, ...]


@dataclass(frozen=True)
class Vectors:
    """What follows from one room's secret."""

    room: str
    secret: bytes
    token: str
    frame_key: bytes
    senders: tuple[Sender, ...]


def load() -> Vectors:
    """Read them."""
    data: dict[str, Any] = json.loads(_FILE.read_text())
    return Vectors(
        room=data["room"],
        secret=bytes.fromhex(data["secret"]),
        token=data["token"],
        frame_key=bytes.fromhex(data["frame_key"]),
        senders=tuple(
            Sender(
                mac=bytes.fromhex(sender["mac"].replace(":", "")) if sender["mac"] else None,
                salt=bytes.fromhex(sender["salt"]),
                peer_id=sender["peer_id"],
                key=bytes.fromhex(sender["key"]),
                frames=tuple(
                    SealedFrame(each["counter"], bytes.fromhex(each["frame"]), bytes.fromhex(each["datagram"]))
                    for each in sender["frames"]
                ),
            )
            for sender in data["senders"]
        ),
    )
