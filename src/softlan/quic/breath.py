"""Breaths: moments without DATAGRAMs, in which the control stream gets through.

The library does not hold DATAGRAMs back for congestion, but counts them in it. Under load on a path that loses
packets the window would therefore always be full, and the stream, which does keep to it, would wait for ever.
"""

from collections.abc import Callable

AFTER = (0.0, 0.5, 1.5)  # seconds after something was written; the later ones are for what was lost the first time
LENGTH = 0.2  # seconds; less if the path is free before
HOLD_LIMIT = 256  # datagrams held back, for a breath or another reason; a breath ends before they are too many


class Breath:
    """When one connection's stream needs a breath."""

    __slots__ = ("_due", "_wrote", "end")

    def __init__(self) -> None:
        self.end: float | None = None
        """When the present one is over; None between two."""
        self._wrote = False
        self._due: list[float] = []

    def wrote(self) -> None:
        """Something was written to the stream."""
        self._wrote = True

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to ask about until something is written again."""
        return not (self._wrote or self._due or self.end is not None)

    def is_on(self, now: float, is_congested: Callable[[], bool], held: int) -> bool:
        """Whether to hold DATAGRAMs back now, of which `held` are held back already; to be asked at every flush
        until `is_over`.
        """
        if self._wrote:
            self._wrote = False
            self._due = [now + later for later in AFTER]
        if self.end is not None:
            if now >= self.end or held >= HOLD_LIMIT or not is_congested():
                self.end = None
        elif self._due and now >= self._due[0]:
            del self._due[0]
            if is_congested():
                self.end = now + LENGTH
        return self.end is not None
