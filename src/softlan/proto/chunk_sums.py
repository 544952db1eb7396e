"""Sums of long frames, and of all segments of a super-frame at once; much faster with numpy, where it is installed."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from softlan.proto.sums import word_sum

_numpy: ModuleType | None
try:
    _numpy = import_module("numpy")
except ImportError:
    _numpy = None

IS_FAST = _numpy is not None
"""Whether it is installed."""
_NUMPY_FROM = 4
"""Fewer chunks than that are faster without it."""
_NUMPY_FROM_BYTES = 512
"""As are shorter frames."""


def tail_sum(data: bytes, start: int) -> int:
    """A number that is `word_sum` of `data[start:]` modulo 0xFFFF."""
    count = (len(data) - start) // 4
    if _numpy is None or count < _NUMPY_FROM_BYTES // 4:
        return word_sum(memoryview(data)[start:])
    words = _numpy.frombuffer(data, "<u4", count, start)
    # Swapped, as below.
    return (int(_numpy.add.reduce(words, dtype="u8")) << 8) + word_sum(data[start + 4 * count :])


def tail_sums(frames: Sequence[bytes], start: int) -> list[int]:
    """As `tail_sum`, of each of `frames`, which are of one length."""
    length = len(frames[0])
    if _numpy is None or len(frames) < _NUMPY_FROM or start >= length or (length - start) & 1:
        return [tail_sum(frame, start) for frame in frames]
    rows = _numpy.frombuffer(b"".join(frames), "u1").reshape(-1, length)[:, start:]
    # Swapped, as below.
    return [total << 8 for total in rows.view(_words(length - start)).sum(axis=1, dtype="u8").tolist()]


def chunk_sums(data: bytes, start: int, end: int, size: int) -> list[int]:
    """For each `size` bytes of `data[start:end]`, and what is left, a number that is `word_sum` modulo 0xFFFF.

    Of nothing, one 0.
    """
    whole = (end - start) // size
    sums: list[int] = []
    if _numpy is not None and whole >= _NUMPY_FROM and not size & 1:
        words = _numpy.frombuffer(data, "u1", whole * size, start).reshape(whole, size).view(_words(size))
        # A sum of words with their bytes swapped is the sum with its bytes swapped (RFC 1071 section 2 B), and
        # multiplying by 0x100 swaps them, modulo 0xFFFF.
        sums = [total << 8 for total in words.sum(axis=1, dtype="u8").tolist()]
        start += whole * size
        if start == end:
            return sums
    sums += [word_sum(data[at : min(at + size, end)]) for at in range(start, end, size)]
    return sums or [0]


def _words(size: int) -> str:
    """The name, in numpy, of the words that make up `size` bytes, an even number."""
    return "<u2" if size & 2 else "<u4"
