"""Where an invitation comes from: a file, standard input, the environment, or the command line itself."""

import os
import sys
from pathlib import Path

from softlan.client.invitation import MAX_LENGTH, Invitation, parse
from softlan.errors import UsageError

VARIABLE = "SOFTLAN_INVITE"
"""The environment variable that is read when no flag says more."""

_ENOUGH = 4 * MAX_LENGTH
"""Bytes: an invitation in UTF-16, with room for white space."""


def read_invitation(given: str) -> Invitation:
    """Read what `given` means: ``@FILE``, ``-`` for standard input, or the text itself. Raises UsageError.

    No message shows the text, which may hold a secret.
    """
    given = given.strip()
    if given == "-":
        return _pasted() if sys.stdin.isatty() else parse(_text(sys.stdin.buffer.read(_ENOUGH + 1)))
    if given.startswith("@"):
        try:
            with Path(given[1:]).expanduser().open("rb") as file:
                data = file.read(_ENOUGH + 1)
        except (OSError, ValueError, RuntimeError) as error:  # what is no name at all, and a home of nobody
            why = error.strerror if isinstance(error, OSError) else "no such file"
            raise UsageError(f"cannot read {given[1:]} ({why}); behind @ goes an invitation's file") from error
        return parse(_text(data))
    if not given.startswith("softlan") and _is_file(given):
        raise UsageError(f"{given} is a file, and no invitation itself: write @{given}")
    return parse(given)


def from_environment() -> str | None:
    """What `VARIABLE` says, once: programs that we start do not inherit it. None when it is not set or empty."""
    return os.environ.pop(VARIABLE, None) or None


def _pasted() -> Invitation:
    """Ask a person, who may paste several lines."""
    print("Paste the invitation, and press Enter:", file=sys.stderr, flush=True)
    text = ""
    while len(text) <= _ENOUGH and (line := sys.stdin.readline(_ENOUGH)).strip():
        text += line
        try:
            return parse(text)
        except UsageError:  # there may be another line
            if text == line:
                print("Not complete yet: paste the rest, or press Enter again to end.", file=sys.stderr, flush=True)
    return parse(text)


def _text(data: bytes) -> str:
    """Windows' shells and editors write UTF-16, or UTF-8 with a mark in front."""
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("this is no invitation: it is no text") from None


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or a byte that names cannot have
        return False
