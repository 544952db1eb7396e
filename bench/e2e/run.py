"""Measure layer-2 VPNs side by side, and tell what was found; as root, on Linux: ``python -m bench.e2e.run --help``."""

import argparse
import contextlib
import datetime
import fcntl
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from bench.e2e import plot, report
from bench.e2e.figures import GROUPS
from bench.e2e.lab import Site
from bench.e2e.machine import others_seconds, processors, wait_quiet
from bench.e2e.measure import Measurement
from bench.e2e.peers.base import Peer
from bench.e2e.peers.limits import Bridge, Vxlan
from bench.e2e.peers.others import Fastd, N2n, OpenVpn, OpenVpnBuffers, Tinc
from bench.e2e.peers.party import Softlan, SoftlanGuarded, SoftlanOpen, SoftlanPlain
from bench.e2e.peers.softether import SoftEther
from bench.e2e.report import Result
from softlan.demo.netns import Lab, sweep
from softlan.errors import HostError, SoftlanError
from softlan.host.allocator import find_tcmalloc

PEERS: tuple[type[Peer], ...] = (Softlan, OpenVpn, OpenVpnBuffers, Fastd, Tinc, N2n, SoftEther, Vxlan, Bridge)
VARIANTS: tuple[type[Peer], ...] = (SoftlanPlain, SoftlanGuarded, SoftlanOpen)
"""Only when they are asked for by name."""
_QUICK = 1 / 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    if options.render:
        results = [result for path in options.render for result in report.load(path)]
        _tell(results, options.svg)
        return 0
    try:
        prepare()
        results = _rounds(options)
    except SoftlanError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if not options.keep:
        print()
        _tell(results, options.svg)
    return int(any(result.error for result in results))


def measure(kind: type[Peer], options: argparse.Namespace) -> Result:
    """Set one peer up, measure it, and take it down again."""
    busy = wait_quiet(options.patience)
    say(f"{kind.name}: starting, the machine {busy:.0%} busy")
    with site() as ground:
        peer = kind(ground)
        result = Result(
            peer=kind.name,
            version=kind.version(),
            cipher=kind.cipher,
            authenticated=kind.authenticated,
            mtu=0,
            when=datetime.datetime.now().isoformat(" ", "seconds"),
            machine=machine(),
            busy_before=round(busy, 3),
        )
        measurement = None
        try:
            peer.start()
            peer.attach()
            peer.check()
            mtu = peer.link_mtu()
            if options.keep:
                _hold(ground)
            fragments, foreign, started = ground.fragments(), _foreign(ground), time.monotonic()
            measurement = Measurement(peer, _QUICK if options.quick else 1.0, lambda text: say(f"  {text}"))
            measurement.run(options.columns)
            measurement.figures["fragments"] = ground.fragments() - fragments
            took = (_foreign(ground) - foreign) / (time.monotonic() - started) / (os.cpu_count() or 1)
        except (SoftlanError, OSError, subprocess.SubprocessError) as error:
            say(f"  failed: {error}")
            for process in ground.processes:
                print("\n".join((f"  --- {process.name}", *process.tail())), flush=True)
            return _with(result, error=str(error), figures=measurement.figures if measurement else {})
        return _with(result, mtu=mtu, foreign=round(max(0.0, took), 4), figures=measurement.figures)


def prepare() -> None:
    """Put away what a killed run left, and end cleanly on every signal that asks for it. Raises HostError if not root.

    Namespaces belong to the process that made them; those of a living one are left alone.
    """
    if os.geteuid() != 0:
        raise HostError("bench", "network namespaces need root: run it with sudo")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    sweep()


@contextlib.contextmanager
def site(tag: int | None = None) -> Iterator[Site]:
    """Four computers that are gone afterwards, with all that runs there; several at a time have a `tag` each."""
    with tempfile.TemporaryDirectory(prefix="softlan-bench-") as directory, Lab(tag=tag) as lab:
        ground = Site.build(lab, Path(directory))
        try:
            yield ground
        finally:
            ground.stop()


@contextlib.contextmanager
def alone(lock: Path | None) -> Iterator[None]:
    """Hold a lock that keeps other measurements of this machine away; None: no lock."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def machine() -> str:
    """Say on what this runs."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    python = f"Python {platform.python_version()} ({Path(sys.executable).resolve()})"
    malloc = "tcmalloc" if find_tcmalloc() is not None else "no tcmalloc"
    return f"{system}, {processors()}, {python}, {malloc}"


def say(text: str) -> None:
    """Tell how it goes on."""
    print(text, flush=True)


def _rounds(options: argparse.Namespace) -> list[Result]:
    """All peers by turns, so that a slow hour of the machine is everybody's."""
    chosen = []
    for kind in options.only or PEERS:
        missing = kind.missing()
        if missing is None:
            chosen.append(kind)
        else:
            say(f"{kind.name}: left out, there is no {missing} here")
    results = []
    for number in range(options.rounds):
        if options.rounds > 1:
            say(f"round {number + 1} of {options.rounds}")
        for kind in chosen:
            with alone(options.lock):
                results.append(measure(kind, options))
            if options.json and not options.keep:
                report.append(options.json, results[-1])
    return results


def _tell(results: list[Result], svg: Path | None) -> None:
    print(report.markdown(results))
    if svg is not None:
        svg.write_text(plot.svg(results))


def _hold(ground: Site) -> None:
    say(f"  up; namespaces {', '.join(computer.name for computer in ground.computers)}; files in {ground.directory}")
    say("  Ctrl-C ends it")
    signal.pause()


def _foreign(ground: Site) -> float:
    return others_seconds(pid for computer in ground.computers for pid in computer.pids())


def _with(result: Result, **changes: object) -> Result:
    return msgspec.structs.replace(result, **changes)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _kinds(text: str) -> list[type[Peer]]:
    known = {kind.name: kind for kind in (*PEERS, *VARIANTS)}
    wrong = [name for name in text.split(",") if name not in known]
    if wrong:
        raise argparse.ArgumentTypeError(f"there is no {wrong[0]}; there are {', '.join(known)}")
    return [known[name] for name in text.split(",")]


def groups_of(text: str) -> list[str]:
    """Read a list of column groups from the command line. Raises ArgumentTypeError."""
    wrong = [name for name in text.split(",") if name not in GROUPS]
    if wrong:
        raise argparse.ArgumentTypeError(f"there is no {wrong[0]}; there are {', '.join(GROUPS)}")
    return text.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.e2e.run", description=(__doc__ or "").partition(";")[0] + ".")
    parser.add_argument("--only", type=_kinds, metavar="PEERS", help="these, by comma: softlan,fastd")
    parser.add_argument("--columns", type=groups_of, default=list(GROUPS), help=f"by comma, of {','.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=1, help="of all peers by turns")
    parser.add_argument("--quick", action="store_true", help="a third of the time for each figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add each result to this file")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a plot of the results")
    parser.add_argument("--render", type=Path, nargs="+", metavar="FILE", help="only tell what is in these files")
    parser.add_argument("--keep", action="store_true", help="set the first peer up, to look at, instead of measuring")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold this lock while a peer is measured (flock)")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds to wait for a quiet machine")
    return parser


if __name__ == "__main__":
    sys.exit(main())
