"""Why a frame went no further, and what is said of a frame in logs and counters."""

import enum


class Action(enum.Enum):
    """What became of a frame."""

    FORWARDED = "forwarded"
    DROPPED = "dropped"
    FILTERED = "filtered"
    RATE_LIMITED = "rate_limited"


class DropReason(enum.Enum):
    """The outcome of a frame that is not forwarded: a value, never an exception.

    The values are names of counters and members of log records; docs/reference/protocol.md, "What the relay
    does with a datagram", defines those that the relay uses.
    """

    # Members are singletons, so their identity is their hash; Enum's own hashes the name in Python code,
    # which every counted drop would pay for.
    __hash__ = object.__hash__

    MALFORMED = "malformed"
    RUNT = "runt"
    INVALID_SOURCE = "invalid_source"
    JUMBO = "jumbo"
    SWITCH_CONTROL = "switch_control"
    DHCP_SERVER = "dhcp_server"
    DHCPV6_SERVER = "dhcpv6_server"
    IPV6_RA = "ipv6_ra"
    AMBIGUOUS = "ambiguous"
    ARP_SPOOF = "arp_spoof"
    ND_SPOOF = "nd_spoof"
    ND_REDIRECT = "nd_redirect"
    ICMP_REDIRECT = "icmp_redirect"
    ETHERTYPE = "ethertype"  # the room's policy has no place for this type
    RATE_BROADCAST = "rate_broadcast"
    RATE_UNKNOWN_UNICAST = "rate_unknown_unicast"
    RATE_TOTAL = "rate_total"
    RATE_PROBE = "rate_probe"
    NO_GATEWAY = "no_gateway"
    UNKNOWN_UNICAST = "unknown_unicast"
    EGRESS_BUDGET = "egress_budget"  # the target's budget is too small
    OVER_BUDGET = "over_budget"  # the sender's own budget is too small
    QUEUE_FULL = "queue_full"
    NOT_SEALED = "not_sealed"  # a plain frame in a sealed room
    UNEXPECTED_SEAL = "unexpected_seal"  # a sealed frame in a plain room
    UNKNOWN_SENDER = "unknown_sender"  # nobody's key is known for it
    BAD_SEAL = "bad_seal"  # forged, damaged, or of another room
    REPLAYED = "replayed"  # seen before, or too old to tell
    NOT_CONNECTED = "not_connected"
    DEVICE_ERROR = "device_error"
    UNSUPPORTED_OFFLOAD = "unsupported_offload"

    @property
    def action(self) -> Action:
        """What is said of a frame that was dropped for this reason."""
        return _ACTIONS.get(self, Action.DROPPED)


_ACTIONS = {
    DropReason.INVALID_SOURCE: Action.FILTERED,
    DropReason.JUMBO: Action.FILTERED,
    DropReason.SWITCH_CONTROL: Action.FILTERED,
    DropReason.DHCP_SERVER: Action.FILTERED,
    DropReason.DHCPV6_SERVER: Action.FILTERED,
    DropReason.IPV6_RA: Action.FILTERED,
    DropReason.AMBIGUOUS: Action.FILTERED,
    DropReason.ARP_SPOOF: Action.FILTERED,
    DropReason.ND_SPOOF: Action.FILTERED,
    DropReason.ND_REDIRECT: Action.FILTERED,
    DropReason.ICMP_REDIRECT: Action.FILTERED,
    DropReason.ETHERTYPE: Action.FILTERED,
    DropReason.RATE_BROADCAST: Action.RATE_LIMITED,
    DropReason.RATE_UNKNOWN_UNICAST: Action.RATE_LIMITED,
    DropReason.RATE_TOTAL: Action.RATE_LIMITED,
    DropReason.RATE_PROBE: Action.RATE_LIMITED,
}
