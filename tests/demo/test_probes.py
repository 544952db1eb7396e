from softlan.demo.probes import Rtt, frames_by_action, parse_ping
from softlan.proto.drop import Action

IPUTILS = """PING 10.77.0.10 (10.77.0.10) 56(84) bytes of data.

--- 10.77.0.10 ping statistics ---
10 packets transmitted, 9 received, 10% packet loss, time 459ms
rtt min/avg/max/mdev = 0.052/0.173/1.095/0.011 ms
"""
NOBODY = """PING 10.77.0.99 (10.77.0.99) 56(84) bytes of data.

--- 10.77.0.99 ping statistics ---
3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 2041ms
"""


def test_the_summary_of_ping_is_read() -> None:
    assert parse_ping(IPUTILS, 10) == Rtt(10, 9, minimum=0.052, average=0.173, maximum=1.095)


def test_a_ping_that_nobody_answered_has_no_summary() -> None:
    assert parse_ping(NOBODY, 3) is None


def test_frames_are_summed_up_by_what_became_of_them() -> None:
    drops = {"switch_control": 3, "dhcp_server": 2, "rate_broadcast": 5, "no_gateway": 7, "queue_full": 1}
    assert frames_by_action({"room": "DEMO", "forwarded": 120, "drops": drops}) == {
        Action.FORWARDED: 120,
        Action.DROPPED: 8,
        Action.FILTERED: 5,
        Action.RATE_LIMITED: 5,
    }


def test_a_room_in_which_nothing_happened() -> None:
    assert set(frames_by_action({"room": "DEMO", "forwarded": 0, "drops": {}}).values()) == {0}
