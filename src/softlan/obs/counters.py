"""Plain counters. One writer each, so a plain int is enough; `snapshot` is what stats messages carry."""

from softlan.proto.drop import DropReason


class TrafficCounters:
    """Frames and bytes of one peer or one endpoint.

    "In" is what came to us through QUIC: at an endpoint from the tunnel, at the relay from the peer.
    Bytes are those of frames, without the overlay header.
    """

    __slots__ = ("bytes_in", "bytes_out", "drops", "frames_in", "frames_out")

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.drops: dict[DropReason, int] = {}

    def drop(self, reason: DropReason, count: int = 1) -> None:
        """Count `count` frames that went no further."""
        drops = self.drops
        drops[reason] = drops.get(reason, 0) + count

    def snapshot(self) -> dict[str, int]:
        """The counters by name; of the drops (`drop_jumbo` ...) only those that happened."""
        counters = {
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
        for reason, count in self.drops.items():
            if count:
                counters[f"drop_{reason.value}"] = count
        return counters


class UdpCounters:
    """Datagrams, bytes and system calls of one UDP socket, apart from each other, so that batching shows."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "datagrams_in",
        "datagrams_out",
        "errors",
        "recv_calls",
        "send_calls",
    )

    def __init__(self) -> None:
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.recv_calls = 0
        self.send_calls = 0
        self.errors = 0

    def snapshot(self) -> dict[str, int]:
        """The counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def rates(self, before: dict[str, int], seconds: float) -> dict[str, float]:
        """What went on since the snapshot `before`, `seconds` ago: datagrams and calls a second, datagrams a call.

        A call that brings one datagram costs nearly as much as one that brings thirty: more of them a call is better.
        """
        gone = {name: count - before[name] for name, count in self.snapshot().items()}

        def a_call(datagrams: str, calls: str) -> float:
            return round(gone[datagrams] / gone[calls], 1) if gone[calls] else 0.0

        a_second = ("datagrams_in", "datagrams_out", "recv_calls", "send_calls")
        return {f"{name}_s": round(gone[name] / seconds, 1) for name in a_second} | {
            "in_a_call": a_call("datagrams_in", "recv_calls"),
            "out_a_call": a_call("datagrams_out", "send_calls"),
            "mbit_in_s": round(gone["bytes_in"] * 8e-6 / seconds, 1),
            "mbit_out_s": round(gone["bytes_out"] * 8e-6 / seconds, 1),
            "errors": gone["errors"],
        }
