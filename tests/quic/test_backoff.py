"""Waits that grow while nothing comes."""

from tests.support.wire import RELAY, Link, World

from softlan.net.address import SocketAddress
from softlan.quic.backoff import FIRST, LONGEST, Backoff


def test_nothing_is_put_off_until_the_timer_has_rung_for_nothing() -> None:
    backoff = Backoff()
    assert backoff.put_off(5.0, 0) == 5.0
    backoff.rang(3, 10.0)
    assert backoff.put_off(10.001, 3) == 10.0 + FIRST
    assert backoff.put_off(11.0, 3) == 11.0, "the library waits longer by itself"
    assert backoff.put_off(10.001, 4) == 10.001, "something came"


def test_the_wait_doubles_up_to_its_end_and_begins_anew() -> None:
    backoff = Backoff()
    waits = []
    for _ in range(9):
        backoff.rang(7, 0.0)
        waits.append(backoff.put_off(0.0, 7))
    assert waits == [FIRST * 2**n for n in range(6)] + [LONGEST] * 3
    backoff.rang(8, 0.0)
    assert backoff.put_off(0.0, 8) == FIRST


def test_who_gets_no_answer_right_after_the_handshake_does_not_shout() -> None:
    """The library repeats all there is every few round trips: it were 900 kB in 5 seconds."""
    world = World(Link(latency=0.002))
    client, server = world.pair()
    client.connection.send_stream(b"hello" * 40)

    def one_way(data: bytes, source: SocketAddress, destination: SocketAddress) -> bytes | None:
        return data if destination == RELAY else None

    world.wire.taps.append(one_way)
    sent = client.sock.counters.bytes_out
    world.run(within=5)
    assert client.sock.counters.bytes_out - sent < 20_000
    world.wire.taps.clear()
    world.run(lambda: client.connection._quic._handshake_confirmed, within=10 * LONGEST)
    assert (client.end, server.end) == (None, None)


def test_a_timer_that_is_not_due_has_not_rung() -> None:
    """A breath's end, say, is looked at by the same call."""
    world = World(Link(latency=0.005))
    client, _ = world.pair()
    world.run(within=1)
    connection = client.connection
    connection.send_datagram(b"frame")
    connection._owner.flush(world.now)  # type: ignore[attr-defined]
    due = connection.deadline()
    for _ in range(6):
        connection.handle_timer(world.now)
    assert connection.deadline() == due
