"""Flags that several commands share, and what is made of them."""

import datetime
import platform
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import platformdirs
from cyclopts import Parameter

from softlan import __version__
from softlan.cli.invited import VARIABLE, from_environment, read_invitation
from softlan.client.invitation import Invitation
from softlan.client.session import Identity
from softlan.client.tunnel import TunnelConfig
from softlan.ctrl.messages import Role, room_ok
from softlan.errors import UsageError
from softlan.net.address import DEFAULT_PORT, HostPort, parse_relay
from softlan.obs.logging import configure
from softlan.quic.trust import Trust, load_trust

if TYPE_CHECKING:
    from softlan.client.service import ClientConfig

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
    """Which relay and which room: an invitation, or single flags."""

    invite: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = field(default=None, repr=False)
    """An invitation: @FILE for the file that holds it, - for standard input, or its text; also SOFTLAN_INVITE."""
    relay: str | None = None
    """Without an invitation, the relay: a DNS name or an address, with a port if it is not 443."""
    room: str | None = None
    """Without an invitation, the room: 1 to 32 of A-Z a-z 0-9 _ and -, the same for everyone in the party."""
    server_name: str | None = None
    """Without an invitation, the name in the relay's certificate; by default the relay's own name."""
    relay_ca_cert: Path | None = None
    """The relay's certificate, or a CA that signed it; by default what the invitation pins, or the system trusts."""
    no_seal: Annotated[bool, Parameter(negative="")] = False
    """Do not seal frames, for a room that the relay's operator keeps plain; the relay can read them then."""


NOWHERE = RelayOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class TapOptions:
    """Which interface, and how it stands among the others."""

    tap_name: str | None = None
    """Linux: name of the network interface that appears (softlan0). Windows: name of the TAP adapter to take."""
    tap_instance_id: str | None = None
    """Windows: GUID of the TAP adapter to take; --list-tap-adapters tells it."""
    metric: int = 1
    """Windows: interface metric of the TAP, so that game searches leave by it; 0 leaves it to Windows."""

    def checked_name(self) -> str | None:
        """`tap_name`, with all of these checked for this system. Raises UsageError."""
        if sys.platform == "linux":
            if self.tap_instance_id is not None or self.metric != 1:
                flag = "--tap-instance-id" if self.tap_instance_id is not None else "--metric"
                raise UsageError(f"{flag} is for Windows; on Linux the client makes an interface of its own")
            from softlan.device.netdev import name_fault

            fault = name_fault(self.tap_name) if self.tap_name is not None else None
            if fault is not None:
                raise UsageError(f"--tap-name {self.tap_name!a} cannot be an interface's name: it is {fault}")
        if self.tap_name is not None and not self.tap_name.strip():
            raise UsageError("--tap-name is empty; leave it out for the usual one")
        if not 0 <= self.metric <= 9999:
            raise UsageError("--metric must be 1 to 9999, or 0 to leave it to Windows")
        return self.tap_name


DEFAULT_TAP = TapOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class PlayerOptions(TapOptions):
    """What the client is told beside relay and room."""

    virtual_mac: str | None = None
    """The MAC to join with; by default one that is made once and kept."""
    discovery: bool = True
    """Linux: send broadcasts and multicasts of this machine into the room, so that games find servers there."""
    allow_inbound: Annotated[bool, Parameter(negative="")] = False
    """Windows: let the party's computers reach this PC, by a firewall rule for the TAP while the client runs."""


DEFAULT_PLAYER = PlayerOptions()

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


@dataclass(frozen=True)
class Destination:
    """Which relay, what it must show, and which room."""

    relay: HostPort
    server_name: str
    """The name in the relay's certificate."""
    room: str | None
    ca_cert: Path | None = None
    """The file of --relay-ca-cert."""
    pin: bytes | None = None
    """An invitation's pin."""
    room_token: str | None = field(default=None, repr=False)
    """Derived from an invitation's secret."""
    frame_key: bytes | None = field(default=None, repr=False)
    """The same; None when frames are not to be sealed."""
    is_invited: bool = False
    """Whether all of this was in an invitation."""

    def trust(self, now: datetime.datetime) -> Trust:
        """What to accept of the relay. Raises UsageError when the file of --relay-ca-cert will not do."""
        if self.pin is not None:
            return Trust(self.server_name, fingerprint=self.pin.hex())
        return load_trust(self.ca_cert, self.server_name, now)


def invitation_of(options: RelayOptions) -> Invitation | None:
    """Read the invitation; None when single flags are given. Raises UsageError, also when it is neither, or both."""
    given, source = options.invite, "--invite"
    inherited = from_environment()  # taken out in any case: the programs that we start need no invitation
    if given is None and options.relay is None:
        given, source = inherited, VARIABLE
        if given is None:
            flags = "--relay" if options.room is not None else "--relay and --room"
            raise UsageError(f"--invite is missing, or {flags}; ask the party's host for an invitation")
    if given is None:
        return None
    for name in ("relay", "room", "server_name"):
        if getattr(options, name) is not None:
            raise UsageError(f"{source} and --{name.replace('_', '-')} do not go together: an invitation has it all")
    invitation = read_invitation(given)
    if invitation.pin is not None and options.relay_ca_cert is not None:
        raise UsageError("the invitation names the relay's one certificate already: leave out --relay-ca-cert")
    return invitation


def destination(options: RelayOptions) -> Destination:
    """Read the invitation, or else the single flags; --room may be missing among these. Raises UsageError."""
    invitation = invitation_of(options)
    if invitation is not None:
        keys = invitation.keys()
        return Destination(
            invitation.relay,
            invitation.server_name or invitation.relay.host,
            invitation.room,
            options.relay_ca_cert,
            pin=invitation.pin,
            room_token=keys.token if keys is not None else None,
            frame_key=keys.frame_key if keys is not None and not options.no_seal else None,
            is_invited=True,
        )
    assert options.relay is not None
    relay = parse_relay(options.relay)
    if options.room is not None and not room_ok(options.room):
        raise UsageError(f"--room {options.room!r}: a room is 1 to 32 characters of A-Z a-z 0-9 _ and -")
    server_name = relay.host if options.server_name is None else checked_server_name(options.server_name)
    return Destination(relay, server_name, options.room, options.relay_ca_cert)


def tunnel_config(options: RelayOptions, role: Role, mac: bytes | None, state_dir: Path) -> TunnelConfig:
    """Check the flags and read the certificate. Raises UsageError."""
    where = destination(options)
    if where.room is None:
        raise UsageError("--room is missing; it is the same for everyone in the party")
    trust = where.trust(datetime.datetime.now(datetime.UTC))
    identity = Identity(role, where.room, mac, SOFTWARE, where.room_token, where.frame_key)
    return TunnelConfig(relay=where.relay, trust=trust, identity=identity, state_dir=state_dir)


def client_config(
    target: RelayOptions, player: PlayerOptions, log: LogOptions, state_dir: Path | None, *, check_only: bool = False
) -> "ClientConfig":
    """Check a client's flags and make its config; the identity is made at the first call, unless `check_only`.

    Raises UsageError, and HostError when the state directory cannot be used.
    """
    from softlan.client.identity import load_or_create
    from softlan.client.service import ClientConfig
    from softlan.obs.frame_log import FrameLogMode
    from softlan.proto.mac import identity_fault, parse_mac

    tap_name = player.checked_name()
    if player.allow_inbound and sys.platform != "win32":
        raise UsageError("--allow-inbound is for Windows; here, allow the interface in your own firewall")
    directory = state_directory(state_dir)
    mac: bytes | None = None
    if player.virtual_mac is not None:
        mac = parse_mac(player.virtual_mac)
        fault = identity_fault(mac, allow_universal=True)
        if fault is not None:
            raise UsageError(f"--virtual-mac {player.virtual_mac} cannot be a player's address: it is {fault}")
    # All flags first: a wrong one must not leave a file behind.
    tunnel = tunnel_config(target, Role.CLIENT, mac, directory)
    if mac is None and not check_only:
        tunnel = replace(tunnel, identity=replace(tunnel.identity, mac=load_or_create(directory)))
    return ClientConfig(
        tunnel=tunnel,
        tap_name=tap_name,
        tap_instance_id=player.tap_instance_id,
        metric=player.metric,
        allow_inbound=player.allow_inbound,
        discovery=player.discovery,
        frame_log=FrameLogMode(log.frame_log),
    )
