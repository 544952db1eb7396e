"""What a relay is set to for its rooms."""

import dataclasses

import pytest

from softlan.policy.rules import Policy
from softlan.proto.budget import DEFAULT_ROOM_MTU
from softlan.proto.drop import DropReason
from softlan.relay.settings import RoomBook, RoomSettings

STRICT, LAX = Policy(ethertypes=frozenset((0x0800, 0x0806))), Policy(jumbo=False)


def test_a_room_is_by_default_as_the_protocol_says() -> None:
    assert RoomSettings() == RoomSettings(DEFAULT_ROOM_MTU, Policy())


def test_settings_are_values() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RoomSettings().mtu = 1  # type: ignore[misc]


def test_a_named_room_has_its_own_and_all_others_the_default() -> None:
    book = RoomBook(RoomSettings(1400, STRICT), {"den": RoomSettings(1300, LAX)})
    assert book.settings("den") == RoomSettings(1300, LAX)
    assert book.settings("Den") == book.settings("attic") == RoomSettings(1400, STRICT)
    ipv6 = bytes(6) + b"\x02" + bytes(5) + b"\x86\xdd" + bytes(1500)
    verdicts = [book.engine(room).verdict(ipv6, 0, None, (), 1400) for room in ("den", "attic")]
    assert verdicts == [None, DropReason.JUMBO], "each by its own rules"


def test_the_book_is_as_it_was_opened() -> None:
    named = {"den": RoomSettings(1300)}
    book = RoomBook(RoomSettings(), named)
    named["attic"] = RoomSettings(1200)
    assert book.named == {"den": RoomSettings(1300)}


def test_rooms_of_one_policy_share_what_was_made_ready_for_it() -> None:
    book = RoomBook(RoomSettings(), {"den": RoomSettings(1300), "attic": RoomSettings(policy=LAX)})
    assert book.engine("den") is book.engine("another") is book.engine("den")
    assert book.engine("attic") is not book.engine("den")


def test_strangers_rooms_make_it_no_larger() -> None:
    book = RoomBook(RoomSettings())
    assert len({id(book.engine(f"room{number}")) for number in range(1000)}) == 1
    assert book.named == {}
