"""The look at a real relay on loopback: what a client would meet, and nothing left behind."""

import asyncio
import datetime
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import live_relay as support
from tests.support.live_relay import SERVER_NAME, LiveRelay, eventually, live_relay

from softlan.client.doctor.look import look_at_relay
from softlan.client.doctor.verdicts import RelayLook
from softlan.client.session import Identity
from softlan.ctrl.messages import Role
from softlan.net.address import HostPort
from softlan.proto.keys import room_keys
from softlan.quic import trust as trust_module
from softlan.quic.trust import Trust

ME = Identity(Role.CLIENT, "DEN", b"\x02\x00\x5e\x10\x00\x01", "softlan test")


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveRelay]:
    async with live_relay(tmp_path) as relay:
        yield relay


async def look(live: LiveRelay, trust: Trust, *, join: bool = False, identity: Identity = ME) -> RelayLook:
    return await look_at_relay(HostPort("127.0.0.1", live.port), trust, identity, join=join)


async def test_a_relay_that_is_well(live: LiveRelay, tmp_path: Path) -> None:
    seen = await look(live, live.trust(tmp_path))
    assert (seen.answered, seen.verified, seen.trouble, seen.reject) == (True, True, "", "")
    assert (seen.addresses, seen.address, seen.budget) == (("127.0.0.1",), "127.0.0.1", 1440)
    assert seen.rtt_ms is not None
    assert 0 < seen.rtt_ms < 5000
    assert seen.certificate is not None
    assert set(seen.certificate.names) == {"localhost", SERVER_NAME}
    assert seen.certificate.not_before < datetime.datetime.now(datetime.UTC) < seen.certificate.not_after
    assert seen.welcome is None


async def test_without_a_room_nobody_is_disturbed(live: LiveRelay, tmp_path: Path) -> None:
    await look(live, live.trust(tmp_path))
    assert not any(session.member for session in live.relay.sessions)
    await eventually(lambda: not live.endpoint.connections, "the connection is closed")


async def test_with_a_room_we_are_in_it_for_a_moment(live: LiveRelay, tmp_path: Path) -> None:
    seen = await look(live, live.trust(tmp_path), join=True)
    assert seen.welcome is not None
    assert (seen.welcome.room, seen.welcome.gateway_present, seen.welcome.sealed) == ("DEN", False, False)
    assert not seen.refused
    await eventually(lambda: not live.relay.sessions, "the room is empty again")


async def test_with_an_invitation_we_are_in_a_sealed_room(live: LiveRelay, tmp_path: Path) -> None:
    keys = room_keys(bytes(32), "DEN")
    invited = replace(ME, room_token=keys.token, frame_key=keys.frame_key)
    seen = await look(live, live.trust(tmp_path), join=True, identity=invited)
    assert seen.welcome is not None
    assert seen.welcome.sealed


async def test_a_room_that_is_there_with_another_secret(live: LiveRelay, tmp_path: Path) -> None:
    keys, others = room_keys(bytes(32), "DEN"), room_keys(bytes(range(32)), "DEN")
    async with live.peer() as member:
        await member.join(room="DEN", room_token=keys.token, seal="00" * 16)
        for identity in (ME, replace(ME, room_token=others.token, frame_key=others.frame_key)):
            seen = await look(live, live.trust(tmp_path), join=True, identity=identity)
            assert (seen.welcome, seen.refused, seen.reject) == (None, True, "unauthorized")
            assert "token" in seen.trouble


async def test_a_relay_that_says_no(tmp_path: Path) -> None:
    async with live_relay(tmp_path, redirect="192.0.2.9:443") as live:
        seen = await look(live, live.trust(tmp_path), join=True)
    assert (seen.verified, seen.welcome, seen.refused, seen.reject) == (True, None, True, "redirect")
    assert seen.trouble


async def test_a_certificate_that_is_not_trusted_is_seen_all_the_same(live: LiveRelay) -> None:
    seen = await look(live, Trust(SERVER_NAME))
    assert (seen.answered, seen.verified, seen.budget) == (True, False, None)
    assert "issuer" in seen.trouble
    assert seen.certificate is not None
    assert SERVER_NAME in seen.certificate.names


async def test_another_certificate_than_the_pinned_one(live: LiveRelay) -> None:
    seen = await look(live, Trust(SERVER_NAME, fingerprint="00" * 32))
    assert (seen.answered, seen.verified) == (True, False)
    assert "ingerprint" in seen.trouble


@pytest.fixture(params=[-2000, 400], ids=["expired", "not valid yet"])
def shifted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The relay's certificate was made so many days from now."""
    days: int = request.param
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    made = trust_module._make_development(["localhost", SERVER_NAME], then)
    monkeypatch.setattr(support, "development_credentials", lambda *_: made)
    return iter([days])


@pytest.fixture
def days(shifted: Iterator[int]) -> int:
    return next(shifted)


async def test_a_certificate_out_of_its_time(days: int, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    async with live_relay(tmp_path) as live:
        seen = await look(live, Trust(SERVER_NAME))
    assert (seen.answered, seen.verified) == (True, False)
    assert seen.certificate is not None
    assert (seen.certificate.not_after < now) == (days < 0)
    assert (seen.certificate.not_before > now) == (days > 0)


async def test_silence(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        seen = await look_at_relay(
            HostPort("127.0.0.1", mute.getsockname()[1]), Trust("x"), ME, join=False, patience=0.4
        )
    assert (seen.answered, seen.addresses, seen.certificate) == (False, ("127.0.0.1",), None)
    assert 0.4 <= seen.seconds < 5


async def test_something_that_answers_and_is_no_relay() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", 0))
        echo.setblocking(False)
        loop.add_reader(echo, lambda: echo.sendto(*echo.recvfrom(4096)))
        seen = await look_at_relay(
            HostPort("127.0.0.1", echo.getsockname()[1]), Trust("x"), ME, join=False, patience=0.4
        )
        loop.remove_reader(echo)
    assert not seen.verified
    assert seen.certificate is None


async def test_a_name_that_nobody_knows() -> None:
    seen = await look_at_relay(HostPort("relay.invalid", 443), Trust("relay.invalid"), ME, join=False)
    assert "relay.invalid" in seen.unresolved
