"""Flags that several commands share, and what is made of them."""

import datetime
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from cyclopts import Parameter

from softlan import __version__
from softlan.client.session import Identity
from softlan.client.tunnel import TunnelConfig
from softlan.ctrl.messages import Role, room_ok
from softlan.errors import UsageError
from softlan.net.address import DEFAULT_PORT, parse_relay
from softlan.obs.logging import configure
from softlan.quic.trust import load_trust

SOFTWARE = f"softlan {__version__} ({platform.system().lower()})"


@Parameter(name="*")
@dataclass(frozen=True)
class LogOptions:
    """What is logged, and how."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much to log."""
    log_format: Literal["console", "json"] = "console"
    """For a person, or one JSON object a line."""
    frame_log: Literal["off", "drops", "all"] = "off"
    """Which frames to log: none, those that went no further, or all."""

    def apply(self) -> None:
        """Set logging up."""
        configure(self.log_format, self.log_level)


@Parameter(name="*")
@dataclass(frozen=True)
class RelayOptions:
    """Which relay and which room."""

    relay: str
    """The relay: a DNS name or an address, with a port if it is not 443."""
    room: str
    """The room: 1 to 32 of A-Z a-z 0-9 _ and -, the same for everyone in the party."""
    server_name: str | None = None
    """The name in the relay's certificate; by default the relay's own name."""
    relay_ca_cert: Path | None = None
    """The relay's certificate, or a CA that signed it (DER or PEM); by default what the system trusts."""


StateDir = Annotated[
    Path | None,
    Parameter(help="Where to keep what must survive a restart; by default the system's place for it."),
]


def state_directory(given: Path | None) -> Path:
    """The given directory, or `softlan` under XDG_STATE_HOME (on Windows under the local application data)."""
    return given if given is not None else Path(platformdirs.user_state_dir("softlan", appauthor=False))


def checked_server_name(text: str) -> str:
    """Read --server-name: a DNS name, in ASCII from here on, or an address. Raises UsageError."""
    try:
        named = parse_relay(text)
    except UsageError:
        named = None
    if named is None or named.port != DEFAULT_PORT:
        raise UsageError(f"--server-name {text[:60]!a} is not a host name; write it as in relay.example.net")
    return named.host


def tunnel_config(options: RelayOptions, role: Role, mac: bytes | None, state_dir: Path) -> TunnelConfig:
    """Check the flags and read the certificate. Raises UsageError."""
    relay = parse_relay(options.relay)
    if not room_ok(options.room):
        raise UsageError(f"--room {options.room!r}: a room is 1 to 32 characters of A-Z a-z 0-9 _ and -")
    now = datetime.datetime.now(datetime.UTC)
    server_name = relay.host if options.server_name is None else checked_server_name(options.server_name)
    trust = load_trust(options.relay_ca_cert, server_name, now)
    return TunnelConfig(
        relay=relay, trust=trust, identity=Identity(role, options.room, mac, SOFTWARE), state_dir=state_dir
    )
