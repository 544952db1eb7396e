import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.support.relay_fakes import mac, member, salt

from softlan.ctrl.messages import Hello, Reject, RejectCode, Role
from softlan.proto.mac import format_mac
from softlan.relay.admission import Place, consider, opens
from softlan.relay.limits import RelayLimits
from softlan.relay.room import Room
from softlan.relay.settings import RoomBook, RoomSettings

LIMITS = RelayLimits(max_rooms=2, max_peers=10, max_room_peers=4)
HELLO = Hello(version=1, role=Role.CLIENT, room="den", mac=format_mac(mac(9)), datagram_budget=1440)
GATEWAY = Hello(version=1, role=Role.GATEWAY, room="den", datagram_budget=1440)
WITH_TOKEN = msgspec.structs.replace(HELLO, room_token="x")
SEALING = msgspec.structs.replace(HELLO, seal=salt(1))


def book(settings: RoomSettings | None = None, **how: bool) -> RoomBook:
    """What is configured of room den, and of rooms at all."""
    return RoomBook(RoomSettings(), {"den": settings} if settings else None, **how)


def room(*clients: int, gateway: bool = False, token: str | None = None, mtu: int = 1418, sealed: bool = False) -> Room:
    """A room with clients `mac(number)` under the peer ids of the same numbers; the gateway's is 100."""
    made = Room("den", mtu, token, sealed=sealed)
    for number in clients:
        made.add(member(number, mac(number)))
    if gateway:
        made.add(member(100, None))
    return made


def decide(
    hello: Hello,
    present: Room | None = None,
    limits: RelayLimits = LIMITS,
    *,
    capacity: int = 1440,
    room_mtu: int = 1418,
    book: RoomBook | None = None,
    rooms: int = 1,
    peers: int = 1,
    shutting_down: bool = False,
) -> Place | Reject:
    return consider(
        hello,
        present,
        limits,
        book or RoomBook(RoomSettings(room_mtu)),
        capacity=capacity,
        rooms=rooms,
        peers=peers,
        shutting_down=shutting_down,
    )


@pytest.mark.parametrize(
    ("hello", "present", "how"),
    [
        (HELLO, None, {}),
        (HELLO, room(1, 2, 3), {}),  # the last place
        (HELLO, room(1, gateway=True), {"peers": 9}),
        (HELLO, room(), {"rooms": 2}),  # the room is there already
        (GATEWAY, room(1, 2, 3), {}),
        (msgspec.structs.replace(HELLO, room_token="x"), None, {}),
        (msgspec.structs.replace(HELLO, room_token="x"), room(1, token="x"), {}),
        (msgspec.structs.replace(HELLO, resume="of someone else's"), room(1), {}),
    ],
)
def test_admitted(hello: Hello, present: Room | None, how: dict[str, Any]) -> None:
    assert decide(hello, present, **how) == Place(budget=1440, effective_mtu=1418, replaces=None)


REJECTS: list[tuple[RejectCode, Hello, Room | None, RelayLimits, dict[str, Any], str]] = [
    (RejectCode.SHUTTING_DOWN, HELLO, None, LIMITS, {"shutting_down": True}, "shutting down"),
    (RejectCode.REDIRECT, HELLO, None, replace(LIMITS, redirect="r.example:443"), {}, "r.example:443"),
    (RejectCode.UNAUTHORIZED, HELLO, room(1, token="x"), LIMITS, {}, "room den needs a room token"),
    (
        RejectCode.UNAUTHORIZED,
        msgspec.structs.replace(HELLO, room_token="y"),
        room(1, token="x"),
        LIMITS,
        {},
        "another room token",
    ),
    (
        RejectCode.UNAUTHORIZED,
        WITH_TOKEN,
        room(1),
        LIMITS,
        {},
        r"^room den is open, .*; choose another room, or join without an invitation$",
    ),
    (
        RejectCode.UNAUTHORIZED,
        HELLO,
        room(1, sealed=True),
        LIMITS,
        {},
        r"^room den is sealed; join with its invitation, and without --no-seal$",
    ),
    (RejectCode.UNAUTHORIZED, SEALING, room(1), LIMITS, {}, r"^room den is not sealed; join with --no-seal$"),
    (
        RejectCode.BAD_MAC,
        msgspec.structs.replace(HELLO, mac="00:1b:21:00:00:01"),
        None,
        LIMITS,
        {},
        "00:1b:21:00:00:01 cannot be a player's address: it is universally administered",
    ),
    (RejectCode.RELAY_FULL, HELLO, room(1), LIMITS, {"peers": 10}, "the relay is full"),
    (RejectCode.RELAY_FULL, HELLO, None, LIMITS, {"rooms": 2}, "the relay is full"),
    (RejectCode.ROOM_FULL, HELLO, room(1, 2, 3, gateway=True), LIMITS, {}, r"room den is full \(4\)"),
    (RejectCode.GATEWAY_EXISTS, GATEWAY, room(gateway=True), LIMITS, {}, "already has its gateway"),
    (RejectCode.DUPLICATE_MAC, HELLO, room(9), LIMITS, {}, "02:00:00:00:00:09 is already in room den"),
    (
        RejectCode.BUDGET_TOO_SMALL,
        msgspec.structs.replace(HELLO, datagram_budget=597),
        None,
        LIMITS,
        {},
        "datagrams of 597 bytes, an MTU of 575; this relay needs at least 576",
    ),
    (RejectCode.BUDGET_TOO_SMALL, HELLO, None, LIMITS, {"capacity": 500}, "datagrams of 500 bytes"),
]


@pytest.mark.parametrize(("code", "hello", "present", "limits", "how", "text"), REJECTS)
def test_rejected(
    code: RejectCode, hello: Hello, present: Room | None, limits: RelayLimits, how: dict[str, Any], text: str
) -> None:
    outcome = decide(hello, present, limits, **how)
    assert isinstance(outcome, Reject)
    assert outcome.code is code
    assert re.search(text, outcome.message)
    outcome.check()  # as the other side will
    assert "\n" not in outcome.message


def test_the_table_has_every_code_that_is_admissions_to_give() -> None:
    elsewhere = {  # bad messages never become a hello; the relay counts attempts before it asks us
        RejectCode.UNSUPPORTED_VERSION,
        RejectCode.BAD_MESSAGE,
        RejectCode.BAD_ROOM,
        RejectCode.RATE_LIMITED,
    }
    assert {row[0] for row in REJECTS} == set(RejectCode) - elsewhere


def test_what_passes_by_itself_says_when_to_come_back() -> None:
    waits = {row[0] for row in REJECTS if (r := decide(row[1], row[2], row[3], **row[4])) and r.retry_after}
    assert waits == {RejectCode.SHUTTING_DOWN, RejectCode.RELAY_FULL, RejectCode.ROOM_FULL}


def test_of_several_reasons_the_first_in_this_order_is_given() -> None:
    crowd = room(1, 2, 3, 9, token="x")
    everything_wrong = Hello(version=1, role=Role.CLIENT, room="den", mac="00:00:00:00:00:09", datagram_budget=300)
    limits = replace(LIMITS, redirect="r.example:443")
    situation: dict[str, Any] = {"peers": 10, "shutting_down": True}
    order = []

    def ask() -> None:
        outcome = decide(everything_wrong, crowd, limits, **situation)
        order.append(outcome.code.value if isinstance(outcome, Reject) else "admitted")

    ask()
    situation["shutting_down"] = False
    ask()
    limits = LIMITS
    ask()
    everything_wrong = msgspec.structs.replace(everything_wrong, room_token="x")
    ask()
    everything_wrong = msgspec.structs.replace(everything_wrong, mac=format_mac(mac(9)))
    ask()
    situation["peers"] = 9
    ask()
    crowd.remove(crowd.members[1])
    ask()
    crowd.remove(crowd.members[9])
    ask()
    everything_wrong = msgspec.structs.replace(everything_wrong, datagram_budget=598)
    ask()
    assert order == [
        "shutting_down",
        "redirect",
        "unauthorized",
        "bad_mac",
        "relay_full",
        "room_full",
        "duplicate_mac",
        "budget_too_small",
        "admitted",
    ]


# Rooms with keys


@pytest.mark.parametrize(
    ("hello", "settings", "how", "fate"),
    [
        (HELLO, None, {}, None),
        (WITH_TOKEN, None, {}, None),  # it makes the room
        (HELLO, None, {"require_token": True}, "needs a room token"),
        (msgspec.structs.replace(HELLO, room_token=""), None, {"require_token": True}, "needs a room token"),
        (WITH_TOKEN, None, {"require_token": True}, None),
        (HELLO, None, {"open_rooms": False}, "needs a room token"),
        (WITH_TOKEN, None, {"open_rooms": False}, "needs another room token"),
        (HELLO, RoomSettings(), {"open_rooms": False}, None),
        (WITH_TOKEN, RoomSettings(), {"open_rooms": False}, None),
        (HELLO, RoomSettings(), {"open_rooms": False, "require_token": True}, "needs a room token"),
        (HELLO, RoomSettings(token="x"), {}, "needs a room token"),
        (msgspec.structs.replace(HELLO, room_token="y"), RoomSettings(token="x"), {}, "needs another room token"),
        (WITH_TOKEN, RoomSettings(token="x"), {}, None),
        (SEALING, None, {}, None),
        (SEALING, RoomSettings(sealed=True), {}, None),
        (SEALING, RoomSettings(sealed=False), {}, r"is not sealed; join with --no-seal"),
        (HELLO, RoomSettings(sealed=True), {}, r"is sealed; join with its invitation, and without --no-seal"),
        (HELLO, RoomSettings(sealed=False), {}, None),
    ],
)
def test_the_first_of_a_room(
    hello: Hello, settings: RoomSettings | None, how: dict[str, bool], fate: str | None
) -> None:
    outcome = decide(hello, book=book(settings, **how))
    if fate is None:
        assert isinstance(outcome, Place)
    else:
        assert isinstance(outcome, Reject)
        assert outcome.code is RejectCode.UNAUTHORIZED
        assert re.search(fate, outcome.message)


@pytest.mark.parametrize("token", [None, "y"])
def test_who_guesses_does_not_learn_which_rooms_there_are(token: str | None) -> None:
    hello = msgspec.structs.replace(HELLO, room_token=token)
    listed = book(RoomSettings(token="x"), open_rooms=False)
    elsewhere = RoomBook(RoomSettings(), {"attic": RoomSettings(token="x")}, open_rooms=False)
    assert decide(hello, book=listed) == decide(hello, book=elsewhere) == decide(hello, room(1, token="x"))


def test_whether_a_room_is_sealed_is_told_only_to_who_has_its_token() -> None:
    outcome = decide(msgspec.structs.replace(HELLO, room_token="y"), room(1, token="x", sealed=True))
    assert isinstance(outcome, Reject)
    assert "seal" not in outcome.message


def test_opens_is_about_the_token_alone() -> None:
    full = room(1, 2, 3, 4, token="x", sealed=True)
    assert opens(WITH_TOKEN, full, book())
    assert not opens(HELLO, full, book())
    assert not opens(msgspec.structs.replace(HELLO, room_token="xx"), full, book())


@pytest.mark.parametrize(
    ("budget", "room_mtu", "mtu"), [(1440, 1418, 1394), (1464, 1418, 1418), (1440, 1300, 1300), (622, 1418, 576)]
)
def test_a_seal_takes_its_24_bytes_of_the_mtu(budget: int, room_mtu: int, mtu: int) -> None:
    hello = msgspec.structs.replace(SEALING, datagram_budget=budget)
    expected = Place(budget, mtu, None)
    assert decide(hello, capacity=1472, room_mtu=room_mtu) == expected
    assert decide(hello, room(1, sealed=True, mtu=room_mtu), capacity=1472) == expected


def test_where_the_seal_has_no_room_that_is_said() -> None:
    outcome = decide(msgspec.structs.replace(SEALING, datagram_budget=621))
    assert isinstance(outcome, Reject)
    assert outcome.code is RejectCode.BUDGET_TOO_SMALL


def test_a_universal_mac_is_for_the_operator_to_allow() -> None:
    hello = msgspec.structs.replace(HELLO, mac="00:1b:21:00:00:01")
    assert isinstance(decide(hello, limits=replace(LIMITS, allow_universal_macs=True)), Place)


@pytest.mark.parametrize("hello", [HELLO, GATEWAY])
def test_the_resume_string_takes_its_session_over_though_everything_is_full(hello: Hello) -> None:
    crowd = room(9, 1, 2, gateway=True)
    held = crowd.by_mac[mac(9)] if hello is HELLO else crowd.gateway
    assert held is not None
    outcome = decide(msgspec.structs.replace(hello, resume=held.resume), crowd, peers=10, rooms=2)
    assert isinstance(outcome, Place)
    assert outcome.replaces is held


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        # Stale or wrong: as if there were none.
        (msgspec.structs.replace(HELLO, resume="resume-8"), RejectCode.DUPLICATE_MAC),
        (msgspec.structs.replace(HELLO, resume=""), RejectCode.DUPLICATE_MAC),
        # Another member's does not open the door to its place.
        (msgspec.structs.replace(HELLO, resume="resume-1"), RejectCode.DUPLICATE_MAC),
        (msgspec.structs.replace(GATEWAY, resume="resume-9"), RejectCode.GATEWAY_EXISTS),
    ],
)
def test_a_resume_string_that_is_not_its_own_is_ignored(hello: Hello, code: RejectCode) -> None:
    outcome = decide(hello, room(1, 9, gateway=True))
    assert isinstance(outcome, Reject)
    assert outcome.code is code


def test_a_resumed_session_still_has_to_fit() -> None:
    hello = msgspec.structs.replace(HELLO, resume="resume-9", datagram_budget=300)
    outcome = decide(hello, room(9))
    assert isinstance(outcome, Reject)
    assert outcome.code is RejectCode.BUDGET_TOO_SMALL


@pytest.mark.parametrize(
    ("asked", "capacity", "room_mtu", "budget", "mtu"),
    [
        (1440, 1440, 1418, 1440, 1418),
        (1420, 1440, 1418, 1420, 1398),
        (65527, 1440, 1418, 1440, 1418),
        (1440, 1168, 1418, 1168, 1146),
        (1440, 1440, 1200, 1440, 1200),
        (1440, 1440, 9000, 1440, 1418),
        (300, 1440, 256, 300, 256),  # the operator wants a room below the floor
    ],
)
def test_budget_and_mtu(asked: int, capacity: int, room_mtu: int, budget: int, mtu: int) -> None:
    hello = msgspec.structs.replace(HELLO, datagram_budget=asked)
    expected = Place(budget, mtu, None)
    assert decide(hello, room(1, mtu=room_mtu), capacity=capacity) == expected
    assert decide(hello, None, capacity=capacity, room_mtu=room_mtu) == expected
