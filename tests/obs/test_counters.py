from hypothesis import given
from hypothesis import strategies as st

from softlan.ctrl.messages import Stats, decode, encode
from softlan.obs.counters import TrafficCounters, UdpCounters
from softlan.proto.drop import DropReason


def test_a_new_counter_is_all_zero_and_has_no_drops() -> None:
    assert TrafficCounters().snapshot() == {"frames_in": 0, "frames_out": 0, "bytes_in": 0, "bytes_out": 0}
    assert set(UdpCounters().snapshot().values()) == {0}


@given(st.lists(st.tuples(st.sampled_from(DropReason), st.integers(0, 5)), max_size=30))
def test_drops_are_counted_by_reason_and_zeros_left_out(drops: list[tuple[DropReason, int]]) -> None:
    counters = TrafficCounters()
    for reason, count in drops:
        counters.drop(reason, count)
    counted = {name: n for name, n in counters.snapshot().items() if name.startswith("drop_")}
    for reason in DropReason:
        expected = sum(count for other, count in drops if other is reason)
        assert counted.get(f"drop_{reason.value}", 0) == expected
    assert 0 not in counted.values()


def test_a_drop_counts_one_unless_told() -> None:
    counters = TrafficCounters()
    counters.drop(DropReason.JUMBO)
    counters.drop(DropReason.JUMBO, 2)
    assert counters.snapshot()["drop_jumbo"] == 3


def test_a_snapshot_with_every_drop_fits_a_stats_message() -> None:
    counters = TrafficCounters()
    counters.frames_in, counters.bytes_in = 2**40, 2**62
    for reason in DropReason:
        counters.drop(reason)
    stats = Stats(counters=counters.snapshot() | UdpCounters().snapshot(), rtt_ms=1.5)
    assert decode(encode(stats)) == stats


def test_datagrams_and_system_calls_are_apart() -> None:
    udp = UdpCounters()
    udp.datagrams_in += 64
    udp.recv_calls += 1
    assert udp.snapshot() == {
        "bytes_in": 0,
        "bytes_out": 0,
        "datagrams_in": 64,
        "datagrams_out": 0,
        "errors": 0,
        "recv_calls": 1,
        "send_calls": 0,
    }


def test_rates_show_whether_calls_carry_bursts() -> None:
    udp = UdpCounters()
    udp.datagrams_in, udp.recv_calls, udp.bytes_in, udp.errors = 1000, 500, 10**6, 7
    before = udp.snapshot()
    udp.datagrams_in += 3200
    udp.recv_calls += 100
    udp.bytes_in += 4_000_000
    udp.errors += 1
    rates = udp.rates(before, 10.0)
    assert (rates["datagrams_in_s"], rates["recv_calls_s"], rates["in_a_call"]) == (320.0, 10.0, 32.0)
    assert (rates["mbit_in_s"], rates["errors"]) == (3.2, 1)
    assert (rates["datagrams_out_s"], rates["out_a_call"]) == (0.0, 0.0)
