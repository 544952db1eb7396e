"""``softlan relay``: its flags, made into a config."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from softlan.cli.options import LogOptions, StateDir, checked_server_name, state_directory
from softlan.errors import UsageError


def relay(
    *,
    listen: str = "443/udp",
    server_name: str = "lanparty-relay.local",
    cert: Path | None = None,
    key: Path | None = None,
    dev_cert_der_out: Path | None = None,
    redirect: str | None = None,
    max_rooms: int = 256,
    max_peers: int = 1024,
    max_room_peers: int = 64,
    room_mtu: int = 1418,
    config: Path | None = None,
    print_config: Annotated[bool, Parameter(negative="")] = False,
    allow_universal_macs: Annotated[bool, Parameter(negative="")] = False,
    stats: Annotated[bool, Parameter(negative="")] = False,
    state_dir: StateDir = None,
    log: LogOptions = LogOptions(),
) -> None:
    """Run a public relay, on a machine that everyone can reach.

    Parameters
    ----------
    listen
        Where to listen: 443/udp, or an address and port such as 192.0.2.7:4433.
    server_name
        The name in the development certificate, beside localhost.
    cert
        Certificate chain (PEM); without it a development certificate is made and kept.
    key
        Its private key (PEM).
    dev_cert_der_out
        Write the certificate here, in DER, to be given to players and gateways.
    redirect
        Send every newcomer to this relay (host:port) instead.
    max_rooms
        Rooms at a time.
    max_peers
        Players and gateways at a time, in all rooms.
    max_room_peers
        Players and gateway of one room.
    room_mtu
        MTU of new rooms, in bytes.
    config
        File with the policy, and with what is different in some rooms (TOML).
    print_config
        Print the policy and the rooms that are in force, as such a file, and exit.
    allow_universal_macs
        Let players join with MACs that are not locally administered.
    stats
        Log figures of the last 10 s: datagrams and system calls a second, and how many datagrams a call moved.
    """
    import datetime

    from softlan.cli.config_file import load_rooms, show_rooms
    from softlan.net.address import parse_listen, parse_relay
    from softlan.obs.frame_log import FrameLogMode
    from softlan.proto.budget import MAX_MTU, MIN_MTU
    from softlan.quic.trust import development_credentials, load_credentials, write_der
    from softlan.relay.limits import RelayLimits
    from softlan.relay.server import RelayConfig, run

    log.apply()
    address = parse_listen(listen)
    if (cert is None) != (key is None):
        raise UsageError("--cert and --key go together: give both, or neither for a development certificate")
    if not MIN_MTU <= room_mtu <= MAX_MTU:
        raise UsageError(f"--room-mtu must be {MIN_MTU} to {MAX_MTU}")
    if min(max_rooms, max_peers) < 1:
        raise UsageError("--max-rooms and --max-peers must be at least 1")
    if not 1 <= max_room_peers <= 60000:
        raise UsageError("--max-room-peers must be 1 to 60000")
    rooms = load_rooms(config, room_mtu)
    if print_config:
        print(show_rooms(rooms))
        return
    if cert is not None and key is not None:
        credentials = load_credentials(cert, key)
    else:
        now = datetime.datetime.now(datetime.UTC)
        credentials = development_credentials(state_directory(state_dir), checked_server_name(server_name), now)
    if dev_cert_der_out is not None:
        write_der(dev_cert_der_out, credentials)
    relay_config = RelayConfig(
        listen=address,
        credentials=credentials,
        limits=RelayLimits(
            max_rooms=max_rooms,
            max_peers=max_peers,
            max_room_peers=max_room_peers,
            allow_universal_macs=allow_universal_macs,
            redirect=str(parse_relay(redirect)) if redirect is not None else None,
        ),
        rooms=rooms,
        frame_log=FrameLogMode(log.frame_log),
        stats=stats,
        snapshots=log.log_level == "debug",
    )
    run(relay_config)
