"""Network namespaces for tests: nameless, so that they are gone with the last descriptor, whatever happens."""

import ctypes
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Namespace:
    """A network namespace, without duplicate address detection, with its loopback up."""

    def __init__(self) -> None:
        failure: list[OSError] = []

        def make() -> None:
            try:
                _check(_libc.unshare(CLONE_NEWNET))
                self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            except OSError as error:
                failure.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failure:
            pytest.skip(f"needs root for network namespaces: {failure[0].strerror}")
        self.ip("link", "set", "lo", "up")
        with self.entered():
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")

    @property
    def path(self) -> str:
        """For `ip link set ... netns`."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """With the calling thread inside; what is opened there stays there."""
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_libc.setns(self._fd, CLONE_NEWNET))
            try:
                yield
            finally:
                _check(_libc.setns(outside, CLONE_NEWNET))
        finally:
            os.close(outside)

    def ip(self, *arguments: str) -> str:
        """Run `ip` inside and return what it prints."""
        with self.entered():
            done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        os.close(self._fd)


def wire(one: Namespace, one_name: str, other: Namespace, other_name: str) -> None:
    """An Ethernet cable between two namespaces, both ends up."""
    one.ip("link", "add", one_name, "type", "veth", "peer", "name", other_name, "netns", other.path)
    one.ip("link", "set", one_name, "up")
    other.ip("link", "set", other_name, "up")


@contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many fresh namespaces."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Namespace())) for _ in range(count)]


@contextmanager
def unprivileged() -> Iterator[None]:
    """With the calling thread's capabilities laid down (capset(2)), still root by name."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    held = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, held))
    words = struct.unpack("=6I", held.raw)  # effective, permitted, inheritable; twice
    _check(_libc.capset(header, struct.pack("=6I", 0, *words[1:3], 0, *words[4:6])))
    try:
        yield
    finally:
        _check(_libc.capset(header, held))
