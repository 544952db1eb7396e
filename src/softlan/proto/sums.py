"""Sums of 16-bit words, the stuff that Internet checksums are made of (RFC 1071).

A sum with end-around carry is the number that the bytes are, modulo 0xFFFF, since 0x10000 leaves 1 there; except that
only a sum of nothing but zeros is 0, any other multiple of 0xFFFF is 0xFFFF.
"""


def word_sum(data: bytes | bytearray | memoryview) -> int:
    """The sum of `data` as big-endian words, 0..0xFFFF; an odd last byte is the high one of its word."""
    total = int.from_bytes(data, "big")
    if len(data) & 1:
        total <<= 8
    return total % 0xFFFF or (total and 0xFFFF)
