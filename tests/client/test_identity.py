import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from softlan.client.identity import FILE_NAME, load_or_create
from softlan.errors import HostError

RANDOM = bytes.fromhex("ff1122334455")
MAC = bytes.fromhex("fe1122334455")


def urandom(count: int) -> bytes:
    assert count == len(RANDOM)
    return RANDOM


def no_random(count: int) -> bytes:
    raise AssertionError("an identity was there already")


def test_the_first_call_makes_an_identity_and_later_ones_read_it(tmp_path: Path) -> None:
    state = tmp_path / "state" / "softlan"
    assert load_or_create(state, urandom) == MAC
    assert load_or_create(state, no_random) == MAC
    assert (state / FILE_NAME).read_text() == '{"mac": "fe:11:22:33:44:55"}\n'


def test_only_the_owner_reads_it_and_nothing_else_stays(tmp_path: Path) -> None:
    state = tmp_path / "state"
    mask = os.umask(0)
    try:
        load_or_create(state, urandom)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((state / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert os.listdir(state) == [FILE_NAME]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of this kind")
def test_a_full_disk_is_said_and_nothing_stays(tmp_path: Path) -> None:
    """A limit on the size of files fails as a full disk does: the file is made, and cannot be written."""
    import resource

    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(HostError, match=r"cannot write .*identity\.json: File too large; .*--state-dir"):
            load_or_create(tmp_path, urandom)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)
    assert os.listdir(tmp_path) == []
    assert load_or_create(tmp_path, urandom) == MAC


def test_two_machines_differ(tmp_path: Path) -> None:
    assert load_or_create(tmp_path / "a") != load_or_create(tmp_path / "b")


def test_an_identity_written_by_hand_is_taken(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"mac": "02-AA-00-00-00-01", "note": "mine"}')
    assert load_or_create(tmp_path, no_random) == bytes.fromhex("02aa00000001")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '"02:00:00:00:00:01"',
        '{"mac": 5}',
        '{"mac": null}',
        '{"mac": "02:00"}',
        '{"mac": "00:00:00:00:00:00"}',
        '{"mac": "01:00:00:00:00:01"}',
        "\udcff",
    ],
)
def test_a_damaged_file_is_neither_used_nor_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / FILE_NAME
    content = text.encode(errors="surrogateescape")
    path.write_bytes(content)
    with pytest.raises(HostError, match="delete it, and a new identity is made") as caught:
        load_or_create(tmp_path, no_random)
    assert caught.value.stage == "identity"
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(HostError, match=r"cannot read .*identity\.json: Is a directory; .*--state-dir") as caught:
        load_or_create(tmp_path, no_random)
    assert caught.value.stage == "identity"


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to("nowhere")
    with pytest.raises(HostError, match=r"cannot write .*identity\.json: .*--state-dir") as caught:
        load_or_create(tmp_path / "state", urandom)
    assert caught.value.stage == "identity"
