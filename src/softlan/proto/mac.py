"""MAC addresses: 6 bytes inside the program, `xx:xx:xx:xx:xx:xx` outside (RFC 9542 section 2.1)."""

import re

from softlan.errors import UsageError

BROADCAST = b"\xff" * 6
ZERO = bytes(6)

_WRITTEN = re.compile(r"[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})")


def parse_mac(text: str) -> bytes:
    """Read a MAC as a person writes it: colons or hyphens, either case.

    Raises UsageError when it is anything else.
    """
    if not _WRITTEN.fullmatch(text):
        raise UsageError(f"{text[:40]!r} is not a MAC address; write it as 02:00:5e:10:00:01")
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


def format_mac(mac: bytes) -> str:
    """Write a MAC as the wire and the logs do: lower case, colons."""
    return mac.hex(":")


def is_multicast(mac: bytes) -> bool:
    """Tell whether `mac` names a group (bit 0x01 of the first octet); broadcast is one."""
    return bool(mac[0] & 0x01)


def is_local(mac: bytes) -> bool:
    """Tell whether `mac` is locally administered (bit 0x02 of the first octet)."""
    return bool(mac[0] & 0x02)


def identity_fault(mac: bytes, *, allow_universal: bool = False) -> str | None:
    """Say in one phrase why `mac` cannot be a client's identity; None if it can.

    The phrase follows "it is", as in "it is a multicast address".
    """
    if len(mac) != 6:
        return f"{len(mac)} bytes long instead of 6"
    if mac == ZERO:
        return "all zero"
    if mac == BROADCAST:
        return "the broadcast address"
    if is_multicast(mac):
        return "a multicast address"
    if not allow_universal and not is_local(mac):
        return "universally administered (bit 0x02 of the first octet is clear)"
    return None


def local_mac(six_random_bytes: bytes) -> bytes:
    """Make a unicast, locally administered MAC of 6 random bytes; 46 of the 48 bits stay random."""
    if len(six_random_bytes) != 6:
        raise ValueError("a MAC is made of 6 bytes")
    return bytes((six_random_bytes[0] & 0xFE | 0x02,)) + six_random_bytes[1:]
