"""The whole party on one machine: a demo, and the ground that end-to-end tests stand on (Linux)."""
