r"""The ground that the party stands on: an internet, relay, gateway box, LAN with its host, and a player.

```
                     inet (router)
        198.51.100.1 /     | 203.0.113.1   \ 192.0.2.1
                    /      |                \
        .10 wan0 relay     | .10 wan0        player wan0 .10
                          gw
                           | lan0 (no address: a bridge port)
                 br0 in lan (the LAN's switch)
                    /              \
        10.77.0.10 eth0 host        dhcp eth0 10.77.0.2
```

The WANs are documentation prefixes (RFC 5737, and RFC 3849 for IPv6); every link has an MTU of 1500.
"""

import ipaddress
from dataclasses import dataclass
from typing import Self

from softlan.demo.netns import Lab, Namespace

RELAY = "198.51.100.10"
RELAY_IPV6 = "2001:db8:1::10"
GATEWAY = "203.0.113.10"
GATEWAY_IPV6 = "2001:db8:2::10"
PLAYER = "192.0.2.10"
PLAYER_IPV6 = "2001:db8:3::10"

LAN = ipaddress.ip_network("10.77.0.0/24")
HOST = "10.77.0.10"
DHCP = "10.77.0.2"
DHCP_RANGE = ("10.77.0.100", "10.77.0.199")

WAN_INTERFACE = "wan0"
"""In relay, gw and player: towards the internet."""
GATEWAY_INTERFACE = "lan0"
"""In gw: the port of the LAN's switch."""
LAN_INTERFACE = "eth0"
"""In host and dhcp."""
SWITCH = "br0"


@dataclass(frozen=True, slots=True)
class Party:
    """The namespaces of one party, wired up and with addresses; nothing runs in them yet."""

    lab: Lab
    inet: Namespace
    relay: Namespace
    gateway: Namespace
    lan: Namespace
    host: Namespace
    dhcp: Namespace
    player: Namespace

    @classmethod
    def build(cls, lab: Lab) -> Self:
        """Make all of it in `lab`. Errors: `HostError`; what was made until then ends with the lab."""
        party = cls(lab, *(lab.namespace(role) for role in ("inet", "relay", "gw", "lan", "host", "dhcp", "player")))
        party.inet.sysctl("ipv4.ip_forward", 1)
        party.inet.sysctl("ipv6.conf.all.forwarding", 1)
        party._wan(party.relay, "relay0", RELAY, RELAY_IPV6)
        party._wan(party.gateway, "gw0", GATEWAY, GATEWAY_IPV6)
        party._wan(party.player, "player0", PLAYER, PLAYER_IPV6)

        # The switch and the gateway's port of it are no hosts: without IPv6 they stay silent.
        party.lan.sysctl("ipv6.conf.all.disable_ipv6", 1)
        party.lan.sysctl("ipv6.conf.default.disable_ipv6", 1)
        party.lan.bridge(SWITCH)
        party.plug_in(party.host, f"{HOST}/{LAN.prefixlen}")
        party.plug_in(party.dhcp, f"{DHCP}/{LAN.prefixlen}")
        party.gateway.sysctl("ipv6.conf.default.disable_ipv6", 1)
        party.plug_in(party.gateway, interface=GATEWAY_INTERFACE)
        return party

    def plug_in(self, computer: Namespace, *addresses: str, interface: str = LAN_INTERFACE) -> None:
        """Lay a cable from the LAN's switch to `computer`, as its `interface`, and bring both ends up."""
        port = computer.name.rpartition("-")[2] + "0"
        self.lab.cable((self.lan, port), (computer, interface))
        self.lan.plug(SWITCH, port)
        computer.up(interface, *addresses)

    def _wan(self, computer: Namespace, port: str, ipv4: str, ipv6: str) -> None:
        self.lab.cable((self.inet, port), (computer, WAN_INTERFACE))
        routers = ipv4.removesuffix("0"), ipv6.removesuffix("0")  # .1 and ::1
        self.inet.up(port, f"{routers[0]}/24", f"{routers[1]}/64")
        computer.up(WAN_INTERFACE, f"{ipv4}/24", f"{ipv6}/64")
        for router in routers:
            computer.default_route(router)
