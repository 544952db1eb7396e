from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.proto.drop import Action, DropReason

ARP = bytes.fromhex("ffffffffffff 02000000000a 0806").ljust(60, b"\0")


def log_of(mode: FrameLogMode, **options: Any) -> tuple[FrameLog, list[dict[str, object]]]:
    records: list[dict[str, object]] = []
    return FrameLog(mode, records.append, **options), records


def forward(log: FrameLog, now: float = 0.0) -> None:
    log.record(
        now,
        frame=ARP,
        action=Action.FORWARDED,
        reason=None,
        direction="from_peer",
        room="den",
        peer=3,
        targets=2,
    )


def drop(log: FrameLog, now: float = 0.0, frame: bytes = ARP, **more: Any) -> None:
    log.record(
        now,
        frame=frame,
        action=DropReason.JUMBO.action,
        reason=DropReason.JUMBO,
        direction="from_peer",
        room="den",
        peer=3,
        **more,
    )


@pytest.mark.parametrize(
    ("mode", "drops", "everything"),
    [(FrameLogMode.OFF, False, False), (FrameLogMode.DROPS, True, False), (FrameLogMode.ALL, True, True)],
)
def test_modes(mode: FrameLogMode, drops: bool, everything: bool) -> None:
    log, records = log_of(mode)
    assert (log.drops, log.all) == (drops, everything)
    forward(log)
    drop(log)
    expected = ["forwarded"] * everything + ["filtered"] * drops
    assert [record["action"] for record in records] == expected


def test_a_forwarded_frame_in_full() -> None:
    log, records = log_of(FrameLogMode.ALL)
    forward(log)
    assert records == [
        {
            "direction": "from_peer",
            "room": "den",
            "peer": 3,
            "src": "02:00:00:00:00:0a",
            "dst": "ff:ff:ff:ff:ff:ff",
            "ethertype": "arp",
            "length": 60,
            "action": "forwarded",
            "targets": 2,
        }
    ]


def test_a_frame_that_did_not_fit_in_full() -> None:
    log, records = log_of(FrameLogMode.DROPS)
    log.record(
        0.0,
        frame=ARP,
        action=Action.DROPPED,
        reason=DropReason.EGRESS_BUDGET,
        direction="to_peer",
        room="den",
        peer=3,
        target=4,
        budget=48,
    )
    assert records == [
        {
            "direction": "to_peer",
            "room": "den",
            "peer": 3,
            "src": "02:00:00:00:00:0a",
            "dst": "ff:ff:ff:ff:ff:ff",
            "ethertype": "arp",
            "length": 60,
            "action": "dropped",
            "reason": "egress_budget",
            "targets": 0,
            "target": 4,
            "encoded": 64,
            "budget": 48,
        }
    ]


def test_an_endpoint_without_room_or_peer_leaves_them_out() -> None:
    log, records = log_of(FrameLogMode.DROPS)
    log.record(
        0.0,
        frame=b"\x02",
        action=Action.DROPPED,
        reason=DropReason.RUNT,
        direction="from_device",
        room=None,
        peer=None,
    )
    assert records == [{"direction": "from_device", "length": 1, "action": "dropped", "reason": "runt", "targets": 0}]


def test_a_malformed_datagram_comes_with_its_peers_count() -> None:
    log, records = log_of(FrameLogMode.DROPS)
    drop(log, malformed=31)
    drop(log)
    assert [record.get("malformed") for record in records] == [31, None]


@given(st.binary(max_size=40))
def test_any_frame_can_be_logged(frame: bytes) -> None:
    log, records = log_of(FrameLogMode.DROPS)
    drop(log, frame=frame)
    assert records[0]["length"] == len(frame)
    assert ("src" in records[0]) == (len(frame) >= 12)


@pytest.mark.parametrize(
    ("start", "shown", "read"),
    [("0800", "ipv4", "ipv4"), ("8100", "0x8100", "arp"), ("88a8", "0x88a8", "arp"), ("002e", None, "llc 00")],
)
def test_of_a_sealed_frame_nothing_is_read_behind_its_header(start: str, shown: str | None, read: str) -> None:
    """There is a counter, which may look like anything: here like a tag in front of ARP."""
    frame = ARP[:12] + bytes.fromhex(start) + bytes.fromhex("0000 0806 0000 0001") + bytes(40)
    log, records = log_of(FrameLogMode.DROPS)
    drop(log, frame=frame, sealed=True)
    drop(log, frame=frame)
    assert [record.get("ethertype") for record in records] == [shown, read]
    for name in ("src", "dst", "length"):
        assert records[0][name] == records[1][name]


@given(st.binary(max_size=40))
def test_any_sealed_frame_can_be_logged(frame: bytes) -> None:
    log, records = log_of(FrameLogMode.DROPS)
    drop(log, frame=frame, sealed=True)
    assert records[0]["length"] == len(frame)


def test_a_burst_of_drops_is_cut_and_the_next_record_says_how_many_are_missing() -> None:
    log, records = log_of(FrameLogMode.DROPS, rate=20.0, burst=50)
    for _ in range(60):
        drop(log, 100.0)
    assert len(records) == 50
    drop(log, 100.04)  # not yet: a token comes every 0.05 s
    assert len(records) == 50
    drop(log, 100.06)
    assert records[-1]["left_out"] == 11
    drop(log, 200.0)
    assert "left_out" not in records[-1]


def test_in_the_long_run_the_rate_holds() -> None:
    log, records = log_of(FrameLogMode.DROPS, rate=20.0, burst=50)
    for step in range(1000):
        drop(log, step / 100)
    assert 50 + 10 * 20 - 2 <= len(records) <= 50 + 10 * 20
    left_out = sum(int(str(record.get("left_out", 0))) for record in records)
    assert 1000 - len(records) - left_out <= 5  # those since the last record


def test_quiet_time_saves_no_more_than_a_burst() -> None:
    log, records = log_of(FrameLogMode.DROPS, rate=20.0, burst=5)
    drop(log, 0.0)
    for _ in range(20):
        drop(log, 1e6)
    assert len(records) == 1 + 5


def test_all_means_all() -> None:
    log, records = log_of(FrameLogMode.ALL, rate=1.0, burst=1)
    for _ in range(100):
        forward(log)
        drop(log)
    assert len(records) == 200
