"""The disk is full: the one that holds the state directory, at any time of a program's life.

A disk is a tmpfs of 64 KiB in a mount namespace of its own, so nobody else sees it. Programs are started into that
namespace; it is filled, and freed, through /proc (mount_namespaces(7), proc_pid_root(5)).
"""

import contextlib
import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.cuts import KINDS
from tests.faults.ground import FORGOTTEN, READY, Ground, Program, ground
from tests.faults.heart import Heart
from tests.faults.report import Result
from tests.support.party import run

from softlan.demo import topology
from softlan.demo.processes import Process, find_tool, wait_for
from softlan.demo.services import TAP
from softlan.errors import HostError

BACK = 10.0  # seconds, of a relay that was killed while the disk was full
PIN = 10.0  # seconds until a lost pin is back, once there is room
PAGE = 4096
SIZE = 16 * PAGE
_BALLAST = "ballast"


class Disk:
    """A small disk at `path`; `into` is what stands before a command that is to see it."""

    def __init__(self, party: Ground, path: Path) -> None:
        path.mkdir(parents=True)
        mount = f"mount -t tmpfs -o size={SIZE},nr_inodes=64,mode=700 tmpfs {path} && exec sleep infinity"
        argv = [find_tool("unshare"), "--mount", "--", "/bin/sh", "-c", mount]
        self._keeper = Process(f"{path.name}-disk", argv, path.with_suffix(".disk.log"))
        party.services.processes.insert(0, self._keeper)  # it is the last to go
        self.path = path
        self.root = Path(f"/proc/{self._keeper.pid}/root{path}")
        wait_for("the disk", lambda: os.path.ismount(self.root) or self._is_small(), READY)
        self.into = [find_tool("nsenter"), f"--mount=/proc/{self._keeper.pid}/ns/mnt", "--"]

    def fill(self, pages_left: int = 0) -> None:
        """Leave room for so many pages of 4 KiB, and no more."""
        self.free()
        with (self.root / _BALLAST).open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(PAGE))
            file.truncate(max(0, file.tell() - pages_left * PAGE))

    def fill_directory(self) -> None:
        """Leave room for no further file."""
        self.free()
        with contextlib.suppress(OSError):
            for number in itertools.count():
                (self.root / f"{_BALLAST}{number}").touch()

    def free(self) -> None:
        """Take away what filled it."""
        for file in self.root.glob(f"{_BALLAST}*"):
            file.unlink()

    def wipe(self) -> None:
        """Take away everything."""
        for file in self.root.iterdir():
            file.unlink()

    def files(self) -> list[str]:
        """What the programs have there."""
        return sorted(file.name for file in self.root.iterdir() if not file.name.startswith(_BALLAST))

    def _is_small(self) -> bool:
        found = os.statvfs(self.root)
        return found.f_blocks * found.f_frsize == SIZE


NAMES = ("relay", "gateway", "client")
FILLS = ("no page", "one page", "two pages", "three pages", "no file")


def _fill(disk: Disk, how: str) -> None:
    if how == "no file":
        disk.fill_directory()
    else:
        disk.fill(FILLS.index(how))


def full_at_start(directory: Path, fills: Sequence[str] = FILLS, names: Sequence[str] = NAMES) -> Result:
    """Start each of these programs on a disk that is full, or nearly: at its first start, and at a later one."""
    result = Result("disk full at a start", READY, "one line and status 1, or plain working; then the next start works")
    with ground(directory) as party:
        disks = {name: Disk(party, party.services.directory / f"{name}-state") for name in NAMES}
        before = _routes(party)

        def begin(name: str) -> Program:
            return _start(party, disks[name], name)

        def judge(name: str, when: str, how: str) -> bool:
            program = begin(name)
            fault, runs = _outcome(program, name)
            if fault:
                result.broken.append(f"{name}, {when}, {how}: {fault}")
            result.notes.append(f"{name}, {when}, {how}: {'runs' if runs else program.plain_lines()[-1:]}")
            if runs:
                result.broken += party.end(program)
            if name == "client" and _routes(party) != before:
                result.broken.append(f"client, {when}, {how}: routes differ")
            return runs

        def works(name: str, when: str) -> None:
            disks[name].free()
            program = begin(name)
            fault, runs = _outcome(program, name)
            if not runs:
                why = fault or program.plain_lines()
                result.broken.append(f"{name}, {when}, does not start though there is room: {why}")
            else:
                result.broken += party.end(program)

        relay: Program | None = None
        for name in names:
            if name != "relay" and relay is None:
                relay = begin("relay")
                _outcome(relay, "relay")
            for when in ("first start", "later start"):
                for how in fills:
                    if when == "first start":
                        disks[name].wipe()
                    _fill(disks[name], how)
                    judge(name, when, how)
                works(name, f"after {when}")
        if relay is not None:
            result.broken += party.end(relay)
        for name, disk in disks.items():
            result.notes.append(f"{name} leaves {disk.files()}")
            if odd := [file for file in disk.files() if ".new" in file or file.startswith("identity.json.")]:
                result.broken.append(f"{name}: drafts are left behind: {odd}")
    return result


def full_in_session(directory: Path) -> Result:
    """The disk fills up while everyone plays: the session is resumed, the pin is lost, and all ends."""
    result = Result("disk full during a session", BACK, "relay killed, pin lost, the end; routes, journal")
    with ground(directory) as party:
        disks = [Disk(party, party.services.directory / f"{name}-state") for name in NAMES]
        party.start_relay(outside=disks[0].into, state=disks[0].path)
        party.start_gateway(outside=disks[1].into, state=disks[1].path)
        player = party.player
        before = _routes(party)
        party.start_player(player, outside=disks[2].into, state=disks[2].path)
        player.program.state = disks[2].root  # as we see it
        party.beat()
        for how in ("no page", "no file"):
            for disk in disks:
                _fill(disk, how)
            killed = time.monotonic()
            party.kill(party.relay)
            party.start_relay(outside=disks[0].into, state=disks[0].path)
            back = time.monotonic()
            healed = party.heal(killed, 3 * BACK)
            result.healed(healed - back, player.heart.still(killed, healed))
            result.broken += party.inspect()

            run(player.namespace, "ip", "route", "del", topology.RELAY)
            with contextlib.suppress(HostError):
                wait_for("the pin", player.pinned, PIN)
            result.notes.append(f"{how}: the pin is {'made again' if player.pinned() else 'left out'} meanwhile")
            for disk in disks:
                disk.free()
            wait_for("the pin", player.pinned, PIN)
            result.broken += party.inspect()
        _fill(disks[2], "no page")
        result.broken += party.farewell()
        if _routes(party) != before:
            result.broken.append("routes differ after the end")

        # Killed on a full disk; the next start finds a journal, and no room.
        party.start_relay(outside=disks[0].into, state=disks[0].path)
        disks[2].free()
        program = _start(party, disks[2], "client")
        program.process.wait_for("joined", lambda: program.process.events("joined"), READY)
        wait_for("the pin", player.pinned, READY)
        party.kill(program)
        for how in ("no page", "one page", "no file"):
            _fill(disks[2], how)
            again = _start(party, disks[2], "client")
            fault, runs = _outcome(again, "client")
            result.notes.append(f"start after a kill, {how}: {'runs' if runs else again.plain_lines()[-1:]}")
            result.broken += [f"start after a kill, {how}: {fault}"] if fault else []
            if runs:
                result.broken += party.end(again)
            if _routes(party) != before:
                result.broken.append(f"start after a kill, {how}: routes differ")
        journals = [name for name in disks[2].files() if name == f"host-{TAP}.json"]
        result.broken += [f"left behind: {journals}"] if journals else []
    return result


def log_full(directory: Path) -> Result:
    """The disk that logs go to is full: of endpoints while they come back, and of the relay while someone joins."""
    result = Result("disk of the logs full", BACK, "nobody ends; all come back; someone can join")
    for whose in (("gateway", "client"), ("relay",)):
        with ground(directory / "-".join(whose)) as party:
            disk = Disk(party, party.services.directory / "logs")
            programs = {}
            for name in ("relay", "gateway", "client"):
                inside = ["/bin/sh", "-c", f'exec "$@" 2>> {disk.path}/{name}.log', "sh"] if name in whose else []
                programs[name] = _start(party, disk, name, inside=inside, state=party.services.directory / name)
                if name == "relay":
                    wait_for("the certificate", party.services.relay_certificate.exists, READY)
            wait_for("the TAP", lambda: (link := party.player.namespace.link(TAP)) and link.up, READY)
            party.player.namespace.up(TAP, f"{party.player.address}/24")
            heart = party.player.heart = Heart(party.player.namespace, topology.HOST)
            heart.wait_for_steady(0.0, READY)
            disk.fill()
            for name in whose:
                with (disk.root / f"{name}.log").open("ab", buffering=0) as log, contextlib.suppress(OSError):
                    while log.write(b"\n"):  # the rest of its last page
                        pass
            begun = time.monotonic()
            again = "relay" if whose != ("relay",) else "client"
            party.kill(programs[again])
            programs[again] = _start(party, disk, again, state=party.services.directory / again)
            if again == "client":
                wait_for("the TAP", lambda: (link := party.player.namespace.link(TAP)) and link.up, READY)
                party.player.namespace.up(TAP, f"{party.player.address}/24")
            back = time.monotonic()
            try:
                healed = heart.wait_for_steady(begun, 3 * BACK)
                result.healed(max(0.0, healed - back), heart.still(begun, healed))
            except HostError as error:
                result.broken.append(f"log of {whose}: {error}")
            for name, program in programs.items():
                if program.process.status is not None:
                    result.broken.append(f"log of {whose}: {name} ended with status {program.process.status}")
    return result


def resume_lost(directory: Path) -> Result:
    """The resume string of the last session could not be saved, and the client was killed: its ghost is in the room."""
    result = Result("disk full, then killed", FORGOTTEN, "the next start joins, if need be after the ghost's time")
    with ground(directory) as party:
        disk = Disk(party, party.services.directory / "client-state")
        party.start_relay()
        party.start_gateway()
        program = party.start_player(party.player, outside=disk.into, state=disk.path)
        disk.fill()
        mend = KINDS["silent"](party, "player")
        wait_for("the loss", lambda: program.process.events("lost"), READY)
        mend()
        wait_for("the next session", lambda: len(program.process.events("joined")) == 2, READY)
        party.kill(program)
        disk.free()
        killed = time.monotonic()
        again = _start(party, disk, "client")
        wait_for("it to run or end", lambda: again.process.status is not None or again.process.events("tap.up"), 60.0)
        if again.process.status is not None:
            result.broken.append(f"ended with status {again.process.status}: {again.plain_lines()}")
        else:
            result.healed(time.monotonic() - killed, 0.0)
            result.broken += party.end(again)
    return result


def _start(party: Ground, disk: Disk, name: str, *, inside: Sequence[str] = (), state: Path | None = None) -> Program:
    """Start a program with its state on `disk`, or elsewhere, and do not wait."""
    flags: tuple[str, ...]
    namespace = {"relay": party.party.relay, "gateway": party.party.gateway, "client": party.party.player}[name]
    if name == "relay":
        flags = ("--listen", "443/udp", "--dev-cert-der-out", str(party.services.relay_certificate))
    else:
        more = ("--iface", topology.GATEWAY_INTERFACE) if name == "gateway" else ("--tap-name", TAP)
        flags = (*party.joining(party.services), *more)
    return party.launch(
        party.services, name, namespace, *flags, inside=inside, outside=disk.into, state=state or disk.path, name=name
    )


def _outcome(program: Program, name: str) -> tuple[str | None, bool]:
    """What is wrong with how it began, and whether it runs."""
    process = program.process
    ready = "relay.listening" if name == "relay" else "tap.up" if name == "client" else "joined"
    wait_for(f"{name} to run or end", lambda: process.status is not None or process.events(ready), READY)
    said = process.output()
    if "Traceback" in said:
        return f"a traceback: {said.splitlines()[-1]}", process.status is None
    if process.status is None:
        return None, True
    lines = program.plain_lines()
    if process.status != 1 or len(lines) != 1 or "No space left" not in lines[0]:
        return f"status {process.status}, said {lines}", False
    return None, False


def _routes(party: Ground) -> list[str]:
    listed = run(party.player.namespace, "ip", "-4", "route", "show", "table", "all")
    return sorted(line.strip() for line in listed.splitlines())
