"""The relay's and the gateway's config file: TOML, for what is too long for flags.

```toml
open_rooms = false        # no rooms but those below
require_token = true      # and none without a token

[policy]                  # for every room; the rules are those of softlan.policy.rules
broadcast_rate = 100

[rooms.ROOM1]
mtu = 1300
token = "..."             # what opens it
sealed = true

[rooms.ROOM1.policy]      # on top of [policy]
ipv6_ra = false
```
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softlan.ctrl.messages import room_ok
from softlan.errors import UsageError
from softlan.policy.rules import Policy, from_mapping
from softlan.proto.budget import MAX_MTU, MIN_MTU
from softlan.relay.settings import RoomBook, RoomSettings

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")  # 128 bits or more in base64url; `proto.keys` makes 43 characters

NOT_SHOWN = 'token = ""  # it has one, which is not shown; put it in here'
"""What `show_rooms` says of a token. A file with this is refused: better than one that opens the room."""


def load_rooms(path: Path | None, default_mtu: int) -> RoomBook:
    """Read the settings of rooms; without a file, or where it says nothing, the defaults. Raises UsageError."""
    content = _read(path) if path is not None else {}
    _known(content, ("open_rooms", "require_token", "policy", "rooms"), str(path))
    policy = from_mapping(_table(content, "policy", str(path)), where=f"{path}: policy")
    named: dict[str, RoomSettings] = {}
    for room, settings in _table(content, "rooms", str(path)).items():
        if not room_ok(room):
            raise UsageError(f"{path}: rooms.{room!r}: a room is 1 to 32 characters of A-Z a-z 0-9 _ and -")
        where = f"{path}: rooms.{room}"
        if not isinstance(settings, dict):
            raise UsageError(f"{where} must be a table")
        _known(settings, ("mtu", "token", "sealed", "policy"), where)
        mtu = settings.get("mtu", default_mtu)
        if type(mtu) is not int or not MIN_MTU <= mtu <= MAX_MTU:
            raise UsageError(f"{where}.mtu must be {MIN_MTU} to {MAX_MTU}")
        own = _table(settings, "policy", where)
        named[room] = RoomSettings(
            mtu,
            from_mapping(own, policy, where=f"{where}.policy"),
            _token(settings, where),
            _flag(settings, "sealed", where),
        )
    return RoomBook(
        RoomSettings(default_mtu, policy),
        named,
        open_rooms=_flag(content, "open_rooms", str(path)) is not False,
        require_token=_flag(content, "require_token", str(path)) is True,
    )


def show_rooms(rooms: RoomBook) -> str:
    """The settings in force, as a config file that would give the same: all of them, for the default and each room.

    But for tokens, since such a list is shown around: they have to be put in again before the file is of use.
    """
    lines = [
        f"# rooms have an MTU of {rooms.default.mtu} unless said otherwise",
        f"open_rooms = {json.dumps(rooms.open_rooms)}",
        f"require_token = {json.dumps(rooms.require_token)}",
        *_policy("policy", rooms.default.policy),
    ]
    for room, settings in sorted(rooms.named.items()):
        lines += ["", f"[rooms.{room}]", f"mtu = {settings.mtu}"]
        if settings.token is not None:
            lines.append(NOT_SHOWN)
        if settings.sealed is not None:
            lines.append(f"sealed = {json.dumps(settings.sealed)}")
        lines += _policy(f"rooms.{room}.policy", settings.policy)
    return "\n".join(lines)


def _policy(name: str, policy: Policy) -> list[str]:
    # Booleans, numbers, strings and lists of strings are written alike in JSON and TOML.
    return ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in policy.to_mapping().items())]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}); give --config a file that exists") from error
    except ValueError as error:  # of TOML, of UTF-8, or a number of thousands of digits
        raise UsageError(f"{path} is no TOML: {error}") from error


def _table(content: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise UsageError(f"{where}: {key} must be a table, as in [{key}]")
    return table


def _flag(content: Mapping[str, Any], key: str, where: str) -> bool | None:
    value = content.get(key)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{where}: {key} must be true or false")
    return value


def _token(settings: Mapping[str, Any], where: str) -> str | None:
    token = settings.get("token")
    if token is None:
        return None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise UsageError(
            f"{where}.token must be 22 to 128 characters of A-Z a-z 0-9 _ and -, "
            "as `softlan room show --relay-config` prints it"
        )
    return token


def _known(content: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = [key for key in content if key not in keys]
    if unknown:
        raise UsageError(f"{where}: there is no setting {unknown[0]!r}; there are {', '.join(keys)}")
