from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from scapy.layers.l2 import Ether

from softlan.gateway.cam import AGEING, NOBODY, CamRefresh, refresh_frame
from softlan.proto.mac import identity_fault

A, B, C = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 3))


def sources(frames: list[bytes]) -> list[bytes]:
    return [frame[6:12] for frame in frames]


# The frame


def test_the_frame_golden_bytes() -> None:
    frame = refresh_frame(A)
    assert frame == bytes.fromhex("02736c000001 020000000001 88b5") + b"softlan CAM refresh" + bytes(27)
    assert len(frame) == 60


def test_scapy_reads_the_frame_so() -> None:
    oracle = Ether(refresh_frame(A))
    assert (oracle.dst, oracle.src, oracle.type) == ("02:73:6c:00:00:01", "02:00:00:00:00:01", 0x88B5)


def test_the_frame_goes_to_a_unicast_address_that_no_vendor_gives_out() -> None:
    assert identity_fault(NOBODY) is None


# The policy


def test_nothing_is_due_in_an_empty_room() -> None:
    cam = CamRefresh()
    assert cam.next_deadline() is None
    assert cam.due(1e9) == []


def test_a_newcomer_is_shown_at_once_and_then_every_interval() -> None:
    cam = CamRefresh(interval=60)
    cam.joined(1, A, 100.0)
    assert cam.next_deadline() == 100.0
    assert cam.due(100.0) == [refresh_frame(A)]
    assert cam.next_deadline() == 160.0
    assert cam.due(159.9) == []
    assert sources(cam.due(160.0)) == [A]
    assert sources(cam.due(500.0)) == [A]


def test_own_traffic_is_as_good_as_a_refresh() -> None:
    cam = CamRefresh(interval=60)
    cam.joined(1, A, 0.0)
    cam.seen(A, 50.0)
    assert cam.next_deadline() == 110.0
    assert cam.due(100.0) == []
    assert sources(cam.due(110.0)) == [A]


def test_who_left_is_refreshed_no_more() -> None:
    cam = CamRefresh()
    cam.joined(1, A, 0.0)
    cam.joined(2, B, 0.0)
    cam.left(1)
    assert sources(cam.due(1000.0)) == [B]
    cam.left(2)
    assert cam.next_deadline() is None


def test_a_leave_of_someone_unknown_or_twice_changes_nothing() -> None:
    cam = CamRefresh()
    cam.joined(1, A, 0.0)
    cam.left(7)
    cam.left(1)
    cam.left(1)
    assert cam.due(1000.0) == []


def test_a_mac_that_was_only_seen_is_refreshed_until_a_switch_would_have_forgotten_it() -> None:
    cam = CamRefresh(interval=60)
    cam.seen(A, 0.0)
    assert [now for now in range(0, 1000, 60) if cam.due(float(now))] == [60, 120, 180, 240]
    assert cam.next_deadline() is None
    assert AGEING == 300


def test_a_mac_seen_before_its_announcement_is_kept_for_good_and_retired_with_its_peer() -> None:
    cam = CamRefresh(interval=60)
    cam.seen(A, 0.0)
    cam.joined(1, A, 1.0)
    assert sources(cam.due(5000.0)) == [A]
    cam.left(1)
    assert cam.next_deadline() is None


def test_a_mac_that_comes_back_under_another_peer_id_belongs_to_it() -> None:
    cam = CamRefresh()
    cam.joined(1, A, 0.0)
    cam.joined(2, A, 1.0)
    cam.left(1)
    assert sources(cam.due(1000.0)) == [A]
    cam.left(2)
    assert cam.due(2000.0) == []


def test_a_peer_that_comes_back_with_another_mac_gives_up_the_first() -> None:
    cam = CamRefresh()
    cam.joined(1, A, 0.0)
    cam.joined(1, B, 1.0)
    assert sources(cam.due(1000.0)) == [B]


def test_a_new_session_begins_with_an_empty_table() -> None:
    cam = CamRefresh()
    cam.joined(1, A, 0.0)
    cam.seen(B, 0.0)
    cam.clear()
    assert cam.next_deadline() is None
    cam.left(1)
    cam.joined(1, C, 1.0)
    assert sources(cam.due(1.0)) == [C]


def test_a_full_table_gives_up_what_was_shown_longest_ago() -> None:
    cam = CamRefresh(interval=60, capacity=2)
    cam.joined(1, A, 0.0)
    cam.due(0.0)
    cam.seen(B, 10.0)
    cam.seen(A, 20.0)
    cam.joined(3, C, 30.0)
    assert sources(cam.due(1000.0)) == [A, C]
    cam.seen(B, 1001.0)  # A or C makes room
    cam.left(1)
    cam.left(3)
    assert len(cam.due(1100.0)) == 1


@given(st.lists(st.binary(min_size=6, max_size=6), max_size=50), st.integers(1, 10))
def test_the_table_is_bounded_whatever_is_seen(macs: list[bytes], capacity: int) -> None:
    cam = CamRefresh(capacity=capacity)
    for now, mac in enumerate(macs):
        cam.seen(mac, float(now))
        cam.joined(now, mac[::-1], float(now))
    assert len(cam.due(len(macs) + 60.0)) <= capacity


class AgainstNaive(RuleBasedStateMachine):
    """The policy told in one sentence each, over plain lists, in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.cam = CamRefresh(interval=60)
        self.announced: dict[int, bytes] = {}
        self.shown: dict[bytes, float] = {}

    @rule(seconds=st.sampled_from([0.5, 10.0, 59.5, 60.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(peer=st.integers(1, 3))
    def join(self, peer: int) -> None:
        mac = (A, B, C)[peer - 1]
        self.cam.joined(peer, mac, self.now)
        self.announced[peer] = mac
        self.shown[mac] = self.now - 60

    @rule(peer=st.integers(1, 3))
    def leave(self, peer: int) -> None:
        self.cam.left(peer)
        mac = self.announced.pop(peer, None)
        if mac:
            del self.shown[mac]

    @rule(mac=st.sampled_from([A, B, C]))
    def traffic(self, mac: bytes) -> None:
        if mac in self.shown:
            self.cam.seen(mac, self.now)
            self.shown[mac] = self.now

    @rule()
    def timer(self) -> None:
        expected = {mac for mac, shown in self.shown.items() if self.now - shown >= 60}
        assert set(sources(self.cam.due(self.now))) == expected
        self.shown |= dict.fromkeys(expected, self.now)

    @invariant()
    def deadline(self) -> None:
        assert self.cam.next_deadline() == (min(self.shown.values()) + 60 if self.shown else None)


TestAgainstNaive = AgainstNaive.TestCase
