"""Results: kept in a file, merged, and told as a Markdown table."""

import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from bench.e2e.figures import COLUMNS, Column


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One peer in one round."""

    peer: str
    version: str
    cipher: str
    authenticated: bool
    mtu: int
    when: str
    """Date and time, of this machine."""
    machine: str
    busy_before: float
    """Share of the processors that was busy just before, 0 to 1."""
    foreign: float = 0.0
    """Share of the processors that programs took meanwhile that have no part in it."""
    figures: dict[str, float] = {}
    error: str | None = None


def load(path: Path) -> list[Result]:
    """Read a file of results; none if there is no such file. Errors: `msgspec.MsgspecError`."""
    return msgspec.json.decode(path.read_bytes(), type=list[Result]) if path.exists() else []


def append(path: Path, result: Result) -> None:
    """Add a result to a file. An interruption leaves the file as it was, or with the result."""
    text = msgspec.json.format(msgspec.json.encode([*load(path), result]))
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(text + b"\n")
    os.replace(partial, path)


def peers(results: Iterable[Result]) -> list[str]:
    """Return the names of the peers, in the order in which they came."""
    return list(dict.fromkeys(result.peer for result in results))


def values(results: Iterable[Result], peer: str, column: Column) -> list[float]:
    """Return one figure of a peer, of every round that has it."""
    return [r.figures[column.key] for r in results if r.peer == peer and column.key in r.figures]


def median(results: Iterable[Result], peer: str, column: Column) -> float | None:
    """Return the median over the rounds; None if it was not measured."""
    found = values(results, peer, column)
    return statistics.median(found) if found else None


def best(results: Sequence[Result], column: Column, ours: str) -> tuple[str, float] | None:
    """Return the rival that is best in a column, and its median: who authenticates packets and is not `ours`."""
    rivals = {r.peer for r in results if r.authenticated and not r.peer.startswith(ours)}
    found = [(peer, value) for peer in sorted(rivals) if (value := median(results, peer, column)) is not None]
    if not found:
        return None
    return (max if column.higher_is_better else min)(found, key=lambda pair: pair[1])


def markdown(results: Sequence[Result], ours: str = "softlan") -> str:
    """Tell the medians as a table with a column for each peer, and where `ours` stands beside the best rival."""
    names = peers(results)
    head = ["", *names]
    compared = ours in names and any(r.authenticated and not r.peer.startswith(ours) for r in results)
    if compared:
        head += ["best rival", f"{ours} / best"]
    rows = []
    for column in COLUMNS:
        row = [_cell(results, name, column) for name in names]
        if not any(row):
            continue
        if compared:
            row += _comparison(results, column, ours)
        rows.append([column.title, *row])
    table = [head, ["---", *("---:" for _ in head[1:])], *rows]
    lines = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join((*lines, "", *_notes(results)))


def _cell(results: Sequence[Result], peer: str, column: Column) -> str:
    found = values(results, peer, column)
    if not found:
        return ""
    middle, low, high = (f"{pick(found):.{column.digits}f}" for pick in (statistics.median, min, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def _comparison(results: Sequence[Result], column: Column, ours: str) -> list[str]:
    own, rival = median(results, ours, column), best(results, column, ours)
    if own is None or rival is None:
        return ["", ""]
    return [rival[0], f"{own / rival[1]:.2f}" if rival[1] else ""]


def _notes(results: Sequence[Result]) -> Iterable[str]:
    yield "Medians of the rounds (lowest to highest). The best rival is the best that authenticates each packet."
    yield ""
    for machine in dict.fromkeys(r.machine for r in results):
        yield f"Machine: {machine}."
    yield ""
    for name in peers(results):
        rounds = [r for r in results if r.peer == name]
        good = [r for r in rounds if r.error is None]
        last = (good or rounds)[-1]
        mtu = f", MTU {last.mtu}" if last.mtu else ""
        told = f"- {name} {last.version} ({last.cipher}){mtu}: {len(good)} of {len(rounds)} rounds"
        if good:
            told += f"; others took up to {max(r.foreign for r in good):.1%} of the processors"
        if any(r.figures.get("generator_100") for r in good):
            told += "; at 100 B the generator was the limit"
        if any(r.figures.get("fragments") for r in good):
            told += "; IP FRAGMENTS were made"
        yield told
        yield from (f"  - failed: {r.error}" for r in rounds if r.error is not None)
