"""The packets of three kinds of LAN discovery, as games and devices send them. Pure.

* Source engine, `A2S_INFO`: a query broadcast to UDP port 27015; the server wants its challenge repeated,
  then describes itself. (Valve Developer Community, "Server queries".)
* SSDP, UPnP Device Architecture 1.1, section 1.3: an M-SEARCH to 239.255.255.250:1900, answered by unicast.
* Minecraft, "Open to LAN": announced to 224.0.2.60:4445 every 1.5 s; the player reads its status over TCP
  with the server list ping of release 1.4 to 1.6.
"""

import struct
from dataclasses import dataclass

SOURCE_PORT = 27015
SSDP_GROUP = "239.255.255.250"
SSDP_PORT = 1900
MINECRAFT_GROUP = "224.0.2.60"
MINECRAFT_PORT = 4445
MINECRAFT_INTERVAL = 1.5
"""Seconds between two announcements of a Minecraft world."""

STATUS_QUERY = b"\xfe\x01"
"""What a Minecraft client sends over TCP for the status of a server."""

_SINGLE = b"\xff\xff\xff\xff"  # a Source packet that is not split
_INFO_QUERY = _SINGLE + b"TSource Engine Query\0"
_STATUS_MAGIC = "\xa71\x00127"  # section sign, 1; then the protocol number of 1.4.7 and later


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a game server tells about itself (of A2S_INFO, the parts that a person would look at)."""

    name: str
    map: str
    game: str
    players: int
    max_players: int


def info_query(challenge: bytes = b"") -> bytes:
    """Return an A2S_INFO query, with the 4 bytes of the server's challenge when it has sent one."""
    return _INFO_QUERY + challenge


def parse_info_query(packet: bytes) -> bytes | None:
    """Return the challenge in an A2S_INFO query (empty when it has none); None when it is something else."""
    if not packet.startswith(_INFO_QUERY) or len(packet) not in (len(_INFO_QUERY), len(_INFO_QUERY) + 4):
        return None
    return packet[len(_INFO_QUERY) :]


def challenge_reply(challenge: bytes) -> bytes:
    """Return the packet that asks for the query again, with this challenge of 4 bytes."""
    return _SINGLE + b"A" + challenge


def parse_challenge(packet: bytes) -> bytes | None:
    """Return the 4 bytes of a challenge; None when the packet is something else."""
    return packet[5:] if packet.startswith(_SINGLE + b"A") and len(packet) == 9 else None


def info_reply(info: ServerInfo) -> bytes:
    """Return the A2S_INFO answer of a dedicated Linux server, protocol 17, without a password."""
    texts = b"".join(text.encode() + b"\0" for text in (info.name, info.map, "softlan", info.game))
    return _SINGLE + b"I\x11" + texts + struct.pack("<HBBB", 0, info.players, info.max_players, 0) + b"dl\0\0" + b"1\0"


def parse_info(packet: bytes) -> ServerInfo | None:
    """Read an A2S_INFO answer; None when it is something else or cut short."""
    if not packet.startswith(_SINGLE + b"I"):
        return None
    name, *more = packet[6:].split(b"\0", 4)
    if len(more) != 4 or len(more[3]) < 4:
        return None
    level, _, game, rest = more
    texts = [text.decode(errors="replace") for text in (name, level, game)]
    return ServerInfo(texts[0], texts[1], texts[2], players=rest[2], max_players=rest[3])


def search_request(target: str = "ssdp:all") -> bytes:
    """Return an M-SEARCH that asks devices to answer within a second."""
    return (
        "M-SEARCH * HTTP/1.1\r\n"
        f"HOST: {SSDP_GROUP}:{SSDP_PORT}\r\n"
        'MAN: "ssdp:discover"\r\n'
        "MX: 1\r\n"
        f"ST: {target}\r\n"
        "\r\n"
    ).encode()


def is_search(packet: bytes) -> bool:
    """Tell whether a packet is an M-SEARCH."""
    return packet.startswith(b"M-SEARCH * HTTP/1.1\r\n")


def search_reply(location: str, name: str) -> bytes:
    """Return the answer of a device to an M-SEARCH; its description would be at the URL `location`."""
    return (
        "HTTP/1.1 200 OK\r\n"
        "CACHE-CONTROL: max-age=1800\r\n"
        "EXT:\r\n"
        f"LOCATION: {location}\r\n"
        "SERVER: Linux UPnP/1.1 softlan/1\r\n"
        "ST: upnp:rootdevice\r\n"
        f"USN: uuid:{name}::upnp:rootdevice\r\n"
        "\r\n"
    ).encode()


def parse_search_reply(packet: bytes) -> str | None:
    """Return the URL that a device answered with; None when the packet is something else."""
    status, *headers = packet.decode(errors="replace").split("\r\n")
    if not status.startswith("HTTP/1.1 200"):
        return None
    for header in headers:
        key, _, value = header.partition(":")
        if key.strip().upper() == "LOCATION":
            return value.strip()
    return None


def world_announcement(motd: str, port: int) -> bytes:
    """Return the announcement of a Minecraft world that takes players on TCP `port`."""
    return f"[MOTD]{motd}[/MOTD][AD]{port}[/AD]".encode()


def parse_world(packet: bytes) -> tuple[str, int] | None:
    """Return (message, TCP port) of a world's announcement; None when the packet is something else."""
    text = packet.decode(errors="replace")
    motd, port = _between(text, "MOTD"), _between(text, "AD")
    if motd is None or port is None or not port.isdecimal() or int(port) > 65535:
        return None
    return motd, int(port)


def status_reply(motd: str, players: int, max_players: int) -> bytes:
    """Return a server's answer to `STATUS_QUERY`: a kick packet with the status as its reason, in UTF-16."""
    text = "\0".join((_STATUS_MAGIC, "1.6.4", motd, str(players), str(max_players)))
    return b"\xff" + struct.pack(">H", len(text)) + text.encode("utf-16-be")


def parse_status(packet: bytes) -> tuple[str, int, int] | None:
    """Return (message, players, most players) of a status answer; None when it is not, or not whole."""
    if len(packet) < 3 or packet[0] != 0xFF or len(packet) < 3 + 2 * struct.unpack_from(">H", packet, 1)[0]:
        return None
    fields = packet[3:].decode("utf-16-be", errors="replace").split("\0")
    if len(fields) != 6 or not (fields[4].isdecimal() and fields[5].isdecimal()):
        return None
    return fields[3], int(fields[4]), int(fields[5])


def _between(text: str, tag: str) -> str | None:
    _, opened, rest = text.partition(f"[{tag}]")
    inside, closed, _ = rest.partition(f"[/{tag}]")
    return inside if opened and closed else None
