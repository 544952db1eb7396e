"""How long to wait before the next attempt to reach the relay."""


class Backoff:
    """Exponential back-off with jitter between the half and the whole of each step.

    Jitter keeps a room full of endpoints from coming back in one instant when their relay restarts; the half
    that is certain keeps a single one from hammering.
    """

    __slots__ = ("_ceiling", "_factor", "_first", "_step")

    def __init__(self, first: float = 0.25, factor: float = 2.0, ceiling: float = 4.0) -> None:
        self._first = first
        self._factor = factor
        self._ceiling = ceiling
        self._step = first

    def next(self, random: float, retry_after: float | None = None) -> float:
        """Seconds to wait now; the step after it is longer, up to the ceiling.

        `random` is uniform in 0..1. `retry_after` is what the relay asked for: it is waited in full, and
        the jittered step comes on top, since the relay asked everyone the same.
        """
        delay = self._step * (0.5 + 0.5 * random)
        self._step = min(self._step * self._factor, self._ceiling)
        return delay if retry_after is None else retry_after + delay

    def reset(self) -> None:
        """Begin at the first step again, once a session was established."""
        self._step = self._first
