"""``softlan room``: makes invitations into a room, and tells what one says."""

import datetime
import io
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

from cyclopts import App, Parameter
from rich.console import Console
from rich.text import Text

from softlan.cli.invited import from_environment, read_invitation
from softlan.cli.options import StateDir, checked_server_name, state_directory
from softlan.client.invitation import Invitation
from softlan.ctrl.messages import room_ok
from softlan.errors import HostError, UsageError
from softlan.net.address import HostPort, parse_relay
from softlan.proto.keys import SECRET_LENGTH
from softlan.quic.trust import DEV_RENEW_BEFORE, Credentials, load_trust

room = App(name="room", help="Make an invitation into a room, or look at one.")

_QUIET_ZONE = 2  # modules around the code; half of what the standard asks for, enough for phones in practice


@dataclass(frozen=True)
class _Pinned:
    """What an invitation says of the relay's certificate, and a sentence about it for a person."""

    server_name: str | None
    pin: bytes | None
    says: str


@room.command
def new(
    name: Annotated[str, Parameter(name="ROOM")],
    /,
    *,
    relay: str,
    server_name: str | None = None,
    relay_ca_cert: Path | None = None,
    no_pin: Annotated[bool, Parameter(negative="")] = False,
    out: Path | None = None,
    qr: bool | None = None,
    state_dir: StateDir = None,
) -> None:
    """Make an invitation into ROOM, with a new secret, and print it: one line on standard output.

    Parameters
    ----------
    name
        The room: 1 to 32 of A-Z a-z 0-9 _ and -.
    relay
        The relay as players reach it: a DNS name or an address, with a port if it is not 443.
    server_name
        The name in the relay's certificate; by default the relay's own name.
    relay_ca_cert
        The relay's certificate (DER or PEM), to be pinned; by default the one that a relay on this machine made itself.
    no_pin
        Pin nothing: players accept a certificate that their system trusts, as one from Let's Encrypt.
    out
        Write the invitation into this new file, which nobody else may read, and not to standard output.
    qr
        Show it as a QR code, too; by default in a terminal, unless --out is given.
    """
    if not room_ok(name):
        raise UsageError(f"{name!a} cannot be a room: one is 1 to 32 characters of A-Z a-z 0-9 _ and -")
    if no_pin and relay_ca_cert is not None:
        raise UsageError("--no-pin and --relay-ca-cert do not go together: give the certificate that is to be pinned")
    where = parse_relay(relay)
    if "%" in where.host:
        raise UsageError(f"--relay {relay!a} has an interface of this machine in it; give an address for everyone")
    named = None if server_name is None else checked_server_name(server_name)
    now = datetime.datetime.now(datetime.UTC)
    if no_pin:
        pinned = _Pinned(named, None, "Players accept a certificate of the relay that their system trusts.")
    elif relay_ca_cert is not None:
        pinned = _given(relay_ca_cert, where, named, now)
    elif (own := _own(state_directory(state_dir) / "dev-cert.pem", where, named, now)) is not None:
        pinned = own
    elif state_dir is not None:
        raise UsageError(f"no relay has made a certificate in {state_dir}; check --state-dir, or say --no-pin")
    else:
        pinned = _Pinned(
            named,
            None,
            "No certificate is pinned: players accept one that their system trusts. If your relay made its own, run "
            "this on its machine, as the same user, or add --relay-ca-cert with its file.",
        )
    invitation = Invitation(where, name, pinned.server_name, pinned.pin, secrets.token_bytes(SECRET_LENGTH))
    if out is not None:
        _keep(out, invitation.text())
    elif qr is None:
        qr = all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
    tell(_explain(invitation, pinned, out))
    if qr:
        try:
            _show_code(invitation.text(), sys.stderr)
        except UsageError as error:  # the invitation itself is what counts
            tell(f"({error}.)")
        tell("")
    if out is None:
        sys.stderr.flush()
        print(invitation.text(), flush=True)


@room.command
def show(
    invite: Annotated[str | None, Parameter(name="INVITATION", allow_leading_hyphen=True)] = None,
    /,
    *,
    qr: Annotated[bool, Parameter(negative="")] = False,
    relay_config: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Tell what an invitation says, but for its secret.

    Parameters
    ----------
    invite
        @FILE for the file that holds it, - for standard input, or its text; by default what SOFTLAN_INVITE says.
    qr
        Show the invitation as a QR code instead.
    relay_config
        Print the lines of a relay's config file instead, by which only this invitation opens the room.
    """
    if qr and relay_config:
        raise UsageError("--qr and --relay-config do not go together: a code is for players, the lines for a relay")
    given = invite if invite is not None else from_environment()
    if given is None:
        raise UsageError("the invitation is missing: give @FILE, - for standard input, or the text itself")
    invitation = read_invitation(given)
    if relay_config:
        print(f"\n{config_lines(invitation)}")  # for `>>`: the file's last line may have no end
    elif qr:
        _show_code(invitation.text(), sys.stdout)
    else:
        print("\n".join(f"{what:<12} {value}" for what, value in description(invitation)))


def description(invitation: Invitation) -> list[tuple[str, str]]:
    """What an invitation says, for a person; never its secret."""
    return [
        ("room", invitation.room),
        ("relay", str(invitation.relay)),
        ("server name", invitation.server_name or f"{invitation.relay.host}, the relay's own"),
        (
            "certificate",
            f"the one with SHA-256 {invitation.pin.hex()}" if invitation.pin else "one that the system trusts",
        ),
        (
            "secret",
            "yes: frames are sealed, and the relay cannot read them"
            if invitation.secret is not None
            else "none: anyone may join, and the relay reads all",
        ),
    ]


def config_lines(invitation: Invitation) -> str:
    """The room in a relay's config file: who has no such token stays outside. Raises UsageError."""
    keys = invitation.keys()
    if keys is None:
        raise UsageError("this invitation has no secret, and so no token: its room is open")
    return f'[rooms.{invitation.room}]\ntoken = "{keys.token}"'


def tell(text: str) -> None:
    """For people, beside what programs read."""
    print(text, file=sys.stderr)


def _given(path: Path, relay: HostPort, server_name: str | None, now: datetime.datetime) -> _Pinned:
    trust = load_trust(path, server_name or relay.host, now)
    if trust.fingerprint is None:
        raise UsageError(
            f"{path} is a CA's certificate, and an invitation can pin the relay's own only: give that, or say --no-pin "
            "and hand this file around, for everyone's --relay-ca-cert"
        )
    return _Pinned(server_name, bytes.fromhex(trust.fingerprint), f"The certificate in {path} is pinned.")


def _own(path: Path, relay: HostPort, server_name: str | None, now: datetime.datetime) -> _Pinned | None:
    """The certificate that a relay on this machine has made, whatever its names; None when there is none."""
    try:
        shown = Credentials(path.read_bytes(), b"")
        names, end = shown.names, shown.leaf.not_valid_after_utc
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: run this as the user that runs the relay, or say --no-pin") from error
    if end - DEV_RENEW_BEFORE <= now:
        raise UsageError(
            f"the certificate in {path} ends soon: restart the relay, which makes a new one, and try again"
        )
    if server_name is None and relay.host.lower() not in names:
        server_name = next((name for name in names if name != "localhost"), "localhost")
    trust = load_trust(path, server_name or relay.host, now)
    assert trust.fingerprint is not None  # it has names
    until = end - DEV_RENEW_BEFORE  # a start of the relay makes a new one from then on
    says = f"The certificate in {path} is pinned. It is good until {until:%Y-%m-%d}; new invitations are needed then."
    return _Pinned(server_name, bytes.fromhex(trust.fingerprint), says)


def _keep(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{text}\n")
        except OSError:  # half an invitation is none, and would be in the way
            path.unlink(missing_ok=True)
            raise
    except FileExistsError as error:
        raise UsageError(f"{path} exists already; remove it, or choose another --out") from error
    except OSError as error:
        raise HostError("write invitation", f"cannot write {path}: {error.strerror}; choose another --out") from error


def _explain(invitation: Invitation, pinned: _Pinned, out: Path | None) -> str:
    file = out if out is not None else Path(f"{invitation.room}.invite")
    first = (
        f"The invitation into room {invitation.room} is in {out}."
        if out is not None
        else f"An invitation into room {invitation.room}: the line softlan1_... Keep it in a file, here {file}.\n"
        "(--out writes one that nobody else on this machine may read.)"
    )
    return f"""{first}
Send it to everyone in the party, and to nobody else: who has it can join, and read all that is sent.
{pinned.says}

At the party:   sudo softlan gateway --invite @{file} --iface eth0
Each player:    sudo softlan client --invite @{file}
If it fails:    sudo softlan doctor --invite @{file}
"""


def _show_code(text: str, stream: TextIO) -> None:
    """White on black also where a terminal is black on white: not every phone reads the reverse.

    Raises UsageError where it has no room.
    """
    import segno

    code = segno.make_qr(text, error="l", boost_error=False)
    width, _ = code.symbol_size(border=_QUIET_ZONE)
    console = Console(file=stream, highlight=False)
    if console.is_terminal and console.width < width:
        raise UsageError(
            f"the QR code needs a terminal of {width} columns, and this one has {console.width}: widen it, "
            "and show the code with `softlan room show --qr`"
        )
    drawn = io.StringIO()
    code.terminal(drawn, border=_QUIET_ZONE, compact=True)
    console.print(Text(drawn.getvalue().rstrip("\n"), "bright_white on black"), soft_wrap=True)
