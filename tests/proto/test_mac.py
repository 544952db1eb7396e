import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.errors import UsageError
from softlan.proto.mac import (
    BROADCAST,
    ZERO,
    format_mac,
    identity_fault,
    is_local,
    is_multicast,
    local_mac,
    parse_mac,
)

macs = st.binary(min_size=6, max_size=6)


@pytest.mark.parametrize("text", ["02:00:5e:10:ab:cd", "02:00:5E:10:AB:CD", "02-00-5e-10-ab-cd", "02-00-5E-10-Ab-cD"])
def test_people_write_macs_in_several_ways(text: str) -> None:
    assert parse_mac(text) == b"\x02\x00\x5e\x10\xab\xcd"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:5e:10:ab",
        "02:00:5e:10:ab:cd:ef",
        "02:00-5e:10-ab:cd",
        "2:0:5e:10:ab:cd",
        "02005e10abcd",
        "0200.5e10.abcd",
        "02:00:5e:10:ab:cg",
        "02:00:5e:10:ab:cd\n",
        " 02:00:5e:10:ab:cd",
        "0\u0662:00:5e:10:ab:cd",
    ],
)
def test_what_is_not_a_mac_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_mac(text)
    assert "\n" not in str(caught.value)
    assert "02:00:5e:10:00:01" in str(caught.value)


@given(macs)
def test_format_and_parse_are_inverse(mac: bytes) -> None:
    text = format_mac(mac)
    assert text == ":".join(f"{octet:02x}" for octet in mac)
    assert parse_mac(text) == parse_mac(text.upper().replace(":", "-")) == mac


@pytest.mark.parametrize(
    ("text", "multicast", "local"),
    [
        ("00:1b:21:00:00:01", False, False),
        ("02:00:00:00:00:01", False, True),
        ("01:00:5e:00:00:fb", True, False),
        ("33:33:00:00:00:01", True, True),
        ("ff:ff:ff:ff:ff:ff", True, True),
    ],
)
def test_the_two_bits_of_the_first_octet(text: str, multicast: bool, local: bool) -> None:
    mac = parse_mac(text)
    assert (is_multicast(mac), is_local(mac)) == (multicast, local)


@pytest.mark.parametrize(
    ("mac", "phrase"),
    [
        (ZERO, "all zero"),
        (BROADCAST, "the broadcast address"),
        (parse_mac("03:00:00:00:00:01"), "a multicast address"),
        (parse_mac("00:1b:21:00:00:01"), "universally administered"),
        (b"\x02\x00", "2 bytes long"),
    ],
)
def test_what_cannot_be_an_identity(mac: bytes, phrase: str) -> None:
    fault = identity_fault(mac)
    assert fault is not None
    assert phrase in fault


def test_universal_identities_are_good_only_where_allowed() -> None:
    universal = parse_mac("00:1b:21:00:00:01")
    assert identity_fault(universal, allow_universal=True) is None
    assert identity_fault(ZERO, allow_universal=True) is not None
    assert identity_fault(parse_mac("01:00:00:00:00:01"), allow_universal=True) is not None


@given(macs)
def test_a_local_mac_is_always_an_identity_and_keeps_46_random_bits(random: bytes) -> None:
    mac = local_mac(random)
    assert identity_fault(mac) is None
    assert mac[1:] == random[1:]
    assert mac[0] & 0xFC == random[0] & 0xFC


def test_a_local_mac_needs_six_bytes() -> None:
    with pytest.raises(ValueError, match="6 bytes"):
        local_mac(bytes(5))
