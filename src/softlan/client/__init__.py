"""The player's side: identity, session, bridge to the TAP."""
