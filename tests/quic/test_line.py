"""The line at the door."""

from softlan.net.address import SocketAddress
from softlan.quic.line import BEGIN_AT_ONCE, BEGIN_EVERY, MAX_WAITING, MAX_WAITING_NETWORK, Line


def at(network: int, port: int) -> SocketAddress:
    return (f"203.0.{network}.1", port)


def test_some_may_begin_and_then_some_time_later() -> None:
    line = Line()
    for now in (0.0, BEGIN_EVERY, 5.0):
        for _ in range(BEGIN_AT_ONCE):
            assert line.is_open(now)
            line.began()
        assert not line.is_open(now)
        assert not line.is_open(now + 0.9 * BEGIN_EVERY)


def test_they_come_in_order() -> None:
    line = Line()
    assert line.opens() is None
    line.is_open(7.0)
    for port in range(5):
        assert line.join(b"%d" % port, at(0, port))
    assert line.opens() == 7.0 + BEGIN_EVERY
    assert [line.leave() for _ in range(5)] == [(b"%d" % port, at(0, port)) for port in range(5)]
    assert (len(line), line.opens(), line._networks) == (0, None, {})


def test_one_network_has_its_share_and_all_have_an_end() -> None:
    line = Line()
    assert sum(line.join(b"", at(0, port)) for port in range(500)) == MAX_WAITING_NETWORK
    assert sum(line.join(b"", at(1 + port % 200, port)) for port in range(500)) == MAX_WAITING - MAX_WAITING_NETWORK
    line.leave()
    assert line.join(b"", at(0, 1))
    assert not line.join(b"", at(9, 1))
