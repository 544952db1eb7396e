"""Each session of a sealed room has a salt of its own, however it came about: a key is never used for two counts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.live_relay import eventually
from tests.support.tunnels import Field, tunnel_field

from softlan.client import tunnel
from softlan.client.session import Session
from softlan.proto.keys import SALT_LENGTH

SECRET = bytes(range(32))


@pytest.fixture
async def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Field]:
    async with tunnel_field(tmp_path, monkeypatch) as field:
        yield field


async def test_no_salt_is_used_twice(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes that are tried again beside each other, sessions that are lost, and ones that resume."""
    salts: list[bytes] = []

    class Recorded(Session):
        def __init__(self, *positional: Any, salt: bytes | None, **named: Any) -> None:
            assert salt is not None
            salts.append(salt)
            super().__init__(*positional, salt=salt, **named)

    monkeypatch.setattr(tunnel, "Session", Recorded)
    shown: list[str | None] = []
    field.host.kill()
    end = field.end(secret=SECRET)
    await eventually(lambda: len(salts) > 2, "several handshakes with nobody")
    for times in range(1, 4):
        field.host.start()
        await end.in_room(times)
        shown += [session.member.seal for session in field.host.relay.sessions if session.member is not None]
        field.host.kill()
    assert len(salts) == len(set(salts)) > 5
    assert {len(salt) for salt in salts} == {SALT_LENGTH}
    assert len(set(shown)) == 3
    assert {seal for seal in shown if seal} <= {salt.hex() for salt in salts}
