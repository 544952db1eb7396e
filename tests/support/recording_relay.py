"""A relay that writes down all that its own parts are given and give: ``recording_relay.py FILE relay --listen ...``.

Each line of FILE is the name of a call, and the bytes in hex: what came out of QUIC, what was forwarded, what is sent.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from softlan.cli.main import run
from softlan.quic.connection import Connection
from softlan.relay.session import Session
from softlan.relay.switch import Switch


def main() -> int:
    """Record, and be a relay; the exit status."""
    with Path(sys.argv[1]).open("w", buffering=1) as file:

        def record(owner: Any, name: str, given: Callable[..., list[bytes]]) -> None:
            method = vars(owner)[name]
            title = f"{owner.__name__}.{name}"

            @functools.wraps(method)
            def recorded(*arguments: Any, **named: Any) -> Any:
                file.writelines(f"{title} {data.hex()}\n" for data in given(*arguments, **named))
                return method(*arguments, **named)

            setattr(owner, name, recorded)

        record(Session, "stream_received", lambda session, data, end, now: [data])
        record(Session, "datagrams_received", lambda session, datagrams, now: datagrams)
        record(Switch, "forward", lambda switch, ingress, datagrams, now: datagrams)
        record(Connection, "send_datagram", lambda connection, data: [data])
        record(Connection, "send_datagrams", lambda connection, burst: burst)
        record(Connection, "send_stream", lambda connection, data: [data])
        return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
