"""How many bytes may wait in the kernel at a socket."""

import contextlib
import socket
import sys

# asm-generic/socket.h; Python's socket module does not have them.
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


def set_buffers(sock: socket.socket, *, receive: int | None = None, send: int | None = None) -> None:
    """Ask for `receive` and `send` bytes, of which Linux makes twice as many, its own bookkeeping included.

    With CAP_NET_ADMIN they are granted; else up to `net.core.rmem_max` and `wmem_max`, 208 KiB on many systems
    (socket(7)). What cannot be had is not an error: the socket has shorter queues then.
    """
    for option, force, size in (
        (socket.SO_RCVBUF, _SO_RCVBUFFORCE, receive),
        (socket.SO_SNDBUF, _SO_SNDBUFFORCE, send),
    ):
        if size is not None:
            for each in (force, option) if sys.platform == "linux" else (option,):
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, each, size)
                    break
