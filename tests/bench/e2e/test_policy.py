from bench.e2e.policy import table


def test_the_ratio_is_of_pairs_and_not_of_medians() -> None:
    pairs = [
        ({"tcp_up": 90.0}, {"tcp_up": 100.0}),
        ({"tcp_up": 190.0}, {"tcp_up": 200.0}),
        ({"tcp_up": 40.0}, {"tcp_up": 40.0}),
    ]
    last = table(pairs).splitlines()[-1]
    assert last == "| TCP up Mbit/s | 90 | 100 | 0.950 (0.900 to 1.000) |"


def test_only_what_both_have_is_told() -> None:
    assert len(table([({"tcp_up": 1.0}, {"tcp_down": 1.0})]).splitlines()) == 2
