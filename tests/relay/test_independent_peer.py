"""The protocol as an implementation sees it that shares no QUIC and no softlan code with the relay: aioquic."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from tests.support.live_relay import eventually, live_relay
from tests.support.softlan_gateway import softlan_gateway

from softlan.ctrl.messages import RejectCode

PLAYER, SECOND, LAN_HOST = (bytes.fromhex(text) for text in ("020000000001", "020000000002", "001b21000009"))
BROADCAST = b"\xff" * 6
OTHER = bytes.fromhex("88b5")  # local experimental: no policy looks into it


async def test_a_welcome_has_what_the_protocol_lists(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as peer:
        welcome = await peer.join(software="aioquic", features=["x"], unknown=[1])
        assert isinstance(welcome.pop("resume"), str)
        assert welcome == {
            "type": "welcome",
            "version": 1,
            "mode": "ethernet",
            "peer_id": 1,
            "room": "den",
            "room_mtu": 1418,
            "effective_mtu": 1146,
            "datagram_budget": 1168,
            "gateway_present": False,
            "stats_interval": 10.0,
            "features": [],
            "sealed": False,
        }


async def test_frames_cross_in_both_directions_to_and_from_a_softlan_gateway(tmp_path: Path) -> None:
    async with (
        live_relay(tmp_path) as live,
        softlan_gateway(live.port, live.trust(tmp_path), tmp_path) as (tunnel, lan),
    ):
        assert lan.welcome is not None
        async with live.peer(udp_payload=1472) as peer:
            welcome = await peer.join(datagram_budget=1440)
            assert (welcome["gateway_present"], welcome["effective_mtu"]) == (True, 1418)
            there = await peer.message("peer_joined")
            peer_id = lan.welcome.peer_id
            assert there == {"type": "peer_joined", "peer_id": peer_id, "role": "gateway", "mac": None, "seal": None}

            sent = [
                BROADCAST + PLAYER + OTHER + b"who is there?",
                LAN_HOST + PLAYER + OTHER + bytes(1418),
                LAN_HOST + PLAYER + bytes.fromhex("81000007 88b5") + bytes(1418),  # with a tag: all of the budget
            ]
            for frame in sent:
                peer.send_datagram(b"\x10\x00" + welcome["peer_id"].to_bytes(2) + frame)
            await eventually(lambda: len(lan.frames) == 3, "the gateway has the frames")
            assert lan.frames == sent

            answers = [
                PLAYER + LAN_HOST + OTHER + b"me",
                BROADCAST + LAN_HOST + OTHER + bytes(1418),
                SECOND + LAN_HOST + OTHER + b"nobody here",  # unknown unicast from the gateway
                PLAYER + LAN_HOST + bytes.fromhex("81000007 88b5") + bytes(1418),
            ]
            tunnel.send_frames(answers)
            await peer.until(lambda: len(peer.datagrams) == 3)
            prefix = b"\x10\x00" + lan.welcome.peer_id.to_bytes(2)
            assert peer.datagrams == [prefix + answers[0], prefix + answers[1], prefix + answers[3]]

            peer.say(type="disconnect", reason="bedtime", message="good night")
            assert (await peer.end()).error_code == 0
        await eventually(lambda: len(lan.peers) == 2, "the gateway has heard of it")
        assert lan.peers == ["02:00:00:00:00:01 came", "02:00:00:00:00:01 left: disconnect:bedtime"]


async def test_probes_come_back_unchanged_before_and_after_the_welcome(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer(udp_payload=1472) as peer:
        await peer.until(lambda: peer.established)
        probes = [b"\x12\x00\x00\x00" + bytes((nonce,)) * 8 + bytes(size - 12) for nonce, size in ((1, 12), (2, 1440))]
        for probe in probes:
            peer.send_datagram(probe)
        await peer.until(lambda: len(peer.datagrams) == 2)
        welcome = await peer.join(datagram_budget=1440)
        probes.append(b"\x12\x00" + welcome["peer_id"].to_bytes(2) + b"\x03" * 8 + bytes(100))
        peer.send_datagram(probes[-1])
        await peer.until(lambda: len(peer.datagrams) == 3)
        assert peer.datagrams == probes


async def test_a_hello_byte_by_byte_in_packets_of_their_own(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as peer:
        await peer.until(lambda: peer.established)
        whole: list[bytes] = []
        peer.write, write = whole.append, peer.write
        peer.hello()
        for byte in whole[0]:
            write(bytes((byte,)))
        assert (await peer.message("welcome"))["room"] == "den"


# What it takes to be refused: the relay's limits, who is there before, and what is different in the hello.
FIRST: list[dict[str, Any]] = [{}]
REJECTS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = {
    "unsupported_version": ({}, [], {"version": 2}),
    "bad_message": ({}, [], {"datagram_budget": 12}),
    "bad_room": ({}, [], {"room": "a/b"}),
    "bad_mac": ({}, [], {"mac": "00:1b:21:00:00:01"}),
    "unauthorized": ({}, [{"room_token": "ours"}], {"mac": "02:00:00:00:00:02"}),
    "room_full": ({"max_room_peers": 1}, FIRST, {"mac": "02:00:00:00:00:02"}),
    "relay_full": ({"max_peers": 1}, FIRST, {"room": "attic"}),
    "gateway_exists": ({}, [{"role": "gateway", "mac": None}], {"role": "gateway", "mac": None}),
    "duplicate_mac": ({}, FIRST, {}),
    "budget_too_small": ({}, [], {"datagram_budget": 597}),
    "redirect": ({"redirect": "relay.example:4433"}, [], {}),
    "shutting_down": ({}, FIRST, {"mac": "02:00:00:00:00:02"}),
    "rate_limited": ({"hellos_per_minute": 1.0}, FIRST, {"mac": "02:00:00:00:00:02"}),
}


@pytest.mark.parametrize("code", REJECTS)
async def test_every_reject_is_read_before_the_connection_closes(tmp_path: Path, code: str) -> None:
    limits, others, changes = REJECTS[code]
    async with live_relay(tmp_path, **limits) as live, contextlib.AsyncExitStack() as there, live.peer() as peer:
        for other in others:
            await (await there.enter_async_context(live.peer())).join(**other)
        await peer.until(lambda: peer.established)
        if code == "shutting_down":
            live.shut_down()
        peer.hello(**changes)
        reject = await peer.message("reject")
        end = await peer.end()
        assert peer.narrative == ["reject", "closed"]
        assert reject["code"] == code
        assert reject["message"]
        assert reject.get("redirect") == limits.get("redirect")
        assert ("retry_after" in reject) == (code in ("room_full", "relay_full", "shutting_down", "rate_limited"))
        assert end.reason_phrase == f"{code}: {reject['message']}"
        assert end.frame_type is None, "closed by the application, not by QUIC"


def test_these_are_all_the_codes_of_the_protocol() -> None:
    assert len(REJECTS) == 13
    assert set(REJECTS) == {code.value for code in RejectCode}


async def test_a_bad_message_in_the_room_closes_with_what_was_wrong(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as peer, live.peer() as other:
        await peer.join()
        await other.join(mac="02:00:00:00:00:02")
        peer.say(type="chat", text="an unknown type is ignored")
        peer.say(type="stats", counters={"frames_in": 1}, rtt_ms=0.5)
        peer.say(type="stats", counters={"frames_in": "many"})
        end = await peer.end()
        assert end.reason_phrase.startswith("bad_message: stats: ")
        assert (await other.message("peer_left"))["reason"] == "protocol_error"


async def test_the_resume_string_brings_the_same_peer_id_back(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as other, live.peer() as old, live.peer() as new:
        await other.join(mac="02:00:00:00:00:02")
        before = await old.join()
        after = await new.join(resume=before["resume"])
        assert after["peer_id"] == before["peer_id"]
        assert (await old.message("disconnect"))["reason"] == "replaced"
        await old.end()
        await other.until(lambda: other.narrative.count("peer_joined") == 2)
        assert other.narrative == ["welcome", "peer_joined", "peer_left", "peer_joined"]
        assert (await other.message("peer_left"))["reason"] == "replaced"
        other.send_datagram(b"\x10\x00" + b"\x00\x01" + BROADCAST + SECOND + OTHER + bytes(46))
        await new.until(lambda: new.datagrams)
        assert not old.datagrams


async def test_shutting_down_says_goodbye(tmp_path: Path) -> None:
    async with live_relay(tmp_path) as live, live.peer() as peer:
        await peer.join()
        live.shut_down()
        assert (await peer.message("disconnect"))["reason"] == "relay_shutdown"
        assert (await peer.end()).reason_phrase == "relay_shutdown"
        assert peer.narrative == ["welcome", "disconnect", "closed"]
