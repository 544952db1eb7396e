from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.ctrl.framing import MAX_MESSAGE, FrameDecoder, encode_frame
from softlan.ctrl.messages import BadMessage

payloads = st.lists(st.binary(min_size=2, max_size=300), max_size=6)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def drain(decoder: FrameDecoder, data: list[bytes]) -> tuple[list[bytes], bool]:
    """All messages of a stream, and whether it ended with a bad one."""
    messages: list[bytes] = []
    for chunk in data:
        try:
            messages += decoder.feed(chunk)
        except BadMessage:
            return messages, True
    return messages, False


def test_golden_bytes() -> None:
    assert encode_frame(b"{}") == b"\x00\x00\x00\x02{}"
    assert encode_frame(bytes(16384))[:4] == b"\x00\x00\x40\x00"


@pytest.mark.parametrize("length", [0, 1, MAX_MESSAGE + 1])
def test_what_the_other_side_would_refuse_is_not_sent(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes"):
        encode_frame(bytes(length))


@given(payloads, st.lists(st.integers(0, 5000), max_size=20))
def test_chunking_makes_no_difference(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(encode_frame, messages))
    assert FrameDecoder().feed(stream) == messages
    assert drain(FrameDecoder(), chunks(stream, cuts)) == (messages, False)


def test_byte_by_byte_a_message_is_there_with_its_last_byte() -> None:
    decoder = FrameDecoder()
    stream = encode_frame(b"{}") + encode_frame(b"[1]")
    arrived = [decoder.feed(stream[at : at + 1]) for at in range(len(stream))]
    assert arrived == [[]] * 5 + [[b"{}"]] + [[]] * 6 + [[b"[1]"]]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_end_alike_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole, whole_failed = drain(FrameDecoder(), [data])
    pieces, pieces_failed = drain(FrameDecoder(), chunks(data, cuts))
    assert pieces_failed == whole_failed
    assert pieces[: len(whole)] == whole
    assert whole_failed or pieces == whole


@pytest.mark.parametrize("prefix", [b"\0\0\0\0", b"\0\0\0\x01", b"\0\0\x40\x01", b"\xff\xff\xff\xff", b"GET "])
def test_a_bad_length_fails_at_its_fourth_byte_and_for_good(prefix: bytes) -> None:
    decoder = FrameDecoder()
    assert decoder.feed(encode_frame(b"{}") + prefix[:3]) == [b"{}"]
    with pytest.raises(BadMessage, match="bytes; 2 to 16384 are allowed") as caught:
        decoder.feed(prefix[3:])
    assert caught.value.code == "bad_message"
    with pytest.raises(BadMessage):
        decoder.feed(encode_frame(b"{}"))


def test_the_bounds_themselves_are_good() -> None:
    stream = encode_frame(b"{}") + encode_frame(bytes(MAX_MESSAGE))
    assert FrameDecoder().feed(stream) == [b"{}", bytes(MAX_MESSAGE)]


@given(st.lists(st.binary(min_size=2, max_size=MAX_MESSAGE), min_size=1, max_size=4), st.integers(1, 40000))
def test_never_more_than_one_partial_message_is_held(messages: list[bytes], size: int) -> None:
    stream = b"".join(map(encode_frame, messages))
    decoder = FrameDecoder()
    for start in range(0, len(stream), size):
        decoder.feed(stream[start : start + size])
        assert len(decoder._buffer) < 4 + MAX_MESSAGE
    assert not decoder._buffer
