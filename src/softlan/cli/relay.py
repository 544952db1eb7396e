"""``softlan relay``: its flags, made into a config."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from softlan.cli.options import LogOptions, StateDir, checked_server_name, state_directory
from softlan.errors import UsageError

if TYPE_CHECKING:
    from softlan.quic.trust import Credentials
    from softlan.relay.certificates import PemFiles
    from softlan.relay.limits import RelayLimits
    from softlan.relay.renewal import AcmeConfig

_CERTIFICATE = Group("Certificate", sort_key=1)
_ACME = Group("Certificate from an ACME server", sort_key=2)
_ROOMS = Group("Rooms and limits", sort_key=3)
_LOGS = Group("State and logs", sort_key=4)


@Parameter(name="*", group=_CERTIFICATE)
@dataclass(frozen=True)
class CertificateOptions:
    """What the relay shows."""

    server_name: str = "lanparty-relay.local"
    """The name in the development certificate, beside localhost."""
    cert: Path | None = None
    """Certificate chain (PEM), read anew when it changes; without it a development certificate is made and kept."""
    key: Path | None = None
    """Its private key (PEM)."""
    dev_cert_der_out: Path | None = None
    """Write the certificate here, in DER, to be given to players and gateways."""

    def load(self, state_dir: Path) -> "tuple[Credentials, PemFiles | None]":
        """What to show, and the files to look at for a newer one. Raises UsageError and HostError."""
        from softlan.quic.trust import development_credentials, load_credentials, write_der
        from softlan.relay.certificates import PemFiles

        files = None
        if self.cert is not None and self.key is not None:
            credentials = load_credentials(self.cert, self.key)
            files = PemFiles(self.cert, self.key)
        else:
            now = datetime.datetime.now(datetime.UTC)
            credentials = development_credentials(state_dir, checked_server_name(self.server_name), now)
        if self.dev_cert_der_out is not None:
            write_der(self.dev_cert_der_out, credentials)
        return credentials, files


@Parameter(name="*", group=_ACME)
@dataclass(frozen=True)
class AcmeOptions:
    """Certificates that are got and renewed."""

    acme: str | None = None
    """Get a certificate for this name of the relay, and renew it, by HTTP-01; you agree to the server's terms."""
    acme_email: str | None = None
    """Whom the server may write to."""
    acme_directory: str | None = None
    """URL of another ACME server's directory; by default Let's Encrypt."""
    acme_ca: Path | None = None
    """CA to trust in talking to that server (PEM)."""
    acme_http_listen: str = "80"
    """Where the server's question arrives, by TCP: a port, or an address and port."""

    def checked(self, certificate: CertificateOptions, state_dir: Path) -> "AcmeConfig | None":
        """The config; None without --acme. Raises UsageError."""
        if self.acme is None:
            if (self.acme_email, self.acme_directory, self.acme_ca, self.acme_http_listen) != (None, None, None, "80"):
                raise UsageError("flags that begin with --acme- need --acme with the name of the relay")
            return None
        from softlan.net.address import parse_listen
        from softlan.relay.renewal import LETS_ENCRYPT, AcmeConfig, require_library

        if certificate.cert is not None or certificate.dev_cert_der_out is not None:
            raise UsageError("--acme gets a certificate that everyone trusts: leave out --cert and --dev-cert-der-out")
        try:
            name = checked_server_name(self.acme)
        except UsageError as error:
            raise UsageError(f"--acme {self.acme[:60]!a} is not a name; write it as in relay.example.net") from error
        if ":" in name or name.rpartition(".")[2].isdigit():
            raise UsageError(f"--acme {name}: certificates are for names; give one that leads to this machine")
        directory = self.acme_directory if self.acme_directory is not None else LETS_ENCRYPT
        if not directory.startswith("https://"):
            raise UsageError("--acme-directory is a URL that begins with https://")
        if self.acme_ca is not None and not self.acme_ca.is_file():
            raise UsageError(f"cannot read {self.acme_ca}; give --acme-ca a file that exists")
        require_library()
        return AcmeConfig(
            name=name.rstrip(".").lower(),
            state_dir=state_dir,
            email=self.acme_email,
            directory=directory,
            authorities=self.acme_ca,
            listen=parse_listen(self.acme_http_listen.removesuffix("/tcp")),
        )


@Parameter(name="*", group=_ROOMS)
@dataclass(frozen=True)
class RoomOptions:
    """Rooms, and how much there may be."""

    config: Path | None = None
    """File with the policy, and with what is different in some rooms (TOML)."""
    print_config: Annotated[bool, Parameter(negative="")] = False
    """Print the policy and the rooms that are in force, as such a file, and exit."""
    room_mtu: int = 1418
    """MTU of new rooms, in bytes."""
    max_rooms: int = 256
    """Rooms at a time."""
    max_peers: int = 1024
    """Players and gateways at a time, in all rooms."""
    max_room_peers: int = 64
    """Players and gateway of one room."""
    allow_universal_macs: Annotated[bool, Parameter(negative="")] = False
    """Let players join with MACs that are not locally administered."""
    redirect: str | None = None
    """Send every newcomer to this relay (host:port) instead."""

    def limits(self) -> "RelayLimits":
        """Check the numbers. Raises UsageError."""
        from softlan.net.address import parse_relay
        from softlan.proto.budget import MAX_MTU, MIN_MTU
        from softlan.relay.limits import RelayLimits

        if not MIN_MTU <= self.room_mtu <= MAX_MTU:
            raise UsageError(f"--room-mtu must be {MIN_MTU} to {MAX_MTU}")
        if min(self.max_rooms, self.max_peers) < 1:
            raise UsageError("--max-rooms and --max-peers must be at least 1")
        if not 1 <= self.max_room_peers <= 4096:
            raise UsageError("--max-room-peers must be 1 to 4096")
        return RelayLimits(
            max_rooms=self.max_rooms,
            max_peers=self.max_peers,
            max_room_peers=self.max_room_peers,
            allow_universal_macs=self.allow_universal_macs,
            redirect=str(parse_relay(self.redirect)) if self.redirect is not None else None,
        )


_NO_CERTIFICATE, _NO_ACME, _NO_ROOMS, _NO_LOG = CertificateOptions(), AcmeOptions(), RoomOptions(), LogOptions()


def relay(
    *,
    listen: str = "443/udp",
    certificate: CertificateOptions = _NO_CERTIFICATE,
    acme: AcmeOptions = _NO_ACME,
    rooms: RoomOptions = _NO_ROOMS,
    state_dir: Annotated[StateDir, Parameter(group=_LOGS)] = None,
    log: Annotated[LogOptions, Parameter(group=_LOGS)] = _NO_LOG,
    stats: Annotated[bool, Parameter(negative="", group=_LOGS)] = False,
) -> None:
    """Run a public relay, on a machine that everyone can reach.

    Parameters
    ----------
    listen
        Where to listen: 443/udp, or an address and port such as 192.0.2.7:4433.
    stats
        Log figures of the last 10 s: datagrams and system calls a second, and how many datagrams a call moved.
    """
    from softlan.cli.config_file import load_rooms, show_rooms
    from softlan.net.address import parse_listen
    from softlan.obs.frame_log import FrameLogMode
    from softlan.relay.server import RelayConfig, run

    log.apply()
    address = parse_listen(listen)
    if (certificate.cert is None) != (certificate.key is None):
        raise UsageError("--cert and --key go together: give both, or neither for a development certificate")
    limits = rooms.limits()
    room_book = load_rooms(rooms.config, rooms.room_mtu)
    if rooms.print_config:
        print(show_rooms(room_book))
        return
    if not room_book.open_rooms and not room_book.named and limits.redirect is None:
        raise UsageError(
            f"{rooms.config} has open_rooms = false and lists no room, so nobody could join; "
            "add the lines of `softlan room show --relay-config`"
        )
    directory = state_directory(state_dir)
    acme_config = acme.checked(certificate, directory)
    credentials, files = certificate.load(directory) if acme_config is None else (None, None)
    relay_config = RelayConfig(
        listen=address,
        credentials=credentials,
        limits=limits,
        rooms=room_book,
        frame_log=FrameLogMode(log.frame_log),
        stats=stats,
        snapshots=log.log_level == "debug",
        certificate_files=files,
        acme=acme_config,
    )
    run(relay_config)
