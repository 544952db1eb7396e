"""Time that passes only when a test says so."""

import heapq
import itertools
from collections.abc import Callable


class Clock:
    """Seconds, and what is to happen in them. It does not start at 0, so that a forgotten `now` shows."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def call_at(self, when: float, action: Callable[[], object]) -> None:
        """Let `action` happen at `when`; of several for one time, the first asked for is the first done."""
        heapq.heappush(self._due, (max(when, self.now), next(self._order), action))

    def every(self, interval: float, action: Callable[[], object]) -> None:
        """Let `action` happen again and again."""

        def repeat() -> None:
            action()
            self.call_at(self.now + interval, repeat)

        self.call_at(self.now + interval, repeat)

    def next_due(self) -> float | None:
        """When the next action is due."""
        return self._due[0][0] if self._due else None

    def run_due(self) -> bool:
        """Do everything that is due by now; whether there was anything."""
        ran = False
        while self._due and self._due[0][0] <= self.now:
            heapq.heappop(self._due)[2]()
            ran = True
        return ran
