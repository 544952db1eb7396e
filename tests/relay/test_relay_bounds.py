"""What the relay bears of peers that do their worst, over real QUIC: it is bounded, and the party goes on."""

from tests.support.virtual_room import RoomWorld, frame
from tests.support.wire import Link

from softlan.client.session import EndKind
from softlan.relay.limits import RelayLimits


def test_a_member_that_acknowledges_nothing_is_let_go_when_its_backlog_is_full() -> None:
    limit = 1000
    world = RoomWorld(limits=RelayLimits(control_backlog=limit))
    gone = Link()
    victim, player, other = world.join(link=gone), world.join(), world.join()
    [session] = [each for each in world.relay.sessions if each.member is not None and each.member.mac == victim.mac]
    gone.down = True
    most = 0
    left_at = world.now + 25.0  # well before the idle timeout
    while session.member is not None and world.now < left_at:
        visitor = world.join()
        visitor.session.leave("quit", "")
        world.run(within=0.1)
        most = max(most, session.connection.unsent_stream_bytes)
    assert session.member is None
    assert limit < most < limit + 500
    assert world.now < left_at
    for member in (player, other):
        assert [left.reason for _, left in member.went if left.reason != "disconnect:quit"] == ["protocol_error"]
    player.session.send_frames([frame(other.mac, player.mac)])
    world.run(lambda: other.frames)


def test_a_newcomer_to_a_crowd_of_strangers_is_told_why_it_has_to_wait() -> None:
    world = RoomWorld(limits=RelayLimits(max_waiting=2))
    strangers = [world.connect() for _ in range(2)]
    world.run(lambda: all(stranger.ready for stranger in strangers))
    newcomer = world.start()
    world.run(lambda: newcomer.ended)
    assert newcomer.ended is not None
    assert newcomer.ended.kind is EndKind.LOST, "so it tries again"
    assert "relay_full" in newcomer.ended.reason
    world.run(within=6)  # the strangers' time to say hello is over
    assert world.join().welcome is not None
