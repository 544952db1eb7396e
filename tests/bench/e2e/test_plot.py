import xml.etree.ElementTree as ET

from bench.e2e.plot import svg
from bench.e2e.report import Result

SVG = "{http://www.w3.org/2000/svg}"


def result(peer: str, authenticated: bool, **figures: float) -> Result:
    return Result(peer, "1.0", "a cipher", authenticated, 1418, "2026-01-01", "a machine", 0.0, figures=figures)


def charts(*results: Result) -> list[ET.Element]:
    return ET.fromstring(svg(results)).findall(f"{SVG}g")


def widths(chart: ET.Element) -> list[float]:
    return [float(bar.attrib["width"]) for bar in chart.findall(f"{SVG}rect")]


def test_every_measured_column_is_a_chart_with_a_bar_for_each_peer_that_has_it() -> None:
    drawn = charts(
        result("softlan", True, tcp_up=600.0, rtt_idle_p50=0.5),
        result("<odd> & name", True, tcp_up=300.0, rtt_idle_p50=0.25),
        result("bridge", False, tcp_up=1200.0),
    )
    assert [len(widths(chart)) for chart in drawn] == [2, 3]


def test_bars_are_as_long_as_their_figures() -> None:
    (drawn,) = charts(result("softlan", True, tcp_up=600.0), result("bridge", False, tcp_up=1200.0))
    ours, limit = widths(drawn)
    assert limit == ours * 2


def test_peers_that_do_not_authenticate_look_otherwise() -> None:
    (drawn,) = charts(
        result("softlan", True, tcp_up=1.0), result("fastd", True, tcp_up=1.0), result("bridge", False, tcp_up=1.0)
    )
    assert len({bar.attrib["fill"] for bar in drawn.findall(f"{SVG}rect")}) == 3


def test_a_column_of_zeros_can_be_drawn() -> None:
    (drawn,) = charts(result("softlan", True, kpps_100=0.0))
    assert widths(drawn) == [0.0]
