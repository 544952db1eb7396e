"""Questions asked at the party, by real programs in a namespace: DHCP, ping, discovery, the relay's view."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from softlan.demo.lan_player import Found
from softlan.demo.netns import Namespace
from softlan.demo.processes import Process, environment, find_tool, wait_for
from softlan.errors import HostError
from softlan.proto.drop import Action, DropReason

# udhcpc does the talking and leaves the interface to a script. Only the address is taken: a LAN's router or
# DNS server is not to become the player's.
_LEASE_SCRIPT = """#!/bin/sh
case $1 in bound|renew) exec ip address replace "$ip/$mask" dev "$interface" ;; esac
"""

_RTT = re.compile(r"(\d+) received.*= ([\d.]+)/([\d.]+)/([\d.]+)/", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rtt:
    """Round-trip times in milliseconds, as ping(8) gives them, and how many questions were answered."""

    sent: int
    received: int
    minimum: float
    average: float
    maximum: float


def lease(namespace: Namespace, interface: str, directory: Path) -> str:
    """Get an address by DHCP for `interface` and return it with its prefix; `directory` is for the script."""
    script = directory / "lease.sh"
    script.write_text(_LEASE_SCRIPT)
    script.chmod(0o755)
    client = ("-f", "-n", "-q", "-t", "10", "-T", "1", "-i", interface, "-s", str(script))
    _run("DHCP", namespace, find_tool("udhcpc"), *client, timeout=15)
    link = namespace.link(interface)
    if link is None or not (found := [address for address in link.addresses if "." in address]):
        raise HostError("DHCP", f"udhcpc was content, but {interface} has no address")
    return found[0]


def ping(namespace: Namespace, address: str, count: int = 10) -> Rtt:
    """Ping `count` times within a second or so, after one that is not counted (ARP). All must be answered."""
    tool = find_tool("ping")
    _run("ping", namespace, tool, "-n", "-c", "1", "-w", "5", address, timeout=10)
    said = _run("ping", namespace, tool, "-n", "-q", "-c", str(count), "-i", "0.05", "-W", "2", address, timeout=15)
    rtt = parse_ping(said, count)
    if rtt is None or rtt.received < count:
        raise HostError("ping", f"{address} answered {rtt.received if rtt else 'none'} of {count}")
    return rtt


def parse_ping(output: str, sent: int) -> Rtt | None:
    """Read the summary of iputils' ping; None when there is none, as when nothing was answered."""
    if not (match := _RTT.search(output)):
        return None
    return Rtt(sent, int(match[1]), float(match[2]), float(match[3]), float(match[4]))


def discover(namespace: Namespace, game: str, interface: str, timeout: float = 5.0) -> Found:
    """Look for a LAN game on `interface` (one of `softlan.demo.lan_player.GAMES`)."""
    argv = (sys.executable, "-m", "softlan.demo.lan_player", game, interface, f"{timeout:g}")
    return Found(**json.loads(_run("discovery", namespace, *argv, timeout=2 * timeout + 10)))


def room_snapshot(relay: Process, room: str) -> dict[str, object]:
    """Ask a running relay (SIGUSR1) for its view of a room: a ``room.snapshot`` of its JSON log."""
    before = len(relay.events("room.snapshot"))
    relay.send_signal(signal.SIGUSR1)

    def answered() -> dict[str, object] | None:
        return next((event for event in relay.events("room.snapshot", before) if event.get("room") == room), None)

    return wait_for(f"the relay's snapshot of {room}", answered, 5)


def frames_by_action(snapshot: dict[str, object]) -> dict[Action, int]:
    """Sum up a room's frames by what became of them: `forwarded`, and `drops` by their reason's action."""
    frames = dict.fromkeys(Action, 0)
    forwarded, drops = snapshot.get("forwarded"), snapshot.get("drops")
    if isinstance(forwarded, int):
        frames[Action.FORWARDED] = forwarded
    if isinstance(drops, dict):
        for reason, count in drops.items():
            frames[DropReason(reason).action] += count
    return frames


def _run(stage: str, namespace: Namespace, *argv: str, timeout: float) -> str:
    try:
        done = subprocess.run(
            namespace.command(*argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=environment(),
        )
    except subprocess.TimeoutExpired:
        raise HostError(stage, f"{Path(argv[0]).name} did not end within {timeout:g} s") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise HostError(stage, lines[-1] if lines else f"{Path(argv[0]).name} ended with status {done.returncode}")
    return done.stdout
