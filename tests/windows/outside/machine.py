"""A Windows PC in a network namespace: a fresh Wine whose programs see the network of that namespace alone."""

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Self

from tests.windows.bed.build import PYTHON, fresh_windows
from tests.windows.bed.wine import Wine

from softlan.demo.netns import Namespace
from softlan.demo.processes import wait_for

AMPLE = 30.0
"""Seconds for what takes a moment: a bound for a machine that is busy with other things."""

CTRL_C, CTRL_BREAK, CTRL_CLOSE, CTRL_SHUTDOWN = 0, 1, 2, 6


class WindowsProcess:
    """A program of the Windows Python. What it prints comes through a pipe: nothing else would do for it."""

    def __init__(self, name: str, argv: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.lines: list[str] = []
        self._popen = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._popen.stdout or ():
            self.heard(line.rstrip("\r\n"))

    def heard(self, line: str) -> None:
        """Take a line that it printed."""
        self.lines.append(line)

    def write(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return its JSON log records of this event."""
        found = []
        for line in self.lines:
            if event in line:
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if isinstance(record, dict) and record.get("event") == event:
                        found.append(record)
        return found

    def event(self, event: str, skip: int = 0, timeout: float = AMPLE) -> dict[str, Any]:
        """Wait for a log record, beyond the first `skip` of its kind."""
        return self.wait_for(event, lambda: self.events(event)[skip:], timeout)[0]

    def wait_for(self, what: str, condition: Callable[[], Any], timeout: float = AMPLE) -> Any:
        """Wait until `condition` answers something true; fail when the process ends first."""

        def still_running() -> Any:
            status = self._popen.poll()
            value = condition()
            assert value or status is None, f"{self.name} ended with status {status}: {self.lines[-8:]}"
            return value

        return wait_for(f"{self.name}: {what}", still_running, timeout)

    def finish(self, timeout: float = AMPLE) -> int:
        """Wait until it ends, and return its exit status."""
        status = self._popen.wait(timeout)
        self._reader.join(timeout)
        return status

    def kill(self) -> None:
        """End it as a crash does."""
        self._popen.kill()
        self._popen.wait()

    def close(self) -> None:
        """See that it has ended."""
        if self._popen.poll() is None:
            self.kill()
        self._reader.join(5)
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class FarSide(WindowsProcess):
    """`tests/windows/inside/far_side.py`, by the names of its methods."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.frames: deque[bytes] = deque()
        self._answers: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        super().__init__("the far side", argv, environment)

    def heard(self, line: str) -> None:
        try:
            kind, *content = json.loads(line)
        except ValueError:
            super().heard(line)
            return
        if kind == "frame":
            self.frames.append(bytes.fromhex(content[0]))
        else:
            self._answers.put([kind, *content])

    def ready(self) -> Self:
        """Wait until it is."""
        assert self._answer() == ["ready"]
        return self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def ask(*arguments: Any) -> Any:
            self.write(json.dumps([name, *arguments]))
            kind, value = self._answer()
            assert kind == "answer", value
            return value

        return ask

    def send(self, *frames: bytes) -> None:
        """Let Windows send these frames."""
        self.__getattr__("send")(*(frame.hex() for frame in frames))

    def until(self, match: Callable[[bytes], object], timeout: float = AMPLE) -> bytes:
        """Wait for a frame that Windows gets from the adapter, and take it with all before it."""
        return self._take(match, timeout)[-1]

    def up_to(self, wanted: bytes, timeout: float = AMPLE) -> list[bytes]:
        """Wait for this frame, and take it with all before it."""
        return self._take(lambda frame: frame == wanted, timeout)

    def _take(self, match: Callable[[bytes], object], timeout: float) -> list[bytes]:
        seen: list[bytes] = []

        def found() -> bool:
            while self.frames:
                seen.append(self.frames.popleft())
                if match(seen[-1]):
                    return True
            return False

        self.wait_for("the frame", found, timeout)
        return seen

    def _answer(self) -> list[Any]:
        try:
            return self._answers.get(timeout=AMPLE)
        except queue.Empty:
            raise AssertionError(f"the far side does not answer: {self.lines[-8:]}") from None


class Terminal:
    """A program at a terminal, which is a real console to it: what is typed there goes through Wine's console."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._keyboard, screen = os.openpty()
        own_terminal = ["setsid", "--ctty", *argv]
        self._popen = subprocess.Popen(own_terminal, stdin=screen, stdout=screen, stderr=screen, env=environment)
        os.close(screen)
        self._screen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._popen.kill()
        self._popen.wait()
        self._reader.join(5)
        os.close(self._keyboard)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._keyboard, keys)

    def wait_for(self, text: str) -> None:
        """Wait until this is on the screen."""
        wait_for(f"{text} on the screen", lambda: text.encode() in self._screen, AMPLE)

    def finish(self, timeout: float = AMPLE) -> int:
        """Wait until the program ends, and return its exit status."""
        return self._popen.wait(timeout)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is gone
            while text := os.read(self._keyboard, 65536):
                self._screen += text


class WindowsMachine:
    """The PC. `far` is what lies behind its adapter, and around it."""

    def __init__(self, wine: Wine, namespace: Namespace) -> None:
        self._wine = wine
        self._namespace = namespace
        self._processes: list[WindowsProcess] = []
        self.far: FarSide

    def _command(self, *arguments: str) -> list[str]:
        return self._namespace.command("wine", str(PYTHON / "python.exe"), "-u", *arguments)

    def start(self, name: str, *arguments: str) -> WindowsProcess:
        """Start its Python with these arguments."""
        process = WindowsProcess(name, self._command(*arguments), self._wine.environment())
        self._processes.append(process)
        return process

    def at_terminal(self, *arguments: str) -> Terminal:
        """Start its Python at a terminal."""
        return Terminal(self._command(*arguments), self._wine.environment())

    def boot(self) -> None:
        """Start the machine, with the far side."""
        self.far = FarSide(self._command("-m", "tests.windows.inside.far_side"), self._wine.environment())
        self._processes.append(self.far)
        self.far.ready()

    def shut_down(self) -> None:
        """End what runs."""
        for process in reversed(self._processes):
            process.close()


@contextlib.contextmanager
def windows_machine(namespace: Namespace) -> Iterator[WindowsMachine]:
    """A freshly installed PC in `namespace`, running; gone with the context."""
    with fresh_windows() as wine:
        machine = WindowsMachine(wine, namespace)
        try:
            machine.boot()
            yield machine
        finally:
            machine.shut_down()
