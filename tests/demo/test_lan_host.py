from softlan.demo import lan_host, packets

CHALLENGE = b"\x4b\xa1\xd5\x22"


def test_who_asks_without_the_challenge_gets_it_and_nothing_else() -> None:
    answer = lan_host.game_server(CHALLENGE)
    assert answer(packets.info_query()) == packets.challenge_reply(CHALLENGE)
    assert answer(packets.info_query(b"none")) == packets.challenge_reply(CHALLENGE)


def test_who_repeats_the_challenge_is_told_about_the_server() -> None:
    answer = lan_host.game_server(CHALLENGE)(packets.info_query(CHALLENGE))
    assert answer is not None
    assert packets.parse_info(answer) == lan_host.SERVER


def test_the_device_answers_searches_only() -> None:
    device = lan_host.device("10.77.0.10")
    answer = device(packets.search_request())
    assert answer is not None
    assert packets.parse_search_reply(answer) == "http://10.77.0.10/device.xml"
    assert device(packets.info_query()) is None
    assert lan_host.game_server(CHALLENGE)(packets.search_request()) is None
