"""The computer on the LAN: a game server, a device that answers SSDP, and an open Minecraft world.

Runs as a process of its own: ``python -m softlan.demo.lan_host eth0 10.77.0.10``. Says ``ready`` once it
listens.
"""

import asyncio
import contextlib
import secrets
import socket
import sys
from collections.abc import Callable

from softlan.demo import packets

WORLD_PORT = 25565
SERVER = packets.ServerInfo(name="softlan demo server", map="de_lan", game="LAN party", players=3, max_players=16)
WORLD = "softlan demo - An open world"
DEVICE = "http://{address}/device.xml"

_STREAM_TIMEOUT = 5.0

Answer = Callable[[bytes], bytes | None]


def game_server(challenge: bytes) -> Answer:
    """Return a Source server's side of A2S_INFO: who does not repeat the 4 bytes `challenge` is asked to."""

    def answer(packet: bytes) -> bytes | None:
        given = packets.parse_info_query(packet)
        if given is None:
            return None
        return packets.info_reply(SERVER) if given == challenge else packets.challenge_reply(challenge)

    return answer


def device(address: str) -> Answer:
    """Return an SSDP device's side: every search is answered with where its description would be."""
    reply = packets.search_reply(DEVICE.format(address=address), "softlan-demo")
    return lambda packet: reply if packets.is_search(packet) else None


async def run(interface: str, address: str) -> None:
    """Serve until cancelled."""
    _answer_on(udp_socket(interface, packets.SOURCE_PORT), game_server(secrets.token_bytes(4)))
    _answer_on(udp_socket(interface, packets.SSDP_PORT, packets.SSDP_GROUP), device(address))
    await asyncio.start_server(_tell_status, address, WORLD_PORT)
    print("ready", flush=True)

    with udp_socket(interface, 0) as announcer:
        while True:
            announcer.sendto(
                packets.world_announcement(WORLD, WORLD_PORT),
                (packets.MINECRAFT_GROUP, packets.MINECRAFT_PORT),
            )
            await asyncio.sleep(packets.MINECRAFT_INTERVAL)


def udp_socket(interface: str, port: int, group: str | None = None) -> socket.socket:
    """Return a UDP socket bound to `interface`, for broadcasts and multicasts there, and in `group`."""
    index = socket.if_nametoindex(interface).to_bytes(4, sys.byteorder)
    mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    mine.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + index)  # struct ip_mreqn, ip(7)
    if group is not None:
        mine.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + bytes(4) + index)
    mine.bind(("", port))
    mine.setblocking(False)
    return mine


def _answer_on(mine: socket.socket, answer: Answer) -> None:
    """Answer each packet that comes in on a socket with what `answer` makes of it, to where it came from."""

    def readable() -> None:
        with contextlib.suppress(OSError):  # nothing there after all, or no way back to who asked
            packet, sender = mine.recvfrom(65535)
            if (reply := answer(packet)) is not None:
                mine.sendto(reply, sender)

    asyncio.get_running_loop().add_reader(mine, readable)


async def _tell_status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_STREAM_TIMEOUT):
            if await reader.readexactly(len(packets.STATUS_QUERY)) == packets.STATUS_QUERY:
                writer.write(packets.status_reply(WORLD, SERVER.players, SERVER.max_players))
                await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        pass  # whoever it was went away
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2]))
