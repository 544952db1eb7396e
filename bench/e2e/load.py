"""Traffic between the player and the LAN's host, by the tools that everyone has: ping and iperf3."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.e2e.figures import percentile
from bench.e2e.lab import HOST_LAN, Site, bare
from softlan.demo.processes import Process
from softlan.errors import HostError

_TIME = re.compile(r"time=([\d.]+) ms")
_PAUSE = 1.0  # seconds from the start of a stream until it is looked at
_TRIES = 3


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Of pings, in ms."""

    p50: float
    p99: float
    lost: int


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Of one stream of UDP datagrams."""

    sent: int
    received: int
    seconds: float

    @property
    def loss(self) -> float:
        """Share of those sent that did not arrive."""
        return 1 - self.received / self.sent if self.sent else 1.0


def ping(site: Site, count: int, interval: float = 0.01) -> RoundTrips:
    """Ping the host `count` times, every `interval` seconds. Errors: `HostError` if less than half come back."""
    words = ("ping", "-n", "-i", f"{interval}", "-c", f"{count}", "-W", "1", bare(HOST_LAN))
    times = [float(text) for text in _TIME.findall(site.run(site.player, *words, timeout=60 + 10 * count * interval))]
    if len(times) < count / 2:
        raise HostError("ping", f"only {len(times)} of {count} answered")
    return RoundTrips(percentile(times, 50), percentile(times, 99), count - len(times))


def tcp(site: Site, seconds: float, *, down: bool, meanwhile: Callable[[], None] | None = None) -> float:
    """Run one TCP stream, to the host or from it (`down`); what arrived, in Mbit/s. `meanwhile` runs beside it."""
    report = iperf(site, seconds, *(("--reverse",) if down else ()), meanwhile=meanwhile)
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e6


def udp(site: Site, size: int, rate: float, seconds: float) -> Datagrams:
    """Send `rate` datagrams a second with `size` bytes of payload each, from the player to the host.

    Every 250 us as many as are due, as a game server's tick or a video's frame would: not one by one.
    """
    flags = ("--udp", "--length", f"{size}", "--bitrate", f"{rate * size * 8:.0f}", "--pacing-timer", "250")
    report = iperf(site, seconds, *flags, "--window", "1M")
    stream = report["end"]["streams"][0]["udp"]
    sent, lost = int(stream["packets"]), int(stream["lost_packets"])
    return Datagrams(sent, sent - lost, float(stream["seconds"]))


def iperf(site: Site, seconds: float, *flags: str, meanwhile: Callable[[], None] | None = None) -> dict[str, Any]:
    """Run iperf3 from the player to the host; its report. Errors: `HostError` when it failed three times."""
    why = ""
    for _ in range(_TRIES):
        server = site.start("iperf3-server", site.host, "iperf3", "--server", "--one-off", "--forceflush")
        client: Process | None = None
        try:
            server.wait_for("listening", lambda server=server: "Server listening" in server.output(), 10)  # type: ignore[misc]
            words = ("--client", bare(HOST_LAN), "--json", "--time", f"{seconds:.0f}", "--connect-timeout", "5000")
            client = site.start("iperf3-client", site.player, "iperf3", *words, *flags)
            if meanwhile is not None:
                time.sleep(_PAUSE)
                meanwhile()
            client.finish(seconds + 30)
            report: dict[str, Any] = json.loads(client.output())
            if "error" not in report:
                return report
            why = str(report["error"])
        except (HostError, ValueError) as error:
            why = str(error)
        finally:
            for process in (client, server):
                if process is not None:
                    process.stop()
                    site.processes.remove(process)
    raise HostError("iperf3", f"failed {_TRIES} times: {why}")
