"""Where frames come from and go to: network cards, TAP interfaces, and a fake."""
