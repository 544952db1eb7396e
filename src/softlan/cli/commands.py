"""The commands. Each turns its flags into a config and runs it; what takes long to import is imported inside."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from softlan import __version__
from softlan.cli.doctor import doctor
from softlan.cli.options import (
    DEFAULT_PLAYER,
    LogOptions,
    PlayerOptions,
    RelayOptions,
    StateDir,
    checked_server_name,
    client_config,
    state_directory,
    tunnel_config,
)
from softlan.cli.windows_service import service
from softlan.errors import UsageError

app = App(
    name="softlan",
    help="Join a real LAN from far away, as if your PC were plugged into its switch.",
    version=f"softlan {__version__}",
    version_flags=["--version"],
    help_flags=["--help", "-h"],
)


@app.command
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


@app.command
def gateway(
    *,
    target: RelayOptions,
    iface: Annotated[str, Parameter(name=["--iface", "--interface"])],
    policy: Literal["on", "off", "log"] = "on",
    config: Path | None = None,
    state_dir: StateDir = None,
    log: LogOptions = LogOptions(),
) -> None:
    """Bridge a room to the wired LAN of this machine (Linux, as root).

    Parameters
    ----------
    iface
        The wired interface that is plugged into the LAN's switch.
    policy
        Look again at what goes onto the LAN, by the relay's rules: on, off, or log only.
    config
        File with the policy (TOML, as the relay's).
    """
    from softlan.cli.config_file import load_rooms
    from softlan.client.service import unsupported_here
    from softlan.ctrl.messages import Role
    from softlan.obs.frame_log import FrameLogMode
    from softlan.proto.budget import DEFAULT_ROOM_MTU

    log.apply()
    tunnel = tunnel_config(target, Role.GATEWAY, None, state_directory(state_dir))
    rooms = load_rooms(config, DEFAULT_ROOM_MTU)
    unsupported_here("the gateway")
    from softlan.gateway.second_look import LookMode
    from softlan.gateway.service import GatewayConfig, run

    rules = rooms.settings(target.room).policy
    run(GatewayConfig(tunnel, iface, rules, LookMode(policy), FrameLogMode(log.frame_log)))


@app.command
def client(
    *,
    target: RelayOptions | None = None,
    player: PlayerOptions = DEFAULT_PLAYER,
    list_tap_adapters: Annotated[bool, Parameter(negative="")] = False,
    status_interval: float = 5.0,
    state_dir: StateDir = None,
    log: LogOptions = LogOptions(),
) -> None:
    """Join a room as a player (as root, on Windows as administrator). --relay and --room are required.

    Parameters
    ----------
    list_tap_adapters
        Windows: print the TAP adapters of this machine with GUID and driver version, and exit.
    status_interval
        Seconds between two looks at how things are; what is new goes into the log.
    """
    from dataclasses import replace

    log.apply()
    if list_tap_adapters:
        print_tap_adapters()
        return
    if target is None:
        raise UsageError("--relay and --room are missing; see softlan client --help")
    if not 1 <= status_interval <= 3600:
        raise UsageError("--status-interval must be 1 to 3600 seconds")
    config = client_config(target, player, log, state_dir)
    from softlan.cli.live_line import live_line
    from softlan.client.service import run
    from softlan.client.status import StatusOptions

    with live_line(log) as show:
        run(replace(config, status=StatusOptions(status_interval, show)))


def print_tap_adapters() -> None:
    """A line for each TAP adapter. Raises HostError elsewhere than on Windows."""
    from softlan.device.tap_adapters import adapters

    found = adapters()
    for adapter in found:
        print(f"{adapter.instance_id}  {adapter.driver_version or 'unknown version'}  {adapter.name}")
    if not found:
        print("no TAP-Windows6 adapter is installed")


app.command(doctor)
app.command(service)


@app.command
def demo(
    *,
    keep: Annotated[bool, Parameter(negative="")] = False,
    end: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Run a whole LAN party on this machine, in network namespaces, and show that it works.

    Parameters
    ----------
    keep
        Leave the party running, to look at.
    end
        End a party that was left running.
    """
    import sys

    from softlan.client.service import unsupported_here

    unsupported_here("the demo")
    from softlan.demo.run import end_demo, run_demo

    sys.exit(end_demo() if end else run_demo(keep=keep))
