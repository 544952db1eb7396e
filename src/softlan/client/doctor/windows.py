"""What a Windows machine needs to play, each thing looked at alone. What the system says is given, for tests."""

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from softlan.client.doctor.finding import Finding, failed, no_route, ok, skipped, warning, way
from softlan.device.tap_adapters import TapAdapter, choose, driver_warning, parse_version
from softlan.errors import HostError, SoftlanError
from softlan.host.base import HostNetwork, IPAddress
from softlan.host.powershell import PowerShell

DRIVER_HINT = "Install TAP-Windows6 9.27 or later: OpenVPN's installer for Windows has it (docs/howto/windows.md)."

FACTS = (
    "$n = @(Get-NetConnectionProfile -ErrorAction SilentlyContinue | ForEach-Object { "
    "@{ alias = $_.InterfaceAlias; category = [int]$_.NetworkCategory } }); "
    "$p = @(Get-NetFirewallProfile -PolicyStore ActiveStore | ForEach-Object { "
    "@{ name = $_.Name; enabled = [int]$_.Enabled; inbound = [int]$_.DefaultInboundAction } }); "
    "$m = @(Get-NetIPInterface -AddressFamily IPv4 -ConnectionState Connected | "
    "Where-Object { $_.InterfaceIndex -ne 1 } | ForEach-Object { "
    "@{ alias = $_.InterfaceAlias; metric = [int]$_.InterfaceMetric } }); "
    "$d = @(Get-NetAdapter -IncludeHidden -ErrorAction SilentlyContinue | Where-Object { $_.ifOperStatus -eq 'Up' } | "
    "ForEach-Object { @{ alias = $_.Name; description = $_.InterfaceDescription } }); "
    "$r = @(Get-NetFirewallRule -Group softlan -ErrorAction SilentlyContinue).Count; "
    "@{ networks = $n; profiles = $p; metrics = $m; adapters = $d; rules = $r } | ConvertTo-Json -Depth 4 -Compress"
)
"""All that is asked of PowerShell, in one start of it, with numbers and identifiers instead of translated words.

MSFT_NetConnectionProfile, MSFT_NetFirewallProfile, MSFT_NetIPInterface, MSFT_NetAdapter (learn.microsoft.com,
Windows Management Instrumentation, StandardCimv2). Index 1 is the loopback; Windows' own VPN connections have a
metric, but no adapter.
"""

PUBLIC, PRIVATE, DOMAIN = 0, 1, 2
"""NetworkCategory of MSFT_NetConnectionProfile."""

_PROFILE_NAMES = {PUBLIC: "Public", PRIVATE: "Private", DOMAIN: "Domain"}
_ALLOW = 2  # DefaultInboundAction of MSFT_NetFirewallProfile; 0 is not configured, 4 is block
_VPN_WORDS = (
    "wireguard",
    "wintun",
    "openvpn",
    "tap-windows",
    "vpn",
    "zerotier",
    "tailscale",
    "hamachi",
    "radmin",
    "ppp",
)


@dataclass(frozen=True)
class Facts:
    """What PowerShell said."""

    categories: dict[str, int]
    """NetworkCategory by interface."""
    blocking: frozenset[str]
    """Firewall profiles that are on and let nothing in: Public, Private, Domain."""
    metrics: dict[str, int]
    """IPv4 interface metric by interface, of those that are connected; without the loopback's."""
    descriptions: dict[str, str]
    """The driver's name by interface; Windows' own VPN connections have none."""
    has_rule: bool
    """Whether a rule of ours is there now."""


def gather(shell: PowerShell | None = None) -> Facts | str:
    """Ask; or why that was of no use."""
    try:
        return read_facts((shell or PowerShell()).ask(FACTS))
    except HostError as error:
        return str(error)


def read_facts(answer: Any) -> Facts:
    """What `FACTS` printed. Raises HostError when it is something else."""
    try:
        return Facts(
            categories={entry["alias"]: int(entry["category"]) for entry in answer["networks"]},
            blocking=frozenset(
                entry["name"]
                for entry in answer["profiles"]
                if int(entry["enabled"]) and int(entry["inbound"]) != _ALLOW
            ),
            metrics={entry["alias"]: int(entry["metric"]) for entry in answer["metrics"]},
            descriptions={entry["alias"]: str(entry["description"]) for entry in answer["adapters"]},
            has_rule=bool(int(answer["rules"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HostError("PowerShell", "PowerShell answered what we do not understand") from error


def is_elevated() -> bool | None:
    """Whether this process is an administrator's (shell32, IsUserAnAdmin); None where nobody knows."""
    if sys.platform != "win32":
        return None
    try:
        return bool(ctypes.WinDLL("shell32").IsUserAnAdmin())
    except (OSError, AttributeError):
        return None


def privileges(elevated: bool | None) -> Finding:
    """Whether the client may set up the adapter."""
    name = "privileges"
    if elevated is None:
        return skipped(name, "Windows did not say whether this is an administrator.")
    if elevated:
        return ok(name, "softlan runs as administrator.")
    return failed(
        name,
        "softlan does not run as administrator.",
        "Start it from a terminal that was opened with 'Run as administrator'.",
    )


def driver(found: Callable[[], Sequence[TapAdapter]]) -> Finding:
    """Whether TAP-Windows6 is there, and not too old."""
    name = "driver"
    try:
        adapters = found()
    except HostError as error:
        return skipped(name, f"Not looked at: {error}.")
    if not adapters:
        return failed(name, "There is no TAP-Windows6 adapter on this machine.", DRIVER_HINT)
    versions = sorted({adapter.driver_version or "unknown" for adapter in adapters})
    for adapter in adapters:
        version = parse_version(adapter.driver_version or "")
        old = driver_warning(version) if version is not None else None
        if old is not None:
            return warning(name, f"{old[0].upper()}{old[1:].partition(':')[0]}.", DRIVER_HINT)
    return ok(name, f"TAP-Windows6 is installed, version {', '.join(versions)}.")


def adapter(
    found: Callable[[], Sequence[TapAdapter]], instance_id: str | None, tap_name: str | None
) -> tuple[Finding, TapAdapter | None]:
    """Which adapter the client would take."""
    name = "adapter"
    try:
        adapters = list(found())
        if not adapters:
            return skipped(name, "Not looked at: there is no TAP-Windows6 adapter."), None
        chosen = choose(adapters, instance_id, tap_name)
    except SoftlanError as error:
        return (
            failed(name, f"It is not clear which adapter to take: {error}.", "Say which with --tap-instance-id."),
            None,
        )
    return ok(name, f"The client takes {chosen.name!r} {chosen.instance_id}."), chosen


def route(network: Callable[[], HostNetwork], relay: IPAddress | None, chosen: TapAdapter | None) -> Finding:
    """Which way the relay is."""
    name = "route"
    if relay is None:
        return skipped(name, "Not looked at: the relay's address is not known.")
    try:
        best = network().best_route(relay)
    except HostError as error:
        return skipped(name, f"Not looked at: {error}.")
    if best is None:
        return no_route(relay)
    if chosen is not None and best.interface.upper() == chosen.instance_id:
        return failed(
            name,
            f"The way to the relay {relay} leads through {chosen.name!r}, the tunnel itself.",
            "End other VPN programs that use this adapter, and try again.",
        )
    return ok(name, f"The relay {relay} is reached {way(best)}.")


def firewall(facts: Facts | str, alias: str | None) -> Finding:
    """Whether the LAN's computers could reach a game that is hosted here."""
    name = "firewall"
    if isinstance(facts, str):
        return skipped(name, f"Not looked at: {facts}.")
    if facts.has_rule:
        return ok(name, "A rule of softlan's lets the party in by its adapter.")
    category = facts.categories.get(alias) if alias is not None else None
    profile = _PROFILE_NAMES.get(PUBLIC if category is None else category, "Public")
    if profile not in facts.blocking:
        return ok(name, f"The firewall lets others in on {profile.lower()} networks.")
    connected = "has" if category is not None else "will have, once it is connected,"
    return warning(
        name,
        f"The party's network {connected} the firewall profile {profile}, which lets nobody in; joining games works.",
        "To host a game, start the client with --allow-inbound: it opens this adapter, and only while it runs.",
    )


def other_vpns(facts: Facts | str, alias: str | None, metric: int) -> Finding:
    """Who else would take 255.255.255.255, which leaves by the interface with the lowest metric only."""
    name = "other VPNs"
    if isinstance(facts, str):
        return skipped(name, f"Not looked at: {facts}.")
    rivals = sorted(other for other, value in facts.metrics.items() if value <= metric and other != alias)
    if rivals:
        listed = " and ".join(f"{rival!r} (metric {facts.metrics[rival]})" for rival in rivals)
        return warning(
            name,
            f"Game searches may leave by {listed} instead of the party's adapter (metric {metric}).",
            "End that VPN while you play, or give its connection a higher interface metric in its IPv4 settings.",
        )
    vpns = sorted(
        other
        for other, text in facts.descriptions.items()
        if other != alias and any(word in text.lower() for word in _VPN_WORDS)
    )
    if vpns:
        listed = " and ".join(repr(vpn) for vpn in vpns)
        return ok(name, f"Other VPNs are connected, {listed}, with a higher metric than the party's adapter.")
    return ok(name, "No other connection has a lower metric than the party's adapter.")
