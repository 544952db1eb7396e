"""What a look at the relay says about name, UDP, certificate, clock, path and room; pure."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field

from softlan.client.diagnostics import SLOW
from softlan.client.doctor.finding import Finding, failed, ok, skipped, warning
from softlan.ctrl.messages import Welcome
from softlan.net.address import HostPort
from softlan.proto.budget import UDP_PAYLOADS, budget_of_payload, mtu_of_budget

SOON = datetime.timedelta(days=14)
"""Before a certificate's end, for its relay to be reminded."""

_NARROW = budget_of_payload(UDP_PAYLOADS[2])


@dataclass(frozen=True)
class Certificate:
    """What the relay showed."""

    not_before: datetime.datetime
    not_after: datetime.datetime
    names: tuple[str, ...]
    """Its DNS names and addresses."""


@dataclass(frozen=True)
class RelayLook:
    """What was seen of the relay; of several addresses, the one that got furthest."""

    unresolved: str = ""
    """Why its name is not known; empty when it is."""
    addresses: tuple[str, ...] = ()
    """All of its addresses."""
    address: str = ""
    """The one that all below is about."""
    answered: bool = False
    """Whether anything came back."""
    verified: bool = False
    """Whether the handshake was completed, and the certificate accepted."""
    trouble: str = ""
    """Why the handshake failed, or what ended it later, in the QUIC library's or the relay's words."""
    certificate: Certificate | None = None
    rtt_ms: float | None = None
    """Of the last probe, in milliseconds; None when the handshake did not get that far."""
    budget: int | None = None
    """The largest overlay datagram that the path carries, in bytes."""
    welcome: Welcome | None = None
    """What the relay said when the room was joined, if it was asked."""
    refused: bool = False
    """Whether the room was asked for in vain; `trouble` says why."""
    reject: str = ""
    """The relay's code for that, if it gave one."""
    seconds: float = field(default=0.0, compare=False)


def judge_relay(
    look: RelayLook,
    relay: HostPort,
    server_name: str,
    now: datetime.datetime,
    *,
    pin_fault: str | None = None,
    has_pin: bool = False,
    is_invited: bool = False,
    is_sealed: bool = False,
) -> Iterator[Finding]:
    """The findings, in the order of what comes first on the way.

    `now` is this machine's clock (UTC); `pin_fault` is what is wrong with the file of --relay-ca-cert, if anything
    is, and `has_pin` whether there is one. `is_invited` says that an invitation gave relay and room, and no flags;
    `is_sealed`, that we seal what we send.
    """
    yield _name(look, relay, is_invited=is_invited)
    if look.unresolved:
        yield from _unknown("relay answers", "clock", "certificate", "path", because="the relay's name is not known")
        return
    yield _answers(look, relay)
    if not look.answered:
        yield from _unknown("clock", "certificate", "path", because="the relay did not answer")
        return
    yield _clock(look, now)
    yield _certificate(look, server_name, now, pin_fault, has_pin=has_pin, is_invited=is_invited)
    yield _path(look, is_sealed=is_sealed)
    if look.welcome is not None or look.refused:
        yield _room(look, is_invited=is_invited)


def _unknown(*names: str, because: str) -> Iterator[Finding]:
    for name in names:
        yield skipped(name, f"Not looked at: {because}.")


def _name(look: RelayLook, relay: HostPort, *, is_invited: bool) -> Finding:
    if look.unresolved:
        return failed(
            "relay's name",
            f"{relay.host} has no address that this machine could find ({look.unresolved.partition(';')[0]}).",
            "Check whether this machine is online; if it is, ask the party's host for another invitation."
            if is_invited
            else "Check the spelling of --relay and whether this machine is online, or give the relay's IP address.",
        )
    if look.addresses == (relay.host,):
        return ok("relay's name", f"{relay.host} is an address, so there is no name to look up.")
    return ok("relay's name", f"{relay.host} is {', '.join(look.addresses)}.")


def _answers(look: RelayLook, relay: HostPort) -> Finding:
    if not look.answered:
        return failed(
            "relay answers",
            f"Nothing came back from UDP port {relay.port} of {' or '.join(look.addresses)}.",
            "Is the relay running, and this UDP port open in its firewall? If so, your network blocks UDP: "
            "try another one, such as a phone's hotspot.",
        )
    rtt = "" if look.rtt_ms is None else f" after {look.rtt_ms:.0f} ms"
    if look.rtt_ms is not None and look.rtt_ms >= SLOW:
        return warning(
            "relay answers",
            f"{look.address} answers QUIC on UDP port {relay.port}{rtt}: far or slow.",
            "Fast games will suffer; a relay nearer to the players helps, and a cable instead of Wi-Fi.",
        )
    return ok("relay answers", f"{look.address} answers QUIC on UDP port {relay.port}{rtt}.")


def _clock(look: RelayLook, now: datetime.datetime) -> Finding:
    """The certificate's dates are the only outside hint at the time that a relay gives."""
    said, certificate = f"{now:%Y-%m-%d %H:%M} UTC", look.certificate
    if certificate is None:
        return skipped("clock", "Not looked at: the relay showed no certificate.")
    if now < certificate.not_before:
        finding = warning if look.verified else failed  # what is pinned is accepted at any time
        return finding(
            "clock",
            f"This machine's clock says {said}, before the relay's certificate was made.",
            "Set the clock (date, time and time zone), and try again.",
        )
    if now > certificate.not_after:
        return warning(
            "clock",
            f"This machine's clock says {said}, after the end of the relay's certificate.",
            "Check the clock (date, time and time zone); if it is right, the certificate is too old.",
        )
    return ok("clock", f"This machine's clock, {said}, fits the relay's certificate.")


def _certificate(
    look: RelayLook,
    server_name: str,
    now: datetime.datetime,
    pin_fault: str | None,
    *,
    has_pin: bool,
    is_invited: bool,
) -> Finding:
    name, certificate = "certificate", look.certificate
    if pin_fault is not None:
        why, _, what_to_do = pin_fault.partition("; ")
        advice = f"{what_to_do[:1].upper()}{_sentence(what_to_do[1:])}" if what_to_do else _PIN_ADVICE
        return failed(name, f"The file in --relay-ca-cert will not do: {_sentence(why)}", advice)
    if certificate is None and not look.verified:
        return failed(
            name,
            f"The handshake failed before the relay showed a certificate: {_sentence(look.trouble)}",
            "Something else than a softlan relay may answer there: "
            + ("ask the party's host." if is_invited else "check the address and the port of --relay."),
        )
    if certificate is None:
        return ok(name, "The relay's certificate is accepted.")
    if not look.verified:
        if now > certificate.not_after:
            return failed(
                name,
                f"The relay's certificate ended on {certificate.not_after:%Y-%m-%d}.",
                "If this machine's clock is right, ask the relay's operator for a new certificate.",
            )
        if now < certificate.not_before:
            return failed(
                name,
                f"The relay's certificate begins on {certificate.not_before:%Y-%m-%d}, after this machine's now.",
                "Set the clock, and try again.",
            )
        return _untrusted(look, certificate, server_name, has_pin=has_pin, is_invited=is_invited)
    left = certificate.not_after - now
    if left < datetime.timedelta():
        return warning(
            name,
            f"The relay's certificate is accepted, though it ended on {certificate.not_after:%Y-%m-%d}.",
            "Tell the relay's operator: a new one takes new invitations.",
        )
    if left < SOON:
        return warning(
            name,
            f"The relay's certificate is accepted, for {max(0, left.days)} more days.",
            "Tell the relay's operator that it ends soon.",
        )
    return ok(name, f"The relay's certificate is accepted, and good for {left.days} more days.")


_ASK_AGAIN = "Ask the party's host for a new invitation, made on the relay's machine."
_PIN_ADVICE = "Get the relay's current certificate file from its operator, and give it with --relay-ca-cert."


def _untrusted(
    look: RelayLook, certificate: Certificate, server_name: str, *, has_pin: bool, is_invited: bool
) -> Finding:
    name, trouble = "certificate", look.trouble.removeprefix("the relay could not be verified: ")
    if is_invited and not has_pin:
        if "fingerprint" in look.trouble.lower():
            return failed(name, "The relay shows another certificate than the invitation says.", _ASK_AGAIN)
        return failed(
            name,
            f"This machine does not trust the relay's certificate, and the invitation pins none: {_sentence(trouble)}",
            _ASK_AGAIN,
        )
    if "fingerprint" in look.trouble.lower():
        return failed(name, "The relay shows another certificate than the file in --relay-ca-cert.", _PIN_ADVICE)
    if certificate.names and not _covers(certificate.names, server_name):
        return failed(
            name,
            f"The relay's certificate is for {', '.join(certificate.names)}, not for {server_name}.",
            f"Ask the party's host for an invitation that is made with --server-name {certificate.names[-1]}."
            if is_invited
            else f"Add --server-name {certificate.names[-1]}, if that is the relay you mean.",
        )
    if has_pin:
        return failed(
            name, f"The certificate in --relay-ca-cert did not sign the relay's: {_sentence(trouble)}", _PIN_ADVICE
        )
    return failed(
        name,
        f"This machine does not trust the relay's certificate: {_sentence(trouble)}",
        "Add --relay-ca-cert with the file that the relay's operator gave you.",
    )


def _covers(names: tuple[str, ...], wanted: str) -> bool:
    wanted = wanted.lower().rstrip(".")
    return any(name.lower() in (wanted, "*." + wanted.partition(".")[2]) for name in names)


def _path(look: RelayLook, *, is_sealed: bool) -> Finding:
    if look.budget is None:
        if not look.verified:
            return skipped("path", "Not looked at: the relay was not accepted.")
        return failed(
            "path",
            "The handshake works, and no datagram of the usual sizes comes back.",
            "A firewall on the way drops larger UDP packets: try another network.",
        )
    if look.welcome is not None:
        is_sealed = look.welcome.sealed
    mtu = mtu_of_budget(look.budget, sealed=is_sealed)
    found = f"The path carries datagrams of {look.budget} bytes: an MTU of {mtu}{' when sealed' if is_sealed else ''}."
    if look.budget < _NARROW:
        return warning("path", found, "Another VPN below may narrow it: end that, if large game packets get lost.")
    return ok("path", found)


def _room(look: RelayLook, *, is_invited: bool) -> Finding:
    if look.welcome is None:
        advice = _REJECTS.get(look.reject, "Try again in a moment; if it stays so, ask the relay's operator.")
        if is_invited and look.reject == "redirect":
            advice = "Ask the party's host for an invitation with the relay that it names."
        return failed("room", f"The relay does not let us in: {_sentence(look.trouble)}", advice)
    room, how = look.welcome.room, "lets us in, sealed," if look.welcome.sealed else "lets us in,"
    if not look.welcome.gateway_present:
        spelling = "" if is_invited else "Check the spelling of --room (case matters), or ask "
        return warning(
            "room",
            f"Room {room} {how} and has no gateway: players there see only each other.",
            f"{spelling or 'Ask '}the party's host to start the gateway.",
        )
    return ok("room", f"Room {room} {how} and has its LAN's gateway.")


_REJECTS = {
    "unauthorized": "Ask the party's host for the room's current invitation, and give all of it with --invite.",
    "unsupported_version": "Use the version of softlan that the relay's operator uses.",
    "redirect": "Give the relay that it names with --relay.",
    "room_full": "Wait until a player leaves, or ask the relay's operator for a larger room.",
    "relay_full": "Wait, or ask the relay's operator for more room.",
    "rate_limited": "Wait a minute, and try again.",
    "shutting_down": "Wait until the relay is back.",
    "budget_too_small": "The path is too narrow: try another network, and end other VPNs.",
}


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
