"""`softlan demo`: the whole LAN party on this machine, from the first cable to the last figure."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Never

from rich.console import Console

from softlan.demo import netns, topology, userns
from softlan.demo.netns import Lab
from softlan.demo.probes import discover, frames_by_action, lease, ping, room_snapshot
from softlan.demo.processes import find_tool
from softlan.demo.report import Measurements, Report
from softlan.demo.services import ROOM, TAP, Services
from softlan.demo.topology import Party
from softlan.errors import HostError

_TOOLS = ("ip", "ping", "dnsmasq", "udhcpc", "setpriv", "unshare", "nsenter")

# A keeper owns the namespaces of a party that is kept, since the run that built it ends. Its last words make it
# known for one, and say where the party's directory is.
_KEEPER = (sys.executable, "-c", "import signal; signal.pause()", "softlan-demo-keeper")


class _Interrupted(BaseException):
    """A signal asked us to end; not an error, so nothing that handles errors may swallow it."""

    def __init__(self, number: int) -> None:
        self.number = number


def run_demo(keep: bool = False) -> int:
    """Build the party, play, measure, take it down; return the exit status (0 only if all of it worked).

    `keep` leaves it running instead. Logs and state go to a temporary directory that stays only when it is of use:
    when the party is kept, or a step failed. Without root the process is replaced by one in a user namespace.
    Errors: `HostError` when this machine cannot hold the party at all (a missing tool, no privilege).
    """
    for tool in _TOOLS:
        find_tool(tool)
    userns.check_tun()
    if not userns.is_root():
        userns.enter([sys.executable, "-m", "softlan", "demo", *(["--keep"] if keep else [])])

    directory = Path(tempfile.mkdtemp(prefix="softlan-demo-"))
    report = Report(Console(highlight=False))
    of_use = False
    try:
        with _signals_raise():
            worked = _play(report, directory, keep)
        of_use = keep or not worked
    except _Interrupted as interrupted:
        report.plain("\nInterrupted: the party is over, everything has been put away.")
        return 128 + interrupted.number
    finally:
        if not of_use:
            shutil.rmtree(directory, ignore_errors=True)
    return 0 if worked else 1


def end_demo() -> int:
    """End every party of ours that was kept, put away what killed runs left behind; return the exit status."""
    report = Report(Console(highlight=False))
    labs = netns.labs() if userns.is_root() else {}
    keepers = _keepers()
    for keeper, directory in keepers.items():
        if userns.is_elsewhere(keeper):  # its namespaces have names in there only
            again = userns.command_into(keeper, sys.executable, "-m", "softlan", "demo", "--end")
            if status := subprocess.run(again, check=False, stdout=subprocess.DEVNULL).returncode:
                raise HostError("end", f"could not end the party of {keeper} in its user namespace (status {status})")
            continue
        for namespace in labs.get(keeper, []):
            namespace.remove()
        os.kill(keeper, signal.SIGTERM)
        shutil.rmtree(directory, ignore_errors=True)
    swept = netns.sweep() if userns.is_root() else []
    report.plain(f"Ended {len(keepers)} part{'y' if len(keepers) == 1 else 'ies'}." if keepers else "No party is on.")
    if swept:
        report.plain(f"Put away what a killed run had left: {', '.join(swept)}")
    return 0


def _play(report: Report, directory: Path, keep: bool) -> bool:
    """Run the demo; tell whether it worked. Unless it worked and is kept, nothing of it is left running."""
    with contextlib.ExitStack() as cleanup:
        owner = os.getpid()
        if keep:
            nothing = subprocess.DEVNULL  # or whoever reads our output would wait for the keeper's end
            keeper = subprocess.Popen(
                [*_KEEPER, str(directory)], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
            )
            cleanup.callback(keeper.wait)
            cleanup.callback(keeper.terminate)
            owner = keeper.pid
        lab = cleanup.enter_context(Lab(owner))
        step = ["set-up"]
        services: Services | None = None
        try:
            if swept := netns.sweep():
                report.line("here", f"put away what a killed run had left: {', '.join(swept)}")
            party = Party.build(lab)
            report.line("here", f"{len(lab.namespaces)} network namespaces, wired up: {', '.join(_names(lab))}")
            services = Services(party, directory, outlive=keep)
            cleanup.callback(services.stop)
            report.table(_steps(report, services, step))
        except HostError as error:
            report.failed(step[-1], str(error))
            report.logs(services.processes if services else [])
            report.plain(f"\nAll of it is in {directory}")
            return False
        if keep:
            cleanup.pop_all()
            _say_how_to_look(report, lab.prefix, owner, directory)
        return True


def _steps(report: Report, services: Services, step: list[str]) -> Measurements:
    """Everything after the wiring, in order; `step` gets the name of each as it begins."""
    party, measured = services.party, Measurements(host_address=topology.HOST)

    step.append("start the LAN's DHCP server")
    services.dhcp_server()
    report.line("lan", f"dnsmasq gives out {' to '.join(topology.DHCP_RANGE)}")
    step.append("start the LAN's host")
    services.lan_host()
    report.line("lan", f"host {topology.HOST} runs a game server, an SSDP device and an open world")

    step.append("start the relay")
    relay = services.relay()
    report.line("relay", f"listens on {topology.RELAY}, 443/udp")
    step.append("make an invitation")
    services.invite()
    report.line("relay", f"has an invitation into room {ROOM}, with a new secret")
    step.append("start the gateway")
    services.gateway()
    report.line("gateway", f"bridges {topology.GATEWAY_INTERFACE} into room {ROOM}")
    step.append("start the client")
    _, tap = services.client()
    measured.player_mac, measured.player_mtu = tap.mac, tap.mtu
    report.line("player", f"is in the room, sealed: {TAP} is up, MAC {tap.mac}, MTU {tap.mtu}")

    step.append("get an address by DHCP through the tunnel")
    measured.player_address = lease(party.player, TAP, services.directory)
    report.line("player", f"has {measured.player_address} from the LAN's DHCP server")
    step.append("ping the LAN's host through the tunnel")
    measured.tunnel = ping(party.player, topology.HOST)
    report.line("player", f"pings {topology.HOST} in {measured.tunnel.average:.2f} ms on average")
    step.append("ping the relay on the path below")
    measured.player_leg = ping(party.player, topology.RELAY)
    measured.gateway_leg = ping(party.gateway, topology.RELAY)

    for game, what in (
        ("source", "broadcasts for game servers"),
        ("ssdp", "multicasts for devices"),
        ("minecraft", "hears a world announced by multicast"),
    ):
        step.append(f"LAN discovery ({game})")
        found = discover(party.player, game, TAP)
        if found.address != topology.HOST:
            raise HostError("discovery", f"{found.address} answered, not the LAN's host {topology.HOST}")
        measured.found.append(found)
        report.line("player", f"{what}: {found.text}")

    step.append("read the relay's room snapshot")
    snapshot = room_snapshot(relay, ROOM)
    if snapshot.get("sealed") is not True:
        raise HostError("seal", "the room is not sealed, though everyone has an invitation")
    measured.is_sealed = True
    measured.frames = frames_by_action(snapshot)
    if isinstance(drops := snapshot.get("drops"), dict):
        measured.drops = drops
    return measured


def _say_how_to_look(report: Report, prefix: str, keeper: int, directory: Path) -> None:
    # Seen from within a user namespace the keeper has the same pid, but others need to enter that namespace
    # first.
    enter = "" if _in_first_user_namespace() else " ".join(userns.command_into(keeper)) + " "
    report.plain("\nThe party goes on. Look at it, for instance:")
    report.plain(f"  {enter}ip netns exec {prefix}player ip address show {TAP}")
    report.plain(f"  {enter}ip netns exec {prefix}player ping {topology.HOST}")
    report.plain(f"  {enter}ip netns exec {prefix}lan tcpdump -ni {topology.SWITCH}")
    report.plain(f"  tail -f {directory}/*.log")
    command = Path(sys.executable).with_name("softlan")
    report.plain(f"End it:\n  {command if command.exists() else f'{sys.executable} -m softlan'} demo --end")


def _keepers() -> dict[int, Path]:
    """Return our own keepers, in whatever namespace they are, with their directories."""
    found = {}
    mark = [word.encode() for word in _KEEPER[1:]]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[1:4] == mark and entry.stat().st_uid == os.geteuid():
                    found[int(entry.name)] = Path(os.fsdecode(words[4]))
    return found


def _in_first_user_namespace() -> bool:
    # There the map is the identity over the whole range, user_namespaces(7).
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def _names(lab: Lab) -> list[str]:
    return [namespace.name.removeprefix(lab.prefix) for namespace in lab.namespaces]


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """In the block the first signal to end raises `_Interrupted`; later ones do not disturb cleaning up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: FrameType | None) -> Never:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise _Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
