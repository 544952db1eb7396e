"""What a broadcast to a full room costs the relay, and what a client that does nothing costs it in memory.

    python -m bench.e2e.fanout

A real relay process on loopback, its broadcast rate lifted; the clients are softlan's sessions in this process. The
processor time is the relay's alone, per copy that arrived. Memory is its resident set (VmRSS), by the number of idle
clients, in rooms of up to 50.
"""

import argparse
import contextlib
import datetime
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.e2e.crowd import Crowd
from bench.e2e.machine import process_seconds, resident_megabytes
from bench.e2e.peers.party import SERVER_NAME
from softlan.demo.processes import Process
from softlan.errors import SoftlanError
from softlan.net.address import SocketAddress
from softlan.quic.trust import Trust, load_trust

CONFIG = "[policy]\nbroadcast_rate = 0\n"
CLIENTS = 32
SIZE = 200
"""Bytes of a broadcast frame."""
BURSTS = (1, 8, 64)
"""Frames that one player sends at once."""
CROWDS = (0, 100, 200)
_ROOM = 50  # clients of one room of idle ones
_REST = 3.0  # seconds until the relay's memory is read: the last newcomers' handshakes are over


@dataclass(frozen=True, slots=True)
class FanOut:
    """Of one stream of broadcasts."""

    sent: int
    copies: int
    """That arrived, at all the others."""
    cpu: float
    """Seconds of the relay's processor time."""

    @property
    def us_per_copy(self) -> float:
        """What the relay spends for one copy, in us."""
        return self.cpu / max(self.copies, 1) * 1e6


@contextlib.contextmanager
def relay() -> Iterator[tuple[Process, SocketAddress, Trust]]:
    """Run a relay on loopback: its process, its address and what its certificate is trusted by."""
    with tempfile.TemporaryDirectory(prefix="softlan-bench-") as name:
        directory = Path(name)
        certificate, config = directory / "relay.der", directory / "relay.toml"
        config.write_text(CONFIG)
        words = ("--listen", "127.0.0.1:0", "--dev-cert-der-out", str(certificate), "--config", str(config))
        state = ("--state-dir", str(directory / "state"), "--log-format", "json")
        command = [sys.executable, "-m", "softlan", "relay", *words, *state]
        process = Process("relay", command, directory / "relay.log")
        try:
            listening = process.wait_for("listening", lambda: process.events("relay.listening"), 20)
            port = int(str(listening[0]["port"]))
            trust = load_trust(certificate, SERVER_NAME, datetime.datetime.now(datetime.UTC))
            yield process, ("127.0.0.1", port), trust
        finally:
            process.stop()


def broadcast(burst: int, rate: float, seconds: float, clients: int = CLIENTS) -> FanOut:
    """Let one player send `rate` broadcasts a second, `burst` at once, to `clients` others in the room."""
    with relay() as (process, address, trust), Crowd(address, trust) as crowd:
        sender, *others = crowd.join(1 + clients, "fanout")
        # EtherType 0x88b5 is for experiments (IEEE 802, section 9.2.4): no rule looks into it.
        frame = (b"\xff" * 6 + sender.mac + b"\x88\xb5").ljust(SIZE, b"x")
        crowd.run(1.0)
        before, cpu = sum(player.received for player in others), process_seconds([process.pid])
        sent, at = 0, time.monotonic()
        end = at + seconds
        while at < end:
            sender.session.send_frames([frame] * burst)
            sender.endpoint.flush(time.monotonic())
            sent += burst
            at += burst / rate
            crowd.run(0.0, wake=at)
        crowd.run(0.2)
        spent = process_seconds([process.pid]) - cpu
        return FanOut(sent, sum(player.received for player in others) - before, spent)


def idle_memory() -> dict[int, float]:
    """Return the relay's memory in KiB by the number of idle clients."""
    found = {}
    with relay() as (process, address, trust), Crowd(address, trust) as crowd:
        for count in CROWDS:
            while len(crowd.players) < count:
                room = f"idle{len(crowd.players) // _ROOM}"
                crowd.join(min(_ROOM, count - len(crowd.players)), room)
            crowd.run(_REST)
            found[count] = resident_megabytes([process.pid]) * 1e6 / 1024
    return found


def slope(by_count: dict[int, float]) -> float:
    """Return what one more is, by least squares."""
    mean_x, mean_y = (sum(values) / len(by_count) for values in (by_count.keys(), by_count.values()))
    above = sum((x - mean_x) * (y - mean_y) for x, y in by_count.items())
    return above / sum((x - mean_x) ** 2 for x in by_count)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.e2e.fanout", description="The relay's fan-out, and its memory.")
    parser.add_argument("--rate", type=float, default=640, help="broadcasts a second")
    parser.add_argument("--seconds", type=float, default=5, help="length of each stream")
    parser.add_argument("--no-memory", action="store_true", help="leave the idle clients out")
    options = parser.parse_args()
    try:
        print(f"broadcasts of {SIZE} bytes to {CLIENTS} clients, {options.rate:g} a second, by how many come at once")
        print("| at once | copies | of those due | relay CPU us/copy |\n| ---: | ---: | ---: | ---: |")
        for burst in BURSTS:
            done = broadcast(burst, options.rate, options.seconds)
            share = done.copies / (done.sent * CLIENTS)
            print(f"| {burst} | {done.copies} | {share:.1%} | {done.us_per_copy:.2f} |", flush=True)
        if not options.no_memory:
            memory = idle_memory()
            print("\nrelay RSS by idle clients: " + ", ".join(f"{n}: {kib:.0f} KiB" for n, kib in memory.items()))
            print(f"each idle client: {slope(memory):.1f} KiB")
    except SoftlanError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
