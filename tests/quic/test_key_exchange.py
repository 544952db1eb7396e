"""The key exchange is hybrid: X25519MLKEM768, as an independent reader finds it on the wire.

It opens the Initial packets with keys that anyone can derive (RFC 9001, section 5.2), by aioquic, and reads the
hellos by RFC 8446, sections 4.1.2, 4.1.3 and 4.2.8; the group is draft-ietf-tls-ecdhe-mlkem's.
"""

from collections.abc import Iterator

import pytest
import qh3.tls
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from tests.support.wire import RELAY, World

from softlan.net.address import SocketAddress

X25519MLKEM768 = 0x11EC
CLIENT_SHARE = 1184 + 32  # an ML-KEM-768 encapsulation key, and an X25519 public key
SERVER_SHARE = 1088 + 32  # a ciphertext, and a public key
KEY_SHARE, SUPPORTED_VERSIONS = 51, 43
TLS_1_3 = b"\x03\x04"
CLIENT_HELLO, SERVER_HELLO = 1, 2


def crypto_data(datagrams: list[bytes], *, by_client: bool, first_cid: bytes) -> bytes:
    """The CRYPTO stream of the Initial packets in `datagrams`."""
    pair = CryptoPair()
    pair.setup_initial(cid=first_cid, is_client=not by_client, version=1)
    pieces: dict[int, bytes] = {}
    for data in datagrams:
        buffer = Buffer(data=data)
        while not buffer.eof():
            start = buffer.tell()
            header = pull_quic_header(buffer, host_cid_length=8)
            end = start + header.packet_length
            if header.packet_type == QuicPacketType.INITIAL:
                _, payload, _ = pair.decrypt_packet(data[start:end], buffer.tell() - start, 0)
                pieces |= dict(crypto_frames(payload))
            buffer.seek(end)
    return b"".join(pieces[offset] for offset in sorted(pieces))


def crypto_frames(payload: bytes) -> Iterator[tuple[int, bytes]]:
    buffer = Buffer(data=payload)
    while not buffer.eof():
        kind = buffer.pull_uint_var()
        if kind == 0x06:
            offset = buffer.pull_uint_var()
            yield offset, buffer.pull_bytes(buffer.pull_uint_var())
        elif kind == 0x02:
            for _ in range(2):
                buffer.pull_uint_var()
            for _ in range(1 + 2 * buffer.pull_uint_var()):
                buffer.pull_uint_var()
        else:
            assert kind in (0, 1), "PADDING and PING"


def extensions(hello: bytes, kind: int) -> dict[int, bytes]:
    """A ClientHello's or ServerHello's extensions by their type."""
    buffer = Buffer(data=hello)
    assert buffer.pull_uint8() == kind
    length = int.from_bytes(buffer.pull_bytes(3), "big")
    buffer.seek(4 + 2 + 32)  # version, random
    buffer.pull_bytes(buffer.pull_uint8())  # session
    if kind == CLIENT_HELLO:
        buffer.pull_bytes(buffer.pull_uint16())  # cipher suites
        buffer.pull_bytes(buffer.pull_uint8())  # compression methods
    else:
        buffer.pull_bytes(3)
    end = buffer.pull_uint16() + buffer.tell()
    assert end == 4 + length
    found = {}
    while buffer.tell() < end:
        extension = buffer.pull_uint16()
        found[extension] = buffer.pull_bytes(buffer.pull_uint16())
    return found


def client_shares(extension: bytes) -> dict[int, int]:
    """Groups, and how long the share for each is."""
    buffer = Buffer(data=extension)
    assert buffer.pull_uint16() == len(extension) - 2
    shares = {}
    while not buffer.eof():
        group = buffer.pull_uint16()
        shares[group] = len(buffer.pull_bytes(buffer.pull_uint16()))
    return shares


@pytest.mark.parametrize("retry_above", [64, 0], ids=["at once", "after a Retry"])
def test_both_sides_agree_on_the_hybrid_group(retry_above: int) -> None:
    to_relay, to_client = hellos(retry_above)
    assert client_shares(to_relay[KEY_SHARE])[X25519MLKEM768] == CLIENT_SHARE
    chosen = Buffer(data=to_client[KEY_SHARE])
    assert (chosen.pull_uint16(), chosen.pull_uint16()) == (X25519MLKEM768, SERVER_SHARE)
    assert to_client[SUPPORTED_VERSIONS] == TLS_1_3


def test_a_value_that_means_nothing_is_never_agreed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side draws some for its lists (RFC 8701), and once in a while both draw the same."""
    monkeypatch.setattr(qh3.tls, "_generate_grease_value", lambda: 0xEAEA)
    to_relay, to_client = hellos()
    assert to_relay[SUPPORTED_VERSIONS] == b"\4\xea\xea" + TLS_1_3
    assert to_client[SUPPORTED_VERSIONS] == TLS_1_3


def hellos(retry_above: int = 64) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """The extensions of a ClientHello, and of the ServerHello that answers it."""
    world = World()
    world.serve(retry_above=retry_above)
    ways: dict[bool, list[bytes]] = {True: [], False: []}

    def tap(data: bytes, source: SocketAddress, destination: SocketAddress) -> bytes:
        ways[destination == RELAY].append(data)
        return data

    world.wire.taps.append(tap)
    client = world.connect()
    world.run(lambda: client.ready)
    if not retry_above:  # what comes before it is under other keys
        second = next(at for at, data in enumerate(ways[True]) if Buffer(data=data) and _token(data))
        ways = {True: ways[True][second:], False: [data for data in ways[False] if data[0] & 0xF0 != 0xF0]}
    first_cid = ways[True][0][6:14]
    to_relay = extensions(crypto_data(ways[True], by_client=True, first_cid=first_cid), CLIENT_HELLO)
    to_client = extensions(crypto_data(ways[False], by_client=False, first_cid=first_cid), SERVER_HELLO)
    return to_relay, to_client


def _token(data: bytes) -> bytes:
    return pull_quic_header(Buffer(data=data), host_cid_length=8).token
