"""Length-prefixed frames on the control stream: 4 bytes big-endian, then the message."""

from softlan.ctrl.messages import BadMessage

MIN_MESSAGE = 2
MAX_MESSAGE = 16384

_PREFIX = 4


def encode_frame(payload: bytes) -> bytes:
    """Put the length before an encoded message.

    Raises ValueError when it is shorter than 2 bytes or longer than 16384: the receiver would close.
    """
    if not MIN_MESSAGE <= len(payload) <= MAX_MESSAGE:
        raise ValueError(f"a message of {len(payload)} bytes cannot be sent")
    return len(payload).to_bytes(_PREFIX, "big") + payload


class FrameDecoder:
    """Cuts a stream that arrives in chunks of any size into messages.

    Between two calls it holds at most one partial message: 4 + 16384 bytes.
    """

    __slots__ = ("_buffer", "_fault")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fault: str | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the stream's next bytes; return the messages that they complete, in order.

        Raises BadMessage as soon as a length that is not allowed is there, and at every call after it.
        """
        if self._fault is not None:
            raise BadMessage(self._fault)
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        start = 0
        while len(buffer) - start >= _PREFIX:
            length = int.from_bytes(buffer[start : start + _PREFIX], "big")
            if not MIN_MESSAGE <= length <= MAX_MESSAGE:
                buffer.clear()
                self._fault = f"a message of {length} bytes; {MIN_MESSAGE} to {MAX_MESSAGE} are allowed"
                raise BadMessage(self._fault)
            end = start + _PREFIX + length
            if len(buffer) < end:
                break
            messages.append(bytes(buffer[start + _PREFIX : end]))
            start = end
        del buffer[:start]
        return messages
