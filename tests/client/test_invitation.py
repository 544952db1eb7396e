"""An invitation survives chat, mail and paper, and says clearly when it did not."""

import base64
import hashlib
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.client.invitation import MAX_LENGTH, Invitation, parse
from softlan.errors import UsageError
from softlan.net.address import HostPort
from softlan.proto.keys import room_keys

SECRET = bytes(range(100, 132))
PIN = bytes(range(32))
RELAY = HostPort("relay.example.net", 443)
FULL = Invitation(HostPort("192.0.2.7", 4433), "ROOM1", "lanparty-relay.local", PIN, SECRET)


def made(*fields: Any) -> str:
    """An invitation with any content, and the right checksum."""
    return spelt(msgspec.msgpack.encode(fields))


def spelt(payload: bytes) -> str:
    data = payload + hashlib.sha256(payload).digest()[:4]
    return "softlan1_" + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text)
    line = str(caught.value)
    assert line.isprintable()
    assert len(text) < 20 or text not in line
    return line


def test_the_bytes() -> None:
    """MessagePack (github.com/msgpack/msgpack, spec.md): an array of five, str 8, fixstr, bin 8; by hand."""
    payload = b"\x95\xae192.0.2.7:4433\xb4lanparty-relay.local\xc4\x20" + PIN + b"\xa5ROOM1\xc4\x20" + SECRET
    assert FULL.text() == spelt(payload)
    assert Invitation(RELAY, "DEN").text() == spelt(b"\x95\xb5relay.example.net:443\xc0\xc0\xa3DEN\xc0")


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.one_of(
    st.lists(LABEL, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
INVITATIONS = st.builds(
    Invitation,
    relay=st.builds(HostPort, HOSTS, st.integers(1, 65535)),
    room=st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True),
    server_name=st.none() | HOSTS,
    pin=st.none() | st.binary(min_size=32, max_size=32),
    secret=st.none() | st.binary(min_size=32, max_size=32),
)


@given(INVITATIONS)
def test_what_is_written_is_read(invitation: Invitation) -> None:
    text = invitation.text()
    assert parse(text) == invitation
    assert re.fullmatch(r"softlan1_[A-Za-z0-9_-]+", text)  # no shell needs quotes, and a double click takes all
    assert len(text) <= MAX_LENGTH


def test_the_longest_one_still_fits() -> None:
    label = "a" * 63
    name = f"{label}.{label}.{label}.{'a' * 61}"
    longest = Invitation(HostPort(name, 65535), "R" * 32, name, PIN, SECRET)
    assert parse(longest.text()) == longest


@given(INVITATIONS, st.data())
def test_mail_programs_may_wrap_it(invitation: Invitation, data: st.DataObject) -> None:
    text = invitation.text()
    at = data.draw(st.integers(0, len(text)))
    space = data.draw(st.sampled_from(["\n", "\r\n", "\r\n  ", " ", "\t", "\n\n", "\xa0"]))
    assert parse(f"  {text[:at]}{space}{text[at:]}{space}") == invitation


@given(INVITATIONS, st.data())
def test_a_changed_character_is_noticed(invitation: Invitation, data: st.DataObject) -> None:
    text = invitation.text()
    at = data.draw(st.integers(len("softlan1_"), len(text) - 1))
    other = data.draw(st.sampled_from("ABCZabcz019_-").filter(lambda letter: letter != text[at]))
    assert "cut off or changed" in complaint(text[:at] + other + text[at + 1 :])


@given(INVITATIONS, st.data())
def test_what_is_missing_or_too_much_is_noticed(invitation: Invitation, data: st.DataObject) -> None:
    text = invitation.text()
    at = data.draw(st.integers(len("softlan1_"), len(text) - 1))
    assert "cut off or changed" in complaint(text[:at])
    assert "cut off or changed" in complaint(text + data.draw(st.text("AZaz09_-", min_size=1, max_size=9)))


def test_bits_that_base64_has_too_many_of_are_noticed() -> None:
    """RFC 4648 section 3.5: two spellings of the same bytes."""
    text = Invitation(RELAY, "DEN").text()
    assert len(text.removeprefix("softlan1_")) % 4  # so that the last character has bits to spare
    padded = text.removeprefix("softlan1_") + "=" * (-len(text.removeprefix("softlan1_")) % 4)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    again = other.removeprefix("softlan1_") + padded[len(text.removeprefix("softlan1_")) :]
    assert base64.urlsafe_b64decode(padded) == base64.urlsafe_b64decode(again)
    assert "cut off or changed" in complaint(other)


NO_INVITATIONS = {
    "nothing": ("", "this is no invitation"),
    "something else": ("https://relay.example.net/", "this is no invitation"),
    "capital letters": (FULL.text().upper(), "this is no invitation"),
    "a newer one": ("softlan2_" + FULL.text()[9:], "newer version of softlan: update softlan"),
    "far too long": ("softlan1_" + "A" * MAX_LENGTH, "longer than 1024"),
    "another alphabet": (FULL.text()[:-3] + "+/+", "cut off or changed"),
    "letters that look alike": (FULL.text()[:-1] + "\u0430", "cut off or changed"),
    "only its beginning": ("softlan1_", "cut off or changed"),
    "no array": (spelt(b"\xa5ROOM1"), "does not know: update softlan"),
    "no MessagePack": (spelt(b"\xc1"), "does not know"),
    "more than we know": (made("x:1", None, None, "DEN", None, 7), "does not know: update softlan"),
    "less": (made("x:1", None, None, "DEN"), "does not know"),
    "another kind": (made("x:1", None, None, 5, None), "does not know"),
    "no UTF-8": (spelt(b"\x95\xa1\xff\xc0\xc0\xa3DEN\xc0"), "does not know"),
    "something behind it": (spelt(msgspec.msgpack.encode(("x:1", None, None, "DEN", None)) + b"\xc0"), "does not know"),
    "a room with a slash": (made("x:1", None, None, "a/b", None), "room is not 1 to 32"),
    "no room": (made("x:1", None, None, "", None), "room is not 1 to 32"),
    "a short pin": (made("x:1", None, bytes(20), "DEN", None), "pin has not 32 bytes"),
    "a short secret": (made("x:1", None, None, "DEN", bytes(31)), "secret has not 32 bytes"),
    "a server name that is none": (made("x:1", "a b", None, "DEN", None), "server name is not a host name"),
    "a server name with a port": (made("x:1", "y:443", None, "DEN", None), "server name is not a host name"),
    "a relay that is none": (made("http://x", None, None, "DEN", None), "the invitation's relay is wrong"),
    "a relay with a port that is none": (made("x:99999", None, None, "DEN", None), "the invitation's relay is wrong"),
    "an interface of one machine": (made("[fe80::1%eth0]:1", None, None, "DEN", None), "one machine's own"),
    "a port that nobody has": (made("x:0", None, None, "DEN", None), "the invitation's relay is wrong"),
    "a line in the relay": (made("x:1\n", None, None, "DEN", None), "cut off or changed"),
    "a line in the server name": (made("x:1", "a\nb", None, "DEN", None), "server name is not a host name"),
    "a line behind the server name": (made("x:1", "a\n", None, "DEN", None), "server name is not a host name"),
    "a server name that looks like one": (made("x:1", "rel\u0430y.net", None, "DEN", None), "is not a host name"),
    "a relay that looks like one": (made("rel\u0430y.net:1", None, None, "DEN", None), "cut off or changed"),
    "a line behind the room": (made("x:1", None, None, "DEN\n", None), "room is not 1 to 32"),
    "another spelling of the relay": (made("x", None, None, "DEN", None), "cut off or changed"),
    "another spelling of the array": (spelt(b"\xdc\x00\x05\xa3x:1\xc0\xc0\xa3DEN\xc0"), "cut off or changed"),
}


@pytest.mark.parametrize("name", NO_INVITATIONS)
def test_one_line_says_what_is_wrong(name: str) -> None:
    text, said = NO_INVITATIONS[name]
    assert said in complaint(text)


LEAKY = {
    "no UTF-8 with all of it": spelt(b"\x95\xa1x\xc0\xc0\xd9\x27ROOM1" + b"\xc4\x20" + SECRET),
    "another kind": made("x:1", None, None, 5, SECRET),
    "more than we know": made("x:1", None, None, "DEN", SECRET, 7),
    "a room with a slash": made("x:1", None, None, "a/b", SECRET),
    "a relay that is none": made("http://x", None, None, "DEN", SECRET),
    "a secret that is too long": made("x:1", None, None, "DEN", SECRET + b"1"),
    "changed": FULL.text()[:-1],
}


@pytest.mark.parametrize("name", LEAKY)
def test_no_error_keeps_the_secret_not_even_one_behind_it(name: str) -> None:
    """A UnicodeDecodeError has all that was to be decoded, for whoever prints it."""
    with pytest.raises(UsageError) as caught:
        parse(LEAKY[name])
    error: BaseException | None = caught.value
    while error is not None:
        shown = f"{error} {error!r} {vars(error)} {[getattr(error, member, None) for member in ('object', 'doc')]}"
        assert repr(SECRET)[2:-1] not in shown
        assert repr(SECRET[:8])[2:-1] not in shown
        assert LEAKY[name] not in shown
        error = error.__cause__ or error.__context__


def test_its_keys_are_the_rooms() -> None:
    assert FULL.keys() == room_keys(SECRET, "ROOM1")
    assert Invitation(RELAY, "DEN").keys() is None


def test_the_secret_is_not_printed() -> None:
    for text in (repr(FULL), str(FULL), f"{FULL}"):
        assert "secret" not in text
        assert repr(SECRET) not in text
    assert FULL.text() not in complaint("x" + FULL.text())
