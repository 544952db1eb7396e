"""What ends a tunnel, what it waits out, and where it is sent."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.live_relay import SERVER_NAME, eventually
from tests.support.tunnels import OTHER, Field, Host, tunnel_field
from tests.support.wire import trust

from softlan.client.reconnect import Backoff
from softlan.ctrl.messages import Welcome
from softlan.errors import HostError, RemoteError
from softlan.quic.trust import Trust
from softlan.relay import relay


@pytest.fixture
async def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Field]:
    async with tunnel_field(tmp_path, monkeypatch) as field:
        yield field


# What cannot heal, and what can


async def test_a_reject_that_cannot_heal_is_the_end(field: Field) -> None:
    first = field.end()
    await first.in_room()
    with pytest.raises(RemoteError, match="is already in room den; is softlan running twice") as caught:
        await field.end().in_room()
    assert caught.value.code == "duplicate_mac"


async def test_a_reject_on_the_way_back_is_the_end_too(field: Field) -> None:
    end = field.end()
    await end.in_room()
    field.host.kill()
    field.host.start(mtu_floor=1500, room_mtu=1600)
    with pytest.raises(RemoteError, match="this relay needs at least 1500") as caught:
        await end.in_room(2)
    assert caught.value.code == "budget_too_small"


async def test_a_full_room_is_waited_for(field: Field) -> None:
    field.host.kill()
    field.host.start(max_room_peers=1)
    first = field.end()
    await first.in_room()
    second = field.end(mac=OTHER)
    await eventually(lambda: second.lost_count >= 2, "some rejects")
    await first.end()
    await second.in_room()


async def test_an_impostor_is_the_end_at_first(field: Field) -> None:
    wrong = Trust(SERVER_NAME, fingerprint="00" * 32)
    with pytest.raises(HostError, match=r"^the relay could not be verified: .*; ask for a new invitation, or check"):
        await field.end(pinned=wrong).in_room()


async def test_an_impostor_on_the_way_back_is_waited_out(field: Field) -> None:
    """Somebody else at its address for a while: a captive portal, or a relay that is being set up again."""
    end = field.end()
    await end.in_room()
    object.__setattr__(end.tunnel._config, "trust", Trust(SERVER_NAME, fingerprint="00" * 32))
    field.host.kill()
    field.host.start()
    await eventually(lambda: end.lost_count >= 4, "some attempts")
    object.__setattr__(end.tunnel._config, "trust", trust())
    await end.in_room(2)


async def test_another_process_that_took_our_place_keeps_it(field: Field) -> None:
    first = field.end()
    welcome = await first.in_room()
    second = field.end()
    second.tunnel._resume.save(welcome.resume)
    await second.in_room()
    with pytest.raises(RemoteError, match="took our place") as caught:
        await first.in_room(2)
    assert caught.value.code == "replaced"


@pytest.mark.parametrize("secret", [bytes(32), None], ids=["not sealed", "sealed"])
async def test_a_relay_that_says_the_room_is_of_the_other_kind_is_the_end(
    field: Field, monkeypatch: pytest.MonkeyPatch, secret: bytes | None
) -> None:
    def lie(**members: Any) -> Welcome:
        return Welcome(**(members | {"sealed": secret is None}))

    end = field.end(secret=secret)
    await end.in_room()
    monkeypatch.setattr(relay, "Welcome", lie)
    field.host.kill()
    field.host.start()
    advice = "room den is sealed; join with its" if secret is None else "room den is not sealed; join with --no-seal"
    with pytest.raises(RemoteError, match=advice) as caught:
        await end.in_room(2)
    assert caught.value.code == "unauthorized"
    assert len(end.welcomes) == 1


async def test_a_local_side_that_cannot_follow_is_the_end_with_a_goodbye(field: Field) -> None:
    end = field.end()
    end.refuses = HostError("tap", "no more interfaces")
    await eventually(end.running.done, "the end")
    with pytest.raises(HostError, match="no more interfaces"):
        await end.running
    await eventually(lambda: field.host.members == [], "the goodbye")
    assert end.lost_count == 1


# Elsewhere


@pytest.fixture
async def elsewhere(field: Field) -> AsyncIterator[Host]:
    """A second relay; the first one sends everyone there."""
    other = Host()
    other.start()
    field.host.kill()
    field.host.start(redirect=f"127.0.0.1:{other.port}")
    yield other
    for end in field.ends:
        end.stop.set()
        await asyncio.wait([end.running], timeout=5)
    other.kill()


async def test_a_redirect_is_followed_without_a_pause(
    field: Field, elsewhere: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next", lambda self, random, retry_after=None: 60.0)
    end = field.end()
    await end.in_room()
    assert (field.host.members, elsewhere.members) == ([], [1])


async def test_where_it_was_sent_is_tried_first_and_then_who_sent_it(field: Field, elsewhere: Host) -> None:
    end = field.end()
    await end.in_room()
    elsewhere.kill()
    await eventually(lambda: end.lost_count >= 3, "the relay that it was sent to is gone")
    field.host.kill()
    field.host.start()
    await end.in_room(2)
    assert field.host.members == [1]


async def test_relays_that_send_in_circles_are_the_end(field: Field, elsewhere: Host) -> None:
    elsewhere.kill()
    elsewhere.start(redirect=f"127.0.0.1:{field.host.port}")
    with pytest.raises(RemoteError, match="in circles") as caught:
        await field.end().in_room()
    assert caught.value.code == "redirect"


async def test_a_redirect_to_nowhere_is_the_relays_fault(field: Field) -> None:
    field.host.kill()
    field.host.start(redirect="relay.example:99999")
    with pytest.raises(RemoteError, match="the relay sends us nowhere") as caught:
        await field.end().in_room()
    assert caught.value.code == "redirect"
