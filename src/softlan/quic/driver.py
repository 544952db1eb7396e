"""Runs an endpoint in an asyncio loop: the readiness of its socket, and its next timer."""

import asyncio
import time

from softlan.net.loop import add_express_reader, alarm
from softlan.quic.endpoint import Endpoint


class EndpointDriver:
    """The clock and the loop of one endpoint."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self._loop = loop
        self._alarm = alarm(loop, self._due)
        self._alarm_at = float("inf")
        loop.add_reader(endpoint.sock.fileno(), self._readable)
        if endpoint.sock.express is not None:
            add_express_reader(loop, endpoint.sock.express.fileno(), self._express_readable)

    def flush(self, *, express: bool = False) -> None:
        """Send what has been queued from outside of the endpoint's own turns; see `Endpoint.flush`."""
        self.endpoint.flush(time.monotonic(), express=express)
        self._rearm()

    def close(self) -> None:
        """Stop, and close the socket. Connections that are open just end."""
        for sock in (self.endpoint.sock, self.endpoint.sock.express):
            if sock is not None:
                self._loop.remove_reader(sock.fileno())
        self._alarm.cancel()
        self.endpoint.sock.close()

    def _readable(self, *, express: bool = False) -> int:
        """One turn; how many datagrams there were, as a negative number if there may be more."""
        counters = self.endpoint.sock.counters
        before = counters.datagrams_in
        has_more = self.endpoint.receive(time.monotonic(), express=express)
        self._rearm()
        taken = counters.datagrams_in - before
        return -taken if has_more else taken

    def _express_readable(self) -> int:
        return self._readable(express=True)

    def _due(self) -> None:
        self._alarm_at = float("inf")
        self.endpoint.run_timers(time.monotonic())
        self._rearm()

    def _rearm(self) -> None:
        """Keep the alarm set, and touch it only when the next deadline comes before it."""
        deadline = self.endpoint.next_deadline()
        if deadline is not None and deadline < self._alarm_at:
            self._alarm_at = deadline
            self._alarm.set(deadline)
