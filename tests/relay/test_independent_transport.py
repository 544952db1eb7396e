"""QUIC itself at the relay's door, tried by aioquic: certificates, Retry, and peers that keep to the letter only."""

import asyncio
import socket
import ssl
import time
from pathlib import Path

from qh3.quic.connection import QuicConnection
from tests.support.aioquic_peer import AioquicPeer
from tests.support.live_relay import SERVER_NAME, LiveRelay, eventually, live_relay

from softlan.quic.configuration import client_configuration
from softlan.quic.trust import Trust, write_der
from softlan.relay.session import State

FRAME_TYPE_CRYPTO = 6  # RFC 9000, section 19.6: aioquic names it when TLS fails


def frame(peer_id: int, source: str, size: int) -> bytes:
    """A broadcast from `source`, as an overlay datagram of `size` bytes."""
    return (b"\x10\x00" + peer_id.to_bytes(2) + b"\xff" * 6 + bytes.fromhex(source) + b"\x88\xb5").ljust(size, b"\0")


# Trust


async def test_the_relays_certificate_is_verified_with_its_der_file_as_the_only_authority(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live:
        write_der(tmp_path / "relay.der", live.credentials)
        pem = ssl.DER_cert_to_PEM_cert((tmp_path / "relay.der").read_bytes())
        for name in (SERVER_NAME, "localhost"):
            async with live.peer(ca_pem=pem.encode(), server_name=name) as peer:
                await peer.until(lambda: peer.established)


async def test_another_name_is_refused(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer(server_name="relay.example") as peer:
        end = await peer.end()
        assert end.frame_type == FRAME_TYPE_CRYPTO
        assert "relay.example" in end.reason_phrase
        assert not peer.established
        await eventually(lambda: not live.relay.sessions, "the relay has forgotten it")


async def test_another_relays_certificate_is_refused(tmp_path: Path) -> None:
    async with live_relay(tmp_path / "one") as live, live_relay(tmp_path / "other") as other:
        assert live.credentials != other.credentials
        async with live.peer(ca_pem=other.credentials.chain) as peer:
            assert (await peer.end()).frame_type == FRAME_TYPE_CRYPTO
            assert not peer.established


async def test_another_application_is_refused(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer(alpn="h3") as peer:
        await peer.end()
        assert not peer.established
        await eventually(lambda: not live.relay.sessions, "the relay has forgotten it")


# Address validation


def half_a_client_hello(live: LiveRelay) -> QuicConnection:
    """A handshake that stays pending: the first of the two packets that qh3's ClientHello takes."""
    pending = QuicConnection(configuration=client_configuration(Trust(SERVER_NAME)))
    now = time.monotonic()
    pending.connect(("127.0.0.1", live.port), now)
    first, *rest = pending.datagrams_to_send(now)
    assert rest
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(first[0], ("127.0.0.1", live.port))
    return pending


async def test_with_many_handshakes_pending_an_address_is_validated_by_retry(tmp_path: Path) -> None:
    async with live_relay(tmp_path, retry_above=3) as live:
        for number in range(3):
            half_a_client_hello(live)
            await eventually(lambda n=number: len(live.endpoint.connections) > n, "a handshake is pending")
        assert live.endpoint.retries_sent == 0
        async with live.peer() as peer:
            assert (await peer.join())["peer_id"] == 1
            # aioquic has checked the Retry's integrity tag and the connection IDs (RFC 9000, section 7.3).
            assert live.endpoint.retries_sent == 1
        half_a_client_hello(live)
        await eventually(lambda: live.endpoint.retries_sent == 2, "the next one is asked to prove its address too")
        assert len([s for s in live.relay.sessions if s.state is State.HANDSHAKE]) == 3


async def test_a_peer_that_pads_its_datagrams_behind_the_packet_gets_in(tmp_path: Path) -> None:
    async with live_relay(tmp_path, retry_above=64) as live, live.peer() as peer:
        async with asyncio.timeout(2.0):
            assert (await peer.join())["peer_id"] == 1


# The relay's own demands


async def test_a_peer_without_datagrams_is_closed(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer(datagram_frame_size=None) as peer:
        end = await peer.end()
        assert (end.error_code, end.reason_phrase) == (2, "datagram_unsupported")
        assert not live.relay.sessions


async def test_a_peer_that_says_nothing_is_closed(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as silent, live.peer() as joined:
        await joined.join()
        await silent.until(lambda: silent.established)
        await eventually(lambda: len(live.relay.sessions) == 2, "both are connected")
        live.tick(4.0)
        silent.send_datagram(b"\x12\0\0\0" + bytes(8))
        await silent.until(lambda: silent.datagrams)
        live.tick(5.1)
        end = await silent.end()
        assert (end.error_code, end.reason_phrase.split(":")[0]) == (6, "hello_timeout")
        assert (joined.closed, len(live.relay.sessions)) == (None, 1)


async def test_malformed_datagrams_end_the_session(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as peer, live.peer() as other:
        await peer.join()
        await other.join(mac="02:00:00:00:00:02")
        for _ in range(33):
            peer.send_datagram(b"\x20\x00\x00\x01" + bytes(60))  # version 2
        end = await peer.end()
        assert (end.error_code, end.reason_phrase.split(":")[0]) == (5, "malformed")
        assert (await other.message("peer_left"))["reason"] == "malformed"
        assert not other.datagrams


# What a peer may do by QUIC's rules must not hurt the others


async def both_in(one: AioquicPeer, other: AioquicPeer) -> tuple[int, int]:
    """Let two clients join; their peer ids."""
    return (await one.join())["peer_id"], (await other.join(mac="02:00:00:00:00:02"))["peer_id"]


async def test_a_member_that_resets_its_control_stream_has_left(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as careless, live.peer() as other:
        first, _ = await both_in(careless, other)
        careless.reset_control()
        left = await other.message("peer_left")
        assert (left["peer_id"], left["reason"]) == (first, "disconnect:closed")
        await careless.end()


async def test_a_member_that_wants_no_control_messages_keeps_nobody_out(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as stubborn, live.peer() as other, live.peer() as newcomer:
        first, second = await both_in(stubborn, other)
        stubborn.stop_control()
        stubborn.send_datagram(frame(first, "020000000001", 64))
        await other.until(lambda: other.datagrams)  # and so STOP_SENDING, which was sent first, has arrived

        assert (await newcomer.join(mac="02:00:00:00:00:03"))["peer_id"] == 3
        await other.until(lambda: other.narrative.count("peer_joined") == 2)
        live.tick()
        await stubborn.end()
        for peer in (other, newcomer):
            assert (await peer.message("peer_left")) == {
                "type": "peer_left",
                "peer_id": first,
                "reason": "protocol_error",
            }
        other.send_datagram(frame(second, "020000000002", 64))
        await newcomer.until(lambda: newcomer.datagrams)


async def test_a_member_that_takes_only_small_datagrams_gets_those_and_ends_no_one(tmp_path: Path) -> None:
    async with (
        live_relay(tmp_path) as live,
        live.peer(datagram_frame_size=700) as small,
        live.peer() as other,
    ):
        _, second = await both_in(small, other)
        for size in (697, 698, 699, 700, 701, 64):
            other.send_datagram(frame(second, "020000000002", size))
        await small.until(lambda: small.datagrams and len(small.datagrams[-1]) == 64)
        # 700 bytes is the whole DATAGRAM frame, its type and length included (RFC 9221, section 3).
        assert [len(datagram) for datagram in small.datagrams] == [697, 64]
        assert (small.closed, other.closed) == (None, None)


async def test_streams_that_are_not_the_control_stream_are_of_no_consequence(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as peer:
        await peer.join()
        peer.write_elsewhere(b"\xff" * 5000)
        peer.send_datagram(b"\x12\0\0\0" + bytes(8))
        await peer.until(lambda: peer.datagrams)
        assert peer.closed is None


async def test_a_peer_that_closes_without_a_word_has_left(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as peer, live.peer() as other:
        first, _ = await both_in(peer, other)
        peer.close(error_code=0x17, reason_phrase="something broke")
        assert (await other.message("peer_left")) == {
            "type": "peer_left",
            "peer_id": first,
            "reason": "disconnect:closed",
        }
        assert len(live.relay.sessions) == 1
