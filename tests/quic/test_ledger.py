"""The ledger of what a peer sends for nothing, and whether it hears."""

from softlan.quic.ledger import (
    AUDIT_EVERY,
    CHUNK,
    CREDIT,
    CREDIT_A_DATAGRAM,
    CREDIT_A_SECOND,
    DEAF_TIME,
    MAX_RETIRED,
    MAX_UNACKNOWLEDGED,
    PACKET_OVERHEAD,
    PROVEN,
    PROVEN_AUDIT_EVERY,
    PROVEN_CHUNK,
    UNASKED_AT_ONCE,
    UNASKED_PACKET,
    UNASKED_SLACK,
    Hearing,
    Ledger,
)


def opened(path_bytes: int = 0) -> Ledger:
    ledger = Ledger()
    ledger.open(path_bytes, 0.0)
    return ledger


def is_overdrawn(
    ledger: Ledger, received: int, delivered: int, queued: int, sent: int, path_bytes: int, now: float
) -> bool:
    """By these totals."""
    ledger.received, ledger.delivered, ledger.queued, ledger.sent = received, delivered, queued, sent
    return ledger.is_overdrawn(path_bytes, now)


def test_what_is_delivered_costs_nothing() -> None:
    ledger = opened(1000)
    for packets in range(1, 2000):
        delivered = packets * 1400
        assert not is_overdrawn(ledger, packets, delivered, 0, 0, 1000 + delivered + packets * PACKET_OVERHEAD, 0.0)


def test_what_is_not_delivered_is_paid_for_until_the_credit_is_used_up() -> None:
    ledger = opened()
    assert not is_overdrawn(ledger, 1, 0, 0, 0, CREDIT + PACKET_OVERHEAD, 0.0)
    assert is_overdrawn(ledger, 2, 0, 0, 0, CREDIT + 2 * PACKET_OVERHEAD + 1, 0.0)


def test_acknowledgements_are_paid_for_by_what_they_acknowledge() -> None:
    ledger = opened()
    for n in range(1, 10_000):
        assert not is_overdrawn(ledger, n, 0, n, n, n * (PACKET_OVERHEAD + int(CREDIT_A_DATAGRAM)), 0.0)


def test_time_pays_a_little_and_no_more_is_saved_than_there_was_at_the_start() -> None:
    ledger = opened()
    assert not is_overdrawn(ledger, 0, 0, 0, 0, CREDIT, 0.0)
    assert not is_overdrawn(ledger, 0, 0, 0, 0, CREDIT + int(CREDIT_A_SECOND), 1.0)
    assert is_overdrawn(ledger, 0, 0, 0, 0, 2 * CREDIT + int(CREDIT_A_SECOND) + 1, 1e6)


def test_packets_that_nobody_asked_for_are_paid_for() -> None:
    ledger = opened()
    for total in range(CREDIT // UNASKED_PACKET + 1):
        assert not is_overdrawn(ledger, 0, 0, 0, total, 0, 0.0)
    assert is_overdrawn(ledger, 0, 0, 0, CREDIT // UNASKED_PACKET + 1, 0, 0.0)


def test_a_packet_for_each_datagram_and_an_acknowledgement_for_each_that_came_are_free() -> None:
    ledger = opened()
    for n in range(10_000):
        assert not is_overdrawn(ledger, n, 0, n, 2 * n, n * PACKET_OVERHEAD, 0.0)


def test_packets_may_leave_some_time_after_they_were_queued_and_not_any_time() -> None:
    ledger = opened()
    assert not is_overdrawn(ledger, 0, 0, 1_000_000, 0, 0, 0.0)
    assert not is_overdrawn(ledger, 0, 0, 1_000_000, UNASKED_SLACK + CREDIT // UNASKED_PACKET, 0, 0.0)
    assert is_overdrawn(ledger, 0, 0, 1_000_000, UNASKED_SLACK + CREDIT // UNASKED_PACKET + 1, 0, 0.0)


def test_a_new_path_is_counted_from_its_beginning() -> None:
    ledger = opened(1 << 30)
    assert not is_overdrawn(ledger, 1, 0, 0, 0, 100, 0.0)
    assert is_overdrawn(ledger, 1, 0, 0, 0, 101 + CREDIT, 0.0)


def test_who_acknowledges_again_is_no_longer_deaf() -> None:
    hearing = Hearing()
    assert not hearing.look(MAX_UNACKNOWLEDGED - 1, 0, 0.0)
    assert not hearing.is_deaf
    assert not hearing.look(MAX_UNACKNOWLEDGED, 0, 1.0)
    assert hearing.is_deaf
    assert not hearing.look(10, 1, 2.0)
    assert not hearing.is_deaf


def test_who_is_not_heard_is_not_given_up_for_not_hearing() -> None:
    hearing = Hearing()
    assert not any(hearing.look(MAX_UNACKNOWLEDGED, 7, float(now)) for now in range(25))
    assert not hearing.look(MAX_UNACKNOWLEDGED, 8, 25.0), "it has just come back"


def test_who_speaks_and_does_not_hear_is_given_up() -> None:
    hearing = Hearing()
    looks = [hearing.look(MAX_UNACKNOWLEDGED, now, float(now)) for now in range(int(DEAF_TIME) + 1)]
    assert looks == [False] * int(DEAF_TIME) + [True]
    assert Hearing().look(2 * MAX_UNACKNOWLEDGED, 0, 0.0), "or at once, when it is too much"


def test_nothing_is_paid_for_before_the_handshake_is_through() -> None:
    ledger = Ledger()
    assert not is_overdrawn(ledger, 100, 0, 0, 10_000, 10 * CREDIT, 0.0)
    ledger.open(10 * CREDIT, 0.0)
    assert not is_overdrawn(ledger, 100, 0, 0, 10_000, 11 * CREDIT, 0.0)
    assert is_overdrawn(ledger, 101, 0, 0, 10_000, 11 * CREDIT + PACKET_OVERHEAD + 1, 0.0)


def test_it_is_looked_at_more_rarely_once_many_packets_were_harmless() -> None:
    ledger = opened()
    assert (ledger.chunk, ledger.is_due) == (CHUNK, False)
    ledger.received = AUDIT_EVERY
    assert ledger.is_due
    assert not ledger.is_overdrawn(0, 0.0)
    assert not ledger.is_due
    ledger.received = PROVEN
    assert (ledger.chunk, ledger.is_due) == (PROVEN_CHUNK, True)
    assert not ledger.is_overdrawn(0, 0.0)
    ledger.received += PROVEN_AUDIT_EVERY - 1
    assert not ledger.is_due
    assert ledger.retire()
    assert ledger.chunk == CHUNK


def test_a_burst_is_what_was_queued_and_some() -> None:
    ledger = opened()
    ledger.queued = 10
    assert ledger.burst() == 10 + UNASKED_AT_ONCE
    assert ledger.burst() == UNASKED_AT_ONCE


def test_so_many_connection_ids_may_be_retired() -> None:
    ledger = opened()
    assert [ledger.retire() for _ in range(MAX_RETIRED + 1)] == [True] * MAX_RETIRED + [False]
