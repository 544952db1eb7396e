"""What an ACME server asks is answered, and nothing that anyone else may send does harm."""

import asyncio
from collections.abc import Mapping

import pytest

from softlan.errors import HostError
from softlan.net.address import HostPort
from softlan.relay import http01
from softlan.relay.http01 import answering

LOOPBACK = HostPort("127.0.0.1", 0)
ANSWERS: Mapping[str, bytes] = {"/.well-known/acme-challenge/token": b"token.thumbprint"}
QUESTION = b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: relay.example\r\nUser-Agent: a CA\r\n\r\n"


async def ask(port: int, question: bytes) -> bytes:
    """Everything that comes back, until the other side closes; a reset is nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(question)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_question_is_answered_and_the_connection_closed() -> None:
    async with answering(LOOPBACK, ANSWERS) as port:
        head, _, body = (await ask(port, QUESTION)).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/octet-stream",
        b"Content-Length: 16",
        b"Connection: close",
    ]
    assert body == b"token.thumbprint"


async def test_answers_may_come_while_it_listens() -> None:
    answers: dict[str, bytes] = {}
    async with answering(LOOPBACK, answers) as port:
        assert (await ask(port, QUESTION)).startswith(b"HTTP/1.1 404 ")
        answers.update(ANSWERS)
        assert (await ask(port, QUESTION)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "question",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /.well-known/acme-challenge/../../etc/passwd HTTP/1.1\r\n\r\n",
        b"GET /.well-known/acme-challenge/\xff\xfe HTTP/1.1\r\n\r\n",
        b"POST /.well-known/acme-challenge/token HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01 TLS \r\n\r\n",
    ],
)
async def test_all_else_is_not_found(question: bytes) -> None:
    async with answering(LOOPBACK, ANSWERS) as port:
        assert (await ask(port, question)).startswith(b"HTTP/1.1 404 Not Found\r\n")


async def test_too_much_is_not_answered() -> None:
    async with answering(LOOPBACK, ANSWERS) as port:
        assert await ask(port, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n") == b""
        assert await ask(port, QUESTION)


async def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http01, "PATIENCE", 0.05)
    async with answering(LOOPBACK, ANSWERS) as port:
        assert await ask(port, b"GET /.well-known") == b""


async def test_of_too_many_callers_the_oldest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who keeps all places does not keep the ACME server out."""
    monkeypatch.setattr(http01, "MOST_CALLERS", 2)
    async with answering(LOOPBACK, ANSWERS) as port:
        (oldest, first), (youngest, second) = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert (await ask(port, QUESTION)).startswith(b"HTTP/1.1 200 ")
        assert await asyncio.wait_for(oldest.read(), 10) == b"", "it is let go"
        second.write(QUESTION)
        assert (await asyncio.wait_for(youngest.read(), 10)).startswith(b"HTTP/1.1 200 "), "and nobody else"
        first.close()
        second.close()


async def test_at_the_end_everyone_is_let_go() -> None:
    async with answering(LOOPBACK, ANSWERS) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_that_is_taken_is_said_with_what_to_do() -> None:
    async with answering(LOOPBACK, ANSWERS) as port:
        with pytest.raises(HostError, match=rf"^cannot listen on TCP port {port}, .*--acme-http-listen$"):
            async with answering(HostPort("127.0.0.1", port), ANSWERS):
                pass
