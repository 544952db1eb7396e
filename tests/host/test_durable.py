import os
from pathlib import Path

import pytest

from softlan.host.durable import replace_file, sync_directory


def test_a_file_takes_anothers_place(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for _ in range(2):  # with and without one to replace
        new.write_text("new")
        replace_file(new, old)
        sync_directory(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["old"]
        assert old.read_text() == "new"


def test_what_cannot_be_replaced_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "gone", tmp_path / "old")


def test_the_directory_itself_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: written.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    sync_directory(tmp_path)
    assert written == [str(tmp_path)]
