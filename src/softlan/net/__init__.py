"""Addresses as people write them, and their resolution."""
