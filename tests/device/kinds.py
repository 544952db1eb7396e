"""What kind of frame it is, as the queues of a device tell them apart."""


def is_tcp(frame: bytes) -> bool:
    """Whether this is TCP in IPv4, or right behind an IPv6 header."""
    kind = frame[12:14]
    return (kind == b"\x08\x00" and frame[23:24] == b"\x06") or (kind == b"\x86\xdd" and frame[20:21] == b"\x06")
