import pytest
from tests.support.relay_fakes import FakeConnection, Peer, RelayBench, mac

from softlan.ctrl.messages import Disconnect, PeerJoined, PeerLeft, Reject, RejectCode, Role, Stats, Welcome
from softlan.proto.overlay import Kind, encode
from softlan.quic.handler import CloseCause, CloseCode
from softlan.relay.session import State


@pytest.fixture
def bench() -> RelayBench:
    return RelayBench()


def welcome(peer: Peer) -> Welcome:
    """Its welcome, and nothing behind it."""
    [message] = peer.read()
    assert isinstance(message, Welcome)
    return message


def reject_code(peer: Peer) -> RejectCode:
    [message] = peer.read()
    assert isinstance(message, Reject)
    return message.code


def client(peer_id: int, number: int) -> PeerJoined:
    return PeerJoined(peer_id=peer_id, role=Role.CLIENT, mac=f"02:00:00:00:00:0{number}")


def broadcast(peer: Peer, number: int) -> bytes:
    """A frame of client `number` to everyone, as it sends it."""
    return encode(Kind.ETHERNET, peer.peer_id, b"\xff" * 6 + mac(number) + b"\x88\xb5" + bytes(46))


# Joining and leaving


def test_the_first_member_is_told_everything_about_its_place(bench: RelayBench) -> None:
    assert welcome(bench.join(1, datagram_budget=1420)) == Welcome(
        version=1,
        mode="ethernet",
        peer_id=1,
        room="den",
        room_mtu=1418,
        effective_mtu=1398,
        datagram_budget=1420,
        gateway_present=False,
        resume="resume-1",
        stats_interval=10.0,
    )


def test_each_is_told_of_each_other_once_and_the_newcomer_after_its_welcome(bench: RelayBench) -> None:
    first = bench.join(1)
    assert welcome(first).gateway_present is False
    gateway = bench.join(None)
    gateway_joined = PeerJoined(peer_id=2, role=Role.GATEWAY, mac=None)
    assert first.read() == [gateway_joined]
    told, *present = gateway.read()
    assert isinstance(told, Welcome)
    assert told.gateway_present is False, "it is the gateway itself"
    assert present == [client(1, 1)]

    third = bench.join(3)
    told, *present = third.read()
    assert isinstance(told, Welcome)
    assert told.gateway_present is True
    assert present == [client(1, 1), gateway_joined]
    assert first.read() == gateway.read() == [client(3, 3)]


def test_rooms_do_not_hear_of_each_other(bench: RelayBench) -> None:
    here, there = bench.join(1, "den"), bench.join(1, "Den")
    assert (welcome(here).peer_id, welcome(there).peer_id) == (1, 1)
    here.send(broadcast(here, 1))
    assert there.connection.datagrams == []
    here.say(Disconnect(reason="quit", message=""))
    assert there.read() == []


def test_who_left_gets_no_more_frames_and_sends_none(bench: RelayBench) -> None:
    gone, staying = bench.join(1), bench.join(2)
    late = broadcast(gone, 1)
    gone.say(Disconnect(reason="quit", message=""))
    staying.send(broadcast(staying, 2))
    gone.session.datagrams_received([late], bench.now)  # though the connection would not bring it
    assert gone.connection.datagrams == staying.connection.datagrams == []


def test_the_mtu_is_fixed_while_the_room_lives_and_the_room_is_gone_when_empty(bench: RelayBench) -> None:
    narrow = bench.join(1, datagram_budget=1168)
    assert (welcome(narrow).room_mtu, narrow.session.member.effective_mtu) == (1418, 1146)
    wide = bench.join(2)
    assert wide.session.member.effective_mtu == 1418
    [room] = bench.relay.snapshot(bench.now)
    assert room["mtu"] == 1418
    narrow.say(Disconnect(reason="quit", message=""))
    assert len(bench.relay.snapshot(bench.now)) == 1
    wide.session.closed(CloseCause.TIMEOUT, "Idle timeout", bench.now)
    assert bench.relay.snapshot(bench.now) == []


def test_the_token_of_a_room_goes_with_its_last_member(bench: RelayBench) -> None:
    first = bench.join(1, room_token="ours")
    assert reject_code(bench.join(2)) is RejectCode.UNAUTHORIZED
    assert reject_code(bench.join(2, room_token="theirs")) is RejectCode.UNAUTHORIZED
    assert bench.join(2, room_token="ours").session.state is State.JOINED
    for session in list(bench.relay.sessions):
        session.closed(CloseCause.PEER, "", bench.now)
    first.read()
    assert welcome(bench.join(3)).peer_id == 1, "another room of the same name"


# Limits


def test_places_are_given_back_however_a_session_ends() -> None:
    bench = RelayBench(max_peers=2, max_rooms=1)
    endings = [
        lambda peer: peer.say(Disconnect(reason="quit", message="")),
        lambda peer: peer.session.closed(CloseCause.ERROR, "", bench.now),
        lambda peer: peer.send(*[b""] * 33),
        lambda peer: peer.write(b"", end=True),
        lambda peer: peer.say_json("no"),
    ]
    for end in endings:
        one, two = bench.join(1), bench.join(2)
        assert reject_code(bench.join(3)) is RejectCode.RELAY_FULL
        assert reject_code(bench.join(3, "other")) is RejectCode.RELAY_FULL
        end(two)
        assert reject_code(bench.join(3, "other")) is RejectCode.RELAY_FULL, "a second room"
        three = bench.join(3)
        assert three.session.state is State.JOINED
        end(one)
        end(three)
        assert bench.relay.snapshot(bench.now) == []
        assert not bench.relay.sessions


def test_hellos_of_one_address_are_limited() -> None:
    bench = RelayBench(hellos_per_minute=2.0)
    first = bench.join(1)
    first.say(Disconnect(reason="quit", message=""))
    assert reject_code(bench.join(1, "", datagram_budget=1)) is RejectCode.BAD_ROOM, "not even an attempt"
    bench.join(1)
    refused = bench.join(2)
    [reject] = refused.read()
    assert isinstance(reject, Reject)
    assert (reject.code, reject.retry_after) == (RejectCode.RATE_LIMITED, pytest.approx(30.0))
    assert "30 s" in reject.message
    elsewhere = bench.connect(FakeConnection(("198.51.100.7", 40000)))
    elsewhere.hello(2)
    assert elsewhere.session.state is State.JOINED
    bench.now += 30
    assert bench.join(3).session.state is State.JOINED


def test_the_same_address_by_both_families_is_one() -> None:
    bench = RelayBench(hellos_per_minute=1.0)
    bench.join(1)
    mapped = bench.connect(FakeConnection(("::ffff:192.0.2.1", 40000, 0, 0)))
    mapped.hello(2)
    assert reject_code(mapped) is RejectCode.RATE_LIMITED


# Resuming


@pytest.mark.parametrize("number", [1, None])
def test_a_resumed_session_takes_over_with_the_same_peer_id(number: int | None) -> None:
    bench = RelayBench(max_peers=2, max_room_peers=2)
    old, other = bench.join(number), bench.join(2)
    resume = next(m.resume for m in old.read() if isinstance(m, Welcome))
    old_id = old.peer_id
    other.read()

    new = bench.join(number, resume=resume)
    told, *present = new.read()
    assert isinstance(told, Welcome)
    assert told.peer_id == old_id
    assert told.resume != resume, "each session has its own"
    assert told.gateway_present is False
    assert present == [client(2, 2)]
    assert [type(message) for message in other.read()] == [PeerLeft, PeerJoined]
    [farewell] = old.read()
    assert isinstance(farewell, Disconnect)
    assert farewell.reason == "replaced"
    assert old.connection.closed == (CloseCode.REPLACED, "replaced")

    # Frames go to the new connection, and the old one's end changes nothing.
    other.send(broadcast(other, 2))
    assert (len(new.connection.datagrams), len(old.connection.datagrams)) == (1, 0)
    old.session.closed(CloseCause.TIMEOUT, "", bench.now)
    assert other.read() == []
    assert bench.relay.sessions == {new.session, other.session}
    assert reject_code(bench.join(3)) is RejectCode.RELAY_FULL, "two members are two members"
    new.say(Disconnect(reason="quit", message=""))
    assert bench.join(3).session.state is State.JOINED


def test_the_only_member_resumes_and_its_room_stays_the_same(bench: RelayBench) -> None:
    old = bench.join(1, room_token="ours")
    old.session.switch.room.forwarded = 5
    again = bench.join(1, resume=welcome(old).resume, room_token="ours")
    assert welcome(again).peer_id == 1
    [room] = bench.relay.snapshot(bench.now)
    assert room["forwarded"] == 5
    assert reject_code(bench.join(2)) is RejectCode.UNAUTHORIZED


def test_a_stale_resume_string_is_ignored(bench: RelayBench) -> None:
    first = bench.join(1)
    stale = welcome(first).resume
    first.say(Disconnect(reason="quit", message=""))
    assert welcome(bench.join(1, resume=stale)).peer_id == 1
    assert reject_code(bench.join(1, resume=stale)) is RejectCode.DUPLICATE_MAC


# Those who do not keep up


def test_a_member_that_does_not_read_is_given_up_at_the_next_tick() -> None:
    bench = RelayBench(control_backlog=2000)
    slow, lively = bench.join(1), bench.join(2)
    slow.read(), lively.read()
    slow.connection.reads = False
    for _ in range(100):
        bench.join(3).say(Disconnect(reason="quit", message=""))
    assert 2000 < slow.connection.unsent_stream_bytes < 2200, "no more is queued for it"
    assert slow.connection.closed is None, "not in the middle of someone else's turn"
    assert len(list(bench.log.named("session.given_up"))) == 1
    lively.read()

    bench.relay.tick(bench.now)
    assert slow.connection.closed == (CloseCode.DISCONNECT, "protocol_error")
    assert lively.read() == [PeerLeft(peer_id=1, reason="protocol_error")]
    assert bench.relay.sessions == {lively.session}
    bench.relay.tick(bench.now)
    assert lively.read() == []


def test_what_a_members_connection_refuses_is_not_the_others_fault(bench: RelayBench) -> None:
    stubborn, other = bench.join(1), bench.join(2)
    other.read()
    # As the library does after STOP_SENDING, or for a datagram that is larger than the peer takes.
    stubborn.connection.refuses = ValueError("cannot write after RESET_STREAM")
    other.send(broadcast(other, 2))
    newcomer = bench.join(3)
    assert newcomer.session.state is State.JOINED
    assert len(newcomer.read()) == 3
    assert other.read() == [client(3, 3)]
    newcomer.say(Disconnect(reason="quit", message=""))
    bench.relay.tick(bench.now)
    assert stubborn.connection.closed == (CloseCode.DISCONNECT, "protocol_error")
    assert other.read() == [PeerLeft(peer_id=3, reason="disconnect:quit"), PeerLeft(peer_id=1, reason="protocol_error")]


def test_one_who_left_in_between_is_not_dropped_again(bench: RelayBench) -> None:
    leaving = bench.join(1)
    leaving.connection.refuses = ValueError("no")
    other = bench.join(2)
    other.read()
    leaving.say(Disconnect(reason="quit", message=""))
    bench.relay.tick(bench.now)
    assert other.read() == [PeerLeft(peer_id=1, reason="disconnect:quit")]
    assert leaving.connection.closed == (CloseCode.NO_ERROR, "goodbye")


def test_a_thousand_refused_peers_leave_nothing_behind(bench: RelayBench) -> None:
    for number in range(1000):
        bench.now += 1
        peer = bench.connect()
        peer.hello(1, "" if number % 2 else "den", version=number % 3)
        if number % 3 == 1 and not number % 2:
            peer.say(Disconnect(reason="quit", message=""))
    assert not bench.relay.sessions
    assert bench.relay.snapshot(bench.now) == []


# The end


def test_shutting_down_tells_everyone_and_lets_nobody_in(bench: RelayBench) -> None:
    members = [bench.join(1), bench.join(None), bench.join(1, "other")]
    waiting = bench.connect()
    for member in members:
        member.read()
    bench.relay.shut_down()
    for member in members:
        [farewell] = member.read()
        assert isinstance(farewell, Disconnect)
        assert farewell.reason == "relay_shutdown"
        assert member.connection.closed == (CloseCode.DISCONNECT, "relay_shutdown")
    assert bench.relay.snapshot(bench.now) == []
    waiting.hello(5)
    assert reject_code(waiting) is RejectCode.SHUTTING_DOWN
    assert reject_code(bench.join(6)) is RejectCode.SHUTTING_DOWN
    assert not bench.relay.sessions


def test_the_snapshot_shows_every_room_with_last_seen_and_stats(bench: RelayBench) -> None:
    one, two = bench.join(1), bench.join(2, "attic", software="softlan 9 (test)")
    bench.now += 3
    one.say(Stats(counters={"frames_in": 4}, rtt_ms=1.5))
    two.send(b"")
    bench.now += 2
    den, attic = bench.relay.snapshot(bench.now)
    assert (den["room"], attic["room"]) == ("den", "attic")
    [first], [second] = den["members"], attic["members"]
    assert (first["last_seen"], first["rtt_ms"], first["reported"]) == (2.0, 1.5, {"frames_in": 4})
    assert (second["last_seen"], second["software"], second["malformed"]) == (2.0, "softlan 9 (test)", 1)
    assert attic["drops"] == {"malformed": 1}
