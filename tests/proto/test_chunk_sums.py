from types import ModuleType

import pytest

from softlan.proto import chunk_sums as module
from softlan.proto.chunk_sums import chunk_sums, tail_sum, tail_sums
from softlan.proto.sums import word_sum


@pytest.mark.parametrize(
    "numpy", [pytest.param(module._numpy, id="as installed"), pytest.param(None, id="without numpy")]
)
class TestChunkSums:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 7, 100, 101, 102, 104])
    @pytest.mark.parametrize("start", [0, 1, 2, 3])
    @pytest.mark.parametrize("length", [0, 1, 3, 99, 100, 400, 404, 405, 702])
    def test_are_those_of_the_chunks(
        self, monkeypatch: pytest.MonkeyPatch, numpy: ModuleType | None, size: int, start: int, length: int
    ) -> None:
        monkeypatch.setattr(module, "_numpy", numpy)
        data = bytes(index * 37 & 0xFF for index in range(start + length + 5))
        end = start + length
        expected = [word_sum(data[at : min(at + size, end)]) % 0xFFFF for at in range(start, end, size)] or [0]
        assert [total % 0xFFFF for total in chunk_sums(data, start, end, size)] == expected

    def test_of_the_largest_words(self, monkeypatch: pytest.MonkeyPatch, numpy: ModuleType | None) -> None:
        monkeypatch.setattr(module, "_numpy", numpy)
        assert [total % 0xFFFF for total in chunk_sums(b"\xff" * 65520, 0, 65520, 1456)] == [0] * 45

    @pytest.mark.parametrize("length", [0, 1, 20, 511, 512, 513, 514, 515, 1380, 9001])
    @pytest.mark.parametrize("start", [0, 14, 34, 35])
    def test_of_a_tail(
        self, monkeypatch: pytest.MonkeyPatch, numpy: ModuleType | None, start: int, length: int
    ) -> None:
        monkeypatch.setattr(module, "_numpy", numpy)
        data = bytes(index * index >> 3 & 0xFF for index in range(start + length))
        assert tail_sum(data, start) % 0xFFFF == word_sum(data[start:]) % 0xFFFF

    @pytest.mark.parametrize("count", [1, 3, 4, 45])
    @pytest.mark.parametrize("length", [0, 1, 20, 46, 48, 513, 1374, 1376])
    @pytest.mark.parametrize("start", [0, 14, 34, 35])
    def test_of_many_tails(
        self, monkeypatch: pytest.MonkeyPatch, numpy: ModuleType | None, start: int, length: int, count: int
    ) -> None:
        monkeypatch.setattr(module, "_numpy", numpy)
        frames = [bytes(which + index * index >> 3 & 0xFF for index in range(start + length)) for which in range(count)]
        expected = [word_sum(frame[start:]) % 0xFFFF for frame in frames]
        assert [total % 0xFFFF for total in tail_sums(frames, start)] == expected

    def test_of_tails_that_are_not_there(self, monkeypatch: pytest.MonkeyPatch, numpy: ModuleType | None) -> None:
        monkeypatch.setattr(module, "_numpy", numpy)
        assert tail_sums([bytes(20)] * 5, 20) == tail_sums([bytes(20)] * 5, 24) == [0] * 5
