"""An invitation is found wherever a person or a shell has put it."""

import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from softlan.cli.invited import VARIABLE, from_environment, read_invitation
from softlan.client.invitation import Invitation
from softlan.errors import UsageError
from softlan.net.address import HostPort

INVITATION = Invitation(HostPort("relay.example.net", 443), "DEN", "relay.example.net", bytes(32), bytes(range(32)))
TEXT = INVITATION.text()
WRAPPED = f"{TEXT[:70]}\r\n{TEXT[70:140]}\r\n{TEXT[140:]}\r\n"


def test_the_text_itself() -> None:
    assert read_invitation(f" {TEXT} ") == INVITATION


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        WRAPPED.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),  # Notepad
        (TEXT + "\r\n").encode("utf-16"),  # `>` in Windows PowerShell
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
    ],
    ids=["as it is", "wrapped", "UTF-8 with a mark", "UTF-16", "UTF-16, big end first"],
)
def test_a_file(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "den.invite"
    file.write_bytes(content)
    assert read_invitation(f"@{file}") == INVITATION


def test_a_file_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "den.invite").write_text(TEXT)
    assert read_invitation("@~/den.invite") == INVITATION


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("@nosuch", "cannot read nosuch (No such file or directory); behind @ goes an invitation's file"),
        ("@.", "cannot read . (Is a directory)"),
        ("@", "cannot read  (Is a directory)"),
        ("@~nobody-of-that-name/x", "cannot read ~nobody-of-that-name/x (no such file)"),
        ("@bytes", "it is no text"),
        ("@long", "longer than 1024"),
        ("@other", "this is no invitation"),
        ("other", "other is a file, and no invitation itself: write @other"),
        ("nosuch", "this is no invitation"),
        ("x" * 5000, "this is no invitation"),
        ("a\0b", "this is no invitation"),
    ],
)
def test_what_it_cannot_be(given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bytes").write_bytes(bytes(range(256)))
    Path("long").write_text("softlan1_" + "A" * 100_000)
    Path("other").write_text("hello\n")
    with pytest.raises(UsageError) as caught:
        read_invitation(given)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(WRAPPED.encode())))
    assert read_invitation("-") == INVITATION


def test_standard_input_that_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(UsageError, match="no invitation"):
        read_invitation("-")


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What a person types into our terminal."""
    ours, theirs = os.openpty()
    with open(theirs, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield ours
    os.close(ours)


ASKED, MORE = (
    "Paste the invitation, and press Enter:\n",
    "Not complete yet: paste the rest, or press Enter again to end.\n",
)


@pytest.mark.parametrize(
    ("typed", "said"),
    [(TEXT + "\n", ASKED), (WRAPPED.replace("\r", ""), ASKED + MORE)],
    ids=["one line", "three lines"],
)
def test_a_person_is_asked_and_may_paste(
    typed: str, said: str, keyboard: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typing = threading.Thread(target=os.write, args=(keyboard, typed.encode()))
    typing.start()
    assert read_invitation("-") == INVITATION
    typing.join()
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(("typed", "fault"), [(TEXT[:50], "cut off"), ("dir\nC:", "this is no invitation")])
def test_a_person_who_pastes_something_else_is_not_met_with_silence(
    typed: str, fault: str, keyboard: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.write(keyboard, f"{typed}\n\n".encode())
    with pytest.raises(UsageError, match=fault):
        read_invitation("-")
    assert capsys.readouterr() == ("", ASKED + MORE)


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert from_environment() is None
    monkeypatch.setenv(VARIABLE, "")
    assert from_environment() is None
    monkeypatch.setenv(VARIABLE, TEXT)
    assert from_environment() == TEXT
