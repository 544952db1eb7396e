import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.demo import packets
from softlan.demo.packets import ServerInfo

# No NUL: the formats end or separate their texts with it. No surrogates: they have no bytes.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
bytes_ = st.integers(0, 255)


def test_a_source_query_is_the_one_that_servers_know() -> None:
    # Valve Developer Community, "Server queries", A2S_INFO: request.
    assert packets.info_query() == bytes.fromhex("ffffffff 54 536f7572636520456e67696e6520517565727900")
    assert packets.info_query(b"\x4b\xa1\xd5\x22") == packets.info_query() + b"\x4b\xa1\xd5\x22"


def test_a_query_without_a_challenge_is_told_from_one_with_it() -> None:
    assert packets.parse_info_query(packets.info_query()) == b""
    assert packets.parse_info_query(packets.info_query(b"1234")) == b"1234"
    assert packets.parse_info_query(packets.info_query(b"12")) is None
    assert packets.parse_info_query(b"\xff\xff\xff\xffV") is None


def test_a_challenge() -> None:
    assert packets.challenge_reply(b"\x4b\xa1\xd5\x22") == bytes.fromhex("ffffffff 41 4ba1d522")
    assert packets.parse_challenge(bytes.fromhex("ffffffff 41 4ba1d522")) == b"\x4b\xa1\xd5\x22"
    assert packets.parse_challenge(bytes.fromhex("ffffffff 41 4ba1d5")) is None


def test_a_source_answer_of_a_real_server_is_read() -> None:
    # The example of the same page, Counter-Strike: Source.
    answer = bytes.fromhex(
        "ff ff ff ff 49 02 67 61 6d 65 32 78 73 2e 63 6f 6d 20 43 6f 75 6e 74 65 72 2d 53 74 72 69 6b 65"
        "20 53 6f 75 72 63 65 20 23 31 00 64 65 5f 64 75 73 74 00 63 73 74 72 69 6b 65 00 43 6f 75 6e 74"
        "65 72 2d 53 74 72 69 6b 65 3a 20 53 6f 75 72 63 65 00 f0 00 05 10 04 64 6c 00 00 31 2e 30 2e 30"
        "2e 32 32 00"
    )
    assert packets.parse_info(answer) == ServerInfo(
        name="game2xs.com Counter-Strike Source #1",
        map="de_dust",
        game="Counter-Strike: Source",
        players=5,
        max_players=16,
    )


@given(st.builds(ServerInfo, name=texts, map=texts, game=texts, players=bytes_, max_players=bytes_))
def test_what_a_server_says_is_what_is_read(info: ServerInfo) -> None:
    assert packets.parse_info(packets.info_reply(info)) == info


def test_an_ssdp_search_has_the_headers_that_devices_insist_on() -> None:
    # UPnP Device Architecture 1.1, section 1.3.2; the MAN value is in quotes.
    assert packets.search_request() == (
        b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n'
    )
    assert packets.is_search(packets.search_request())
    assert not packets.is_search(b"NOTIFY * HTTP/1.1\r\n")


def test_a_device_tells_where_its_description_is() -> None:
    reply = packets.search_reply("http://10.77.0.10/device.xml", "an-id")
    assert packets.parse_search_reply(reply) == "http://10.77.0.10/device.xml"
    assert packets.parse_search_reply(b"HTTP/1.1 200 OK\r\nlocation:http://a/\r\n\r\n") == "http://a/"
    assert packets.parse_search_reply(b"HTTP/1.1 404 Not Found\r\nLOCATION: http://a/\r\n\r\n") is None
    assert packets.parse_search_reply(b"HTTP/1.1 200 OK\r\n\r\n") is None


def test_an_open_world() -> None:
    announced = b"[MOTD]Steve - New World[/MOTD][AD]51234[/AD]"
    assert packets.world_announcement("Steve - New World", 51234) == announced
    assert packets.parse_world(announced) == ("Steve - New World", 51234)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"[MOTD]no port[/MOTD]",
        b"[AD]51234[/AD]",
        b"[MOTD]a[/MOTD][AD]port[/AD]",
        b"[MOTD]a[/MOTD][AD]65536[/AD]",
        b"[MOTD]cut[/MOTD][AD]512",
    ],
)
def test_an_announcement_that_is_none(packet: bytes) -> None:
    assert packets.parse_world(packet) is None


def test_a_status_is_a_kick_packet_in_utf_16() -> None:
    reply = packets.status_reply("Hi", 3, 16)
    # The wiki's "Server List Ping", 1.4 to 1.5: a count of UTF-16 units, then fields separated by NUL.
    fields = "\u00a71\0" + "127\0" + "1.6.4\0" + "Hi\0" + "3\0" + "16"
    assert reply == b"\xff" + struct.pack(">H", len(fields)) + fields.encode("utf-16-be")
    assert packets.parse_status(reply) == ("Hi", 3, 16)


def test_a_status_that_has_not_wholly_arrived_is_not_read_yet() -> None:
    reply = packets.status_reply("Hi", 3, 16)
    assert all(packets.parse_status(reply[:length]) is None for length in range(len(reply)))


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xff\xff\xffI", b"\xff\x00\x02", b"HTTP/1.1 200"]))
def test_no_bytes_from_the_net_raise(tail: bytes, head: bytes) -> None:
    for parse in (
        packets.parse_info_query,
        packets.parse_challenge,
        packets.parse_info,
        packets.parse_search_reply,
        packets.parse_world,
        packets.parse_status,
    ):
        parse(head + tail)
