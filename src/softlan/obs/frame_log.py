"""Frame logs: structured records of what became of single frames, for those who asked for them."""

import enum
from collections.abc import Callable

from softlan.proto import overlay
from softlan.proto.drop import Action, DropReason
from softlan.proto.ethernet import HEADER_LENGTH, MIN_ETHERTYPE, EthernetView, describe_type, parse
from softlan.proto.mac import format_mac


class FrameLogMode(enum.Enum):
    """Which frames are logged."""

    OFF = "off"
    DROPS = "drops"
    """Frames that were not forwarded, at a limited rate."""
    ALL = "all"
    """Every frame, without a limit: for looking closely, not for a full room."""


class FrameLog:
    """Builds records and hands them to `emit`.

    The hot path tests `drops` (is a drop of interest?) and `all` (is a forwarded frame?) before it calls
    `record`, so that logs which are off cost one attribute. In mode DROPS at most `burst` records at once
    and `rate` a second in the long run are emitted; the next one says how many were left out.
    """

    __slots__ = ("_burst", "_emit", "_last", "_left_out", "_rate", "_tokens", "all", "drops")

    def __init__(
        self,
        mode: FrameLogMode,
        emit: Callable[[dict[str, object]], None],
        rate: float = 20.0,
        burst: int = 50,
    ) -> None:
        self.drops = mode is not FrameLogMode.OFF
        self.all = mode is FrameLogMode.ALL
        self._emit = emit
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._last: float | None = None
        self._left_out = 0

    @classmethod
    def off(cls) -> "FrameLog":
        """A log that logs nothing."""
        return cls(FrameLogMode.OFF, lambda _: None)

    def record(
        self,
        now: float,
        *,
        frame: bytes,
        action: Action,
        reason: DropReason | None,
        direction: str,
        room: str | None,
        peer: int | None,
        targets: int = 0,
        budget: int | None = None,
        target: int | None = None,
        malformed: int | None = None,
        overhead: int = overlay.HEADER_LENGTH,
        sealed: bool = False,
    ) -> None:
        """Log one frame, if the mode and the rate let it through.

        `peer` is the ingress peer, `targets` the number of peers that got the frame. For a frame that did not
        fit, `budget` is what it exceeds and `target` the peer whose budget that is; the record then has the
        length as an overlay datagram too, `encoded`: `overhead` bytes more. `malformed` is how many of the
        peer's were malformed so far. Members that are None are left out. `frame` may be anything, also too short.
        Of a `sealed` one nothing behind the Ethernet header is read: it may show the type of a tag, but not what
        is behind that.
        """
        if not (self.all or (self.drops and (action is not Action.FORWARDED or reason is not None))):
            return
        if not self.all and not self._admit(now):
            self._left_out += 1
            return
        record: dict[str, object] = {"direction": direction, "room": room, "peer": peer}
        view = _outside(frame) if sealed else parse(frame)
        if len(frame) >= 12:
            record["src"] = format_mac(frame[6:12])
            record["dst"] = format_mac(frame[:6])
        record["ethertype"] = describe_type(view) if view else None
        record["length"] = len(frame)
        record["action"] = action.value
        record["reason"] = reason.value if reason else None
        record["targets"] = targets
        if budget is not None:
            record |= {"target": target, "encoded": overhead + len(frame), "budget": budget}
        record["malformed"] = malformed
        if self._left_out:
            record["left_out"] = self._left_out
            self._left_out = 0
        self._emit({name: value for name, value in record.items() if value is not None})

    def _admit(self, now: float) -> bool:
        """Take a token, of which `rate` a second come, up to `burst`."""
        if self._last is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _outside(frame: bytes) -> EthernetView | None:
    """The view of a frame whose first type alone can be read; None where even that one is inside (802.3, LLC)."""
    kind = int.from_bytes(frame[12:HEADER_LENGTH])
    if len(frame) < HEADER_LENGTH or kind < MIN_ETHERTYPE:
        return None
    return EthernetView(frame, (), kind, None, HEADER_LENGTH)
