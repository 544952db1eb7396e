"""Entry points, and how an error reaches a person: one line, no traceback, a status that says which kind.

Exit status: 0 done, 1 could not (this machine or the network), 2 usage, 3 the relay said no.
"""

import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from softlan.cli.commands import app
from softlan.errors import RemoteError, SoftlanError, UsageError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REJECTED = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """``softlan``; never returns."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def relay_alias() -> None:
    """``lanparty-relay``: the same as ``softlan relay``."""
    main(["relay", *sys.argv[1:]])


def gateway_alias() -> None:
    """``lanparty-gateway``: the same as ``softlan gateway``."""
    main(["gateway", *sys.argv[1:]])


def client_alias() -> None:
    """``lanparty-client``: the same as ``softlan client``."""
    main(["client", *sys.argv[1:]])


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit status."""
    try:
        app(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _tell(_one_line(error) + "; see softlan --help", EXIT_USAGE)
    except UsageError as error:
        return _tell(str(error), EXIT_USAGE)
    except RemoteError as error:
        return _tell(f"{error} ({error.code})", EXIT_REJECTED)
    except SoftlanError as error:
        return _tell(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_FAILED
    return 0


def _tell(message: str, status: int) -> int:
    print(f"softlan: {message}", file=sys.stderr)
    return status


def _one_line(error: CycloptsError) -> str:
    return " ".join(str(error).split()).rstrip(".")
