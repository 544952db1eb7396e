"""All checks of this system, in the order in which a person would mend what they find."""

import asyncio
import datetime
import ipaddress
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from softlan.client.doctor import linux, windows
from softlan.client.doctor.finding import Finding
from softlan.client.doctor.look import PATIENCE, look_at_relay
from softlan.client.doctor.verdicts import RelayLook, judge_relay
from softlan.client.session import Identity
from softlan.ctrl.messages import Role
from softlan.device.tap_adapters import adapters
from softlan.errors import UsageError
from softlan.host.base import HostNetwork, IPAddress
from softlan.net.address import HostPort
from softlan.proto.mac import local_mac
from softlan.quic.trust import Trust, load_trust


@dataclass(frozen=True)
class DoctorConfig:
    """What to look at."""

    relay: HostPort
    server_name: str
    """The name that the relay's certificate must carry."""
    ca_cert: Path | None
    """The file of --relay-ca-cert."""
    room: str | None
    """The room to look into, as a player for a moment; None leaves the rooms alone."""
    software: str
    tap_name: str | None = None
    tap_instance_id: str | None = None
    metric: int = 1
    pin: bytes | None = None
    """An invitation's pin, SHA-256 of the relay's certificate."""
    room_token: str | None = field(default=None, repr=False)
    frame_key: bytes | None = field(default=None, repr=False)
    is_invited: bool = False
    """Whether relay and room are those of an invitation."""


def examine(config: DoctorConfig, patience: float = PATIENCE) -> list[Finding]:
    """Run all checks; a few seconds, or somewhat more than `patience` when the relay does not answer."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # on Windows too: it watches a socket
        return runner.run(_examine(config, patience))


async def _examine(config: DoctorConfig, patience: float) -> list[Finding]:
    now = datetime.datetime.now(datetime.UTC)
    trust, fault = Trust(config.server_name), None
    if config.pin is not None:
        trust = Trust(config.server_name, fingerprint=config.pin.hex())
    else:
        try:
            trust = load_trust(config.ca_cert, config.server_name, now)
        except UsageError as error:
            fault = str(error)
    # A new MAC: the player's own may be in the room at this moment.
    mac = local_mac(os.urandom(6))
    room = config.room or "DOCTOR"
    identity = Identity(Role.CLIENT, room, mac, config.software, config.room_token, config.frame_key)
    join = config.room is not None and fault is None
    asked = asyncio.create_task(asyncio.to_thread(windows.gather)) if sys.platform == "win32" else None
    look = await look_at_relay(config.relay, trust, identity, join=join, patience=patience)
    facts = await asked if asked is not None else "not Windows"
    relay = _address(look)
    local = _windows(config, relay, facts) if sys.platform == "win32" else _linux(config, relay)
    judged = judge_relay(
        look,
        config.relay,
        config.server_name,
        now,
        pin_fault=fault,
        has_pin=config.ca_cert is not None and fault is None,
        is_invited=config.is_invited,
        is_sealed=config.frame_key is not None,
    )
    return [*local, *judged]


def _linux(config: DoctorConfig, relay: IPAddress | None) -> list[Finding]:
    from softlan.host.linux import LinuxNetwork  # needs pyroute2, which is there on Linux only

    tap_name = config.tap_name or "softlan0"
    return [
        linux.privileges(),
        linux.driver(),
        linux.adapter(tap_name),
        linux.route(LinuxNetwork(), relay, tap_name),
        linux.other_vpns(),
        linux.firewall(tap_name),
    ]


def _windows(config: DoctorConfig, relay: IPAddress | None, facts: windows.Facts | str) -> list[Finding]:
    adapter, chosen = windows.adapter(adapters, config.tap_instance_id, config.tap_name)
    alias = chosen.name if chosen is not None else None
    return [
        windows.privileges(windows.is_elevated()),
        windows.driver(adapters),
        adapter,
        windows.route(_windows_network, relay, chosen),
        windows.other_vpns(facts, alias, config.metric),
        windows.firewall(facts, alias),
    ]


def _windows_network() -> HostNetwork:
    from softlan.host.windows import WindowsNetwork

    return WindowsNetwork()


def _address(look: RelayLook) -> IPAddress | None:
    """The relay's address that the route is asked for: the one that answered, or the first."""
    text = look.address if look.answered else next(iter(look.addresses), "")
    return ipaddress.ip_address(text) if text else None
