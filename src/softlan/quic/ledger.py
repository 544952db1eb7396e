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


class Account:
    """What one peer may send beside DATAGRAMs and the control stream."""

    __slots__ = ("_balance", "_delivered", "_path_bytes", "_queued", "_received", "_sent", "_since", "_unasked")

    def __init__(self, path_bytes: int, now: float) -> None:
        self._balance = float(CREDIT)
        self._since = now
        self._received = self._delivered = self._queued = self._sent = self._unasked = 0
        self._path_bytes = path_bytes

    def is_overdrawn(self, received: int, delivered: int, queued: int, sent: int, path_bytes: int, now: float) -> bool:
        """Book what happened since the last call. All are totals since the handshake.

        `received` packets came, and of their frames `delivered` bytes were of use. `queued` DATAGRAMs went the other
        way (stream data counts by the packet), and `sent` packets in all. `path_bytes` is what the library counts of
        authentic, new packets, anew for each path.
        """
        expense = path_bytes - self._path_bytes - (delivered - self._delivered)
        expense -= PACKET_OVERHEAD * (received - self._received)
        if path_bytes < self._path_bytes:  # the peer has just moved
            expense = 0
        # One for each DATAGRAM, and an acknowledgement for each packet, are as it should be.
        unasked = self._unasked + (sent - self._sent) - (queued - self._queued) - (received - self._received)
        expense += UNASKED_PACKET * max(0, unasked)
        self._unasked, self._sent = min(0, max(-UNASKED_SLACK, unasked)), sent
        income = (queued - self._queued) * CREDIT_A_DATAGRAM + (now - self._since) * CREDIT_A_SECOND
        self._since, self._path_bytes = now, path_bytes
        self._received, self._delivered, self._queued = received, delivered, queued
        self._balance = min(float(CREDIT), self._balance + income) - expense
        return self._balance < 0


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
