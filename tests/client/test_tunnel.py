"""The tunnel's whole life: in, lost, and in again."""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.live_relay import eventually
from tests.support.tunnels import MAC, OTHER, Field, tunnel_field
from tests.support.virtual_room import BROADCAST, frame

from softlan.client import tunnel
from softlan.client.attempts import Attempts
from softlan.client.reconnect import Backoff
from softlan.client.resume import ResumeFile
from softlan.client.session import Identity
from softlan.ctrl.messages import Role
from softlan.errors import HostError, RemoteError
from softlan.net.address import HostPort, SocketAddress
from softlan.proto.drop import DropReason
from softlan.quic.express import ExpressUdpSocket
from softlan.quic.open_udp import open_udp


@pytest.fixture
async def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Field]:
    async with tunnel_field(tmp_path, monkeypatch) as field:
        yield field


# In and out


async def test_it_joins_carries_frames_and_says_goodbye(field: Field) -> None:
    one = field.end()
    one.tunnel.send_frames([frame(BROADCAST, MAC)])
    assert one.counters.drops == {DropReason.NOT_CONNECTED: 1}
    await one.in_room()
    two = field.end(mac=OTHER)
    await two.in_room()
    burst = [frame(OTHER, MAC, b"%d" % number) for number in range(100)]
    one.tunnel.send_frames(burst)
    await eventually(lambda: two.frames == burst, "the frames")
    await one.end()
    await eventually(lambda: field.host.members == [2], "the goodbye")
    assert one.lost_count == 1
    one.tunnel.send_frames(burst)
    assert one.counters.drops == {DropReason.NOT_CONNECTED: 101}


async def test_what_is_express_goes_by_the_express_sockets_all_the_way(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = field.end(), field.end(mac=OTHER)
    await one.in_room()
    await two.in_room()
    sent: list[int] = []
    real = ExpressUdpSocket.send

    def send(sock: ExpressUdpSocket, datagrams: list[bytes], address: SocketAddress) -> None:
        sent.append(sock.local_address[1])
        real(sock, datagrams, address)

    monkeypatch.setattr(ExpressUdpSocket, "send", send)
    games, streams = ([frame(OTHER, MAC, word + b"%d" % number) for number in range(20)] for word in (b"g", b"s"))
    one.tunnel.send_frames(streams)
    await eventually(lambda: two.frames == streams, "the streams")
    assert sent == []
    one.tunnel.send_frames(games, True)
    await eventually(lambda: two.frames == streams + games, "the games")
    assert len(sent) == 2
    assert sent[1] == field.host.port, "the relay passes them on as they came"


async def test_dead_addresses_are_passed_over(field: Field) -> None:
    with contextlib.closing(open_udp(HostPort("127.0.0.1", 0))) as mute:
        dead = mute.local_address
        end = field.end(addresses=[("2001:db8::1", 443, 0, 0), dead, ("127.0.0.1", field.host.port)])
        await end.in_room()


async def test_it_ends_at_once_whatever_it_is_doing(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next", lambda self, random, retry_after=None: 60.0)
    field.host.kill()
    connecting = field.end()
    await asyncio.sleep(0)
    await connecting.end()
    waiting = field.end()
    await eventually(lambda: waiting.lost_count, "the first attempt has failed")
    await waiting.end()


async def test_a_quiet_room_costs_a_tick_now_and_then(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "TICK", 0.1)
    end = field.end()
    await end.in_room()
    before, start = end.ticks, time.monotonic()
    await eventually(lambda: end.ticks >= before + 10, "ten ticks")
    assert time.monotonic() - start > 0.9, "nothing wakes it in between"


async def test_no_descriptor_is_left_behind(field: Field) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    end = field.end()
    await end.in_room()
    before = open_files()
    for times in (2, 3, 4):
        losses = end.lost_count
        field.host.freeze()
        await eventually(lambda losses=losses: end.lost_count > losses, "silence")  # type: ignore[misc]
        field.host.thaw()
        await end.in_room(times)
    await eventually(lambda: open_files() == before, f"{before} open files")


# Lost and found


async def test_a_relay_that_was_restarted_is_joined_anew(field: Field) -> None:
    end = field.end()
    first = await end.in_room()
    field.host.kill()
    field.host.start()
    second = await end.in_room(2)
    assert second.resume != first.resume
    assert (end.lost_count, field.host.members) == (1, [1])


async def test_a_sealed_room_has_new_keys_each_time(field: Field) -> None:
    one, two = (field.end(mac=mac, secret=bytes(32)) for mac in (MAC, OTHER))
    for times in (1, 2, 3):
        await asyncio.gather(one.in_room(times), two.in_room(times))
        burst = [frame(OTHER, MAC, b"%d, %d" % (times, number)) for number in range(20)]
        one.tunnel.send_frames(burst)
        await eventually(lambda burst=burst: two.frames[-20:] == burst, "the frames")  # type: ignore[misc]
        field.host.kill()
        field.host.start()
    assert len({peer.seal for peer in two.came}) == len(two.came) >= 3
    assert all(peer.seal for peer in two.came)
    assert DropReason.BAD_SEAL not in two.counters.drops


async def test_a_relay_that_stays_away_is_tried_until_it_is_back(field: Field) -> None:
    end = field.end()
    await end.in_room()
    field.host.kill()
    await eventually(lambda: end.lost_count >= 3, "two attempts in vain")
    field.host.start()
    await end.in_room(2)


async def test_after_an_outage_it_takes_its_own_place_again(field: Field) -> None:
    other, end = field.end(mac=OTHER), field.end()
    await other.in_room()
    first = await end.in_room()
    field.host.freeze()
    await eventually(lambda: end.lost_count, "silence")
    field.host.thaw()
    assert (await end.in_room(2)).peer_id == first.peer_id


async def test_a_ghost_of_its_own_is_waited_for(field: Field) -> None:
    """The relay holds the place of a session whose welcome never came, so nobody knows its resume string."""
    end = field.end()
    await end.in_room()
    (ghost,) = field.host.relay.sessions
    field.host.freeze()
    end.tunnel._resume.save("stale")
    await eventually(lambda: end.lost_count, "silence")
    field.host.thaw()
    await eventually(lambda: end.lost_count >= 4, "some rejects")
    assert not end.running.done()
    field.host.relay.leave(ghost, "timeout")
    await end.in_room(2)


async def test_a_ghost_of_an_earlier_run_is_waited_for(field: Field, tmp_path: Path) -> None:
    """Whose string was lost, on a full disk for example; of that run there is but an older one."""
    await field.end().in_room()
    (ghost,) = field.host.relay.sessions
    relay = f"127.0.0.1:{field.host.port}"
    ResumeFile(tmp_path / "state1", Identity(Role.CLIENT, "den", MAC, "a test"), relay).save("stale")
    end = field.end()
    await eventually(lambda: end.lost_count >= 3 or end.running.done(), "some rejects")
    assert not end.running.done()
    field.host.relay.leave(ghost, "timeout")
    await end.in_room()


async def test_but_not_longer_than_one_may_live(field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "GHOST_TIME", 0.3)
    await field.end().in_room()
    relay = f"127.0.0.1:{field.host.port}"
    ResumeFile(tmp_path / "state1", Identity(Role.CLIENT, "den", MAC, "a test"), relay).save("stale")
    end = field.end()
    with pytest.raises(RemoteError, match="is softlan running twice"):
        await end.in_room()
    assert end.lost_count >= 2


async def test_what_ended_does_not_pile_up(field: Field) -> None:
    """Sessions that ended are full of cycles, and `net.loop` lets the collector look only seldom."""
    gc.collect()
    gc.disable()
    try:
        end = field.end()
        field.host.kill()
        await eventually(lambda: end.lost_count >= 3, "some attempts in vain")
        kept = [each for each in gc.get_objects() if isinstance(each, Attempts) and each._sink is end]
        assert len(kept) <= 2, "the last one, and the next"
    finally:
        gc.enable()


async def test_a_path_that_became_narrower_gets_a_smaller_budget_until_it_is_lost(field: Field) -> None:
    end = field.end()
    assert (await end.in_room()).datagram_budget == 1440
    for times, budget in ((2, 1420), (3, 1318)):
        assert end.tunnel.session is not None
        end.tunnel.session.path.narrowed = True
        assert (await end.in_room(times)).datagram_budget == budget
    assert field.host.members == [1], "its place was kept"
    assert end.tunnel.session is not None
    end.tunnel.session.path._heard = 0.0
    assert (await end.in_room(4)).datagram_budget == 1440


async def test_a_name_service_that_is_out_of_reach_does_not_keep_it_away(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = field.end()
    await end.in_room()

    async def fail(_: HostPort) -> list[SocketAddress]:
        raise HostError("resolve", "cannot resolve relay.example: out of reach; check the name")

    async def hang(_: HostPort) -> list[SocketAddress]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(tunnel, "RESOLVE_TIME", 0.1)
    for times, resolve in ((2, fail), (3, hang)):
        monkeypatch.setattr(tunnel, "resolve", resolve)
        field.host.kill()
        field.host.start()
        await end.in_room(times)


async def test_a_relay_that_has_moved_is_found_by_its_name(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    end = field.end()
    await end.in_room()
    field.host.kill()
    field.host.port = 0
    field.host.start()

    async def resolve(_: HostPort) -> list[SocketAddress]:
        return [("127.0.0.1", field.host.port)]

    monkeypatch.setattr(tunnel, "resolve", resolve)
    await end.in_room(2)
