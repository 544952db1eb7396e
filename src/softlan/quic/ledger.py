"""What a peer's packets were for, and whether it acknowledges ours: bounds on what grows inside the library.

A peer can make the library keep or do something for nearly every kind of frame: CRYPTO data behind a gap that is
never filled, connection IDs that replace each other, challenges to be answered, streams that nobody reads, credit and
complaints without end. The library tells of few of these, and bounds not all. But they have one thing in common: they
are neither a DATAGRAM nor something new on the control stream. An honest peer has little else to say. It
acknowledges what it got, in proportion to that; now and then it probes its path, or repeats what was lost.

So such bytes are an expense, and so are packets that it made us send without need: the library answers each challenge
with one of its own, and 120 fit a packet. Both are paid from an account that fills up with what the peer was sent, and
slowly with time. Who overdraws it is sent away.

The library also keeps a record of each packet until it is acknowledged or lost, and it is lost only when a later one
is acknowledged. From a peer that acknowledges nothing, DATAGRAMs are kept away until it does.
"""

PACKET_OVERHEAD = 29
"""Bytes of a packet that every one has: header with an 8-byte connection ID and a 4-byte number, and AEAD tag."""
STREAM_BYTE = 2
"""What a new byte of the control stream counts for: on a path that loses packets, it may be sent twice for nothing."""
DATAGRAM_FRAME = 3
"""Bytes of type and length that each DATAGRAM has beside its payload: of use, however small that is (RFC 9221)."""

HANDSHAKE_BYTES = 24 * 1024  # an honest client needs 2 or 3 packets, and repeats them some times
CHUNK = 4  # packets that the library takes at a time: 4 that are full of RETIRE_CONNECTION_ID cost 11 ms, 32 cost 1.2 s
PROVEN = 1024  # packets without one, after which it may be more: a tenth of the time that a busy peer costs
PROVEN_CHUNK = 8  # then those cost 43 ms, once
MAX_RETIRED = 32  # connection IDs that a peer may retire: the library keeps them all, and looks through them

AUDIT_EVERY = 16  # packets or so received between two looks at the account
PROVEN_AUDIT_EVERY = 64
CREDIT = 64 * 1024  # bytes at the start, and the most that is saved up: full packets to find out what the path carries
CREDIT_A_SECOND = 1024.0
CREDIT_A_DATAGRAM = 160.0  # that it was sent: an acknowledgement of 64 ranges is about as long
UNASKED_PACKET = 256  # bytes that one counts for which we sent though nothing was queued and nothing came
UNASKED_SLACK = 512  # packets that were queued or acknowledged, and counted, before they left
UNASKED_AT_ONCE = 64  # packets that the library may add to what was queued, before the account is looked at

LOOK_EVERY = 1024  # packets sent between two looks at what is unacknowledged
MAX_UNACKNOWLEDGED = 4096  # packets: 5.7 MB on their way, 60,000 a second with a round trip of 68 ms
PING_ABOVE = 1024  # packets; acknowledgements alone are not acknowledged until something asks for it
DEAF_TIME = 10.0  # seconds in which a peer that is heard again may begin to acknowledge
DEAF_LOOK = 0.05  # seconds between two looks meanwhile


# In the words that both sides read: the one that gives up, and the one that is told.
NO_USE = "too much came that was neither frames nor messages"
RETIRED = "too many connection IDs were retired"
DEAF = "nothing was acknowledged"


class Ledger:
    """What went both ways with one peer, in totals, and whether what it sent was of use."""

    __slots__ = (
        "_audit_at",
        "_balance",
        "_booked",
        "_flushed",
        "_proven_at",
        "_retired",
        "_since",
        "_unasked",
        "delivered",
        "is_open",
        "queued",
        "received",
        "sent",
    )

    def __init__(self) -> None:
        self.received = 0
        """Packets that were authentic and new: noise and copies pay for nothing."""
        self.delivered = 0
        """Bytes of what they carried that were of use."""
        self.queued = 0
        """DATAGRAMs that went the other way; stream data counts by the packet."""
        self.sent = 0
        """Packets."""
        self.is_open = False
        """Whether the handshake is through: from then on it is paid for."""
        self._audit_at = AUDIT_EVERY
        self._proven_at = PROVEN
        self._retired = self._flushed = self._unasked = 0
        self._balance = float(CREDIT)
        self._since = 0.0
        self._booked = (0, 0, 0, 0, 0)

    def open(self, path_bytes: int, now: float) -> None:
        """Begin to keep it; `path_bytes` is what the library counts of authentic, new packets, anew for each path."""
        self.is_open = True
        self._since = now
        self._booked = (self.received, self.delivered, self.queued, self.sent, path_bytes)

    @property
    def chunk(self) -> int:
        """How many packets the library may take at a time."""
        return CHUNK if self.received < self._proven_at else PROVEN_CHUNK

    @property
    def is_due(self) -> bool:
        """Whether so much came that `is_overdrawn` is to be asked."""
        return self.received >= self._audit_at

    def is_overdrawn(self, path_bytes: int, now: float) -> bool:
        """Book what happened since the last time."""
        self._audit_at = self.received + (AUDIT_EVERY if self.received < self._proven_at else PROVEN_AUDIT_EVERY)
        if not self.is_open:
            return False
        totals = (self.received, self.delivered, self.queued, self.sent, path_bytes)
        received, delivered, queued, sent, came = (new - old for new, old in zip(totals, self._booked, strict=True))
        expense = came - delivered - PACKET_OVERHEAD * received if came >= 0 else 0  # else it has just moved
        # One for each DATAGRAM, and an acknowledgement for each packet, are as it should be.
        unasked = self._unasked + sent - queued - received
        expense += UNASKED_PACKET * max(0, unasked)
        income = queued * CREDIT_A_DATAGRAM + (now - self._since) * CREDIT_A_SECOND
        self._unasked = min(0, max(-UNASKED_SLACK, unasked))
        self._booked, self._since = totals, now
        self._balance = min(float(CREDIT), self._balance + income) - expense
        return self._balance < 0

    def burst(self) -> int:
        """How many packets may be sent before `is_overdrawn` is to be asked: one for each DATAGRAM, and some."""
        fresh, self._flushed = self.queued - self._flushed, self.queued
        return fresh + UNASKED_AT_ONCE

    def retire(self) -> bool:
        """The peer has retired a connection ID; whether it may."""
        self._retired += 1
        self._proven_at = self.received + PROVEN
        return self._retired <= MAX_RETIRED


class Hearing:
    """Whether one peer acknowledges what it is sent."""

    __slots__ = ("_heard", "_since", "is_deaf", "next_look")

    def __init__(self) -> None:
        self.is_deaf = False
        """Too much is unacknowledged: nothing that would have to be kept may be sent."""
        self.next_look = 0.0
        """While it is deaf: when to look again."""
        self._since = 0.0
        self._heard = 0

    def look(self, unacknowledged: int, heard: int, now: float) -> bool:
        """Look again, `heard` packets having come from it so far; True if it is to be given up.

        A peer from which nothing comes at all is not to blame: its path may be cut, and the idle timeout sees to it.
        """
        if unacknowledged < MAX_UNACKNOWLEDGED:
            self.is_deaf = False
            return False
        self.next_look = now + DEAF_LOOK
        if not self.is_deaf:
            self.is_deaf = True
            self._since, self._heard = now, heard
        elif heard == self._heard:
            self._since = now
        self._heard = heard
        return unacknowledged >= 2 * MAX_UNACKNOWLEDGED or now >= self._since + DEAF_TIME
