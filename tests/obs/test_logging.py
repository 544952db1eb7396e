import contextlib
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import structlog

from softlan.errors import UsageError
from softlan.obs.logging import configure, get_logger


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def set_up(format: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(format, level, stream)
    return stream


def without_time(line: str) -> str:
    datetime.strptime(line[:8], "%H:%M:%S")
    return line[8:]


def test_console_lines_are_short() -> None:
    stream = set_up("console")
    get_logger("relay").info("peer joined", room="den", peer=2)
    get_logger("relay").warning("gone")
    first, second = stream.getvalue().splitlines()
    assert without_time(first) == " info    relay: peer joined  room=den peer=2"
    assert without_time(second) == " warning relay: gone"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("quit", "quit"),
        (None, "None"),
        (1.5, "1.5"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a="b', '"a=\\"b"'),
        ("caf\u00e9 au lait", '"caf\u00e9 au lait"'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("line\nfeed", '"line\\nfeed"'),
        ("left\u202eright", '"left\\u202eright"'),
    ],
)
def test_console_values_cannot_be_mistaken(value: object, shown: str) -> None:
    stream = set_up("console")
    get_logger("relay").info("said", value=value)
    assert without_time(stream.getvalue()) == f" info    relay: said  value={shown}\n"


def test_the_text_of_an_event_cannot_move_the_cursor() -> None:
    stream = set_up("console")
    get_logger("relay").info("a\x1b[A\nb")
    assert without_time(stream.getvalue()) == " info    relay: a\\u001b[A\\nb\n"


def test_json_is_one_object_a_line() -> None:
    stream = set_up("json")
    get_logger("relay").info("peer joined", room="den", peer=2, note="line\nfeed", path=io)
    get_logger("relay").error("gone")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("timestamp")).tzinfo is not None
    assert first.pop("path").startswith("<module 'io'")
    assert first == {
        "component": "relay",
        "event": "peer joined",
        "level": "info",
        "note": "line\nfeed",
        "peer": 2,
        "room": "den",
    }
    assert second["level"] == "error"


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_levels(level: str, shown: list[str]) -> None:
    stream = set_up("json", level)
    log = get_logger("relay")
    log.debug("x")
    log.info("x")
    log.warning("x")
    log.error("x")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == shown


@pytest.mark.parametrize("format", ["console", "json"])
def test_tracebacks_are_kept(format: str) -> None:
    stream = set_up(format)
    try:
        raise RuntimeError("snap")
    except RuntimeError:
        get_logger("relay").exception("task crashed", task="udp")
    text = stream.getvalue()
    assert "RuntimeError: snap" in text
    assert "Traceback" in text
    assert "task" in text.splitlines()[0]
    assert (len(text.splitlines()) == 1) == (format == "json")


@pytest.mark.parametrize("logger", ["structlog", "logging"])
def test_nor_can_a_traceback_move_the_cursor(logger: str) -> None:
    stream = set_up("console")
    try:
        raise ValueError("evil \x1b[2J text\nand \r more")
    except ValueError:
        if logger == "structlog":
            get_logger("relay").exception("crashed")
        else:
            logging.getLogger("asyncio").exception("crashed")
    first, second, *_, last_but_one, last = stream.getvalue().splitlines()
    assert first.endswith(": crashed")
    assert second == "Traceback (most recent call last):"
    assert (last_but_one, last) == ("ValueError: evil \\u001b[2J text", "and \\r more")
    assert stream.getvalue().replace("\n", "").isprintable()


def fails(secret: str) -> None:
    token = secret + secret
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise RuntimeError(f"outer, {len(token)}") from error


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("logger", ["structlog", "logging"])
def test_tracebacks_show_no_variables(format: str, logger: str) -> None:
    stream = set_up(format)
    secret = "hush" * 3
    try:
        fails(secret)
    except RuntimeError as error:
        if logger == "structlog":
            get_logger("relay").exception("crashed")
            get_logger("relay").error("crashed again", exc_info=error)
        else:
            logging.getLogger("asyncio").exception("crashed")
            logging.getLogger("asyncio").error("crashed again", exc_info=error)
    text = stream.getvalue()
    assert text.count("RuntimeError: outer, 24") == 2
    assert text.count("KeyError: 'inner'") == 2
    assert "hush" not in text.replace('"hush" * 3', "").replace('\\"hush\\" * 3', "")


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("logger", ["structlog", "logging"])
def test_an_invitation_that_got_into_a_text_is_cut_out(format: str, logger: str) -> None:
    stream = set_up(format)
    text = "softlan1_lLgQbGFu-_9jZXh"
    try:
        raise ValueError(f"cannot read {text!r}")
    except ValueError as error:
        if logger == "structlog":
            get_logger("service").exception("ended", reason=str(error), given=[text])
        else:
            logging.getLogger("asyncio").exception("ended: %s", error)
    assert stream.getvalue().count("softlan1_...") == (3 if logger == "structlog" else 2)
    assert "lLgQ" not in stream.getvalue()


def test_the_standard_library_comes_out_in_the_same_form_from_warning_up() -> None:
    stream = set_up("json", "debug")
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").warning("slow callback: %s", "x")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert (record["component"], record["level"], record["event"]) == (
        "asyncio",
        "warning",
        "slow callback: x",
    )


def test_a_logger_follows_a_second_configure() -> None:
    log = get_logger("relay")
    set_up("console", "error")
    log.error("first")
    stream = set_up("json", "debug")
    log.debug("second")
    assert json.loads(stream.getvalue())["event"] == "second"


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure("console", "info")
    get_logger("relay").info("hello")
    captured = capsys.readouterr()
    assert captured.err.endswith("relay: hello\n")
    assert captured.out == ""


# What cannot be written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device: every write fails, the disk is full")
@pytest.mark.parametrize("format", ["console", "json"])
def test_a_full_disk_costs_lines_and_nothing_else(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(OSError), open("/dev/full", "w", buffering=1) as stream:
        configure(format, "info", stream)
        for _ in range(3):
            get_logger("relay").error("lost", text="x" * 10_000)
            logging.getLogger("asyncio").error("lost too")
    assert capsys.readouterr().err == "", "the standard library would complain there"


def test_so_do_a_reader_that_went_away_and_a_stream_that_was_closed(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(OSError), open(writer, "w", buffering=1) as stream:
        configure("json", "info", stream)
        get_logger("relay").error("lost")
        logging.getLogger("asyncio").error("lost too")
    get_logger("relay").error("closed by now")
    logging.getLogger("asyncio").error("for both")
    assert capsys.readouterr().err == ""


def test_what_is_written_later_is_there_again() -> None:
    class Disk(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    disk = Disk()
    configure("console", "info", disk)
    get_logger("relay").info("lost")
    disk.full = False
    get_logger("relay").info("kept")
    assert without_time(disk.getvalue()) == " info    relay: kept\n"


def test_a_process_without_standard_error_logs_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure("console", "info")
    get_logger("relay").info("lost")
    logging.getLogger("asyncio").error("lost too")


@pytest.mark.parametrize(("format", "level"), [("xml", "info"), ("json", "loud")])
def test_an_unknown_choice_names_the_good_ones(format: str, level: str) -> None:
    with pytest.raises(UsageError, match=r"is unknown; take (one of )?(console|debug)"):
        configure(format, level, io.StringIO())
