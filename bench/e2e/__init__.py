"""Layer-2 VPNs beside each other on one machine: a player, a relay, a gateway and the LAN behind it."""
