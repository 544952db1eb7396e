"""The account of what a peer sends for nothing, and whether it hears."""

from softlan.quic.ledger import (
    CREDIT,
    CREDIT_A_DATAGRAM,
    CREDIT_A_SECOND,
    DEAF_TIME,
    MAX_UNACKNOWLEDGED,
    PACKET_OVERHEAD,
    UNASKED_PACKET,
    UNASKED_SLACK,
    Account,
    Hearing,
)


def test_what_is_delivered_costs_nothing() -> None:
    account = Account(1000, 0.0)
    for packets in range(1, 2000):
        delivered = packets * 1400
        assert not account.is_overdrawn(packets, delivered, 0, 0, 1000 + delivered + packets * PACKET_OVERHEAD, 0.0)


def test_what_is_not_delivered_is_paid_for_until_the_credit_is_used_up() -> None:
    account = Account(0, 0.0)
    assert not account.is_overdrawn(1, 0, 0, 0, CREDIT + PACKET_OVERHEAD, 0.0)
    assert account.is_overdrawn(2, 0, 0, 0, CREDIT + 2 * PACKET_OVERHEAD + 1, 0.0)


def test_acknowledgements_are_paid_for_by_what_they_acknowledge() -> None:
    account = Account(0, 0.0)
    for n in range(1, 10_000):
        assert not account.is_overdrawn(n, 0, n, n, n * (PACKET_OVERHEAD + int(CREDIT_A_DATAGRAM)), 0.0)


def test_time_pays_a_little_and_no_more_is_saved_than_there_was_at_the_start() -> None:
    account = Account(0, 0.0)
    assert not account.is_overdrawn(0, 0, 0, 0, CREDIT, 0.0)
    assert not account.is_overdrawn(0, 0, 0, 0, CREDIT + int(CREDIT_A_SECOND), 1.0)
    assert account.is_overdrawn(0, 0, 0, 0, 2 * CREDIT + int(CREDIT_A_SECOND) + 1, 1e6)


def test_packets_that_nobody_asked_for_are_paid_for() -> None:
    account = Account(0, 0.0)
    for total in range(CREDIT // UNASKED_PACKET + 1):
        assert not account.is_overdrawn(0, 0, 0, total, 0, 0.0)
    assert account.is_overdrawn(0, 0, 0, CREDIT // UNASKED_PACKET + 1, 0, 0.0)


def test_a_packet_for_each_datagram_and_an_acknowledgement_for_each_that_came_are_free() -> None:
    account = Account(0, 0.0)
    for n in range(10_000):
        assert not account.is_overdrawn(n, 0, n, 2 * n, n * PACKET_OVERHEAD, 0.0)


def test_packets_may_leave_some_time_after_they_were_queued_and_not_any_time() -> None:
    account = Account(0, 0.0)
    assert not account.is_overdrawn(0, 0, 1_000_000, 0, 0, 0.0)
    assert not account.is_overdrawn(0, 0, 1_000_000, UNASKED_SLACK + CREDIT // UNASKED_PACKET, 0, 0.0)
    assert account.is_overdrawn(0, 0, 1_000_000, UNASKED_SLACK + CREDIT // UNASKED_PACKET + 1, 0, 0.0)


def test_a_new_path_is_counted_from_its_beginning() -> None:
    account = Account(1 << 30, 0.0)
    assert not account.is_overdrawn(1, 0, 0, 0, 100, 0.0)
    assert account.is_overdrawn(1, 0, 0, 0, 101 + CREDIT, 0.0)


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
