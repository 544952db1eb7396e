"""What newcomers are shown, and when that changes."""

import datetime
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from softlan.errors import UsageError
from softlan.obs.logging import get_logger
from softlan.quic.trust import Credentials, development_credentials, load_credentials
from softlan.relay.certificates import LOOK_INTERVAL, WARN_INTERVAL, Certificates, PemFiles

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
NAME = "relay.example"


class Shelf:
    """A relay's certificate files, its door, its clock and its calendar."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0
        self.now = 0.0
        self.today = NOW
        self.files = PemFiles(directory / "cert.pem", directory / "key.pem")
        self.shown: list[Credentials] = []
        self.refusal: UsageError | None = None
        self.first = self.make()
        self.put(self.first)
        self.certificates = Certificates(
            load_credentials(self.files.cert, self.files.key),
            self._use,
            get_logger("relay"),
            files=self.files,
            advice="do something",
            clock=lambda: self.today,
        )

    def make(self, **later: int) -> Credentials:
        """Another certificate for the same name, made some time from now."""
        self._made += 1
        return development_credentials(self._directory / str(self._made), NAME, NOW + datetime.timedelta(**later))

    def put(self, credentials: Credentials) -> None:
        self.put_cert(credentials.chain)
        self.put_key(credentials.key)

    def put_cert(self, chain: bytes) -> None:
        self._put(self.files.cert, chain)

    def put_key(self, key: bytes) -> None:
        self._put(self.files.key, key)

    def look(self, times: int = 1) -> list[dict[str, Any]]:
        """Let the clock strike some looks; what was logged."""
        with capture_logs() as logs:
            for _ in range(times):
                self.certificates.tick(self.now)
                self.now += LOOK_INTERVAL
        return [dict(line) for line in logs]

    def _put(self, path: Path, data: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)

    def _use(self, credentials: Credentials) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.shown.append(credentials)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_files_that_stay_change_nothing(shelf: Shelf) -> None:
    assert shelf.look(5) == []
    assert shelf.shown == []
    assert shelf.certificates.days_left == 825


def test_a_new_pair_is_shown(shelf: Shelf) -> None:
    shelf.look()
    new = shelf.make(hours=-1)
    shelf.put(new)
    assert shelf.look(3) == [
        {
            "component": "relay",
            "log_level": "info",
            "event": "relay.certificate_changed",
            "names": f"localhost,{NAME}",
            "end": f"{new.leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            "days_left": 824,
        }
    ]
    assert shelf.shown == [new]
    assert shelf.certificates.shown == new


def test_one_that_changed_between_start_and_first_look_is_seen(shelf: Shelf) -> None:
    new = shelf.make()
    shelf.put(new)
    shelf.look()
    assert shelf.shown == [new]


def test_it_is_written_in_place_and_keeps_its_size(shelf: Shelf) -> None:
    shelf.look()
    new = shelf.make()
    for path, data in ((shelf.files.cert, new.chain), (shelf.files.key, new.key)):
        path.write_bytes(data)
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    shelf.look()
    assert shelf.shown == [new]


def test_looks_are_seconds_apart(shelf: Shelf) -> None:
    shelf.certificates.tick(0.0)
    shelf.put(shelf.make())
    shelf.certificates.tick(LOOK_INTERVAL / 2)
    assert shelf.shown == []
    shelf.certificates.tick(LOOK_INTERVAL)
    assert len(shelf.shown) == 1


def test_certificate_first_and_key_a_moment_later_is_no_fault(shelf: Shelf) -> None:
    new = shelf.make()
    shelf.put_cert(new.chain)
    assert shelf.look() == []
    shelf.put_key(new.key)
    assert [line["event"] for line in shelf.look()] == ["relay.certificate_changed"]
    assert shelf.shown == [new]


def test_half_a_pair_that_stays_is_said_once_and_the_old_one_stays(shelf: Shelf) -> None:
    shelf.put_cert(shelf.make().chain)
    [line] = shelf.look(10)
    assert (line["event"], line["log_level"]) == ("relay.certificate_refused", "warning")
    assert "does not belong to the certificate" in line["why"]
    assert "\n" not in line["why"]
    assert shelf.shown == []
    shelf.put_cert(shelf.make().chain)  # another fault, another line
    assert len(shelf.look(10)) == 1
    shelf.put(shelf.first)  # put back: nothing has changed
    assert shelf.look(10) == []
    assert shelf.shown == []


@pytest.mark.parametrize(
    ("cert", "complaint"),
    [
        (b"", "must be a PEM certificate"),
        (b"garbage", "must be a PEM certificate"),
        (b"half", "ends in the middle of a certificate"),
        (None, "No such file or directory"),
    ],
    ids=["empty", "garbage", "half a chain", "gone"],
)
def test_a_file_that_cannot_be_read_is_said_once_and_mends(shelf: Shelf, cert: bytes | None, complaint: str) -> None:
    new = shelf.make()
    shelf.put_key(new.key)
    if cert is None:
        shelf.files.cert.unlink()
    else:
        shelf.put_cert(new.chain + new.chain[:200] if cert == b"half" else cert)
    [line] = shelf.look(5)
    assert complaint in line["why"]
    shelf.put_cert(new.chain)
    assert [line["event"] for line in shelf.look(5)] == ["relay.certificate_changed"]


@pytest.mark.parametrize("days", [-900, 2], ids=["expired", "not yet valid"])
def test_one_that_is_not_valid_today_is_not_shown(shelf: Shelf, days: int) -> None:
    new = shelf.make(days=days)
    shelf.put(new)
    [line] = shelf.look(5)
    assert "is valid from" in line["why"]
    assert shelf.shown == []
    shelf.today = NOW + datetime.timedelta(days=days)  # its time has come, or somebody has set the clock
    shelf.look()
    assert shelf.shown == [new]


def test_one_that_quic_cannot_use_is_not_shown(shelf: Shelf) -> None:
    shelf.refusal = UsageError("the certificate's key cannot be used for QUIC")
    shelf.put(shelf.make())
    [line] = shelf.look(5)
    assert line["why"] == "the certificate's key cannot be used for QUIC"
    assert shelf.certificates.shown == shelf.first


def test_who_asks_gets_an_answer_at_once_and_each_time(shelf: Shelf) -> None:
    shelf.look()
    new = shelf.make()
    with capture_logs() as logs:
        shelf.certificates.reload()
        shelf.put_cert(new.chain)
        shelf.certificates.reload()
        shelf.certificates.reload()
        shelf.put_key(new.key)
        shelf.certificates.reload()
    assert [line["event"].removeprefix("relay.certificate_") for line in logs] == [
        "kept",
        "refused",
        "refused",
        "changed",
    ]
    assert shelf.shown == [new]


def test_its_end_is_said_two_weeks_before_and_then_once_a_day(shelf: Shelf) -> None:
    end = shelf.first.leaf.not_valid_after_utc
    shelf.today = end - datetime.timedelta(days=14)
    assert shelf.look(3) == []
    shelf.today = end - datetime.timedelta(days=13, hours=1)
    [line] = shelf.look(3)
    assert (line["event"], line["log_level"]) == ("relay.certificate_ends", "warning")
    assert (line["days_left"], line["advice"]) == (13, "do something")
    assert line["end"].startswith(f"{end:%Y-%m-%d}")

    shelf.now += WARN_INTERVAL - 4 * LOOK_INTERVAL
    assert shelf.look() == []
    shelf.now += 4 * LOOK_INTERVAL
    shelf.today = end + datetime.timedelta(hours=1)
    assert [line["days_left"] for line in shelf.look(3)] == [-1]

    shelf.put(new := shelf.make(days=825))
    assert [line["event"] for line in shelf.look(3)] == ["relay.certificate_changed"]
    assert shelf.shown == [new]


def test_without_files_there_is_only_its_end_to_look_at(shelf: Shelf) -> None:
    kept = Certificates(shelf.first, shelf.shown.append, get_logger("relay"), advice="", clock=lambda: shelf.today)
    with capture_logs() as logs:
        kept.tick(0.0)
        kept.reload()
        shelf.today += datetime.timedelta(days=820)
        kept.tick(1.0)
        kept.tick(2.0)
    assert [line["event"] for line in logs] == ["relay.certificate_kept", "relay.certificate_ends"]
