import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.proto.sums import word_sum


def naive_sum(data: bytes) -> int:
    """RFC 1071 word by word, with the end-around carry."""
    if len(data) % 2:
        data += b"\0"
    total = 0
    for (word,) in struct.iter_unpack(">H", data):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


class TestWordSum:
    def test_the_example_of_rfc_1071(self) -> None:
        assert word_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2

    def test_an_odd_byte_is_the_high_one_of_a_word(self) -> None:
        assert word_sum(b"\x12") == word_sum(b"\x12\x00") == 0x1200

    @given(st.binary(max_size=80) | st.binary(min_size=500, max_size=3000))
    def test_is_the_sum_by_words(self, data: bytes) -> None:
        assert word_sum(data) == word_sum(bytearray(data)) == word_sum(memoryview(data)) == naive_sum(data)

    @pytest.mark.parametrize("length", [0, 1, 2, 511, 512, 513, 514, 1400, 1401, 9000, 65535])
    def test_of_ones_and_of_zeros_at_any_length(self, length: int) -> None:
        assert word_sum(bytes(length)) == 0
        assert word_sum(b"\xff" * length) == naive_sum(b"\xff" * length)
