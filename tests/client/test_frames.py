"""What becomes of frames and datagrams in a sealed room, with a relay that says and sends what the test wants."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.virtual_room import BROADCAST, LAN_HOST, WELCOME, ScriptedRelay, Stage, frame

from softlan.client import frames as frames_module
from softlan.client.frames import HELD, SealedFrames
from softlan.client.session import Ended, EndKind
from softlan.ctrl.messages import Hello, PeerJoined, PeerLeft, Role, Stats
from softlan.obs.counters import TrafficCounters
from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.proto.drop import DropReason
from softlan.proto.keys import room_keys, sender_key
from softlan.proto.mac import format_mac
from softlan.proto.overlay import Kind, header
from softlan.proto.seal import Opener, Sealer

SECRET = bytes(range(32))
FRAME_KEY = room_keys(SECRET, "den").frame_key
SEALED_WELCOME = msgspec.structs.replace(WELCOME, sealed=True)
FRIEND, OTHER = bytes.fromhex("02005e1000fe"), bytes.fromhex("02005e1000fd")
SALT, NEXT_SALT = b"\xa0" * 16, b"\xb0" * 16


def sealed_stage() -> Stage:
    return Stage(welcome=SEALED_WELCOME, secret=SECRET)


def friend(salt: bytes = SALT, mac: bytes | None = FRIEND, peer: int = 3) -> Sealer:
    return Sealer(sender_key(FRAME_KEY, salt, mac), header(Kind.SEALED, peer))


def news(salt: bytes | None = SALT, mac: bytes | None = FRIEND, peer: int = 3) -> PeerJoined:
    role = Role.GATEWAY if mac is None else Role.CLIENT
    return PeerJoined(
        peer_id=peer, role=role, mac=format_mac(mac) if mac else None, seal=salt.hex() if salt is not None else None
    )


def numbered(count: int, source: bytes = FRIEND) -> list[bytes]:
    return [frame(BROADCAST, source, b"number %d" % number) for number in range(count)]


def send(script: ScriptedRelay, datagrams: list[bytes]) -> None:
    for datagram in datagrams:
        assert script.connection.send_datagram(datagram)


def come(world: Stage, *who: PeerJoined) -> None:
    """Tell the player who is there, and let it hear that."""
    before = len(world.player.came)
    world.script.say(*who)
    world.run(lambda: len(world.player.came) == before + len(who))


# Which kind of room


def test_the_hello_of_a_sealed_room_has_token_and_salt_but_no_key() -> None:
    world = Stage(welcome=None, secret=SECRET)
    (hello,) = world.script.heard
    assert isinstance(hello, Hello)
    assert hello.room_token == room_keys(SECRET, "den").token
    assert hello.seal is not None
    assert len(bytes.fromhex(hello.seal)) == 16
    assert FRAME_KEY.hex().encode() not in world.script.stream
    assert FRAME_KEY not in world.script.stream


@pytest.mark.parametrize("secret", [SECRET, None], ids=["a plain room for a sealed endpoint", "the reverse"])
def test_a_relay_cannot_talk_an_endpoint_into_the_other_kind_of_room(secret: bytes | None) -> None:
    world = Stage(welcome=None, secret=secret)
    world.script.say(WELCOME if secret else SEALED_WELCOME, news())
    advice = "room den is not sealed; join with --no-seal only if its relay may read all that is sent"
    if secret is None:
        advice = "room den is sealed; join with its invitation, and without --no-seal"
    assert world.end() == Ended(EndKind.UNLIKE, advice)
    world.session.send_frames(numbered(3))
    send(world.script, [header(Kind.ETHERNET, 3) + each for each in numbered(3)])
    send(world.script, [friend().seal(each) for each in numbered(3)])
    world.run(within=1)
    assert world.player.welcome is None
    assert world.player.frames == []
    assert not [data for data in world.script.datagrams if data[0] != 0x12]


@pytest.mark.parametrize("salt", [None, b"", bytes(15)])
def test_nothing_is_sealed_without_a_fresh_salt(salt: bytes | None) -> None:
    world = Stage()
    with pytest.raises(ValueError, match="a salt of 16 bytes"):
        SealedFrames(
            world.session.connection.send_datagrams,
            TrafficCounters(),
            FrameLog.off(),
            "den",
            FRAME_KEY,
            FRIEND,
            salt,
            None,
        )


def test_a_session_has_one_key_and_one_count_of_frames() -> None:
    """A second welcome ends the session before that; were it taken, counter 0 would come twice under one key."""
    world = Stage()
    sent: list[bytes] = []

    def send(datagrams: list[bytes]) -> int:
        sent.extend(datagrams)
        return len(datagrams)

    frames = SealedFrames(
        send,
        TrafficCounters(),
        FrameLog.off(),
        "den",
        FRAME_KEY,
        world.player.mac,
        SALT,
        None,
    )
    frames.send(numbered(1), 0.0)
    assert sent == [], "nothing leaves before there is a seal"
    for peer_id in (7, 7, 8):
        try:
            frames.joined(peer_id, 1440, 1418)
        except ValueError:
            pass
        frames.send(numbered(2), 0.0)
    assert [(data[:4], data[18:26]) for data in sent] == [
        (b"\x11\x00\x00\x07", number.to_bytes(8, "big")) for number in range(6)
    ]


# Out


def test_what_is_sent_is_sealed() -> None:
    world = sealed_stage()
    (hello,) = world.script.heard
    assert isinstance(hello, Hello)
    assert hello.seal is not None
    mac = world.player.mac
    sent = [*numbered(3, source=mac), BROADCAST + mac + b"\x88\xb5"]
    world.session.send_frames(sent)
    world.run(lambda: len([data for data in world.script.datagrams if data[0] == 0x11]) == 4)
    other = Opener(FRAME_KEY)
    other.add(WELCOME.peer_id, mac, bytes.fromhex(hello.seal))
    assert [other.open(data) for data in world.script.datagrams if data[0] == 0x11] == sent
    assert not [data for data in world.script.datagrams if b"number" in data]
    counters = world.player.counters
    assert (counters.frames_out, counters.bytes_out) == (4, sum(map(len, sent)))


def test_a_seal_takes_24_bytes_of_the_budget() -> None:
    world = sealed_stage()
    source = world.player.mac
    fits, too_long = frame(BROADCAST, source, bytes(1398)), frame(BROADCAST, source, bytes(1399))
    world.session.send_frames([too_long, fits, bytes(13), frame(BROADCAST, source, bytes(1419))])
    assert world.player.counters.drops == {DropReason.OVER_BUDGET: 1, DropReason.RUNT: 1, DropReason.JUMBO: 1}
    world.run(lambda: [len(data) for data in world.script.datagrams if data[0] == 0x11] == [1440])


# In


def test_what_others_sealed_is_opened_and_counted() -> None:
    world = sealed_stage()
    come(world, news(), news(salt=NEXT_SALT, mac=None, peer=4))
    lan = [frame(world.player.mac, LAN_HOST, b"from the LAN"), frame(BROADCAST, bytes.fromhex("001b2101bb02"))]
    author, gateway = friend(), friend(NEXT_SALT, None, 4)
    send(world.script, [author.seal(each) for each in numbered(3)] + [gateway.seal(each) for each in lan])
    world.run(lambda: world.player.frames == numbered(3) + lan)
    counters = world.player.counters
    assert (counters.frames_in, counters.bytes_in) == (5, sum(map(len, numbered(3) + lan)))
    assert counters.drops == {}


def test_what_does_not_belong_is_dropped_and_counted() -> None:
    world = sealed_stage()
    come(world, news())
    author, good = friend(), numbered(1)[0]
    datagram = author.seal(good)
    stranger = Sealer(sender_key(bytes(32), SALT, FRIEND), header(Kind.SEALED, 3))
    send(
        world.script,
        [
            datagram,
            datagram,
            datagram[:-1] + bytes((datagram[-1] ^ 1,)),
            stranger.seal(good),
            author.seal(frame(BROADCAST, LAN_HOST, b"as somebody else")),
            friend(peer=9).seal(good),
            header(Kind.ETHERNET, 3) + good,
            header(Kind.SEALED, 3) + bytes(37),
        ],
    )
    world.run(within=2)
    assert world.player.frames == [good]
    assert world.player.counters.drops == {
        DropReason.REPLAYED: 1,
        DropReason.BAD_SEAL: 2,
        DropReason.INVALID_SOURCE: 1,
        DropReason.UNKNOWN_SENDER: 1,
        DropReason.NOT_SEALED: 1,
        DropReason.MALFORMED: 1,
    }


def test_a_sealed_frame_in_a_plain_room_is_dropped_and_counted() -> None:
    world = Stage()
    come(world, news())
    send(world.script, [friend().seal(numbered(1)[0]), header(Kind.ETHERNET, 3) + numbered(1)[0]])
    world.run(lambda: world.player.frames)
    assert world.player.frames == numbered(1)
    assert world.player.counters.drops == {DropReason.UNEXPECTED_SEAL: 1}


def test_the_drops_are_in_the_stats() -> None:
    world = Stage(welcome=msgspec.structs.replace(SEALED_WELCOME, stats_interval=2.0), secret=SECRET)
    send(world.script, [friend().seal(numbered(1)[0]), header(Kind.ETHERNET, 3) + numbered(1)[0]])
    world.run(lambda: any(isinstance(message, Stats) for message in world.script.heard))
    counters = next(message.counters for message in world.script.heard if isinstance(message, Stats))
    assert counters["drop_unknown_sender"] == counters["drop_not_sealed"] == 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.binary(max_size=80)
        | st.binary(max_size=80).map(lambda body: header(Kind.SEALED, 3) + body)
        | st.binary(max_size=80).map(lambda body: b"\x11\x00" + body),
        max_size=20,
    )
)
def test_noise_is_counted_and_does_no_harm(noise: list[bytes]) -> None:
    world = sealed_stage()
    come(world, news())
    send(world.script, noise)
    good = numbered(1)[0]
    send(world.script, [friend().seal(good)])
    world.run(lambda: world.player.frames == [good])
    world.run(within=1.2)
    probes = sum(datagram[:2] == b"\x12\x00" and len(datagram) >= 12 for datagram in noise)
    assert sum(world.player.counters.drops.values()) + probes == len(noise)
    assert world.player.ended is None


# Frames that overtake the news of their sender


def test_they_wait_for_it() -> None:
    world = sealed_stage()
    author = friend()
    send(world.script, [author.seal(each) for each in numbered(5)])
    world.run(within=0.8)
    assert world.player.frames == []
    come(world, news())
    assert world.player.frames == numbered(5)
    assert world.player.counters.frames_in == 5
    send(world.script, [author.seal(numbered(1)[0])])
    world.run(lambda: len(world.player.frames) == 6)
    world.run(within=2)
    assert world.player.counters.drops == {}


def test_they_wait_also_for_a_player_that_comes_back() -> None:
    """With another salt under its old peer id: until then it looks like a forgery."""
    world = sealed_stage()
    come(world, news())
    author = friend(NEXT_SALT)
    send(world.script, [author.seal(each) for each in numbered(5)])
    world.run(within=0.8)
    world.script.say(PeerLeft(peer_id=3, reason="replaced"))
    come(world, news(NEXT_SALT))
    assert world.player.frames == numbered(5)
    assert world.player.counters.drops == {}


def test_not_for_ever() -> None:
    world = sealed_stage()
    author = friend()
    send(world.script, [author.seal(each) for each in numbered(5)])
    world.run(lambda: world.player.counters.drops == {DropReason.UNKNOWN_SENDER: 5}, within=1.2)
    come(world, news())
    world.run(within=1)
    assert world.player.frames == []


def test_not_more_than_a_few() -> None:
    world = sealed_stage()
    author = friend()
    send(world.script, [author.seal(each) for each in numbered(HELD + 8)])
    world.run(lambda: world.player.counters.drops == {DropReason.UNKNOWN_SENDER: 8}, within=0.5)
    come(world, news())
    assert world.player.frames == numbered(HELD + 8)[8:]


def test_who_sends_rubbish_takes_nobody_elses_place() -> None:
    world = sealed_stage()
    come(world, news(mac=OTHER, peer=9))
    rubbish = [header(Kind.SEALED, 9) + bytes(60)] * (2 * HELD)
    author = friend()
    send(world.script, [*rubbish, *(author.seal(each) for each in numbered(5)), *rubbish])
    drops = {DropReason.BAD_SEAL: 3 * HELD + 5}
    world.run(lambda: world.player.counters.drops == drops, within=0.5)
    come(world, news())
    assert world.player.frames == numbered(5)


def test_nothing_that_waits_is_trusted() -> None:
    world = sealed_stage()
    good = friend().seal(numbered(1)[0])
    forged = good[:-1] + bytes((good[-1] ^ 1,))
    send(world.script, [forged, good, good, friend(NEXT_SALT).seal(numbered(1)[0]), friend(peer=4).seal(b"\0" * 60)])
    world.run(within=0.5)
    come(world, news())
    assert world.player.frames == numbered(1)
    assert world.player.counters.drops == {DropReason.BAD_SEAL: 2, DropReason.REPLAYED: 1}
    world.run(lambda: world.player.counters.drops.get(DropReason.UNKNOWN_SENDER) == 1, within=1)


def test_who_has_left_is_heard_no_more() -> None:
    world = sealed_stage()
    come(world, news())
    world.script.say(PeerLeft(peer_id=3, reason="timeout"))
    world.run(lambda: world.player.went)
    send(world.script, [friend().seal(numbered(1)[0])])
    world.run(lambda: world.player.counters.drops == {DropReason.UNKNOWN_SENDER: 1}, within=1.5)
    assert world.player.frames == []


def test_who_came_again_is_not_known_by_what_it_was_before() -> None:
    world = sealed_stage()
    come(world, news(), news(None))
    send(world.script, [friend().seal(numbered(1)[0])])
    world.run(lambda: world.player.counters.drops == {DropReason.UNKNOWN_SENDER: 1}, within=1.5)
    assert world.player.frames == []


def test_a_new_session_of_ours_knows_nobody_until_it_is_told() -> None:
    world = sealed_stage()
    come(world, news())
    world.session.leave("quit", "")
    again = world.start(secret=SECRET, mac=world.player.mac, opener=world.player.opener)
    world.run(lambda: len(world.scripts) == 2 and world.scripts[1].heard)
    world.scripts[1].say(SEALED_WELCOME)
    world.run(lambda: again.welcome)
    send(world.scripts[1], [friend().seal(numbered(1)[0])])
    world.run(lambda: again.counters.drops == {DropReason.UNKNOWN_SENDER: 1}, within=1.5)
    assert again.frames == []


# A relay that lies


@pytest.mark.parametrize("salt", [None, NEXT_SALT], ids=["no salt", "another salt"])
def test_a_wrong_word_about_a_player_makes_it_unreadable_and_nothing_worse(salt: bytes | None) -> None:
    world = sealed_stage()
    come(world, news(salt))
    send(world.script, [friend().seal(numbered(1)[0])])
    world.run(within=1.5)
    assert world.player.frames == []
    reason = DropReason.UNKNOWN_SENDER if salt is None else DropReason.BAD_SEAL
    assert world.player.counters.drops == {reason: 1}


def test_our_own_frames_are_not_shown_to_us_as_somebody_elses() -> None:
    world = sealed_stage()
    (hello,) = world.script.heard
    assert isinstance(hello, Hello)
    assert hello.seal is not None
    own = frame(BROADCAST, world.player.mac, b"said by us")
    world.session.send_frames([own])
    world.run(lambda: [data for data in world.script.datagrams if data[0] == 0x11])
    come(world, news(bytes.fromhex(hello.seal), world.player.mac, WELCOME.peer_id))
    send(world.script, [data for data in world.script.datagrams if data[0] == 0x11])
    world.run(lambda: world.player.counters.drops == {DropReason.UNKNOWN_SENDER: 1}, within=1.5)
    assert world.player.frames == []


def test_an_old_session_is_not_shown_again_even_to_a_new_one_of_ours() -> None:
    world = sealed_stage()
    come(world, news())
    author = friend()
    recorded = [author.seal(each) for each in numbered(40)]
    send(world.script, recorded)
    world.run(lambda: len(world.player.frames) == 40)
    world.script.say(PeerLeft(peer_id=3, reason="disconnect:quit"))
    world.script.say(news(NEXT_SALT), PeerLeft(peer_id=3, reason="disconnect:quit"), news())
    send(world.script, recorded)
    world.run(lambda: world.player.counters.drops == {DropReason.REPLAYED: 40})
    world.session.leave("quit", "")
    again = world.start(secret=SECRET, mac=world.player.mac, opener=world.player.opener)
    world.run(lambda: len(world.scripts) == 2 and world.scripts[1].heard)
    script = world.scripts[1]
    salts = [hello.seal for one in world.scripts for hello in one.heard if isinstance(hello, Hello)]
    assert len(set(salts)) == 2, "a new salt for each session"
    script.say(SEALED_WELCOME, news())
    world.run(lambda: again.came)
    fresh = author.seal(numbered(1)[0])
    send(script, [*recorded, fresh])
    world.run(lambda: again.frames == numbered(1))
    assert again.counters.drops == {DropReason.REPLAYED: 40}


def test_a_relay_cannot_make_up_members_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "MOST_SENDERS", 8)
    world = sealed_stage()
    everyone = [news(mac=bytes.fromhex("02005e1001") + bytes((peer,)), peer=peer) for peer in range(20, 29)]
    come(world, *everyone[:8])
    come(world, everyone[3])
    assert world.player.ended is None, "one that comes again is no more"
    world.script.say(everyone[8])
    assert "more than 8 others" in world.end().reason


# Frame logs


def test_a_frame_log_shows_what_is_to_be_seen() -> None:
    records: list[dict[str, object]] = []
    world = sealed_stage()
    frames = SealedFrames(
        world.session.connection.send_datagrams,
        TrafficCounters(),
        FrameLog(FrameLogMode.ALL, records.append),
        "den",
        FRAME_KEY,
        world.player.mac,
        NEXT_SALT,
        None,
    )
    frames.joined(7, 1440, 1418)
    frames.peer_joined(news(), 0.0)
    author = friend()
    opened, unopened = author.seal(numbered(1)[0]), friend(NEXT_SALT).seal(numbered(1)[0])
    assert frames.received([opened, unopened], 0.0) == (numbered(1), [])
    frames.tick(1.0)
    frames.send([frame(BROADCAST, world.player.mac, bytes(1399))], 1.0)
    shown = {"room": "den", "src": format_mac(FRIEND), "dst": "ff:ff:ff:ff:ff:ff", "length": 60, "targets": 0}
    received, dropped, over = records
    assert shown.items() <= received.items()
    assert shown.items() <= dropped.items()
    assert (received["action"], received["peer"]) == ("forwarded", 3)
    assert (dropped["action"], dropped["reason"], dropped["peer"]) == ("dropped", "bad_seal", 3)
    assert (over["reason"], over["encoded"], over["budget"]) == ("over_budget", 1441, 1440)
