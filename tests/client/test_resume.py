"""The resume string, kept over a restart."""

from pathlib import Path

import pytest

from softlan.client.resume import ResumeFile
from softlan.client.session import Identity
from softlan.ctrl.messages import Role

PLAYER = Identity(Role.CLIENT, "den", bytes.fromhex("02005e100001"), "a test")
RELAY = "relay.example:443"


def test_it_is_there_for_the_next_run(tmp_path: Path) -> None:
    state = tmp_path / "made" / "on demand"
    first = ResumeFile(state, PLAYER, RELAY)
    assert first.load() is None
    first.save("one")
    first.save("two")
    assert first.load() == "two"
    assert ResumeFile(state, PLAYER, RELAY).load() == "two"


def test_it_is_nobody_elses_business(tmp_path: Path) -> None:
    ResumeFile(tmp_path, PLAYER, RELAY).save("secret")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "den" not in file.name


@pytest.mark.parametrize(
    ("identity", "relay"),
    [
        (Identity(Role.CLIENT, "attic", PLAYER.mac, "a test"), RELAY),
        (Identity(Role.CLIENT, "den", bytes.fromhex("02005e100002"), "a test"), RELAY),
        (Identity(Role.GATEWAY, "den", None, "a test"), RELAY),
        (PLAYER, "other.example:443"),
    ],
    ids=["room", "MAC", "role", "relay"],
)
def test_each_relay_room_role_and_mac_has_its_own(tmp_path: Path, identity: Identity, relay: str) -> None:
    ResumeFile(tmp_path, PLAYER, RELAY).save("mine")
    other = ResumeFile(tmp_path, identity, relay)
    assert other.load() is None
    other.save("theirs")
    assert ResumeFile(tmp_path, PLAYER, RELAY).load() == "mine"


def test_what_softlan_calls_itself_does_not_matter(tmp_path: Path) -> None:
    ResumeFile(tmp_path, PLAYER, RELAY).save("mine")
    newer = Identity(PLAYER.role, PLAYER.room, PLAYER.mac, "softlan 2", room_token="x")
    assert ResumeFile(tmp_path, newer, RELAY).load() == "mine"


@pytest.mark.parametrize("content", [b"", b"x" * 129, b"\xff\xfe"], ids=["empty", "too long", "no text"])
def test_what_cannot_be_one_is_ignored(tmp_path: Path, content: bytes) -> None:
    ResumeFile(tmp_path, PLAYER, RELAY).save("mine")
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert ResumeFile(tmp_path, PLAYER, RELAY).load() is None


def test_where_nothing_can_be_kept_this_process_remembers(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = ResumeFile(tmp_path / "file", PLAYER, RELAY)
    kept.save("mine")
    assert kept.load() == "mine"
    assert ResumeFile(tmp_path / "file", PLAYER, RELAY).load() is None
