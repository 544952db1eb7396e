"""The underlay is cut: silently, with errors, in one direction, or at the computer itself."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.ground import Ground, ground, undisturbed
from tests.faults.report import Result
from tests.support.party import run

from softlan.demo import topology
from softlan.demo.netns import Namespace

BACK = 10.0  # seconds from the end of the cut
HELD = 2.0  # seconds of a cut that no session may notice

DURATIONS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)

_ADDRESSES = {"player": topology.PLAYER, "gateway": topology.GATEWAY}
_ROUTERS = {"player": "192.0.2.1", "gateway": "203.0.113.1"}


def _at_the_router(party: Ground, who: str, *, kind: str, to: bool, out: bool) -> Callable[[], None]:
    """Let the internet's router drop what is sent to, or from, an endpoint; `kind` as in ip-rule(8)."""
    address, rules = _ADDRESSES[who], []
    if out:
        rules.append(("from", address, "to", topology.RELAY))
    if to:
        rules.append(("from", topology.RELAY, "to", address))
    inet = party.party.inet
    for rule in rules:
        run(inet, "ip", "rule", "add", *rule, kind, "priority", "100")

    def mend() -> None:
        for rule in rules:
            run(inet, "ip", "rule", "del", *rule, "priority", "100")

    return mend


def _at_the_computer(party: Ground, who: str) -> Callable[[], None]:
    """Take the computer's own interface down; what sends gets an error. Up again, the host adds its route."""
    namespace: Namespace = party.player.namespace if who == "player" else party.party.gateway
    run(namespace, "ip", "link", "set", topology.WAN_INTERFACE, "down")

    def mend() -> None:
        run(namespace, "ip", "link", "set", topology.WAN_INTERFACE, "up")
        namespace.default_route(_ROUTERS[who])

    return mend


def _asleep(party: Ground, who: str) -> Callable[[], None]:
    """Let the endpoint's process stand still, as a laptop does whose lid was closed."""
    process = party.player.program.process if who == "player" else party.gateway.process
    process.send_signal(signal.SIGSTOP)
    return lambda: process.send_signal(signal.SIGCONT)


KINDS: dict[str, Callable[[Ground, str], Callable[[], None]]] = {
    "silent": lambda party, who: _at_the_router(party, who, kind="blackhole", to=True, out=True),
    "refused": lambda party, who: _at_the_router(party, who, kind="unreachable", to=True, out=True),
    "deaf": lambda party, who: _at_the_router(party, who, kind="blackhole", to=True, out=False),
    "mute": lambda party, who: _at_the_router(party, who, kind="blackhole", to=False, out=True),
    "down": _at_the_computer,
    "asleep": _asleep,
}
"""How: all packets vanish; ICMP errors come back; none comes in; none gets out; the interface is down; it sleeps."""
WHO = {"player": ("player",), "gateway": ("gateway",), "both": ("player", "gateway")}


def cut(directory: Path, who: str, kind: str, durations: Sequence[float] = DURATIONS) -> Result:
    """Cut off `who` in the way `kind`, once for each duration."""
    result = Result(f"cut, {kind}: {who}", BACK, "pings, processes, rooms, routes, events")
    with ground(directory, players=2) as party:
        party.start()
        bystander = party.players[1]
        for duration in durations:
            sessions = [len(program.process.events("joined")) for program in party.programs]
            begun = time.monotonic()
            mends = [KINDS[kind](party, each) for each in WHO[who]]
            time.sleep(max(0.0, begun + duration - time.monotonic()))  # its length is the fault
            for mend in mends:
                mend()
            mended = time.monotonic()
            healed = party.heal(mended, 3 * BACK)
            result.healed(healed - mended, max(player.heart.still(begun, healed) for player in party.players))
            if kind == "down":
                for player in party.players[:1]:
                    player.routes_before = []  # its IPv6 addresses went, and do not come back by themselves
                    player.heart.wait_for_steady(mended, BACK)
            result.broken += _pinned_again(party)
            result.broken += party.inspect()
            if who == "player":
                result.broken += undisturbed(bystander, begun)
            if duration <= HELD and sessions != [len(program.process.events("joined")) for program in party.programs]:
                result.broken.append(f"a cut of {duration:g} s ended a session")
            if result.broken:
                result.notes.append(f"the last cut took {duration:g} s")
                break
        result.broken += party.inspect(connections=True)
        result.broken += party.farewell()
    return result


def _pinned_again(party: Ground) -> list[str]:
    """Wait for the pin, which is looked at every 5 s only."""
    deadline = time.monotonic() + BACK
    while not all(player.pinned() for player in party.players):
        if time.monotonic() > deadline:
            return ["the relay's route is not pinned again"]
        time.sleep(0.1)
    return []
