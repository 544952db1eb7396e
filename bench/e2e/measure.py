"""The columns, measured at one peer that is up."""

from collections.abc import Callable, Collection

from bench.e2e import load
from bench.e2e.figures import highest_rate
from bench.e2e.machine import process_seconds, resident_megabytes
from bench.e2e.peers.base import Peer

Figures = dict[str, float]

LOSS = 0.005
"""Share of datagrams that may be lost at a rate that still counts."""
_SENT = 0.97  # of the rate asked for: below that the generator is at its end
_BEYOND = 0.05  # a loss that no hiccup of the machine explains; below, a rate is tried again
_TRIES = 3
_START, _CEILING = 16_000.0, 400_000.0  # datagrams a second
_FIXED = {100: 10_000.0, 1200: 5_000.0}  # bytes of payload: datagrams a second


class Measurement:
    """All figures of one peer; `length` scales the time that each takes, and `say` tells each as it comes."""

    def __init__(self, peer: Peer, length: float, say: Callable[[str], None]) -> None:
        self.figures: Figures = {}
        self._site = peer.site
        self._length = length
        self._say = say
        # Taken before any load runs: whatever is in there now is the VPN.
        self._pids = {role: computer.pids() for role, computer in peer.roles()}

    def run(self, groups: Collection[str]) -> Figures:
        """Measure these groups of columns. Errors: `HostError`."""
        for group, measure in (
            ("idle", self._idle),
            ("tcp", self._tcp),
            ("loaded", self._loaded),
            ("cpu", self._cpu),
            ("rate", self._rate),
            ("rss", self._rss),
        ):
            if group in groups:
                measure()
        return self.figures

    def _seconds(self, full: float) -> float:
        return max(1.0, round(full * self._length))

    def _note(self, **figures: float) -> None:
        self.figures.update(figures)
        self._say(", ".join(f"{key} {value:.2f}" for key, value in figures.items()))

    def _idle(self) -> None:
        trips = load.ping(self._site, round(400 * self._length))
        self._note(rtt_idle_p50=trips.p50, rtt_idle_p99=trips.p99)

    def _tcp(self) -> None:
        for direction in ("up", "down"):
            rate = load.tcp(self._site, self._seconds(8), down=direction == "down")
            self._note(**{f"tcp_{direction}": rate})

    def _loaded(self) -> None:
        for direction in ("up", "down"):
            found: list[load.RoundTrips] = []
            seconds = self._seconds(6)
            count = round((seconds - 0.5) * 100)

            def look(found: list[load.RoundTrips] = found, count: int = count) -> None:
                found.append(load.ping(self._site, count))

            load.tcp(self._site, seconds + 3, down=direction == "down", meanwhile=look)
            self._note(**{f"rtt_{direction}_p50": found[0].p50, f"rtt_{direction}_p99": found[0].p99})

    def _cpu(self) -> None:
        for size, rate in _FIXED.items():
            before = {role: process_seconds(pids) for role, pids in self._pids.items()}
            done = load.udp(self._site, size, rate, self._seconds(8))
            spent = {
                role: (process_seconds(pids) - before[role]) / max(done.received, 1) * 1e6
                for role, pids in self._pids.items()
            }
            self._note(**{f"loss_{size}": done.loss})
            if any(self._pids.values()):
                self._note(**{f"cpu_{size}_relay": spent["relay"], f"cpu_{size}_all": sum(spent.values())})

    def _rate(self) -> None:
        for size in _FIXED:
            best = 0.0
            generator = True  # until a rate fails for its loss

            def passes(rate: float, size: int = size) -> bool:
                nonlocal best, generator
                for _ in range(_TRIES):
                    done = load.udp(self._site, size, rate, self._seconds(2))
                    if done.loss < LOSS:
                        if done.sent / done.seconds < _SENT * rate:
                            return False
                        best = max(best, done.received / done.seconds)
                        return True
                    generator = False
                    if done.loss > _BEYOND:
                        return False
                return False

            highest_rate(passes, start=_START, ceiling=_CEILING)
            self._note(**{f"kpps_{size}": best / 1000, f"generator_{size}": float(generator)})

    def _rss(self) -> None:
        if any(self._pids.values()):
            self._note(**{f"rss_{role}": resident_megabytes(pids) for role, pids in self._pids.items()})
