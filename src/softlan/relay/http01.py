"""Answers an ACME server's HTTP-01 questions (RFC 8555, section 8.3), and nothing else, while that is needed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from softlan.errors import HostError
from softlan.net.address import HostPort

PATIENCE = 5.0  # seconds, for a question and its answer
MOST_CALLERS = 32  # at a time
_LONGEST_QUESTION = 8192  # bytes, with all header lines


@contextlib.asynccontextmanager
async def answering(listen: HostPort, answers: Mapping[str, bytes]) -> AsyncIterator[int]:
    """Listen on TCP, and answer GET requests for the paths in `answers` until the block is left; gives the port.

    Everyone may call, so all is bounded: callers, bytes and time. Of too many callers the oldest makes room, as an ACME
    server asks at once. Raises HostError when it cannot listen.
    """
    callers: dict[asyncio.StreamWriter, None] = {}  # who came first comes first

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(callers) >= MOST_CALLERS:
            oldest = next(iter(callers))
            del callers[oldest]
            oldest.transport.abort()
        callers[writer] = None
        try:
            # What comes is no HTTP, too much, too late or cut off: then there is no answer.
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
                async with asyncio.timeout(PATIENCE):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_response(head, answers))
                    await writer.drain()
        finally:
            callers.pop(writer, None)
            writer.close()

    try:
        server = await asyncio.start_server(
            answer, listen.host or None, listen.port, limit=_LONGEST_QUESTION, backlog=MOST_CALLERS
        )
    except OSError as error:
        raise HostError(
            "listen",
            f"cannot listen on TCP port {listen.port}, where the ACME server asks ({error.strerror or error}); free "
            "it, give the relay CAP_NET_BIND_SERVICE, or hand that port's requests on to --acme-http-listen",
        ) from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(callers):
            writer.transport.abort()


def _response(head: bytes, answers: Mapping[str, bytes]) -> bytes:
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    body = answers.get(rest.partition(b" ")[0].decode("ascii", "replace")) if method == b"GET" else None
    status = "200 OK" if body is not None else "404 Not Found"
    body = body or b""
    lines = (
        f"HTTP/1.1 {status}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
