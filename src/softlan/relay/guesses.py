"""Wrong room tokens, counted so that nobody guesses one."""

import hashlib
from collections import OrderedDict

from softlan.relay.limits import TokenBucket, prefix

REMEMBERED = 4
"""Wrong tokens of one address and room that may come again for nothing."""


class TokenGuesses:
    """One bucket of wrong tokens for each address and room; bounded, the longest unseen one is forgotten first.

    Who guesses has to try different tokens, and each one costs. Once the bucket is empty the answer is to wait,
    whether the token is right or wrong, so a guess tells nothing. A mistyped or outdated token, though, is the same
    one each time, however often a program tries it, and costs once. So one party member with a wrong invitation does
    not lock out those behind the same NAT who have the right one; nor does one who guesses at another room.

    Who guesses at the same room from behind the same NAT does hold newcomers up, for as long as it goes on. (Members
    who come back with their resume string do not pass by here.)
    """

    MAX_ENTRIES = 4096

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60.0
        self._burst = max(1.0, per_minute)
        self._entries: OrderedDict[tuple[str, str], tuple[TokenBucket, list[bytes]]] = OrderedDict()

    def retry_after(self, address: str, room: str, token: str, is_right: bool, now: float) -> float | None:
        """None if the token may be judged, else the seconds to wait; a wrong one that is new is counted."""
        key = (prefix(address), room)
        entry = self._entries.get(key)
        if entry is None:
            if is_right:
                return None
            entry = self._entries[key] = (TokenBucket(self._rate, self._burst, now), [])
            if len(self._entries) > self.MAX_ENTRIES:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        bucket, known = entry
        bucket.take(now, 0.0)  # brings `wait` up to date
        if (wait := bucket.wait()) > 0.0:
            return wait
        if not is_right:
            digest = hashlib.sha256(token.encode()).digest()  # of a token nothing but this is kept
            if digest not in known:
                known.append(digest)
                del known[:-REMEMBERED]
                bucket.take(now)
        return None
