"""Runs an endpoint in an asyncio loop: the readiness of its socket, and its next timer."""

import asyncio
import time

from softlan.quic.endpoint import Endpoint


class EndpointDriver:
    """The clock and the loop of one endpoint."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        loop.add_reader(endpoint.sock.fileno(), self._readable)

    def flush(self) -> None:
        """Send what has been queued from outside of the endpoint's own turns."""
        self.endpoint.flush(time.monotonic())
        self._rearm()

    def close(self) -> None:
        """Stop, and close the socket. Connections that are open just end."""
        self._loop.remove_reader(self.endpoint.sock.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self.endpoint.sock.close()

    def _readable(self) -> None:
        self.endpoint.receive(time.monotonic())
        self._rearm()

    def _due(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.endpoint.run_timers(time.monotonic())
        self._rearm()

    def _rearm(self) -> None:
        """Keep one timer in the loop, and touch it only when the next deadline comes before it."""
        deadline = self.endpoint.next_deadline()
        if deadline is None or deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        # asyncio's own clock is time.monotonic(): deadlines carry over as they are.
        self._timer = self._loop.call_at(deadline, self._due)
