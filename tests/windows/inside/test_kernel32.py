"""Where Windows says that its programs are."""

from pathlib import Path

import pytest

from softlan.host.kernel32 import system_directory


def test_the_system_directory_is_windows_own_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMROOT", r"C:\evil")
    found = system_directory()
    assert found.lower() == r"c:\windows\system32"
    assert (Path(found) / "kernel32.dll").is_file()
