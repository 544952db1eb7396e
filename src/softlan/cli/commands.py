"""The commands. Each turns its flags into a config and runs it; what takes long to import is imported inside."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from softlan import __version__
from softlan.cli.doctor import doctor
from softlan.cli.options import (
    DEFAULT_PLAYER,
    NOWHERE,
    LogOptions,
    PlayerOptions,
    RelayOptions,
    StateDir,
    client_config,
    state_directory,
    tunnel_config,
)
from softlan.cli.relay import relay
from softlan.cli.room import room
from softlan.cli.windows_service import service
from softlan.errors import UsageError

app = App(
    name="softlan",
    help="Join a real LAN from far away, as if your PC were plugged into its switch.",
    version=f"softlan {__version__}",
    version_flags=["--version"],
    help_flags=["--help", "-h"],
)


app.command(relay)


@app.command
def gateway(
    *,
    target: RelayOptions = NOWHERE,
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

    rules = rooms.settings(tunnel.identity.room).policy
    run(GatewayConfig(tunnel, iface, rules, LookMode(policy), FrameLogMode(log.frame_log)))


@app.command
def client(
    *,
    target: RelayOptions = NOWHERE,
    player: PlayerOptions = DEFAULT_PLAYER,
    list_tap_adapters: Annotated[bool, Parameter(negative="")] = False,
    status_interval: float = 5.0,
    state_dir: StateDir = None,
    log: LogOptions = LogOptions(),
) -> None:
    """Join a room as a player (as root, on Windows as administrator).

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


app.command(room)
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
