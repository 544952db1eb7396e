"""The client's identity: one MAC, made once and kept, so that leases and allow lists stay good."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from softlan.errors import HostError, UsageError
from softlan.host.durable import private_directory, write_private
from softlan.proto.mac import format_mac, identity_fault, local_mac, parse_mac

FILE_NAME = "identity.json"


def load_or_create(state_dir: Path, urandom: Callable[[int], bytes] = os.urandom) -> bytes:
    """Return the MAC kept in `state_dir`, 6 bytes; at the first call, make and keep one.

    The directory is made when it is missing. Raises HostError, stage `identity`, when it cannot be used, or
    when the file holds something else than an identity; a file that is there is never replaced.
    """
    path = state_dir / FILE_NAME
    try:
        return _load(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unusable("read", path, error) from None
    mac = local_mac(urandom(6))
    try:
        private_directory(state_dir)
        _store(path, mac)
    except OSError as error:
        raise _unusable("write", path, error) from None
    return mac


def _unusable(verb: str, path: Path, error: OSError) -> HostError:
    return HostError("identity", f"cannot {verb} {path}: {error.strerror}; choose another place with --state-dir")


def _load(path: Path) -> bytes:
    try:
        mac = parse_mac(json.loads(path.read_bytes())["mac"])
    except (ValueError, TypeError, KeyError, UsageError):
        fault: str | None = "no MAC address"
    else:
        fault = identity_fault(mac, allow_universal=True)
        if fault is None:
            return mac
        fault = f"{format_mac(mac)}, which is {fault}"
    raise HostError("identity", f"{path} holds {fault}; delete it, and a new identity is made")


def _store(path: Path, mac: bytes) -> None:
    """Write whole or not at all: a crash must not leave half an identity behind."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        write_private(draft, json.dumps({"mac": format_mac(mac)}) + "\n")
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)  # on a full disk, each start would leave one
        raise
