"""The relay dies, again and again, at any moment, while everyone plays."""

import random
import time
from pathlib import Path

from tests.faults.ground import ground
from tests.faults.report import Result
from tests.support.party import routes

from softlan.demo.services import TAP

BACK = 10.0  # seconds from the moment that a relay listens again
JOIN = 50.0  # seconds, of a client whose ghost may be in the room for another 30


def relay_killed(directory: Path, seed: int, count: int, longest_away: float = 0.0) -> Result:
    """Kill the relay `count` times; it is back at once, or after a random time up to `longest_away` seconds."""
    chance = random.Random(seed)
    what = f"back after up to {longest_away:g} s" if longest_away else "back at once"
    result = Result(f"relay killed, {what}", BACK, "pings of two players, processes, rooms, routes, events")
    result.notes.append(f"seed {seed}")
    with ground(directory, players=2) as party:
        party.start()
        for _ in range(count):
            time.sleep(chance.uniform(0.0, 3.0))  # the moment is part of the fault
            killed = time.monotonic()
            party.kill(party.relay)
            time.sleep(chance.uniform(0.0, longest_away))
            party.start_relay()
            back = time.monotonic()
            healed = party.heal(killed, 3 * BACK)
            result.healed(healed - back, max(player.heart.still(killed, healed) for player in party.players))
            result.broken += party.inspect()
            if result.broken:
                break
        result.broken += party.inspect(connections=True)
        result.broken += party.farewell()
    return result


def client_killed(directory: Path, seed: int, count: int) -> Result:
    """Kill the client `count` times at any moment of its start or shortly after; every fifth time it may play."""
    chance = random.Random(seed)
    result = Result("client killed while it starts", JOIN, "next start joins; routes, TAP and journal after each kill")
    result.notes.append(f"seed {seed}")
    with ground(directory) as party:
        party.start()
        player = party.player
        result.broken += party.end(player.program)
        flags = (*party.joining(party.services), "--tap-name", TAP)
        for number in range(1, count + 1):
            program = party.launch(party.services, "client", player.namespace, *flags, name=f"client{number}")
            time.sleep(chance.uniform(0.3, 1.5))  # before that it is nothing but Python
            party.kill(program)
            if player.namespace.link(TAP) is not None:
                result.broken.append("the TAP is still there after a kill")
            if player.pinned() and not player.journal().exists():
                result.broken.append("a route is left that no journal names")
            if number % 5 == 0:
                started = time.monotonic()
                party.start_player(player)
                healed = party.heal(started, JOIN)
                result.healed(healed - started, 0.0)
                result.broken += party.inspect()
                result.broken += party.end(player.program)
                party.past.append(player.program)
            if result.broken:
                break
        if odd := [file.name for file in player.program.state.iterdir() if "unreadable" in file.name]:
            result.broken.append(f"a journal could not be read: {odd}")
        if left := set(routes(player.namespace)) ^ set(player.routes_before):
            result.broken.append(f"routes differ: {', '.join(sorted(left))}")
    return result
