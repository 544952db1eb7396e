"""A bad line: a fifth of all packets lost, many twice, many late, while others come and go."""

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.ground import READY, Ground, Program, ground
from tests.faults.report import Result
from tests.faults.wire import Weather, Wire
from tests.support.party import another_player, run

from softlan.demo import topology
from softlan.demo.processes import wait_for
from softlan.demo.services import TAP
from softlan.errors import HostError

BACK = 10.0  # seconds from the end of the bad weather
HEARD = 20.0  # seconds until everyone has heard of the last who came and went
BAD = Weather(loss=0.2, duplicates=0.1, reordered=0.2)


def bad_line(directory: Path, seed: int, comings: int = 10, weather: Weather = BAD) -> Result:
    """Let others come and go, some with a goodbye and some without, while gateway and player have a bad line."""
    chance = random.Random(seed)
    result = Result(
        f"loss {weather.loss:.0%}, duplicates {weather.duplicates:.0%}, reordering {weather.reordered:.0%}: "
        "gateway and player",
        BACK,
        f"each of {comings} that came and went is told once, in order, also those that were killed",
    )
    result.notes.append(f"seed {seed}")
    with ground(directory) as party, _bad_lines(party, seed) as wires:
        party.start()
        guest = another_player(party.services)
        begun = time.monotonic()
        for wire in wires:
            wire.weather = weather
        for number in range(comings):
            flags = (*party.joining(guest), "--tap-name", TAP)
            program = party.launch(guest, "client", guest.party.player, *flags, name=f"guest{number}")
            _wait_for_joined(program)
            time.sleep(chance.uniform(0.0, 0.5))
            if chance.random() < 0.3 and number < comings - 1:
                party.kill(program)  # the next one takes its place: the relay tells of both
            else:
                result.broken += party.end(program)
                party.past.append(program)
        for program in (party.gateway, party.player.program):
            result.broken += _wait_for_news(party, program)
        answered = party.player.heart.answered(begun)
        sessions = [len(each.process.events("joined")) for each in (party.gateway, party.player.program)]
        result.notes.append(
            f"{sum(wire.lost for wire in wires)} packets lost of {sum(wire.lost + wire.carried for wire in wires)}, "
            f"{answered:.0%} of the pings answered; sessions of gateway and player: {sessions}"
        )
        mended = time.monotonic()
        for wire in wires:
            wire.weather = Weather()
        healed = party.heal(mended, 3 * BACK)
        result.healed(healed - mended, party.player.heart.still(begun, healed))
        result.broken += party.inspect()
        party.player.routes_before = []  # the wire made the interface anew
        result.broken += party.farewell()
    return result


def bad_line_at_the_start(directory: Path, seed: int, times: int = 10, weather: Weather = BAD) -> Result:
    """Join over such a line, again and again."""
    result = Result(
        f"joining with loss {weather.loss:.0%}, duplicates, reordering", READY, "joined, and knows the others"
    )
    result.notes.append(f"seed {seed}")
    with ground(directory) as party, _bad_lines(party, seed) as wires:
        party.start_relay()
        party.start_gateway()
        for wire in wires:
            wire.weather = weather
        for _ in range(times):
            started = time.monotonic()
            program = party.start_player(party.player)
            result.healed(time.monotonic() - started, 0.0)
            result.broken += _wait_for_news(party, program)
            result.broken += party.end(program)
            party.past.append(program)
        for wire in wires:
            wire.weather = Weather()
    return result


@contextlib.contextmanager
def _bad_lines(party: Ground, seed: int) -> Iterator[Sequence[Wire]]:
    """Wires in the place of the cables of gateway and player."""
    ways = party.party
    wires: list[Wire] = []
    for namespace, port, own, router in (
        (ways.gateway, "gw0", topology.GATEWAY, "203.0.113.1"),
        (ways.player, "player0", topology.PLAYER, "192.0.2.1"),
    ):
        run(ways.inet, "ip", "link", "del", port)
        wires.append(Wire((ways.inet, port), (namespace, topology.WAN_INTERFACE), seed + len(wires)))
        ways.inet.up(port, f"{router}/24")
        namespace.up(topology.WAN_INTERFACE, f"{own}/24")
        namespace.default_route(router)
    try:
        yield wires
    finally:
        for wire in wires:
            wire.close()


def _wait_for_joined(program: Program) -> None:
    program.process.wait_for("joined", lambda: program.process.events("joined"), READY)


def _wait_for_news(party: Ground, program: Program) -> list[str]:
    """Wait until a program knows all; what is still missing then."""
    with contextlib.suppress(HostError):
        wait_for("the news", lambda: not _missing(party, program), HEARD)
    return [f"{program.name}: {line}" for line in _missing(party, program)]


def _missing(party: Ground, program: Program) -> list[str]:
    """How what a program was told since its last welcome differs from what the relay told: one line."""
    own = program.joined()["peer"]
    relay = [
        (record["event"], record["peer"])
        for record in party.relay.records()
        if record.get("event") in ("peer.joined", "peer.left")
    ]
    told: list[tuple[object, object]] = []
    for record in program.records():
        if record.get("event") == "joined":
            told.clear()
        elif record.get("event") in ("peer.joined", "peer.left"):
            told.append((record["event"], record["peer"]))
    at = len(relay) - 1 - relay[::-1].index(("peer.joined", own))
    present: list[object] = []
    for event, peer in relay[:at]:
        if event == "peer.joined":
            present.append(peer)
        else:
            present.remove(peer)
    expected = [*(("peer.joined", peer) for peer in present), *relay[at + 1 :]]
    return [] if told == expected else [f"was told {told}, should have been {expected}"]
