import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.tools import require_tool, unavailable

import softlan
from softlan.host.durable import private_directory, replace_file, sync_directory, write_private


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_of_state_is_for_its_owner_alone(tmp_path: Path, umask: None) -> None:
    write_private(tmp_path / "file", "text\n")
    assert mode(tmp_path / "file") == 0o600
    assert (tmp_path / "file").read_text() == "text\n"


def test_one_that_was_open_to_all_is_closed_and_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a longer text")
    file.chmod(0o666)
    write_private(file, "text", sync=False)
    assert (mode(file), file.read_text()) == (0o600, "text")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "else").write_text("precious")
    (tmp_path / "file").symlink_to("else")
    write_private(tmp_path / "file", "text")
    assert not (tmp_path / "file").is_symlink()
    assert (mode(tmp_path / "file"), (tmp_path / "file").read_text()) == (0o600, "text")
    assert (tmp_path / "else").read_text() == "precious"


def test_who_holds_one_open_that_was_there_does_not_read_along(tmp_path: Path) -> None:
    file = tmp_path / "file.new"
    file.write_text("left over")
    file.chmod(0o666)
    with file.open() as held:
        write_private(file, "secret")
        assert held.read() == "left over"


def test_one_that_another_user_left_is_replaced(tmp_path: Path) -> None:
    if os.geteuid():
        unavailable("needs root, to be two users")
    file = tmp_path / "file.new"
    file.touch(mode=0o666)
    os.chown(file, 12345, 12345)
    drop = [require_tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]  # root, but an ordinary user among files
    program = "import sys; from pathlib import Path; from softlan.host.durable import write_private\n"
    program += "write_private(Path(sys.argv[1]), 'text')"
    source = str(Path(softlan.__file__).parent.parent)
    done = subprocess.run(
        [*drop, sys.executable, "-c", program, str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (mode(file), file.stat().st_uid, file.read_text()) == (0o600, os.geteuid(), "text")


def test_what_is_written_is_on_the_disk_if_somebody_minds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_private(tmp_path / "file", "text", sync=False)
    assert synced == []
    write_private(tmp_path / "file", "text")
    assert len(synced) == 1


def test_a_directory_of_state_and_what_is_above_it_are_for_their_owner_alone(tmp_path: Path, umask: None) -> None:
    outer = tmp_path / "outer"
    for _ in range(2):
        private_directory(outer / "inner" / "state")
    assert [mode(path) for path in (outer, outer / "inner", outer / "inner" / "state")] == [0o700] * 3


def test_a_directory_that_is_there_stays_as_somebody_made_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    private_directory(tmp_path / "there" / "state")
    private_directory(tmp_path / "there")
    assert mode(tmp_path / "there") == 0o755


@pytest.mark.parametrize("where", ["file", "file/state", "link"])
def test_where_there_can_be_no_directory_is_the_systems_error(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        private_directory(tmp_path / where)


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
