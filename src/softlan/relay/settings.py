"""What a relay is set to for its rooms: one setting for all, and others for rooms that are named."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.budget import DEFAULT_ROOM_MTU


@dataclass(frozen=True)
class RoomSettings:
    """What a room is like."""

    mtu: int = DEFAULT_ROOM_MTU
    """Its MTU, fixed when the first member comes, in bytes."""
    policy: Policy = field(default_factory=Policy)


class RoomBook:
    """The settings of every room, with policies made ready for use."""

    def __init__(self, default: RoomSettings, named: Mapping[str, RoomSettings] | None = None) -> None:
        self.default = default
        self.named = dict(named or {})
        self._engines: dict[Policy, PolicyEngine] = {}

    def settings(self, room: str) -> RoomSettings:
        """What `room` is like."""
        return self.named.get(room, self.default)

    def engine(self, room: str) -> PolicyEngine:
        """The policy of `room`; rooms with the same one share it."""
        policy = self.settings(room).policy
        engine = self._engines.get(policy)
        if engine is None:
            engine = self._engines[policy] = PolicyEngine(policy)
        return engine
