"""What an attack is, and the process that one runs in: ``python -m tests.hostile.attack NAME --relay ...``.

An attack is a function with a name. It prepares itself (connections, joins), calls `Field.begin`, and then does what
it does for as long as `Field.on()` is true. It says what it did in `Field.sent`, and what the relay did with it in
`Field.saw`. The process prints one JSON line when the attack begins and one when it has ended, and ends itself if
it takes longer than it may.
"""

import argparse
import importlib
import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.hostile.peer import Address, Peer

FAMILIES = ("handshakes", "hellos", "control", "members", "transport", "rebinding", "strangers")
"""The modules with attacks, in the order in which they run: the last leave nothing behind that would take its time."""

PREPARATION = 30.0  # seconds that connecting and joining may take

SILENCE = 0.5  # seconds without an acknowledgement

_attacks: dict[str, "Attack"] = {}


@dataclass
class Field:
    """What an attack is told, and where it counts."""

    relay: Address
    prefix: str
    """The attacker's addresses: 65534 of them begin with this, as in ``198.19.``."""
    room: str
    """The party's room, which is open."""
    name: str
    number: int
    """Of the attack; its ordinary addresses are in a /24 of their own."""
    seconds: float
    count: int
    inet: str
    """The namespace of the router between player and relay, for who stands there."""
    sent: Counter[str] = field(default_factory=Counter)
    saw: Counter[str] = field(default_factory=Counter)
    _end: float = 0.0
    _hosts: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def begin(self) -> None:
        """From now on it counts."""
        self._end = time.monotonic() + self.seconds
        print(json.dumps({"begun": time.monotonic()}), flush=True)

    def on(self, key: str | None = None) -> bool:
        """Whether time is left, and `count` of what is counted under `key` not reached."""
        return time.monotonic() < self._end and (key is None or self.sent[key] < self.count)

    def own_room(self, suffix: str = "") -> str:
        """A room that no other attack uses."""
        return f"evil-{self.number}{suffix}"

    def mac(self, number: int) -> str:
        """A player's address that no other attack uses; `number` is below 65536."""
        return f"02:66:00:{self.number:02x}:{number >> 8:02x}:{number & 255:02x}"

    def address(self) -> str:
        """The next of the attack's own addresses; they come round after 250."""
        return f"{self.prefix}{100 + self.number}.{next(self._hosts) % 250 + 1}"

    def peer(self) -> Peer:
        """A connection from the next address."""
        return Peer(self.relay, self.address())

    def joined(self, room: str, mac: str | None, **changes: object) -> Peer:
        """A member. Without one such an attack is over: SystemExit says what the relay said."""
        peer = self.peer()
        if not peer.join(room, mac, **changes):
            raise SystemExit(f"{self.name}: could not join {room}: {peer.closed or peer.messages or 'no answer'}")
        return peer

    def kept(self, peer: Peer, mac: str | None = None) -> Peer:
        """This member; if the relay has ended it, the same one come again, from another address or with another MAC.

        It is for members that send all the time: one that hears nothing meanwhile has been ended too.
        """
        if peer.closed is None and time.monotonic() > peer.heard_at + SILENCE:
            peer.closed = "silence"
        while peer.closed is not None and self.on():
            self.saw[f"closed: {peer.closed}"] += 1
            peer.sock.close()
            again = self.peer()
            room, same, changes = peer.hello
            if not again.join(room, mac or same, **changes):
                again.closed = again.closed or "refused"
            peer = again
        return peer

    def note_end(self, *peers: Peer) -> None:
        """Take down how the relay ended these, if it did, and hang up."""
        for peer in peers:
            if peer.closed is None:
                peer.pump()
            self.saw[f"closed: {peer.closed}" if peer.closed is not None else "still connected"] += 1
            peer.quic.close()
            peer.transmit()


@dataclass(frozen=True)
class Attack:
    """One kind of hostility."""

    name: str
    what: str
    """What is sent, for the table."""
    run: Callable[[Field], None]
    count: int
    """The most that it sends, of whatever it counts."""
    on_path: bool = False
    """Whether it hands on the player's packets; then it runs like everybody else, and not when nobody else does."""
    variant: bool = False
    """Whether it is much like the one before it: left out where time is short."""


def attack(
    what: str, *, count: int = 1_000_000, on_path: bool = False, variant: bool = False
) -> Callable[[Callable[[Field], None]], Attack]:
    """Make an attack of a function; its name is the function's."""

    def register(run: Callable[[Field], None]) -> Attack:
        made = Attack(run.__name__.replace("_", "-"), what, run, count, on_path, variant)
        _attacks[made.name] = made
        return made

    return register


def all_attacks() -> dict[str, Attack]:
    """Every attack by name, in order."""
    for family in FAMILIES:
        importlib.import_module(f"tests.hostile.{family}")
    ordered = sorted(_attacks.values(), key=lambda attack: FAMILIES.index(attack.run.__module__.rpartition(".")[2]))
    return {attack.name: attack for attack in ordered}


def main() -> None:
    """Run one attack, here and now."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--relay", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--room", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--inet", required=True)
    given = parser.parse_args()
    attacks = all_attacks()
    chosen = attacks[given.name]
    host, _, port = given.relay.rpartition(":")
    where = Field(
        (host, int(port)),
        given.prefix,
        given.room,
        given.name,
        list(attacks).index(given.name),
        given.seconds,
        chosen.count,
        given.inet,
    )
    signal.setitimer(signal.ITIMER_REAL, PREPARATION + 2 * given.seconds)  # nobody has to wait for us
    chosen.run(where)
    print(json.dumps({"ended": time.monotonic(), "sent": where.sent, "saw": where.saw}), flush=True)


if __name__ == "__main__":
    from tests.hostile.attack import main as run  # as the module that the families register with

    run()
