"""What the layer-2 policy costs a frame: the same loop with it and without it.

    .venv/bin/python bench/policy_cost.py

Prints the median of the rounds, in microseconds a frame. The loop without policy is the relay's: slice the header,
compare it, look the destination up.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable

from softlan.policy.engine import PolicyEngine
from softlan.policy.rates import ClientRates
from softlan.policy.rules import Policy
from softlan.proto.overlay import HEADER_LENGTH, Kind, header

CLIENT, OTHER = bytes.fromhex("02005e100001"), bytes.fromhex("02005e100002")
HEADER = header(Kind.ETHERNET, 7)
ROOM_MTU = 1418
FRAMES = 64  # in a burst
ROUNDS, BURSTS = 15, 400


def ethernet(ethertype: int, payload: bytes) -> bytes:
    """An overlay datagram with a frame of 1,400 bytes."""
    return (HEADER + OTHER + CLIENT + ethertype.to_bytes(2) + payload).ljust(HEADER_LENGTH + 1400, b"x")


def ipv4(protocol: int, transport: bytes) -> bytes:
    """1,386 bytes of IPv4."""
    return bytes.fromhex("4500056a00014000") + bytes((64, protocol)) + bytes(10) + transport


def ipv6(protocol: int, transport: bytes) -> bytes:
    """1,386 bytes of IPv6."""
    return bytes.fromhex("60000000") + (1346).to_bytes(2) + bytes((protocol, 64)) + bytes(32) + transport


TCP = bytes.fromhex("c3501f90") + bytes(8) + bytes.fromhex("5010ffff") + bytes(4)
UDP_V4 = bytes.fromhex("c3506987") + (1366).to_bytes(2) + bytes(2)
UDP_V6 = bytes.fromhex("c3506987") + (1346).to_bytes(2) + bytes(2)
CASES = {
    "IPv4 TCP": ethernet(0x0800, ipv4(6, TCP)),
    "IPv4 UDP": ethernet(0x0800, ipv4(17, UDP_V4)),
    "IPv6 TCP": ethernet(0x86DD, ipv6(6, TCP)),
    "IPv6 UDP": ethernet(0x86DD, ipv6(17, UDP_V6)),
}


_seconds = itertools.count()  # one for each burst: the rates are full again


def plain(datagrams: list[bytes], now: float) -> None:
    """The loop without a policy."""
    members = {OTHER: 1}
    for datagram in datagrams:
        if datagram[:HEADER_LENGTH] != HEADER or len(datagram) < 18:
            raise AssertionError
        if not datagram[HEADER_LENGTH] & 1:
            members.get(datagram[HEADER_LENGTH : HEADER_LENGTH + 6])


def with_policy(datagrams: list[bytes], engine: PolicyEngine, rates: ClientRates, now: float) -> None:
    """The same with every rule and rate."""
    members = {OTHER: 1}
    verdict, take = engine.verdict, rates.unicast
    for datagram in datagrams:
        length = len(datagram)
        if datagram[:HEADER_LENGTH] != HEADER or length < 18:
            raise AssertionError
        if verdict(datagram, HEADER_LENGTH, CLIENT, members, ROOM_MTU) is not None:
            raise AssertionError
        if take(length - HEADER_LENGTH, now) is not None:
            raise AssertionError
        if not datagram[HEADER_LENGTH] & 1:
            members.get(datagram[HEADER_LENGTH : HEADER_LENGTH + 6])


def microseconds(run: Callable[[float], None]) -> float:
    """Of one frame."""
    started = time.perf_counter()
    for _ in range(BURSTS):
        run(float(next(_seconds)))
    return (time.perf_counter() - started) / (BURSTS * FRAMES) * 1e6


def main() -> None:
    """Measure each case, the two loops by turns."""
    engine = PolicyEngine(Policy())
    print(f"{'1,400-byte frame':<18}{'without':>9}{'with':>9}{'policy':>9}   us a frame, median of {ROUNDS}")
    for name, datagram in CASES.items():
        rates = ClientRates(Policy(), 0.0)
        datagrams = [datagram] * FRAMES
        bare = functools.partial(plain, datagrams)
        full = functools.partial(with_policy, datagrams, engine, rates)
        pairs = [(microseconds(bare), microseconds(full)) for _ in range(ROUNDS)]
        without, whole = (statistics.median(side) for side in zip(*pairs, strict=True))
        cost = statistics.median(b - a for a, b in pairs)
        print(f"{name:<18}{without:>9.2f}{whole:>9.2f}{cost:>9.2f}")


if __name__ == "__main__":
    main()
