"""The LAN's side: the bridge between a wired interface and the relay."""
