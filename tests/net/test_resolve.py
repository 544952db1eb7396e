import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.errors import HostError
from softlan.net.address import HostPort, SocketAddress
from softlan.net.resolve import interleave, resolve

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


def six(number: int) -> tuple[int, SocketAddress]:
    return V6, (f"2001:db8::{number}", 443, 0, 0)


def four(number: int) -> tuple[int, SocketAddress]:
    return V4, (f"192.0.2.{number}", 443)


def test_families_take_turns_in_the_order_of_the_system() -> None:
    found = [six(1), six(2), six(3), four(1), four(2)]
    assert [host for host, *_ in interleave(found)] == [
        "2001:db8::1",
        "192.0.2.1",
        "2001:db8::2",
        "192.0.2.2",
        "2001:db8::3",
    ]


def test_the_family_that_the_system_prefers_starts() -> None:
    assert interleave([four(1), six(1), four(2)]) == [four(1)[1], six(1)[1], four(2)[1]]


def test_each_address_is_tried_once() -> None:
    assert interleave([four(1), four(1), six(1), four(1)]) == [four(1)[1], six(1)[1]]


@given(st.lists(st.one_of(st.integers(1, 9).map(six), st.integers(1, 9).map(four)), max_size=20))
def test_nothing_is_lost_and_the_turns_are_fair(found: list[tuple[int, SocketAddress]]) -> None:
    ordered = interleave(found)
    assert sorted(map(str, ordered)) == sorted({str(address) for _, address in found})
    for family, length in ((V6, 4), (V4, 2)):
        own = [address for address in ordered if len(address) == length]
        assert own == [address for kind, address in dict.fromkeys(found) if kind == family]
    shared = 2 * min(sum(len(address) == length for address in ordered) for length in (2, 4))
    assert all(len(one) != len(next_) for one, next_ in zip(ordered[:shared:2], ordered[1:shared:2], strict=True))


async def test_literals_need_no_name_server() -> None:
    assert await resolve(HostPort("192.0.2.7", 4433)) == [("192.0.2.7", 4433)]
    assert await resolve(HostPort("2001:db8::7", 443)) == [("2001:db8::7", 443, 0, 0)]


async def test_a_scope_is_kept() -> None:
    index = socket.if_nametoindex("lo")
    assert await resolve(HostPort("fe80::1%lo", 443)) == [("fe80::1", 443, 0, index)]


async def test_the_system_is_asked_for_udp_in_all_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver of our own, since what a name resolves to differs from machine to machine."""
    asked: list[tuple[Any, ...]] = []

    def getaddrinfo(host: str, port: int, **options: int) -> list[Any]:
        asked.append((host, port, options))
        kind = (socket.SOCK_DGRAM, socket.IPPROTO_UDP, "")
        return [(family, *kind, address) for family, address in (six(1), six(2), four(1))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await resolve(HostPort("relay.example", 443)) == [six(1)[1], four(1)[1], six(2)[1]]
    assert asked == [("relay.example", 443, {"type": socket.SOCK_DGRAM, "proto": socket.IPPROTO_UDP})]


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        OSError("out of luck"),
        UnicodeError("label too long"),
    ],
)
async def test_a_failure_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(HostError, match=r"cannot resolve relay\.example: .+; check the name") as caught:
        await resolve(HostPort("relay.example", 443))
    assert caught.value.stage == "resolve"
    assert str(error.args[-1]) in str(caught.value)
