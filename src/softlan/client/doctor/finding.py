"""What a check has found, and what to do about it; pure."""

import enum
from dataclasses import dataclass

from softlan.host.base import HostRoute, IPAddress


class Outcome(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It may work, or not as well as it could."""
    FAILED = "failed"
    """It cannot work like this."""
    SKIPPED = "skipped"
    """It could not be looked at, or makes no sense here."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    """What was checked, in a word or two."""
    outcome: Outcome
    found: str
    """What was found, one sentence."""
    advice: str = ""
    """What to do, one sentence; empty when there is nothing to do."""

    def to_json(self) -> dict[str, str]:
        """As a JSON object: name, outcome, found, advice."""
        return {"name": self.name, "outcome": self.outcome.value, "found": self.found, "advice": self.advice}


def ok(name: str, found: str, advice: str = "") -> Finding:
    """All is well."""
    return Finding(name, Outcome.OK, found, advice)


def warning(name: str, found: str, advice: str) -> Finding:
    """It may work."""
    return Finding(name, Outcome.WARNING, found, advice)


def failed(name: str, found: str, advice: str) -> Finding:
    """It cannot work."""
    return Finding(name, Outcome.FAILED, found, advice)


def skipped(name: str, found: str) -> Finding:
    """Nothing is known."""
    return Finding(name, Outcome.SKIPPED, found)


def way(route: HostRoute) -> str:
    """Which way a route leads, in words."""
    via = "directly" if route.gateway is None else f"via {route.gateway}"
    return f"{via} on {route.label or route.interface}"


def no_route(relay: IPAddress) -> Finding:
    """The finding where no route leads off this machine."""
    if relay.is_loopback:
        return ok("route", f"The relay {relay} is this machine.")
    return failed(
        "route",
        f"There is no route to the relay {relay}, or it is this machine itself.",
        "Check that this machine is online; for a relay on this machine all is well.",
    )
