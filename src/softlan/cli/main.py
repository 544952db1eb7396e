"""Entry points, and how an error reaches a person: one line, no traceback, a status that says which kind.

Exit status: 0 done, 1 could not (this machine or the network), 2 usage, 3 the relay said no.
"""

import contextlib
import errno
import io
import sys
from collections.abc import Sequence
from typing import Never

from cyclopts import CycloptsError
from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError

from softlan.errors import RemoteError, SoftlanError, UsageError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REJECTED = 3

_WITH_FRAMES = ("client", "gateway", "relay")
_WITH_SECRETS = (*_WITH_FRAMES, "room", "doctor")


def main() -> None:
    """``softlan``; never returns."""
    _process(sys.argv[1:])


def relay_alias() -> None:
    """``lanparty-relay``: the same as ``softlan relay``."""
    _process(sys.argv[1:], "relay")


def gateway_alias() -> None:
    """``lanparty-gateway``: the same as ``softlan gateway``."""
    _process(sys.argv[1:], "gateway")


def client_alias() -> None:
    """``lanparty-client``: the same as ``softlan client``."""
    _process(sys.argv[1:], "client")


def run(arguments: Sequence[str], alias: str | None = None) -> int:
    """Run one command line, of ``lanparty-<alias>`` if that is given; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # on Windows a pipe has a code page, which lacks most letters
            stream.reconfigure(errors="replace")
    try:
        status = _call([alias, *arguments] if alias else list(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
    except CycloptsError as error:
        program = f"lanparty-{alias}" if alias else " ".join(["softlan", *(error.command_chain or ())])
        return _tell(f"{_what(error)}; see {program} --help", EXIT_USAGE)
    except UsageError as error:
        return _tell(str(error), EXIT_USAGE)
    except RemoteError as error:
        return _tell(f"{error} ({error.code})", EXIT_REJECTED)
    except SoftlanError as error:
        return _tell(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_FAILED
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EIO):
            raise
        return _lost(error)
    return status


def _process(arguments: Sequence[str], alias: str | None = None) -> Never:
    """`run` as the whole of this process."""
    command = alias or next(iter(arguments), None)
    if command in _WITH_FRAMES:
        from softlan.host.allocator import begin_anew_with, find_tcmalloc

        begin_anew_with(find_tcmalloc())
    # Before an invitation or a private key is read. Not the demo: its children must own their files in /proc, to write
    # the maps of their user namespaces (user_namespaces(7)).
    if command in _WITH_SECRETS:
        from softlan.host.privileges import hide_memory

        hide_memory()
    status = run(arguments, alias)
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = None  # what cannot be written is no reason for another status, which Python would make of it
    sys.exit(status)


def _call(words: list[str]) -> int:
    """The command's own status. Raises what it raises."""
    from softlan.cli.commands import app  # it takes a moment, see `_process`

    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # how rich ends a program whose output nobody reads
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    return 0


def _tell(message: str, status: int) -> int:
    from softlan.obs.logging import without_invitations

    with contextlib.suppress(OSError):  # the status says it too
        print(f"softlan: {without_invitations(message)}", file=sys.stderr)
    return status


def _lost(error: OSError) -> int:
    """Standard output is full, or nobody reads it. It is given up: at its end, Python would make a status of it."""
    sys.stdout = None
    return _tell(f"cannot write what was asked for: {error.strerror}", EXIT_FAILED)


def _what(error: CycloptsError) -> str:
    """What is wrong with a command line, in one line; the library's own words where they are clear enough."""
    unused = error.unused_tokens or []
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        if error.keyword is not None:
            return f"{error.keyword} needs a value"
        name = error.argument.name
        unknown = next((token for token in unused if token.startswith("-") and token != name), None)
        return f"{name} is missing" + (f", and there is no {unknown}" if unknown else "")
    if any(token.startswith("softlan1_") for token in unused):
        return "an invitation goes behind --invite"
    if isinstance(error, UnusedCliTokensError):
        return f"do not know what to do with {' '.join(unused)!a}"
    return " ".join(str(error).split()).rstrip(".?")
