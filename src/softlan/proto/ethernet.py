"""A cheap view of an Ethernet frame's header: tags, EtherType, LLC and SNAP.

Frames come without preamble and FCS. Nothing is copied but what is asked for.
"""

HEADER_LENGTH = 14
TAG_LENGTH = 4
MIN_LENGTH = 60
"""The shortest frame on a wire, without its FCS (IEEE 802.3 section 3.2.8)."""
MIN_ETHERTYPE = 0x0600
"""A type field below this is a length, and LLC follows (IEEE 802.3 section 3.2.6)."""

IPV4 = 0x0800
ARP = 0x0806
VLAN = 0x8100
IPX = 0x8137
IPV6 = 0x86DD
FLOW_CONTROL = 0x8808
SLOW_PROTOCOLS = 0x8809
SVLAN = 0x88A8
LOCAL_EXPERIMENTAL = 0x88B5
LLDP = 0x88CC
QINQ = 0x9100
"""The S-tag of equipment that is older than 802.1ad."""

TAG_TYPES = frozenset((VLAN, SVLAN, QINQ))

LLC_STP = 0x42
LLC_SNAP = 0xAA
LLC_RAW_IPX = 0xFF
"""No LLC at all: Novell's raw 802.3 starts with the IPX checksum, ff ff."""

_BRIDGED_OUIS = (b"\x00\x00\x00", b"\x00\x00\xf8")
_NAMES = {IPV4: "ipv4", ARP: "arp", IPV6: "ipv6", IPX: "ipx"}


class EthernetView:
    """What `parse` found; the offsets are into `frame`."""

    __slots__ = ("ethertype", "frame", "llc", "payload_offset", "tags")

    frame: bytes
    tags: tuple[int, ...]
    """The TCIs (PCP, DEI, VLAN ID), outermost first, of 802.1Q, 802.1ad and 0x9100 tags."""
    ethertype: int | None
    """The type after all tags, or inside SNAP of RFC 1042 or 802.1H; None for other LLC frames."""
    llc: tuple[int, int] | None
    """DSAP and SSAP of an 802.3 frame; of the innermost LLC header, should somebody nest them in SNAP."""
    payload_offset: int
    """Where the payload of `ethertype` starts; without one, where the LLC header starts."""

    def __init__(
        self,
        frame: bytes,
        tags: tuple[int, ...],
        ethertype: int | None,
        llc: tuple[int, int] | None,
        payload_offset: int,
    ) -> None:
        self.frame = frame
        self.tags = tags
        self.ethertype = ethertype
        self.llc = llc
        self.payload_offset = payload_offset

    @property
    def destination(self) -> bytes:
        """The destination MAC, 6 bytes."""
        return self.frame[:6]

    @property
    def source(self) -> bytes:
        """The source MAC, 6 bytes."""
        return self.frame[6:12]


def parse(frame: bytes) -> EthernetView | None:
    """Read the header through any number of tags, LLC and SNAP; None when it breaks off on the way.

    Never raises. An 802.3 length is not compared with the bytes that are there: receivers differ in what
    they make of a wrong one (VU#855201), so what follows is read whatever it says. For the same reason SNAP
    is told by its DSAP alone, and tags inside SNAP are followed.

    RFC 1042 (OUI 00-00-00) and IEEE 802.1H (OUI 00-00-f8) both carry an EtherType.
    """
    length = len(frame)
    if length < HEADER_LENGTH:
        return None
    kind = frame[12] << 8 | frame[13]
    if kind >= MIN_ETHERTYPE and kind not in TAG_TYPES:
        return EthernetView(frame, (), kind, None, HEADER_LENGTH)
    offset = HEADER_LENGTH
    tags: list[int] = []
    llc: tuple[int, int] | None = None
    while True:
        if kind in TAG_TYPES:
            if length < offset + TAG_LENGTH:
                return None
            tags.append(frame[offset] << 8 | frame[offset + 1])
            kind = frame[offset + 2] << 8 | frame[offset + 3]
            offset += TAG_LENGTH
        elif kind >= MIN_ETHERTYPE:
            return EthernetView(frame, tuple(tags), kind, llc, offset)
        else:
            if length < offset + 3:
                return None
            llc = (frame[offset], frame[offset + 1])
            if llc[0] != LLC_SNAP:
                return EthernetView(frame, tuple(tags), None, llc, offset)
            if length < offset + 8:
                return None
            if frame[offset + 3 : offset + 6] not in _BRIDGED_OUIS:
                return EthernetView(frame, tuple(tags), None, llc, offset)
            kind = frame[offset + 6] << 8 | frame[offset + 7]
            offset += 8


def describe_type(view: EthernetView) -> str:
    """Name the frame's type for logs: `ipv4`, `0x88cc`, `llc 42`, `snap 00000c 2000`, `ipx raw`."""
    if view.ethertype is not None:
        return _NAMES.get(view.ethertype) or f"0x{view.ethertype:04x}"
    offset = view.payload_offset
    dsap = view.frame[offset]
    if dsap == LLC_SNAP:
        return f"snap {view.frame[offset + 3 : offset + 6].hex()} {view.frame[offset + 6 : offset + 8].hex()}"
    if view.llc == (LLC_RAW_IPX, LLC_RAW_IPX):
        return "ipx raw"
    return f"llc {dsap:02x}"
