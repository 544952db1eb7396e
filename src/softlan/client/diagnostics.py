"""What a player's client says of itself: a snapshot of plain values in, short sentences for a person out."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from softlan.proto.drop import DropReason

RECENT = 60.0
"""Seconds for which a broadcast that was seen says that broadcasts flow."""

SLOW = 150.0
"""Milliseconds of round trip to the relay above which fast games suffer."""

_LINE_DROPS = 3  # reasons that have room on the line


class Level(enum.Enum):
    """How good the news is."""

    GOOD = "good"
    NOTE = "note"
    """Worth knowing; nothing is wrong yet."""
    BAD = "bad"


@dataclass(frozen=True)
class Snapshot:
    """One moment of a running client."""

    room: str
    relay: str | None = None
    """The relay's address while we are in the room; None while it is out of reach."""
    was_joined: bool = True
    """Whether we have been in the room at all."""
    gateway: bool = False
    """Whether the room has a gateway, so that there is a LAN."""
    rtt_ms: float | None = None
    """The last measured round trip to the relay, in milliseconds."""
    budget: int | None = None
    """The largest overlay datagram on this path, in bytes."""
    needs_pin: bool = True
    """False where no route can lead the tunnel into itself: a relay on this machine."""
    pin: str | None = None
    """The pinned route to the relay, in words."""
    interface: str = ""
    mtu: int | None = None
    """The TAP's MTU in bytes; None before it is up."""
    addresses: tuple[str, ...] = ()
    """The TAP's unicast addresses with their prefix, `10.0.0.5/24`."""
    broadcast_in: float | None = None
    """Seconds since a broadcast came from the room; None: never yet."""
    broadcast_out: float | None = None
    """Seconds since this machine sent one into the room; None: never yet."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """As `TrafficCounters.snapshot`."""
    device_drops: Mapping[str, int] = field(default_factory=dict)
    """Frames lost between us and the TAP, by reason."""


@dataclass(frozen=True)
class Sentence:
    """One thing that is said."""

    topic: str
    """What it is about, one word; each is said once: relay, gateway, route, path, interface, address, broadcast,
    drops."""
    level: Level
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """What to make of a snapshot."""

    sentences: tuple[Sentence, ...]
    line: str
    """All of it on one line, for a status line."""

    def news(self, before: "Diagnosis | None") -> tuple[Sentence, ...]:
        """The sentences that `before` did not have."""
        known = set(before.sentences) if before is not None else set()
        return tuple(sentence for sentence in self.sentences if sentence not in known)


def diagnose(now: Snapshot) -> Diagnosis:
    """What to say. Figures that always move (counters, the RTT) are in `line`, not in the sentences."""
    sentences = [_relay(now)]
    if now.relay is not None:
        sentences += [_gateway(now), _route(now), _path(now)]
    sentences += [_interface(now), *_address(now), *_broadcast(now), *_drops(now)]
    return Diagnosis(tuple(sentences), _line(now))


_NOTHING: Mapping[str, int] = MappingProxyType({})


def total_drops(counters: Mapping[str, int], device_drops: Mapping[str, int] = _NOTHING) -> dict[str, int]:
    """Every drop by its reason, of the tunnel and of the device."""
    drops = {name.removeprefix("drop_"): count for name, count in counters.items() if name.startswith("drop_")}
    for name, count in device_drops.items():
        drops[name] = drops.get(name, 0) + count
    return {name: count for name, count in drops.items() if count}


def broadcast_flow(now: Snapshot) -> str | None:
    """Where broadcasts went in the last `RECENT` seconds: `both ways`, `in`, `out` or `none`; None: nowhere to go."""
    if now.relay is None or now.mtu is None:
        return None
    comes = now.broadcast_in is not None and now.broadcast_in <= RECENT
    goes = now.broadcast_out is not None and now.broadcast_out <= RECENT
    if comes and goes:
        return "both ways"
    return "in" if comes else "out" if goes else "none"


def _relay(now: Snapshot) -> Sentence:
    if not now.was_joined:
        return Sentence("relay", Level.NOTE, "Not in the room yet: still looking for the relay.")
    if now.relay is None:
        return Sentence("relay", Level.BAD, "The relay is out of reach; trying again by itself.")
    return Sentence("relay", Level.GOOD, f"In room {now.room}, through the relay {now.relay}.")


def _gateway(now: Snapshot) -> Sentence:
    if now.gateway:
        return Sentence("gateway", Level.GOOD, "The LAN's gateway is in the room.")
    return Sentence("gateway", Level.BAD, "No gateway is in the room: you see other players, but no LAN.")


def _route(now: Snapshot) -> Sentence:
    if now.pin is not None:
        return Sentence("route", Level.GOOD, f"The way to the relay is pinned: {now.pin}.")
    if not now.needs_pin:
        return Sentence("route", Level.GOOD, "The way to the relay needs no pin.")
    return Sentence(
        "route",
        Level.BAD,
        "The way to the relay is not pinned: a route from the LAN could lead the tunnel into itself.",
    )


def _path(now: Snapshot) -> Sentence:
    if now.rtt_ms is not None and now.rtt_ms >= SLOW:
        return Sentence("path", Level.NOTE, f"The relay is far or slow: answers take more than {SLOW:.0f} ms.")
    if now.budget is None:
        return Sentence("path", Level.NOTE, "The path to the relay is not measured yet.")
    return Sentence("path", Level.GOOD, f"The path to the relay carries datagrams of {now.budget} bytes.")


def _interface(now: Snapshot) -> Sentence:
    if now.mtu is None:
        return Sentence("interface", Level.NOTE, f"{now.interface} is not connected yet.")
    return Sentence("interface", Level.GOOD, f"{now.interface} is connected, with an MTU of {now.mtu}.")


def _address(now: Snapshot) -> Iterable[Sentence]:
    if now.mtu is None:
        return
    usable = [address for address in now.addresses if not _is_link_local(address)]
    if usable:
        yield Sentence("address", Level.GOOD, f"{now.interface} has {' and '.join(usable)}.")
    elif any(address.startswith("169.254.") for address in now.addresses):
        yield Sentence(
            "address", Level.BAD, f"{now.interface} gave itself a 169.254 address: no DHCP server answered in the room."
        )
    else:
        yield Sentence(
            "address", Level.NOTE, f"{now.interface} has no address of the LAN yet (DHCP may take a moment)."
        )


def _broadcast(now: Snapshot) -> Iterable[Sentence]:
    flow = broadcast_flow(now)
    if flow == "both ways":
        yield Sentence("broadcast", Level.GOOD, "Broadcasts flow both ways: games can find each other.")
    elif flow == "out":
        yield Sentence(
            "broadcast", Level.NOTE, "This PC's broadcasts go out; none came from the room in the last minute."
        )
    elif flow == "in":
        yield Sentence("broadcast", Level.NOTE, "Broadcasts come from the room; this PC sent none in the last minute.")
    elif flow == "none":
        yield Sentence("broadcast", Level.NOTE, "No broadcast was seen in the last minute, neither way.")


_WHY = {
    DropReason.JUMBO: "larger than the room's MTU",
    DropReason.OVER_BUDGET: "too large for the path to the relay",
    DropReason.NOT_CONNECTED: "sent while the relay was out of reach",
    DropReason.RUNT: "too short to be frames",
    DropReason.MALFORMED: "unreadable",
    DropReason.QUEUE_FULL: "more than the interface could take at once",
    DropReason.DEVICE_ERROR: "refused by the interface",
    DropReason.NOT_SEALED: "plain in a sealed room",
    DropReason.UNEXPECTED_SEAL: "sealed in a plain room",
    DropReason.UNKNOWN_SENDER: "from somebody who was not announced",
    DropReason.BAD_SEAL: "with a seal that does not fit",
    DropReason.REPLAYED: "seen before, or far too late",
    # What our own look stops, in a sealed room.
    DropReason.INVALID_SOURCE: "with an address that is not their sender's",
    DropReason.SWITCH_CONTROL: "meant for switches",
    DropReason.ETHERTYPE: "of a type that is kept out",
    DropReason.AMBIGUOUS: "another player's, and not to be read to the end",
    DropReason.DHCP_SERVER: "another player's DHCP server",
    DropReason.DHCPV6_SERVER: "another player's DHCPv6 server",
    DropReason.IPV6_RA: "another player's router",
    DropReason.ICMP_REDIRECT: "another player's redirect",
    DropReason.ND_REDIRECT: "another player's IPv6 redirect",
    DropReason.ARP_SPOOF: "another player's ARP with a false address",
    DropReason.ND_SPOOF: "another player's ND with a false address",
}


def _drops(now: Snapshot) -> Iterable[Sentence]:
    drops = total_drops(now.counters, now.device_drops)
    if not drops:
        return
    known = {reason.value: why for reason, why in _WHY.items()}
    why = ", ".join(known.get(name, name) for name in _most_first(drops))
    yield Sentence("drops", Level.NOTE, f"Some frames were dropped: {why}.")


def _most_first(drops: Mapping[str, int]) -> list[str]:
    return sorted(drops, key=lambda name: (-drops[name], name))


def _line(now: Snapshot) -> str:
    parts = [now.room]
    if now.relay is None:
        parts.append("relay out of reach" if now.was_joined else "connecting")
    else:
        parts.append("relay" if now.rtt_ms is None else f"relay {now.rtt_ms:.0f} ms")
        if now.budget is not None:
            parts.append(f"budget {now.budget}")
        parts.append("LAN" if now.gateway else "no gateway")
        if now.pin is not None:
            parts.append("route pinned")
        elif now.needs_pin:
            parts.append("route not pinned")
    usable = [address.partition("/")[0] for address in now.addresses if not _is_link_local(address)]
    state = "not connected" if now.mtu is None else usable[0] if usable else "no address yet"
    parts.append(f"{now.interface} {state}")
    flow = broadcast_flow(now)
    if flow is not None:
        parts.append(f"broadcasts {flow}")
    frames_in, frames_out = now.counters.get("frames_in", 0), now.counters.get("frames_out", 0)
    parts.append(f"in {frames_in} out {frames_out}")
    drops = total_drops(now.counters, now.device_drops)
    if drops:
        names = _most_first(drops)
        told = [f"{name} {drops[name]}" for name in names[:_LINE_DROPS]]
        others = sum(drops[name] for name in names[_LINE_DROPS:])
        parts.append(" ".join(["dropped", *told, *([f"other {others}"] if others else [])]))
    return " | ".join(parts)


def _is_link_local(address: str) -> bool:
    return address.startswith("169.254.") or address.lower().startswith("fe80:")
