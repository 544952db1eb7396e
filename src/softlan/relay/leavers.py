"""What those who left a room had used up, so that coming back is no new start."""

from collections import OrderedDict

from softlan.policy.rates import MemberRates

CAPACITY = 64
"""Of one room; who left first is forgotten first."""
KEPT_FOR = 600.0  # seconds; by default empty buckets are full again after 2


class _Left:
    __slots__ = ("address", "at", "malformed", "rates")

    def __init__(self, address: str, rates: MemberRates, malformed: int, at: float) -> None:
        self.address = address
        self.rates: MemberRates | None = rates
        self.malformed = malformed
        self.at = at


class Leavers:
    """The rates and the malformed datagrams of a room's former members, by MAC; the gateway's MAC is None.

    They go with the room: whoever leaves it last, and opens it anew, begins anew. Nobody was there to be harmed.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: OrderedDict[bytes | None, _Left] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def left(self, mac: bytes | None, address: str, rates: MemberRates, malformed: int, now: float) -> None:
        """Keep what one who leaves has used up; `address` is its `limits.prefix`."""
        self._left.pop(mac, None)
        self._left[mac] = _Left(address, rates, malformed, now)
        if len(self._left) > CAPACITY:
            self._left.popitem(last=False)

    def back(self, mac: bytes | None, address: str, now: float) -> tuple[MemberRates | None, int]:
        """The rates that a newcomer goes on with, None for new ones, and how many malformed datagrams it has sent.

        A MAC is easily changed. So a client that is new goes on with the rates of the client that left the same address
        last, if nobody has them yet: one address has no more rates than it ever had members at a time. And it is easily
        taken, so malformed datagrams count only for who comes back from where they came from.
        """
        while self._left and next(iter(self._left.values())).at < now - KEPT_FOR:
            self._left.popitem(last=False)
        own = self._left.pop(mac, None)
        malformed = own.malformed if own is not None and own.address == address else 0
        if own is not None and own.rates is not None:
            return own.rates, malformed
        if mac is not None:
            for whose, other in reversed(self._left.items()):
                if whose is not None and other.address == address and other.rates is not None:
                    rates, other.rates = other.rates, None
                    return rates, malformed
        return None, malformed
