"""The command line: flags, wiring, and how errors are told."""
