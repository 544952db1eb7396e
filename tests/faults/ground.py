"""The ground that faults happen on: a party of real processes with a heartbeat, and what must be true of it afterwards.

A check that fails is a line of text, not an exception: one fault may break several promises, and all are told.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from tests.faults.heart import GAP, Heart
from tests.support.party import another_player, endpoint_flags, lan_party, routes, run, settled_routes

from softlan.demo import topology
from softlan.demo.netns import Link, Namespace
from softlan.demo.probes import room_snapshot
from softlan.demo.processes import Process, wait_for
from softlan.demo.services import RELAY_NAME, ROOM, TAP, Services
from softlan.quic.configuration import IDLE_TIMEOUT

READY = 30.0
"""Seconds for what takes a moment: a bound for a machine that is busy with other things."""
RSS_GROWTH = 32 << 20
"""Bytes that a process may have grown by. Ended sessions form cycles, and the collector takes its time with them."""
FORGOTTEN = IDLE_TIMEOUT + 10.0
"""Seconds until the relay must have let go of connections whose other end is gone."""

_CRASHES = ("Traceback", '"level": "error"', '"exception"', "Fatal Python", "Error in sys.", "never awaited")
_numbers = itertools.count(51)


@dataclass(frozen=True)
class Vitals:
    """What a process holds."""

    descriptors: int
    sockets: int
    threads: int
    resident: int

    @classmethod
    def of(cls, pid: int) -> "Vitals":
        links = []
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(os.readlink(descriptor))
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        resident = int(status["VmRSS"].split()[0]) << 10
        return cls(len(links), sum(link.startswith("socket:") for link in links), int(status["Threads"]), resident)


@dataclass
class Program:
    """One softlan process at the party, and what is known of it."""

    name: str
    process: Process
    state: Path
    vitals: Vitals | None = None

    def records(self) -> list[dict[str, object]]:
        """All that it logged, in order."""
        found = []
        for line in self.process.output().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    found.append(record)
        return found

    def joined(self) -> dict[str, object]:
        """Its last welcome."""
        return self.process.events("joined")[-1]

    def plain_lines(self) -> list[str]:
        """What it said to a person: the lines that are no log event."""
        return [line for line in self.process.output().splitlines() if line and not line.startswith("{")]


@dataclass
class Player:
    """A player: a computer, its client, its address on the LAN."""

    services: Services
    address: str
    program: Program = field(init=False)
    tap: Link = field(init=False)
    heart: Heart = field(init=False)
    routes_before: list[str] = field(default_factory=list)

    @property
    def namespace(self) -> Namespace:
        return self.services.party.player

    def pinned(self) -> list[str]:
        """The routes to the relay alone."""
        return [line for line in routes(self.namespace) if line.startswith(f"{topology.RELAY} ")]

    def journal(self) -> Path:
        return self.program.state / f"host-{TAP}.json"


class Options(TypedDict, total=False):
    """How a program is started, as `Ground.launch` has it."""

    inside: Sequence[str]
    outside: Sequence[str]
    state: Path


class Ground:
    """A party. `start` brings it to life; `heal` measures; `inspect` says what is wrong."""

    sealed = False
    """Whether all parties play in a sealed room, by invitation."""

    def __init__(self, services: Services, players: int) -> None:
        self.services = services
        self.party = services.party
        self.players = [Player(services, "10.77.0.50")]
        self._guests = players - 1
        self.relay: Program
        self.gateway: Program
        self.past: list[Program] = []
        """Those that have ended, as they should."""

    @property
    def player(self) -> Player:
        return self.players[0]

    @property
    def programs(self) -> list[Program]:
        return [self.relay, self.gateway, *(player.program for player in self.players)]

    # Starting

    def launch(
        self,
        services: Services,
        kind: str,
        namespace: Namespace,
        *flags: str,
        inside: Sequence[str] = (),
        outside: Sequence[str] = (),
        state: Path | None = None,
        name: str | None = None,
    ) -> Program:
        """Start `softlan <kind>`: `outside` stands before the way into the namespace, `inside` before the program."""
        state = state or services.directory / kind
        argv = [sys.executable, "-m", "softlan", kind, *flags, "--state-dir", str(state), "--log-format", "json"]
        name = name or f"{services.directory.name}-{kind}"
        process = Process(name, [*outside, *namespace.command(*inside, *argv)], services.directory / f"{name}.log")
        services.processes.append(process)
        return Program(name, process, state)

    def start_relay(self, **options: Unpack[Options]) -> Program:
        """The relay, listening."""
        flags = ("--listen", "443/udp", "--dev-cert-der-out", str(self.services.relay_certificate))
        self.relay = self.launch(self.services, "relay", self.party.relay, *flags, **options)
        process = self.relay.process
        process.wait_for("listening", lambda: process.events("relay.listening"), READY)
        return self.relay

    def start_gateway(self, **options: Unpack[Options]) -> Program:
        """The gateway, in the room."""
        flags = (*self.joining(self.services), "--iface", topology.GATEWAY_INTERFACE)
        self.gateway = self.launch(self.services, "gateway", self.party.gateway, *flags, **options)
        self._wait_joined(self.gateway)
        return self.gateway

    def start_player(self, player: Player, **options: Unpack[Options]) -> Program:
        """A player's client, in the room, its interface up and with an address."""
        flags = (*self.joining(player.services), "--tap-name", TAP)
        program = player.program = self.launch(player.services, "client", player.namespace, *flags, **options)
        self._wait_joined(program)

        def up() -> Link | None:
            link = player.namespace.link(TAP)
            return link if link is not None and link.up else None

        player.tap = program.process.wait_for("TAP up", up, READY)
        player.namespace.up(TAP, f"{player.address}/24")
        return program

    def start(self) -> None:
        """Everything, with all hearts beating."""
        self.start_relay()
        self.start_gateway()
        for _ in range(self._guests):  # who bring the relay's certificate along
            self.players.append(Player(another_player(self.services), f"10.77.0.{next(_numbers)}"))
        for player in self.players:
            player.routes_before = settled_routes(player.namespace)
            self.start_player(player)
        self.beat()

    def beat(self) -> None:
        """Let all hearts beat, and take down what everyone holds now."""
        for player in self.players:
            player.heart = Heart(player.namespace, topology.HOST)
        self.heal(time.monotonic(), READY)
        self.weigh()

    def weigh(self) -> None:
        """Take down what every process holds now."""
        for program in self.programs:
            program.vitals = Vitals.of(program.process.pid)

    def close(self) -> None:
        """Stop the hearts; the processes end with `services`."""
        for player in self.players:
            if hasattr(player, "heart"):
                player.heart.close()
        for player in self.players[1:]:
            player.services.stop()

    # Faults of processes

    def kill(self, program: Program) -> None:
        """End it without a word."""
        program.process.send_signal(signal.SIGKILL)
        program.process.finish(READY)
        self.past.append(program)

    # Judging

    def heal(self, after: float, timeout: float, players: Sequence[Player] | None = None) -> float:
        """Wait until these players' hearts, all by default, beat steadily again; when the last of them began to."""
        return max(player.heart.wait_for_steady(after, timeout) for player in players or self.players)

    def inspect(self, *, connections: bool = False) -> list[str]:
        """What is wrong now, one line each. `connections`: also wait until the relay has let go of dead ones."""
        found = [*self._processes(), *self._logs(), *self._host_state()]
        if not found:
            found += [*self._room(), *self._knowledge()]
        if connections and not found:
            found += self._connections()
        return found

    def farewell(self) -> list[str]:
        """End everything as a person would, and say what is wrong with that."""
        found = []
        for player in self.players:
            player.heart.close()
            found += self.end(player.program)
            if player.namespace.link(TAP) is not None:
                found.append(f"{player.program.name}: {TAP} is still there after its end")
            if player.routes_before and (left := set(routes(player.namespace)) ^ set(player.routes_before)):
                found.append(f"{player.program.name}: routes differ after its end: {', '.join(sorted(left))}")
            if player.journal().exists():
                found.append(f"{player.program.name}: its journal is still there after its end")
        return [*found, *self.end(self.gateway), *self.end(self.relay), *self._logs()]

    def end(self, program: Program) -> list[str]:
        """End one by SIGTERM."""
        program.process.send_signal(signal.SIGTERM)
        status = program.process.finish(READY)
        return [f"{program.name}: ended with status {status}"] if status else []

    def joining(self, services: Services) -> tuple[str, ...]:
        """The flags by which an endpoint joins; `launch` adds those of logs and state."""
        if self.sealed:
            return ("--invite", f"@{self._invitation()}")
        flags = endpoint_flags(services)
        return tuple(flags[: flags.index("--log-format")])

    def _invitation(self) -> Path:
        """The room's invitation, made once the relay has its certificate."""
        file = self.services.directory / f"{ROOM}.invite"
        if not file.exists():
            flags = ("--relay", topology.RELAY, "--server-name", RELAY_NAME, "--out", str(file))
            pin = ("--relay-ca-cert", str(self.services.relay_certificate))
            run(self.party.relay, sys.executable, "-m", "softlan", "room", "new", ROOM, *flags, *pin)
        return file

    def _wait_joined(self, program: Program) -> None:
        program.process.wait_for("joined", lambda: program.process.events("joined"), READY)

    def _processes(self) -> Iterator[str]:
        for program in self.programs:
            if (status := program.process.status) is not None:
                yield f"{program.name}: ended with status {status}: {program.process.tail(1)}"
            elif program.vitals is not None:
                was, now = program.vitals, Vitals.of(program.process.pid)
                # One more thread looks up names once a session was lost.
                if (now.descriptors, now.sockets) != (was.descriptors, was.sockets) or now.threads > was.threads + 1:
                    yield f"{program.name}: holds {now}, held {was}"
                if now.resident > was.resident + RSS_GROWTH:
                    yield f"{program.name}: grew from {was.resident >> 20} to {now.resident >> 20} MiB"

    def _logs(self) -> Iterator[str]:
        for program in [*self.programs, *self.past]:
            said = program.process.output()
            for mark in _CRASHES:
                if mark in said:
                    line = next(line for line in said.splitlines() if mark in line)
                    yield f"{program.name}: {line[:300]}"

    def _host_state(self) -> Iterator[str]:
        for player in self.players:
            name = player.program.name
            pinned = player.pinned()
            if len(pinned) != 1 or "proto 98" not in pinned[0]:
                yield f"{name}: pinned {pinned}"
            link = player.namespace.link(TAP)
            if link is None or (link.index, link.mac, link.up) != (player.tap.index, player.tap.mac, True):
                yield f"{name}: the TAP was {player.tap}, is {link}"
            if player.journal().exists():
                changes = json.loads(player.journal().read_text())["changes"]
                if [change["destination"] for change in changes] != [f"{topology.RELAY}/32"]:
                    yield f"{name}: the journal names {changes}"
            elif player.program.state.is_dir():
                yield f"{name}: there is no journal"

    def _room(self) -> list[str]:
        members = room_snapshot(self.relay.process, ROOM)["members"]
        assert isinstance(members, list)
        expected = sorted(str(program.joined()["peer"]) for program in self.programs[1:])
        present = sorted(str(member["peer"]) for member in members)
        return [] if present == expected else [f"the relay's members are {present}, should be {expected}"]

    def _knowledge(self) -> Iterator[str]:
        """Whether everyone knows exactly the others, told once each."""
        everyone = {program.joined()["peer"] for program in self.programs[1:]}
        for program in self.programs[1:]:
            known, faults = knowledge(program)
            yield from faults
            others = everyone - {program.joined()["peer"]}
            if known != others:
                yield f"{program.name}: knows the peers {sorted(map(str, known))}, there are {sorted(map(str, others))}"

    def _connections(self) -> list[str]:
        process, expected = self.relay.process, len(self.programs) - 1

        def settled() -> bool:
            before = len(process.events("relay.snapshot"))
            process.send_signal(signal.SIGUSR1)
            wait_for("a snapshot", lambda: len(process.events("relay.snapshot")) > before, READY)
            return process.events("relay.snapshot")[-1]["connections"] == expected

        deadline = time.monotonic() + FORGOTTEN
        while not settled():
            if time.monotonic() > deadline:
                now = process.events("relay.snapshot")[-1]["connections"]
                return [f"the relay still has {now} connections for {expected} members"]
            time.sleep(0.5)
        return []


def knowledge(program: Program) -> tuple[set[object], list[str]]:
    """Whom it knows by its log, and what is wrong with how it was told: twice, or gone without having been there."""
    known: set[object] = set()
    faults = []
    for record in program.records():
        peer = record.get("peer")
        if record.get("event") == "joined":
            known.clear()
        elif record.get("event") == "peer.joined":
            if peer in known:
                faults.append(f"{program.name}: was told twice of peer {peer}")
            known.add(peer)
        elif record.get("event") == "peer.left":
            if peer not in known:
                faults.append(f"{program.name}: was told that peer {peer} left, who was not there")
            known.discard(peer)
    return known, faults


@contextlib.contextmanager
def ground(directory: Path, players: int = 1) -> Iterator[Ground]:
    """A wired party in a lab of its own, nothing running yet; gone at the end with all that runs."""
    directory.mkdir(parents=True, exist_ok=True)
    with lan_party(directory) as services:
        made = Ground(services, players)
        try:
            yield made
        finally:
            made.close()


def undisturbed(player: Player, start: float) -> list[str]:
    """Whether another player's heart went on beating since `start`."""
    still = player.heart.still(start, time.monotonic())
    return [f"{player.program.name}: still for {still:.1f} s, though nothing happened to it"] if still > 2 * GAP else []
