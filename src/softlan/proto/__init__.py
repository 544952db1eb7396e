"""Frames, overlay datagrams and their sizes, as bytes and values: pure."""
