import pytest
from tests.support.relay_fakes import FakeConnection, Peer, RelayBench, mac, salt, sealed

from softlan.ctrl.messages import Disconnect, PeerJoined, PeerLeft, Reject, RejectCode, Role, Stats, Welcome
from softlan.proto.overlay import Kind, encode
from softlan.quic.handler import CloseCause, CloseCode
from softlan.relay.session import State
from softlan.relay.settings import RoomBook, RoomSettings
from softlan.relay.sparing_log import SparingLog


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
    assert reject_code(bench.join(1, "", datagram_budget=1)) is RejectCode.BAD_ROOM, "an attempt too"
    assert reject_code(bench.join(1, "", datagram_budget=1)) is RejectCode.RATE_LIMITED
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


def test_who_waits_for_its_hello_has_a_place_among_so_many() -> None:
    bench = RelayBench(max_waiting=3)
    waiting = [bench.connect(handshake=False) for _ in range(3)]
    early = [bench.connect() for _ in range(3)]
    for peer in waiting:
        peer.session.handshake_completed(bench.now)
        assert peer.connection.closed is not None
        code, reason = peer.connection.closed
        assert code is CloseCode.REJECTED
        assert reason.startswith("relay_full: ")
    assert bench.relay.sessions == {peer.session for peer in early}
    early[0].hello(1)
    early[1].say_json("no")
    early[2].session.closed(CloseCause.TIMEOUT, "", bench.now)
    assert [bench.connect().connection.closed for _ in range(3)] == [None] * 3
    bench.now += 5
    bench.relay.tick(bench.now)
    assert bench.relay.sessions == {early[0].session}
    assert bench.connect().connection.closed is None


# Rooms with keys


def test_a_room_is_sealed_as_its_first_member_is_and_salts_are_passed_on() -> None:
    bench = RelayBench()
    first = bench.join(1, seal=salt(1), room_token="ours")
    told = welcome(first)
    assert (told.sealed, told.room_mtu, told.effective_mtu) == (True, 1418, 1394)
    gateway = bench.join(None, seal=salt(2), room_token="ours")
    assert first.read() == [PeerJoined(peer_id=2, role=Role.GATEWAY, mac=None, seal=salt(2))]
    told, *present = gateway.read()
    assert isinstance(told, Welcome)
    assert told.sealed
    assert present == [PeerJoined(peer_id=1, role=Role.CLIENT, mac="02:00:00:00:00:01", seal=salt(1))]
    [reject] = bench.join(3, room_token="ours").read()
    assert isinstance(reject, Reject)
    assert reject.message == "room den is sealed; join with its invitation, and without --no-seal"

    datagram = sealed(broadcast(first, 1))
    first.send(datagram, broadcast(first, 1))
    assert gateway.connection.datagrams == [datagram]
    [room] = bench.relay.snapshot(bench.now)
    assert (room["sealed"], room["drops"]) == (True, {"not_sealed": 1})


def test_a_session_that_is_resumed_has_another_salt() -> None:
    bench = RelayBench()
    old, other = bench.join(1, seal=salt(1)), bench.join(2, seal=salt(2))
    resume = next(m.resume for m in old.read() if isinstance(m, Welcome))
    other.read()
    bench.join(1, seal=salt(3), resume=resume)
    assert [message.seal for message in other.read() if isinstance(message, PeerJoined)] == [salt(3)]


def test_a_plain_room_takes_nobody_who_seals() -> None:
    bench = RelayBench()
    assert welcome(bench.join(1)).sealed is False
    [reject] = bench.join(2, seal=salt(2)).read()
    assert isinstance(reject, Reject)
    assert (reject.code, reject.message) == (
        RejectCode.UNAUTHORIZED,
        "room den is not sealed; join with --no-seal",
    )


def test_only_listed_rooms_and_only_with_their_tokens() -> None:
    rooms = {"den": RoomSettings(token="ours", sealed=True), "attic": RoomSettings(1300)}
    bench = RelayBench(RoomBook(RoomSettings(), rooms, open_rooms=False))
    assert reject_code(bench.join(1, "garage")) is RejectCode.UNAUTHORIZED
    assert reject_code(bench.join(1, seal=salt(1))) is RejectCode.UNAUTHORIZED
    assert reject_code(bench.join(1, seal=salt(1), room_token="theirs")) is RejectCode.UNAUTHORIZED
    assert reject_code(bench.join(1, room_token="ours")) is RejectCode.UNAUTHORIZED
    assert bench.relay.snapshot(bench.now) == []
    assert welcome(bench.join(1, seal=salt(1), room_token="ours")).sealed is True
    assert reject_code(bench.join(2, seal=salt(1), room_token="theirs")) is RejectCode.UNAUTHORIZED
    assert welcome(bench.join(1, "attic")).room_mtu == 1300


def test_who_tries_tokens_is_told_to_wait_whatever_it_tries_and_members_come_back_all_the_same() -> None:
    bench = RelayBench()
    first = bench.join(1, room_token="ours")
    resume = welcome(first).resume
    for number in range(10):
        assert reject_code(bench.join(2, room_token=f"guess {number}")) is RejectCode.UNAUTHORIZED
    answers = [bench.join(2, room_token=token).read() for token in ("guess 10", "ours", "guess 1")]
    assert answers[0] == answers[1] == answers[2]
    [reject] = answers[0]
    assert isinstance(reject, Reject)
    assert (reject.code, reject.retry_after) == (RejectCode.RATE_LIMITED, pytest.approx(6.0))
    assert "6 s" in reject.message

    assert bench.join(2, room_token="ours", host="198.51.100.7").session.state is State.JOINED
    assert bench.join(3, "attic", room_token="mine").session.state is State.JOINED
    assert reject_code(bench.join(4)) is RejectCode.UNAUTHORIZED, "who has none does not guess"
    again = bench.join(1, room_token="ours", resume=resume)
    resume = next(message.resume for message in again.read() if isinstance(message, Welcome))
    assert reject_code(bench.join(1, room_token="guess 10", resume=resume)) is RejectCode.RATE_LIMITED
    bench.now += 6.1
    assert bench.join(5, room_token="ours").session.state is State.JOINED


def test_a_wrong_seal_is_no_wrong_token() -> None:
    bench = RelayBench()
    bench.join(1, room_token="ours", seal=salt(1))
    for _ in range(50):
        assert reject_code(bench.join(2, room_token="ours")) is RejectCode.UNAUTHORIZED
    assert bench.join(2, room_token="ours", seal=salt(2)).session.state is State.JOINED


def test_no_log_line_and_no_snapshot_has_a_token_or_a_resume_string() -> None:
    rooms = {"den": RoomSettings(token="SECRET-config")}
    bench = RelayBench(RoomBook(RoomSettings(), rooms), hellos_per_minute=40.0)
    for room in ("den", "attic"):
        for number in range(30):
            token = "SECRET-config" if room == "den" and number % 3 else f"SECRET-{number % 2}"
            peer = bench.join(number % 4, room, room_token=token, resume="SECRET-resume", software="x" * 60)
            peer.say_json('{"type": "stats", "counters": "SECRET-config", "SECRET-0": 1, "resume": "SECRET-resume"}')
    bench.relay.tick(bench.now)
    assert {event for event, _ in bench.log.events} >= {"session.rejected", "peer.joined", "peer.left"}
    told = repr(bench.log.events) + repr(bench.relay.snapshot(bench.now))
    assert "SECRET" not in told
    assert "resume-" not in told


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


# Faults of ours


class Broken:
    """A deed that fails as nothing of ours should."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *arguments: object) -> None:
        self.calls += 1
        raise RuntimeError("a fault of ours")


def test_a_port_that_raises_goes_and_nobody_else_is_harmed(bench: RelayBench) -> None:
    broken, other = bench.join(1), bench.join(2)
    other.read()
    broken.session.send_message = Broken()  # type: ignore[method-assign]
    third = bench.join(3)
    assert [type(message) for message in third.read()] == [Welcome, PeerJoined, PeerJoined]
    assert other.read() == [client(3, 3)]
    third.say(Disconnect(reason="quit", message=""))
    assert other.read() == [PeerLeft(peer_id=3, reason="disconnect:quit")]
    bench.relay.tick(bench.now)
    assert other.read() == [PeerLeft(peer_id=1, reason="protocol_error")]
    assert bench.relay.sessions == {other.session}
    [room] = bench.relay.snapshot(bench.now)
    assert [each["peer"] for each in room["members"]] == [2]
    assert all(line["exc_info"] for line in bench.log.named("session.fault"))
    assert bench.join(1).session.state is State.JOINED, "its place is free"


def test_one_that_cannot_even_be_replaced_does_not_keep_its_place(bench: RelayBench) -> None:
    old, other = bench.join(1), bench.join(2)
    resume = next(m.resume for m in old.read() if isinstance(m, Welcome))
    other.read()
    old.session.end = Broken()  # type: ignore[method-assign]
    new = bench.join(1, resume=resume)
    assert new.session.state is State.JOINED
    bench.relay.tick(bench.now)
    assert bench.relay.sessions == {new.session, other.session}
    assert [type(message) for message in other.read()] == [PeerLeft, PeerJoined]
    other.send(broadcast(other, 2))
    assert (len(new.connection.datagrams), len(old.connection.datagrams)) == (1, 0)


@pytest.mark.parametrize("what", ["late", "slow"])
def test_the_clock_goes_on_for_all_others(what: str) -> None:
    bench = RelayBench(control_backlog=100)
    broken, *others = [bench.connect() for _ in range(3)]
    member, *_ = [bench.join(number) for number in (1, 2)]
    fault = Broken()
    if what == "late":
        broken.session.hello_overdue = fault  # type: ignore[method-assign]
        bench.now += 5
    else:
        broken.hello(5)
        broken.connection.unsent_stream_bytes = 200
        bench.join(6)
        broken.session.end = fault  # type: ignore[method-assign]
    storm = b"\xff" * 6 + mac(1) + b"\x88\xb5" + bytes(46)
    member.send(*[encode(Kind.ETHERNET, member.peer_id, storm)] * 600)
    bench.relay.tick(bench.now)
    assert fault.calls == 1
    assert broken.session not in bench.relay.sessions
    assert len(list(bench.log.named("rate_limited"))) == 1
    if what == "late":
        assert all(peer.connection.closed for peer in others)
    bench.now += 1
    bench.relay.tick(bench.now)
    assert fault.calls == 1


def test_a_log_on_a_full_disk_is_no_reason_to_send_anyone_away(bench: RelayBench) -> None:
    bench.relay.log = SparingLog(FullDisk(), 100)
    one, two = bench.join(1), bench.join(2)
    two.say(Disconnect(reason="quit", message=""))
    bench.join(3, "")
    bench.relay.tick(bench.now)
    assert [type(message) for message in one.read()] == [Welcome, PeerJoined, PeerLeft]


class FullDisk:
    """What a logger is then."""

    def info(self, event: str, **members: object) -> None:
        raise OSError(28, "No space left on device")

    debug = warning = info


def test_who_comes_and_goes_all_day_does_not_fill_the_log() -> None:
    bench = RelayBench(log_lines=10, hellos_per_minute=1e9)
    for _ in range(1000):
        bench.join(1).say(Disconnect(reason="quit", message=""))
        bench.join(1, "")
    assert len(bench.log.events) == 10
    bench.relay.tick(bench.now)
    assert bench.log.events[-1] == ("log.left_out", {"lines": 2990})


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
