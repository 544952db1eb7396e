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
    token: str | None = field(default=None, repr=False)
    """The token that opens it; None leaves that to the first member, whose token is the room's while it lasts."""
    sealed: bool | None = None
    """Whether its frames are sealed; None leaves that to the first member too."""


class RoomBook:
    """The settings of every room, with policies made ready for use."""

    def __init__(
        self,
        default: RoomSettings,
        named: Mapping[str, RoomSettings] | None = None,
        *,
        open_rooms: bool = True,
        require_token: bool = False,
    ) -> None:
        self.default = default
        self.named = dict(named or {})
        self.open_rooms = open_rooms
        """Whether there are rooms beside the named ones."""
        self.require_token = require_token
        """Whether a room takes no first member without a token."""
        self._engines: dict[Policy, PolicyEngine] = {}

    def has(self, room: str) -> bool:
        """Tell whether there is, or may be, a room of this name."""
        return self.open_rooms or room in self.named

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
