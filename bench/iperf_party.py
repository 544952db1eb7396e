"""TCP throughput of a whole party on this machine: player and LAN host, through client, relay and gateway.

As root: ``python bench/iperf_party.py``, with the project's own Python (``.venv/bin/python``). Builds the demo's
namespaces, runs iperf3 in both directions and prints what was measured. All processes share this machine's
processors, so the figure is of all of softlan at once, with the two kernels' TCP on top.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from softlan import __version__
from softlan.demo import topology
from softlan.demo.netns import Lab, Namespace, sweep
from softlan.demo.probes import lease
from softlan.demo.processes import environment, find_tool
from softlan.demo.services import TAP, Services
from softlan.demo.topology import Party
from softlan.errors import HostError, SoftlanError


def iperf(
    services: Services, server: Namespace, address: str, client: Namespace, *flags: str, timeout: float = 60
) -> dict[str, Any]:
    """Run iperf3 from `client` to `address` in `server`; the client's report, iperf3's JSON.

    TCP for 10 s unless `flags` say otherwise; `-R` lets the server send. Errors: `HostError`.
    """
    tool = find_tool("iperf3")
    listening = services.start("iperf3", server, tool, "--server", "--one-off", "--forceflush")
    try:
        listening.wait_for("listening", lambda: "Server listening" in listening.output(), 10)
        done = subprocess.run(
            client.command(tool, "--client", address, "--json", *flags),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=environment(),
        )
        report: dict[str, Any] = json.loads(done.stdout or "{}")
        if done.returncode or "error" in report:
            raise HostError("iperf3", str(report.get("error", done.stderr.strip() or f"status {done.returncode}")))
        listening.finish(10)
        return report
    except subprocess.TimeoutExpired:
        raise HostError("iperf3", f"did not end within {timeout:g} s") from None
    finally:
        listening.stop()
        services.processes.remove(listening)


def megabits(report: dict[str, Any]) -> float:
    """Return what the receiving side got, in Mbit/s."""
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e6


def measure(services: Services, runs: int, seconds: int) -> dict[str, list[float]]:
    """Start the party and return the Mbit/s of each run by direction."""
    party = services.party
    services.dhcp_server()
    services.relay()
    services.gateway()
    services.client()
    lease(party.player, TAP, services.directory)
    figures: dict[str, list[float]] = {}
    for direction, flags in (("player to LAN host", ()), ("LAN host to player", ("--reverse",))):
        for _ in range(runs):
            report = iperf(services, party.host, topology.HOST, party.player, f"--time={seconds}", *flags)
            figures.setdefault(direction, []).append(megabits(report))
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="TCP throughput through client, relay and gateway on this machine.")
    parser.add_argument("--runs", type=int, default=3, help="runs in each direction; their median is told")
    parser.add_argument("--seconds", type=int, default=5, help="length of one run")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("network namespaces need root: run it with sudo", file=sys.stderr)
        return 1
    try:
        sweep()
        with (
            tempfile.TemporaryDirectory(prefix="softlan-bench-") as directory,
            Lab() as lab,
            Services(Party.build(lab), Path(directory)) as services,
        ):
            figures = measure(services, options.runs, options.seconds)
    except SoftlanError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{datetime.date.today()}, softlan {__version__}, Python {platform.python_version()}")
    print(f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors")
    for direction, mbits in figures.items():
        runs = ", ".join(f"{figure:.0f}" for figure in mbits)
        print(f"{direction}: {statistics.median(mbits):.0f} Mbit/s (runs of {options.seconds} s: {runs})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
