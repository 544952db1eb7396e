import io

from rich.console import Console

from softlan.demo.lan_player import Found
from softlan.demo.probes import Rtt
from softlan.demo.report import Measurements, Report, rows
from softlan.proto.drop import Action


def measured() -> Measurements:
    return Measurements(
        host_address="10.77.0.10",
        player_address="10.77.0.137/24",
        player_mac="02:00:00:00:00:01",
        player_mtu=1418,
        tunnel=Rtt(10, 10, 0.9, 1.25, 2.0),
        player_leg=Rtt(10, 10, 0.04, 0.06, 0.1),
        gateway_leg=Rtt(10, 10, 0.05, 0.07, 0.1),
        found=[Found("source", "10.77.0.10", 2.34, "a server")],
        is_sealed=True,
        frames={Action.FORWARDED: 90, Action.FILTERED: 4},
        drops={"switch_control": 4},
    )


def test_the_table_has_what_was_measured() -> None:
    assert rows(measured()) == [
        ("LAN host", "10.77.0.10"),
        ("player", "10.77.0.137/24, by DHCP"),
        ("player's interface", "MAC 02:00:00:00:00:01, MTU 1418"),
        ("RTT through the tunnel", "1.25 ms (0.90 to 2.00, 10 of 10 answered)"),
        ("RTT of the path below", "0.13 ms, the sum of"),
        ("  player to relay", "0.06 ms (0.04 to 0.10, 10 of 10 answered)"),
        ("  gateway to relay", "0.07 ms (0.05 to 0.10, 10 of 10 answered)"),
        ("source", "a server (10.77.0.10, 2.3 ms)"),
        ("room", "sealed: the relay cannot read it"),
        ("frames", "90 forwarded, 4 filtered"),
        ("  not forwarded", "4 switch_control"),
    ]


def test_what_was_not_measured_has_no_row() -> None:
    assert rows(Measurements(host_address="10.77.0.10")) == [("LAN host", "10.77.0.10")]


def test_what_others_said_is_never_read_as_markup() -> None:
    output = io.StringIO()
    report = Report(Console(file=output, width=40))
    report.failed("LAN discovery", "nothing [red]answered[/red] :smile: within quite a few seconds")
    report.table(Measurements(host_address="[b]x[/b]"))
    assert "FAILED  LAN discovery: nothing [red]answered[/red] :smile: within quite a few seconds\n" in (
        output.getvalue()
    )
    assert "[b]x[/b]" in output.getvalue()
