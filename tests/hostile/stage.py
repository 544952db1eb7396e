"""Where the attacks take place: the demo's party with its real relay, and somebody else on the same internet.

The attacker's namespace is called ``stranger``. It has a /16 to itself, which its router sends all to it, and any
address of it may be bound or spoofed. The relay has one CPU for itself. The party, the routers and the attacker share
another one, on which the attacker takes what the others leave, and relay and party go before what else this machine
does: what is measured is what an attack costs the relay, and not what it costs to attack. (A packet's way up to the
relay's socket is paid where it was sent: veth hands packets on in the sender's time.)
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.attack import Attack
from tests.hostile.pulse import Pulse
from tests.hostile.rebinding import DETOUR
from tests.support.party import lan_party, run

from softlan.demo import topology
from softlan.demo.netns import Namespace
from softlan.demo.probes import lease
from softlan.demo.processes import Process, find_tool
from softlan.demo.services import ROOM, TAP, Services

ROUTER, STRANGER = "198.18.0.1", "198.18.0.10"  # RFC 2544's prefix for such things, and so is the next
PREFIX = "198.19."
FIRST, LAST = -10, 5  # nice values


class Stage:
    """A party that is up, with a `Pulse` between player and LAN host, and a place for one attacker."""

    def __init__(self, services: Services, pulse: Pulse, stranger: Namespace) -> None:
        self.services = services
        self.pulse = pulse
        self.stranger = stranger
        by_name = {process.name: process for process in services.processes}
        self.relay, self.gateway, self.client = (by_name[name] for name in ("relay", "gateway", "client"))

    def joins(self) -> int:
        """How often gateway and client have joined; 2 as long as nothing has thrown them out."""
        return len(self.gateway.events("joined")) + len(self.client.events("joined"))

    @contextlib.contextmanager
    def attacked(self, attack: Attack, seconds: float) -> Iterator[Process]:
        """Run an attack of that length; it is over, and gone, when the block ends."""
        command = [
            *(find_tool("ip"), "netns", "exec", self.stranger.name),
            *(sys.executable, "-m", "tests.hostile.attack", attack.name, "--seconds", str(seconds)),
            *("--relay", f"{topology.RELAY}:443", "--prefix", PREFIX, "--room", ROOM),
            *("--inet", self.services.party.inet.name),
        ]
        process = Process(attack.name, command, self.services.directory / "attack.log")
        try:
            schedule(process, party_cpu(), 0 if attack.on_path else LAST)
            yield process
        finally:
            process.stop(1.0)


def relay_cpu() -> int:
    """The CPU that the relay has for itself."""
    return min(os.sched_getaffinity(os.getpid()))


def party_cpu() -> int:
    """The CPU of everybody else; the same, on a machine that has only one."""
    return sorted(os.sched_getaffinity(os.getpid()))[:2][-1]


def schedule(process: Process, cpu: int, nice: int) -> None:
    """Let a process run on this CPU, with this precedence, as far as we may say so."""
    os.sched_setaffinity(process.pid, {cpu})
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        # Each of them has a session of its own, and so, with autogroups, a share of its own (sched(7)).
        Path(f"/proc/{process.pid}/autogroup").write_text(f"{nice}\n")


@contextlib.contextmanager
def stage(directory: Path) -> Iterator[Stage]:
    """Build all of it. Errors: `HostError`, and what `lan_party` skips for."""
    with lan_party(directory) as services:
        party = services.party
        stranger = party.lab.namespace("stranger")
        party.lab.cable((party.inet, "stranger0"), (stranger, topology.WAN_INTERFACE))
        party.inet.up("stranger0", f"{ROUTER}/24")
        stranger.up(topology.WAN_INTERFACE, f"{STRANGER}/24")
        stranger.default_route(ROUTER)
        run(party.inet, "ip", "route", "add", f"{PREFIX}0.0/16", "via", STRANGER)
        run(stranger, "ip", "route", "add", "local", f"{PREFIX}0.0/16", "dev", "lo")
        run(party.inet, "ip", "rule", "add", "iif", "player0", "to", topology.RELAY, "lookup", str(DETOUR))
        services.dhcp_server()
        relay = services.relay()
        schedule(relay, relay_cpu(), FIRST)
        gateway = services.gateway()
        client, _ = services.client()
        for process in (gateway, client):
            schedule(process, party_cpu(), FIRST)
        lease(party.player, TAP, directory)
        with Pulse(party.player, topology.HOST, party_cpu()) as pulse:
            yield Stage(services, pulse, stranger)
