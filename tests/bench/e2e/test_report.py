from pathlib import Path

from bench.e2e.figures import COLUMNS, Column
from bench.e2e.report import Result, append, best, load, markdown, median

TCP_UP = next(column for column in COLUMNS if column.key == "tcp_up")
IDLE = next(column for column in COLUMNS if column.key == "rtt_idle_p50")


def result(peer: str, *, authenticated: bool = True, error: str | None = None, **figures: float) -> Result:
    return Result(
        peer=peer,
        version="1.0",
        cipher="a cipher",
        authenticated=authenticated,
        mtu=1418,
        when="2026-01-01 12:00:00",
        machine="a machine",
        busy_before=0.01,
        figures=figures,
        error=error,
    )


RESULTS = [
    result("softlan", tcp_up=600.0, rtt_idle_p50=0.5),
    result("fastd", tcp_up=300.0, rtt_idle_p50=0.4),
    result("openvpn", tcp_up=400.0, rtt_idle_p50=0.6),
    result("bridge", authenticated=False, tcp_up=2500.0, rtt_idle_p50=0.1),
    result("softlan", tcp_up=700.0),
    result("softlan", tcp_up=500.0),
]


def row(text: str, column: Column) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {column.title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_median_is_of_all_rounds() -> None:
    assert median(RESULTS, "softlan", TCP_UP) == 600
    assert median(RESULTS, "softlan", COLUMNS[-1]) is None


def test_the_best_rival_authenticates_its_packets_and_is_not_ours() -> None:
    assert best(RESULTS, TCP_UP, "softlan") == ("openvpn", 400)
    assert best(RESULTS, IDLE, "softlan") == ("fastd", 0.4)
    assert best(RESULTS[:1], TCP_UP, "softlan") is None


def test_our_own_variants_are_no_rivals() -> None:
    assert best([*RESULTS, result("softlan-open", tcp_up=900.0)], TCP_UP, "softlan") == ("openvpn", 400)


def test_the_table_has_a_row_for_each_column_that_was_measured() -> None:
    text = markdown(RESULTS)
    assert row(text, TCP_UP) == [TCP_UP.title, "600 (500 to 700)", "300", "400", "2500", "openvpn", "1.50"]
    assert row(text, IDLE) == [IDLE.title, "0.50", "0.40", "0.60", "0.10", "fastd", "1.25"]
    assert "CPU" not in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {8}


def test_without_a_rival_nothing_is_compared() -> None:
    assert row(markdown(RESULTS[:1]), TCP_UP) == [TCP_UP.title, "600"]


def test_a_round_that_failed_is_told() -> None:
    text = markdown([*RESULTS, result("fastd", error="no answer")])
    assert "- fastd 1.0 (a cipher), MTU 1418: 1 of 2 rounds" in text
    assert "  - failed: no answer" in text


def test_results_are_added_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert load(file) == []
    append(file, RESULTS[0])
    append(file, RESULTS[1])
    assert load(file) == RESULTS[:2]
    assert list(tmp_path.iterdir()) == [file]
