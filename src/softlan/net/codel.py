"""CoDel: which packets of a queue to drop so that it stays short (RFC 8289)."""

from math import sqrt


class CoDel:
    """Decides at the head of one queue, by how long each packet was in it; it holds no packets itself.

    A burst that drains within `interval` costs nothing; only a queue whose every packet waited for `target` or longer,
    during a whole `interval`, loses some: one at first, then more and more often until the senders slow down.
    """

    __slots__ = ("_count", "_drop_at", "_drops_from", "_is_dropping", "_last_count", "interval", "is_late", "target")

    def __init__(self, target: float, interval: float) -> None:
        """`target` is the standing delay to accept, `interval` the longest usual round trip; both in seconds.

        The RFC advises a target of 5 to 10 % of the interval (section 4.3), and 5 ms and 100 ms for the internet.
        """
        self.target = target
        self.interval = interval
        self.is_late = False
        """Whether the last packet had waited for `target` or longer. While not, a packet that had not either need
        not be shown to `drops`: nothing would change."""
        self._drops_from = 0.0
        self._is_dropping = False
        self._drop_at = 0.0
        self._count = self._last_count = 0

    def emptied(self) -> None:
        """The queue is empty: what comes next has waited behind nothing (RFC 8289 section 5)."""
        self.is_late = self._is_dropping = False

    def drops(self, sojourn: float, now: float) -> bool:
        """Whether to drop the packet that leaves the queue at `now` after `sojourn` seconds in it.

        To be asked in the order of the queue; `now` never goes back. Section 5 of the RFC; what is queued behind a
        packet is not known here, so `emptied` says when there was nothing.
        """
        if sojourn < self.target:
            self.is_late = self._is_dropping = False
            return False
        if not self.is_late:
            self.is_late = True
            self._drops_from = now + self.interval
            return False
        if not self._is_dropping:
            if now < self._drops_from:
                return False
            self._is_dropping = True
            # Where it took many drops a moment ago, it begins at that rate again.
            since_last = self._count - self._last_count
            is_recent = now - self._drop_at < 16 * self.interval
            self._count = self._last_count = since_last if since_last > 1 and is_recent else 1
            self._drop_at = now + self.interval / sqrt(self._count)
            return True
        if now < self._drop_at:
            return False
        self._count += 1
        self._drop_at += self.interval / sqrt(self._count)
        return True
