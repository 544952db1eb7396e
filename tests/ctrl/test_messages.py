import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.ctrl.messages import (
    BadMessage,
    Disconnect,
    Hello,
    Message,
    PeerJoined,
    PeerLeft,
    Reject,
    RejectCode,
    Role,
    Stats,
    Welcome,
    decode,
    encode,
    room_ok,
)

HELLO: dict[str, Any] = {
    "type": "hello",
    "version": 1,
    "role": "client",
    "room": "den",
    "mac": "02:00:00:00:00:01",
    "datagram_budget": 1440,
}
GATEWAY: dict[str, Any] = {**HELLO, "role": "gateway", "mac": None}
WELCOME: dict[str, Any] = {
    "type": "welcome",
    "version": 1,
    "mode": "ethernet",
    "peer_id": 7,
    "room": "den",
    "room_mtu": 1418,
    "effective_mtu": 1398,
    "datagram_budget": 1420,
    "gateway_present": True,
    "resume": "abc",
    "stats_interval": 5,
    "features": [],
}
REJECT: dict[str, Any] = {"type": "reject", "code": "room_full", "message": "32 are in"}
JOINED: dict[str, Any] = {"type": "peer_joined", "peer_id": 2, "role": "client", "mac": "02:00:00:00:00:02"}
LEFT: dict[str, Any] = {"type": "peer_left", "peer_id": 2, "reason": "disconnect:quit"}
STATS: dict[str, Any] = {"type": "stats", "counters": {"frames_in": 1}, "rtt_ms": 12.5}
DISCONNECT: dict[str, Any] = {"type": "disconnect", "reason": "quit", "message": "see you"}
ABSENT = object()


def wire(members: dict[str, Any], **changes: Any) -> bytes:
    """The members as JSON, with some changed, or left out when ABSENT."""
    changed = {name: value for name, value in (members | changes).items() if value is not ABSENT}
    return json.dumps(changed).encode()


def outcome(payload: bytes) -> Message | BadMessage | None:
    try:
        return decode(payload)
    except BadMessage as error:
        return error


def refused(payload: bytes) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        decode(payload)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 200
    assert caught.value.code in {code.value for code in RejectCode}
    return caught.value


# What is on the wire


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            Hello(
                version=1,
                role=Role.CLIENT,
                room="den",
                mac="02:00:00:00:00:01",
                datagram_budget=1440,
                software="softlan 1",
                features=("a",),
                room_token="t",
                resume="r",
                seal="00" * 16,
            ),
            b'{"type":"hello","version":1,"role":"client","room":"den","mac":"02:00:00:00:00:01",'
            b'"datagram_budget":1440,"software":"softlan 1","features":["a"],"room_token":"t","resume":"r",'
            b'"seal":"00000000000000000000000000000000"}',
        ),
        (
            Hello(version=1, role=Role.GATEWAY, room="den", datagram_budget=1440),
            b'{"type":"hello","version":1,"role":"gateway","room":"den","datagram_budget":1440}',
        ),
        (
            Welcome(
                version=1,
                mode="ethernet",
                peer_id=7,
                room="den",
                room_mtu=1418,
                effective_mtu=1398,
                datagram_budget=1420,
                gateway_present=True,
                resume="abc",
                stats_interval=5,
            ),
            b'{"type":"welcome","version":1,"mode":"ethernet","peer_id":7,"room":"den","room_mtu":1418,'
            b'"effective_mtu":1398,"datagram_budget":1420,"gateway_present":true,"resume":"abc",'
            b'"stats_interval":5,"features":[],"sealed":false}',
        ),
        (
            Reject(code=RejectCode.ROOM_FULL, message="full"),
            b'{"type":"reject","code":"room_full","message":"full"}',
        ),
        (
            Reject(code=RejectCode.REDIRECT, message="over there", redirect="r2.example.net:443", retry_after=0.5),
            b'{"type":"reject","code":"redirect","message":"over there","redirect":"r2.example.net:443",'
            b'"retry_after":0.5}',
        ),
        (
            PeerJoined(peer_id=2, role=Role.CLIENT, mac="02:00:00:00:00:02"),
            b'{"type":"peer_joined","peer_id":2,"role":"client","mac":"02:00:00:00:00:02","seal":null}',
        ),
        (
            PeerJoined(peer_id=1, role=Role.GATEWAY, seal="0123456789abcdef" * 2),
            b'{"type":"peer_joined","peer_id":1,"role":"gateway","mac":null,"seal":"0123456789abcdef0123456789abcdef"}',
        ),
        (
            PeerLeft(peer_id=2, reason="timeout"),
            b'{"type":"peer_left","peer_id":2,"reason":"timeout"}',
        ),
        (
            Stats(counters={"frames_in": 3}, rtt_ms=None),
            b'{"type":"stats","counters":{"frames_in":3},"rtt_ms":null}',
        ),
        (
            Disconnect(reason="quit", message="see you"),
            b'{"type":"disconnect","reason":"quit","message":"see you"}',
        ),
    ],
)
def test_golden_bytes(message: Message, expected: bytes) -> None:
    assert encode(message) == expected
    assert decode(expected) == message


rooms = st.from_regex(r"\A[A-Za-z0-9_-]{1,32}\Z")
macs = st.binary(min_size=5, max_size=5).map(lambda rest: (b"\x02" + rest).hex(":"))
short_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
features = st.lists(short_text, max_size=32).map(tuple)
peer_ids = st.integers(1, 65535)
salts = st.binary(min_size=16, max_size=16).map(bytes.hex)
mtus = st.integers(256, 9000)
budgets = st.integers(300, 65527)
seconds = st.floats(0.01, 86400)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        version=st.just(1),
        role=st.just(Role.CLIENT),
        room=rooms,
        mac=macs,
        datagram_budget=budgets,
        software=st.none() | short_text,
        features=features,
        room_token=st.none() | short_text,
        resume=st.none() | short_text,
        seal=st.none() | salts,
    ),
    st.builds(
        Hello,
        version=st.just(1),
        role=st.just(Role.GATEWAY),
        room=rooms,
        mac=st.none(),
        datagram_budget=budgets,
    ),
    st.tuples(mtus, mtus).flatmap(
        lambda pair: st.builds(
            Welcome,
            version=st.just(1),
            mode=st.just("ethernet"),
            peer_id=peer_ids,
            room=rooms,
            room_mtu=st.just(max(pair)),
            effective_mtu=st.just(min(pair)),
            datagram_budget=budgets,
            gateway_present=st.booleans(),
            resume=short_text,
            stats_interval=seconds,
            features=features,
            sealed=st.booleans(),
        )
    ),
    st.builds(
        Reject,
        code=st.sampled_from(RejectCode).filter(lambda code: code is not RejectCode.REDIRECT),
        message=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
        retry_after=st.none() | seconds,
    ),
    st.builds(PeerJoined, peer_id=peer_ids, role=st.just(Role.CLIENT), mac=macs, seal=st.none() | salts),
    st.builds(PeerLeft, peer_id=peer_ids, reason=short_text),
    st.builds(
        Stats,
        counters=st.dictionaries(short_text, st.integers(0, 2**63 - 1), max_size=20),
        rtt_ms=st.none() | st.floats(0, 1e6),
    ),
    st.builds(Disconnect, reason=st.from_regex(r"\A[a-z0-9_-]{1,64}\Z"), message=short_text),
)


@given(messages)
def test_what_is_encoded_is_decoded_to_the_same(message: Message) -> None:
    payload = encode(message)
    assert decode(payload) == message
    assert json.loads(payload)["type"] == type(message).__struct_config__.tag


@given(messages, st.dictionaries(st.text("xyz", min_size=1, max_size=3), st.integers() | st.text()))
def test_members_that_we_do_not_know_are_ignored(message: Message, others: dict[str, Any]) -> None:
    assert decode(json.dumps(json.loads(encode(message)) | others).encode()) == message


# What is not a message at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
known = [HELLO, GATEWAY, WELCOME, REJECT, JOINED, LEFT, STATS, DISCONNECT]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(payload: bytes) -> None:
    result = outcome(payload)
    assert not isinstance(result, BadMessage) or str(result).isprintable()


@given(json_values)
def test_any_json_is_a_message_or_refused(value: object) -> None:
    result = outcome(json.dumps(value).encode())
    typed = isinstance(value, dict) and isinstance(value.get("type"), str)
    assert isinstance(result, BadMessage) or (result is None and typed)


@given(st.sampled_from(known), st.data())
def test_any_value_of_any_member_is_a_message_or_refused(base: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(base) - {"type"})))
    value = data.draw(json_values)
    result = outcome(wire(base, **{name: value}))
    assert result is not None
    assert isinstance(result, BadMessage) or decode(encode(result)) == result


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"hello"',
        b"{}",
        b'{"type":1}',
        b'{"type":null}',
        b'{"type":["hello"]}',
        b'{"type":"x"} {"type":"x"}',
        b'{"type":"x","n":NaN}',
        b'{"type":"x","n":Infinity}',
        b'{"type":"x","n":1e999}',
        b'{"type":"x",}',
        b"{'type':'x'}",
        b'{"type":"\\ud800"}',
        b'{"type":"x","\\udc00":1}',
        b'{"type":"\xff"}',
        b'{"type":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"type":"x"}',
        '{"type":"x"}'.encode("utf-16"),
        b'{"type":"x","type":"y"}',
        b'{"type":"x","a":{"b":1,"b":1}}',
        b'{"type":"x","n":' + b"9" * 16000 + b"}",
    ],
)
def test_not_a_message(payload: bytes) -> None:
    assert refused(payload).code == "bad_message"


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 16384,
        b'{"a":' * 3000,
        b'{"type":"hello","version":1,"features":' + b"[" * 8000 + b"]" * 8000 + b"}",
        b'{"type":' + b'{"a":' * 2700 + b"1" + b"}" * 2700 + b"}",
    ],
)
def test_nesting_without_end_is_refused(payload: bytes) -> None:
    assert refused(payload).code == "bad_message"


def test_a_hello_full_of_huge_lists_is_refused() -> None:
    assert refused(wire(HELLO, features=["x"] * 3000)).code == "bad_message"


def test_a_type_that_we_do_not_know_is_none() -> None:
    assert decode(b'{"type":"weather","rain":true}') is None


def test_what_the_other_side_wrote_comes_back_short_and_printable() -> None:
    error = refused(wire(HELLO, role="\x1b[2J\n" * 1000))
    assert "\x1b" not in str(error)


# Hello


def test_a_hello_gives_its_mac_as_bytes() -> None:
    client, gateway = decode(wire(HELLO)), decode(wire(GATEWAY))
    assert isinstance(client, Hello)
    assert isinstance(gateway, Hello)
    assert client.mac_bytes == b"\x02\x00\x00\x00\x00\x01"
    assert gateway.mac_bytes is None
    assert decode(wire(GATEWAY, mac=ABSENT)) == gateway


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 2}, "unsupported_version"),
        ({"version": 0}, "unsupported_version"),
        ({"version": -1}, "unsupported_version"),
        ({"version": 10**30}, "unsupported_version"),
        ({"version": ABSENT}, "bad_message"),
        ({"version": True}, "bad_message"),
        ({"version": "1"}, "bad_message"),
        ({"version": 1.0}, "bad_message"),
        ({"version": None}, "bad_message"),
        ({"role": ABSENT}, "bad_message"),
        ({"role": "relay"}, "bad_message"),
        ({"role": 1}, "bad_message"),
        ({"room": ABSENT}, "bad_message"),
        ({"room": 5}, "bad_message"),
        ({"room": ""}, "bad_room"),
        ({"room": "a/b"}, "bad_room"),
        ({"room": "den\n"}, "bad_room"),
        ({"room": "x" * 33}, "bad_room"),
        ({"room": "caf\u00e9"}, "bad_room"),
        ({"mac": ABSENT}, "bad_mac"),
        ({"mac": None}, "bad_mac"),
        ({"mac": ""}, "bad_mac"),
        ({"mac": "02-00-00-00-00-01"}, "bad_mac"),
        ({"mac": "02:00:00:00:00:0A"}, "bad_mac"),
        ({"mac": "02:00:00:00:00:01\n"}, "bad_mac"),
        ({"mac": "00:00:00:00:00:00"}, "bad_mac"),
        ({"mac": "ff:ff:ff:ff:ff:ff"}, "bad_mac"),
        ({"mac": "03:00:00:00:00:01"}, "bad_mac"),
        ({"mac": 1}, "bad_message"),
        ({"role": "gateway"}, "bad_mac"),
        ({"datagram_budget": ABSENT}, "bad_message"),
        ({"datagram_budget": 299}, "bad_message"),
        ({"datagram_budget": 65528}, "bad_message"),
        ({"datagram_budget": -1}, "bad_message"),
        ({"datagram_budget": 1e400}, "bad_message"),
        ({"datagram_budget": True}, "bad_message"),
        ({"datagram_budget": 2**70}, "bad_message"),
        ({"software": "x" * 65}, "bad_message"),
        ({"software": 1}, "bad_message"),
        ({"features": "abc"}, "bad_message"),
        ({"features": None}, "bad_message"),
        ({"features": [1]}, "bad_message"),
        ({"features": ["x" * 65]}, "bad_message"),
        ({"features": ["x"] * 33}, "bad_message"),
        ({"room_token": 1}, "bad_message"),
        ({"room_token": "x" * 129}, "bad_message"),
        ({"seal": "00" * 15}, "bad_message"),
        ({"seal": "0A" * 16}, "bad_message"),
        ({"seal": "00" * 16 + "\n"}, "bad_message"),
        ({"resume": "x" * 129}, "bad_message"),
    ],
)
def test_a_hello_that_is_refused_has_its_code(changes: dict[str, Any], code: str) -> None:
    assert refused(wire(HELLO, **changes)).code == code


@pytest.mark.parametrize(
    "changes",
    [
        {"mac": "00:1b:21:00:00:01"},  # universal: the relay's decision
        {"datagram_budget": 300},
        {"datagram_budget": 65527},
        {"software": "x" * 64},
        {"features": ["x" * 64] * 32},
        {"resume": "x" * 128},
        {"room_token": "x" * 128},
        {"seal": "0f" * 16},
        {"room": "x" * 32},
    ],
)
def test_a_hello_at_the_bounds_is_good(changes: dict[str, Any]) -> None:
    assert isinstance(decode(wire(HELLO, **changes)), Hello)


def test_a_hello_is_checked_in_the_order_of_the_protocol() -> None:
    faults: list[tuple[dict[str, Any], str]] = [
        ({"version": 2}, "unsupported_version"),
        ({"role": "king"}, "bad_message"),
        ({"room": "a/b"}, "bad_room"),
        ({"mac": "x"}, "bad_mac"),
        ({"datagram_budget": 1}, "bad_message"),
    ]
    for first in range(len(faults)):
        changes = {name: value for fault, _ in faults[first:] for name, value in fault.items()}
        assert refused(wire(HELLO, **changes)).code == faults[first][1]


def test_another_version_is_recognised_whatever_else_it_says() -> None:
    assert refused(b'{"type":"hello","version":2}').code == "unsupported_version"
    assert refused(b'{"type":"hello","version":9,"role":[],"room":{}}').code == "unsupported_version"


# The other messages


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        *(
            (base, {name: ABSENT})
            for base in (WELCOME, REJECT, DISCONNECT, LEFT)
            for name in base
            if name != "features"
        ),
        (WELCOME, {"mode": "ip"}),
        (WELCOME, {"peer_id": 0}),
        (WELCOME, {"peer_id": 65536}),
        (WELCOME, {"peer_id": True}),
        (WELCOME, {"room": "a b"}),
        (WELCOME, {"room_mtu": 255, "effective_mtu": 255}),
        (WELCOME, {"room_mtu": 9001}),
        (WELCOME, {"effective_mtu": 255}),
        (WELCOME, {"effective_mtu": 1419}),
        (WELCOME, {"datagram_budget": 299}),
        (WELCOME, {"datagram_budget": 65528}),
        (WELCOME, {"gateway_present": 1}),
        (WELCOME, {"resume": "x" * 129}),
        (WELCOME, {"stats_interval": 0}),
        (WELCOME, {"stats_interval": -1}),
        (WELCOME, {"stats_interval": "5"}),
        (REJECT, {"code": "tired"}),
        (REJECT, {"redirect": "a:443"}),
        (REJECT, {"code": "redirect"}),
        (REJECT, {"retry_after": -1}),
        (REJECT, {"retry_after": True}),
        (JOINED, {"peer_id": 0}),
        (JOINED, {"role": ABSENT}),
        (JOINED, {"mac": None}),
        (JOINED, {"mac": "01:00:00:00:00:01"}),
        (JOINED, {"role": "gateway"}),
        (STATS, {"counters": ABSENT}),
        (STATS, {"counters": {"x": -1}}),
        (STATS, {"counters": {"x": 2**63}}),
        (STATS, {"counters": {"x": 1.5}}),
        (STATS, {"counters": {"x": True}}),
        (STATS, {"counters": {"x" * 65: 1}}),
        (STATS, {"counters": {str(number): 1 for number in range(257)}}),
        (STATS, {"rtt_ms": -1}),
        (STATS, {"rtt_ms": "1"}),
        (DISCONNECT, {"reason": "two words"}),
        (DISCONNECT, {"reason": "quit\n"}),
        (DISCONNECT, {"reason": "x" * 65}),
    ],
)
def test_refused(base: dict[str, Any], changes: dict[str, Any]) -> None:
    refused(wire(base, **changes))


def test_bounds_of_the_others_are_good() -> None:
    assert decode(wire(WELCOME, effective_mtu=1418, peer_id=65535)) is not None
    assert decode(wire(WELCOME, features=ABSENT)) == decode(wire(WELCOME))
    assert decode(wire(STATS, counters={str(number): 2**63 - 1 for number in range(256)})) is not None
    stats = decode(wire(STATS, rtt_ms=ABSENT))
    assert isinstance(stats, Stats)
    assert stats.rtt_ms is None


def test_a_welcome_of_another_version_says_so() -> None:
    assert refused(wire(WELCOME, version=2)).code == "unsupported_version"


def test_a_peer_gives_its_mac_as_bytes() -> None:
    client = decode(wire(JOINED))
    gateway = decode(wire(JOINED, role="gateway", mac=None))
    assert isinstance(client, PeerJoined)
    assert isinstance(gateway, PeerJoined)
    assert client.mac_bytes == b"\x02\x00\x00\x00\x00\x02"
    assert gateway.mac_bytes is None


@given(st.text(max_size=40))
def test_rooms(room: str) -> None:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    assert room_ok(room) == (1 <= len(room) <= 32 and set(room) <= allowed)


def test_what_lets_somebody_in_is_not_shown() -> None:
    hello = Hello(version=1, role=Role.CLIENT, room="den", datagram_budget=300, room_token="secret1", resume="secret2")
    welcome = decode(wire(WELCOME, resume="secret-3"))
    assert isinstance(welcome, Welcome)
    assert "secret" not in repr(hello) + repr(welcome)
    assert "den" in repr(hello)
    assert "den" in repr(welcome)
