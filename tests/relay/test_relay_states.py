"""Whoever comes, goes, floods or fails: the relay's tables agree with each other."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from tests.support.relay_fakes import Peer, RelayBench, salt

from softlan.ctrl.messages import Disconnect, Welcome
from softlan.quic.handler import CloseCause
from softlan.relay.session import State


def fail(*_: object) -> None:
    raise RuntimeError("a fault of ours")


def cannot_be_told(peer: Peer) -> None:
    peer.session.send_message = fail  # type: ignore[method-assign]


def cannot_be_ended(peer: Peer) -> None:
    peer.session.end = fail  # type: ignore[method-assign]


def reads_nothing(peer: Peer) -> None:
    peer.connection.reads = False
    peer.connection.unsent_stream_bytes = 10_000


def does_not_carry(peer: Peer) -> None:
    peer.connection.refuses = ValueError("cannot write after RESET_STREAM")


ENDINGS: list[Callable[[Peer], None]] = [
    lambda peer: peer.say(Disconnect(reason="quit", message="")),
    lambda peer: peer.session.closed(CloseCause.TIMEOUT, "", peer.bench.now),
    lambda peer: peer.send(*[b""] * 33),
    lambda peer: peer.write(b"", end=True),
    lambda peer: peer.say_json("no"),
    lambda peer: [peer.say_json('{"type": "chat"}') for _ in range(250)].clear(),
]


class Evening(RuleBasedStateMachine):
    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.bench = RelayBench(
            max_peers=6, max_rooms=2, max_room_peers=4, max_waiting=3, control_backlog=5000, hellos_per_minute=60.0
        )
        self.resumes: dict[tuple[int | None, str], str] = {}

    @rule(target=peers)
    def connects(self) -> Peer:
        return self.bench.connect()

    @rule(
        target=peers,
        number=st.sampled_from([None, 1, 2, 3]),
        room=st.sampled_from(["den", "den", "attic", "garage"]),
        token=st.sampled_from(["ours"] * 6 + ["theirs", None]),
        seals=st.sampled_from([True] * 5 + [False]),
        resumes=st.booleans(),
    )
    def joins(self, number: int | None, room: str, token: str | None, seals: bool, resumes: bool) -> Peer:
        resume = self.resumes.get((number, room)) if resumes else None
        peer = self.bench.join(number, room, room_token=token, seal=salt(1) if seals else None, resume=resume)
        for message in peer.read():
            if isinstance(message, Welcome):
                self.resumes[number, room] = message.resume
        return peer

    @rule(peer=peers, how=st.sampled_from([cannot_be_told, cannot_be_ended, reads_nothing, does_not_carry]))
    def fails(self, peer: Peer, how: Callable[[Peer], None]) -> None:
        how(peer)

    @rule(peer=consumes(peers), how=st.sampled_from(ENDINGS))
    def ends(self, peer: Peer, how: Callable[[Peer], None]) -> None:
        if peer.session.state is State.CLOSED:
            return
        try:
            how(peer)
        except RuntimeError:  # what it raises in its own turn ends its connection
            assert fail in (peer.session.send_message, peer.session.end)
            peer.session.closed(CloseCause.ERROR, "internal error", self.bench.now)

    @rule(seconds=st.sampled_from([0.5, 6.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.now += seconds
        self.bench.relay.tick(self.bench.now)

    @invariant()
    def tables_agree(self) -> None:
        relay = self.bench.relay
        members = 0
        for name, switch in relay._switches.items():
            room = switch.room
            assert room.name == name
            assert room.members, "a room without members is none"
            members += len(room.members)
            for member in room.members.values():
                assert (room.gateway is member) if member.mac is None else (room.by_mac[member.mac] is member)
                assert (member.seal is not None) is room.sealed
                session = next(each for each in relay.sessions if each.member is member)
                assert session.switch is switch
                assert session.state is State.JOINED
            assert len(room.by_mac) + (room.gateway is not None) == len(room.members)
        assert relay._peers == members <= 6
        assert set(relay._waiting) == {each for each in relay.sessions if each.state is State.AWAIT_HELLO}
        assert len(relay._waiting) <= 3
        assert not [each for each in relay.sessions if each.state is State.CLOSED]


Evening.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEvening = Evening.TestCase
