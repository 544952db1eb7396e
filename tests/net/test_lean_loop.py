"""The lean loop is asyncio's own with quicker readers: what asyncio promises still holds, beside readers and in them.

Most of it runs on asyncio's own loop too, so that these are its promises and not ours.
"""

import asyncio
import functools
import math
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

if sys.platform != "linux":
    pytest.skip("epoll is Linux's", allow_module_level=True)

from softlan.net import lean_loop
from softlan.net.lean_loop import LeanLoop
from softlan.net.loop import add_express_reader

T = TypeVar("T")
BOUND = 10.0
"""Seconds after which what did not come about is not waited for any longer."""
FAR = 3600.0
"""Seconds: a timer that makes the selector's time-out long."""


class Bed:
    """A loop, what it reported, and sockets that are closed in the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.reported: list[BaseException] = []
        self._sockets: list[socket.socket] = []
        loop.set_exception_handler(lambda _, context: self.reported.append(context["exception"]))

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end, with a far timer beside it; fails when it takes too long."""
        far = self.loop.call_later(FAR, self.loop.stop)
        try:
            return self.loop.run_until_complete(asyncio.wait_for(main, BOUND))
        finally:
            far.cancel()

    def turn(self) -> None:
        """Let what is ready happen."""
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A reader's end and a writer's."""
        ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)
        self._sockets += ends
        return ends

    def ringing(self) -> socket.socket:
        """A socket that is readable, and stays so as long as nobody reads it."""
        near, far = self.pair()
        far.send(b"x")
        return near

    def close(self) -> None:
        self.loop.close()
        for each in self._sockets:
            each.close()


@pytest.fixture(params=[LeanLoop, asyncio.SelectorEventLoop], ids=["lean", "asyncio"])
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    bed = Bed(request.param())
    yield bed
    bed.close()


@pytest.fixture
def lean() -> Iterator[Bed]:
    bed = Bed(LeanLoop())
    yield bed
    bed.close()


# Readers


def test_a_reader_is_called_until_there_is_nothing_to_read(bed: Bed) -> None:
    near, far = bed.pair()
    read: list[bytes] = []
    done = asyncio.Event()

    def reader() -> None:
        read.append(near.recv(1))
        if read[-1] == b"d":
            done.set()

    async def main() -> None:
        bed.loop.add_reader(near.fileno(), reader)
        far.send(b"abcd")
        await done.wait()

    bed.run(main())
    bed.turn()
    assert read == [b"a", b"b", b"c", b"d"]


def test_a_reader_gets_its_arguments_and_may_be_given_by_its_file(bed: Bed) -> None:
    near = bed.ringing()
    calls: list[tuple[int, str]] = []
    done = asyncio.Event()

    def reader(number: int, word: str) -> None:
        calls.append((number, word))
        near.recv(1)
        done.set()

    bed.loop.add_reader(near, reader, 7, "seven")
    bed.run(done.wait())
    assert calls == [(7, "seven")]
    assert bed.loop.remove_reader(near) is True
    assert bed.loop.remove_reader(near.fileno()) is False


def test_another_callback_takes_the_place_of_the_first(bed: Bed) -> None:
    near = bed.ringing()
    calls: list[str] = []
    done = asyncio.Event()

    def second() -> None:
        calls.append("second")
        near.recv(1)
        done.set()

    bed.loop.add_reader(near, calls.append, "first")
    bed.loop.add_reader(near.fileno(), second)
    bed.run(done.wait())
    assert calls == ["second"]
    assert bed.loop.remove_reader(near) is True


def test_nothing_is_called_for_a_reader_that_was_removed(bed: Bed) -> None:
    near = bed.ringing()
    calls: list[int] = []
    bed.loop.add_reader(near, calls.append, 1)
    assert bed.loop.remove_reader(near)
    assert not bed.loop.remove_reader(near)
    bed.turn()
    assert calls == []
    bed.loop.add_reader(near, calls.append, 2)
    bed.turn()
    assert set(calls) == {2}


def test_a_reader_hears_that_the_other_side_is_gone(bed: Bed) -> None:
    near, far = bed.pair()
    read: list[bytes] = []
    done = asyncio.Event()

    def reader() -> None:
        read.append(near.recv(100))
        bed.loop.remove_reader(near)
        done.set()

    bed.loop.add_reader(near, reader)
    bed.loop.call_soon(far.close)
    bed.run(done.wait())
    assert read == [b""]


def test_a_reader_hears_that_the_last_writer_of_a_pipe_is_gone(bed: Bed) -> None:
    """A hang-up comes without readable data: it must not be waited for in vain, nor for ever."""
    near, far = os.pipe()
    done = asyncio.Event()

    def reader() -> None:
        assert os.read(near, 10) == b""
        bed.loop.remove_reader(near)
        done.set()

    bed.loop.add_reader(near, reader)
    os.close(far)
    bed.run(done.wait())
    os.close(near)


def test_a_reader_may_remove_itself(bed: Bed) -> None:
    near = bed.ringing()
    calls: list[bool] = []
    bed.loop.add_reader(near, lambda: calls.append(bed.loop.remove_reader(near)))
    for _ in range(3):
        bed.turn()
    assert calls == [True]


def test_a_reader_may_remove_another_one_that_is_ready_in_the_same_turn(bed: Bed) -> None:
    ready = [bed.ringing() for _ in range(2)]
    calls: list[int] = []

    def reader(me: int) -> None:
        calls.append(me)
        bed.loop.remove_reader(ready[1 - me])

    for me in range(2):
        bed.loop.add_reader(ready[me], reader, me)
    bed.turn()
    assert len(set(calls)) == 1
    assert bed.reported == []


def test_a_reader_may_close_another_one_that_is_ready_in_the_same_turn(bed: Bed) -> None:
    ready = [bed.ringing() for _ in range(5)]
    calls: list[int] = []

    def reader(me: int) -> None:
        calls.append(me)
        for other in range(5):
            if other != me and len(calls) == 1:
                bed.loop.remove_reader(ready[other])
                ready[other].close()

    for me in range(5):
        bed.loop.add_reader(ready[me], reader, me)
    for _ in range(3):
        bed.turn()
    assert len(set(calls)) == 1
    assert bed.reported == []


def test_a_reader_may_add_and_replace_readers(bed: Bed) -> None:
    first, second = bed.ringing(), bed.ringing()
    calls: list[str] = []
    done = asyncio.Event()

    def again() -> None:
        calls.append("again")
        first.recv(1)

    def other() -> None:
        calls.append("other")
        bed.loop.remove_reader(second)
        done.set()

    def reader() -> None:
        calls.append("first")
        bed.loop.add_reader(first, again)
        bed.loop.add_reader(second, other)

    bed.loop.add_reader(first, reader)
    bed.run(done.wait())
    bed.turn()
    assert sorted(calls) == ["again", "first", "other"]


def test_a_descriptor_that_was_closed_first_can_still_be_removed_and_its_number_used_again(bed: Bed) -> None:
    near, other = bed.pair()[0], bed.ringing()
    number = near.fileno()
    bed.loop.add_reader(number, pytest.fail, "nobody writes to it")
    near.close()
    assert bed.loop.remove_reader(number) is True
    bed.turn()
    os.dup2(other.fileno(), number)
    done = asyncio.Event()

    def reader() -> None:
        os.read(number, 1)
        done.set()

    bed.loop.add_reader(number, reader)
    bed.run(done.wait())
    assert bed.loop.remove_reader(number)
    os.close(number)


def test_a_number_that_was_closed_and_never_removed_can_be_watched_again(lean: Bed) -> None:
    near, other = lean.pair()[0], lean.ringing()
    number = near.fileno()
    lean.loop.add_reader(number, pytest.fail, "nobody writes to it")
    near.close()
    lean.turn()
    os.dup2(other.fileno(), number)
    done = asyncio.Event()

    def reader() -> None:
        os.read(number, 1)
        done.set()

    lean.loop.add_reader(number, reader)
    lean.run(done.wait())
    assert lean.loop.remove_reader(number)
    os.close(number)


@pytest.mark.parametrize("number", [-1, 1 << 20])
def test_what_is_no_descriptor_is_refused_at_once_and_leaves_nothing(bed: Bed, number: int) -> None:
    with pytest.raises((OSError, ValueError)):
        bed.loop.add_reader(number, pytest.fail, "never")
    bed.turn()
    try:
        assert bed.loop.remove_reader(number) is False
    except ValueError:
        assert number < 0, "asyncio's word for the same"


def test_more_readers_than_one_wait_brings_are_all_served_and_asyncio_with_them(bed: Bed) -> None:
    """None is starved, though all of them stay ready all the time."""
    count = 200
    ready = [bed.ringing() for _ in range(count)]
    calls = [0] * count

    def reader(me: int) -> None:
        calls[me] += 1

    async def main() -> None:
        near, far = bed.pair()
        for me in range(count):
            bed.loop.add_reader(ready[me], reader, me)
        await bed.loop.sock_sendall(far, b"among them")
        assert await bed.loop.sock_recv(near, 100) == b"among them"
        while min(calls) < 3:
            await asyncio.sleep(0)

    bed.run(main())


# A reader that fails


class Broken(Exception):
    """What a reader raises."""


@pytest.mark.parametrize("error", [Broken("it broke"), asyncio.CancelledError(), GeneratorExit()], ids=repr)
def test_a_reader_that_raises_is_reported_and_called_again(bed: Bed, error: BaseException) -> None:
    near = bed.ringing()
    calls: list[int] = []
    done = asyncio.Event()

    def reader() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise error
        near.recv(1)
        done.set()

    bed.loop.add_reader(near, reader)
    bed.run(done.wait())
    assert bed.reported == [error, error]


def test_a_reader_that_raises_harms_no_other(bed: Bed) -> None:
    ready = [bed.ringing() for _ in range(3)]
    calls: list[int] = []
    done = asyncio.Event()

    def reader(me: int) -> None:
        calls.append(me)
        ready[me].recv(1)
        if len(calls) == 3:
            done.set()
        raise Broken(me)

    for me in range(3):
        bed.loop.add_reader(ready[me], reader, me)
    bed.run(done.wait())
    assert sorted(calls) == [0, 1, 2]
    assert sorted(error.args[0] for error in bed.reported) == [0, 1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_comes_out_of_the_loop_and_the_loop_can_go_on(bed: Bed, error: type[BaseException]) -> None:
    near, other = bed.ringing(), bed.ringing()
    calls: list[str] = []

    def reader() -> None:
        near.recv(1)
        raise error

    bed.loop.add_reader(near, reader)
    guard = bed.loop.call_later(BOUND, bed.loop.stop)
    with pytest.raises(error):
        bed.loop.run_forever()
    guard.cancel()
    bed.loop.add_reader(other, lambda: calls.append(other.recv(1).decode()))
    bed.turn()
    assert calls == ["x"]
    assert bed.reported == []


def test_control_c_cancels_what_runs_as_asyncio_run_does() -> None:
    """The signal comes while a reader runs, with nothing for asyncio to do in a long time."""
    near, far = socket.socketpair()
    ended: list[str] = []

    def reader() -> None:
        near.recv(1)
        os.kill(os.getpid(), signal.SIGINT)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(near, reader)
        far.send(b"x")
        try:
            await asyncio.sleep(BOUND)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            loop.remove_reader(near)

    with near, far, pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=LeanLoop) as runner:
        runner.run(main())
    assert ended == ["cancelled"]


# What a reader gives asyncio to do is done at once, though the selector's time-out is long


def in_reader(bed: Bed, action: Callable[[asyncio.Event], object]) -> None:
    """Let `action` happen in a reader, once; it is to see that the event it is given is set."""
    near, far = bed.pair()
    done = asyncio.Event()

    def reader() -> None:
        near.recv(1)
        action(done)

    async def main() -> None:
        bed.loop.add_reader(near, reader)
        await asyncio.sleep(0)  # the reader runs in a later turn than this
        # From a thread, and without a word to the loop: the wait has most likely begun.
        writer = threading.Thread(target=far.send, args=(b"x",))
        writer.start()
        await done.wait()
        writer.join()

    bed.run(main())


def test_a_reader_runs_in_the_loop(bed: Bed) -> None:
    seen: list[asyncio.AbstractEventLoop] = []

    def action(done: asyncio.Event) -> None:
        seen.append(asyncio.get_running_loop())
        assert asyncio.current_task() is None
        done.set()

    in_reader(bed, action)
    assert seen == [bed.loop]
    assert bed.reported == []


def test_a_callback_is_called(bed: Bed) -> None:
    in_reader(bed, lambda done: bed.loop.call_soon(done.set))


def test_a_task_starts(bed: Bed) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def task(done: asyncio.Event) -> None:
        await asyncio.sleep(0)
        done.set()

    in_reader(bed, lambda done: tasks.append(bed.loop.create_task(task(done))))
    bed.turn()
    assert tasks[0].done()


def test_a_timer_that_is_earlier_than_the_time_out_is_on_time(bed: Bed) -> None:
    in_reader(bed, lambda done: bed.loop.call_later(0.01, done.set))
    in_reader(bed, lambda done: bed.loop.call_at(bed.loop.time() - 1.0, done.set))


def test_an_answer_is_taken(bed: Bed) -> None:
    async def main() -> None:
        answer: asyncio.Future[str] = bed.loop.create_future()
        queue: asyncio.Queue[str] = asyncio.Queue()
        near, far = bed.pair()

        def reader() -> None:
            near.recv(1)
            answer.set_result("answer")
            queue.put_nowait("item")

        bed.loop.add_reader(near, reader)
        far.send(b"x")
        assert (await answer, await queue.get()) == ("answer", "item")

    bed.run(main())


def test_a_task_is_cancelled(bed: Bed) -> None:
    async def main() -> None:
        near, far = bed.pair()
        task = asyncio.create_task(asyncio.sleep(FAR))

        def reader() -> None:
            near.recv(1)
            task.cancel()

        bed.loop.add_reader(near, reader)
        far.send(b"x")
        with pytest.raises(asyncio.CancelledError):
            await task

    bed.run(main())


def test_the_loop_stops(bed: Bed) -> None:
    near = bed.ringing()

    def reader() -> None:
        near.recv(1)
        bed.loop.stop()

    bed.loop.add_reader(near, reader)
    late: list[bool] = []

    def too_late() -> None:
        late.append(True)
        bed.loop.stop()

    guard = bed.loop.call_later(2.0, too_late)
    bed.loop.run_forever()
    guard.cancel()
    assert not late


def test_a_word_from_another_thread_is_heard(bed: Bed) -> None:
    def action(done: asyncio.Event) -> None:
        thread = threading.Thread(target=bed.loop.call_soon_threadsafe, args=(done.set,))
        thread.start()
        thread.join()

    in_reader(bed, action)


def test_a_signal_is_heard(bed: Bed) -> None:
    def action(done: asyncio.Event) -> None:
        bed.loop.add_signal_handler(signal.SIGUSR1, done.set)
        os.kill(os.getpid(), signal.SIGUSR1)

    in_reader(bed, action)
    assert bed.loop.remove_signal_handler(signal.SIGUSR1)


def test_an_executor_answers(bed: Bed) -> None:
    def action(done: asyncio.Event) -> None:
        bed.loop.run_in_executor(None, sum, (1, 2)).add_done_callback(lambda future: done.set())

    in_reader(bed, action)
    bed.run(bed.loop.shutdown_default_executor())


# Beside a reader that is always ready


@pytest.fixture(params=["quiet", "busy"])
def beside(request: pytest.FixtureRequest, bed: Bed) -> Bed:
    """A loop, without and with a reader that is always ready."""
    if request.param == "busy":
        calls: list[None] = []
        bed.loop.add_reader(bed.ringing(), calls.append, None)
    return bed


def test_timers_come_in_their_order(beside: Bed) -> None:
    rung: list[int] = []
    done = asyncio.Event()
    for number in (3, 1, 2):
        beside.loop.call_later(number / 100, rung.append, number)
    beside.loop.call_later(0.04, done.set)
    beside.run(done.wait())
    assert rung == [1, 2, 3]


def test_no_timer_comes_before_its_time(beside: Bed) -> None:
    when = beside.loop.time() + 0.02

    async def main() -> float:
        future: asyncio.Future[float] = beside.loop.create_future()
        beside.loop.call_at(when, lambda: future.set_result(beside.loop.time()))
        return await future

    assert beside.run(main()) >= when - 1e-6, "asyncio allows for its clock's resolution"


def test_tasks_go_on(beside: Bed) -> None:
    async def count(to: int) -> int:
        for _ in range(to):
            await asyncio.sleep(0)
        return to

    async def main() -> list[int]:
        return await asyncio.gather(*(count(n) for n in range(50)))

    assert beside.run(main()) == list(range(50))


def test_time_outs_come(beside: Bed) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)

    beside.run(main())


def test_threads_are_heard(beside: Bed) -> None:
    async def main() -> list[int]:
        heard: list[int] = []
        done = asyncio.Event()

        def speak() -> None:
            for number in range(100):
                beside.loop.call_soon_threadsafe(heard.append, number)
            beside.loop.call_soon_threadsafe(done.set)

        await asyncio.to_thread(speak)
        await done.wait()
        await beside.loop.shutdown_default_executor()
        return heard

    assert beside.run(main()) == list(range(100))


def test_signals_are_heard(beside: Bed) -> None:
    async def main() -> None:
        done = asyncio.Event()
        beside.loop.add_signal_handler(signal.SIGUSR1, done.set)
        beside.loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
        await done.wait()
        beside.loop.remove_signal_handler(signal.SIGUSR1)

    beside.run(main())


def test_streams_flow(beside: Bed) -> None:
    """More than a socket holds, so that both sides wait for each other in turns."""
    size = 1 << 20

    async def main() -> bytes:
        near, far = beside.pair()
        reader, back = await asyncio.open_connection(sock=near)
        unread, writer = await asyncio.open_connection(sock=far)
        writer.write(bytes(size))
        writer.write_eof()
        data = await reader.read()
        for each in (back, writer):
            each.close()
            await each.wait_closed()
        assert await unread.read() == b""
        return data

    assert beside.run(main()) == bytes(size)


def test_datagram_endpoints_answer(beside: Bed) -> None:
    class Echo(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data, addr)

    async def main() -> None:
        transport, _ = await beside.loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await beside.loop.sock_connect(sock, transport.get_extra_info("sockname"))
                for number in range(20):
                    await beside.loop.sock_sendall(sock, bytes((number,)))
                    assert await beside.loop.sock_recv(sock, 10) == bytes((number,))
        finally:
            transport.close()

    beside.run(main())
    beside.turn()


def test_processes_end_and_are_read(beside: Bed) -> None:
    async def main() -> tuple[bytes, int | None]:
        program = "import sys; print(sys.stdin.read() * 2, end=''); sys.exit(3)"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(b"word")
        return out, process.returncode

    assert beside.run(main()) == (b"wordword", 3)


def test_a_descriptor_has_a_reader_of_ours_and_a_writer_of_asyncios(beside: Bed) -> None:
    async def main() -> None:
        near, far = beside.pair()
        read, wrote = asyncio.Event(), asyncio.Event()

        def reader() -> None:
            near.recv(1)
            read.set()

        def writer() -> None:
            beside.loop.remove_writer(near)
            wrote.set()

        beside.loop.add_reader(near, reader)
        beside.loop.add_writer(near, writer)
        await wrote.wait()
        far.send(b"x")
        await read.wait()
        assert beside.loop.remove_reader(near)
        assert not beside.loop.remove_writer(near)

    beside.run(main())


# The end


def test_closing_the_loop_leaves_descriptors_open_and_may_be_done_twice(bed: Bed) -> None:
    near = bed.ringing()
    bed.loop.add_reader(near, pytest.fail, "the loop is closed")
    bed.loop.close()
    bed.loop.close()
    assert bed.loop.is_closed()
    assert near.recv(1) == b"x"


def test_closing_the_loop_closes_what_it_opened() -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = opened()
    loop = LeanLoop()
    assert opened() > before
    loop.close()
    assert opened() == before


def test_a_closed_loop_takes_no_readers(lean: Bed) -> None:
    near = lean.ringing()
    lean.loop.close()
    with pytest.raises((RuntimeError, ValueError)):
        lean.loop.add_reader(near, pytest.fail, "never")
    with pytest.raises(RuntimeError):
        lean.loop.call_soon(pytest.fail, "never")


def test_it_waits_without_turning(lean: Bed) -> None:
    """With nothing to do it sleeps, and a reader's wake-ups are no turns of asyncio's."""
    near, far = lean.pair()
    calls: list[bytes] = []
    turns = 0
    done = asyncio.Event()
    once = lean.loop._run_once  # type: ignore[attr-defined]

    def counted() -> None:
        nonlocal turns
        turns += 1
        once()

    def reader() -> None:
        calls.append(near.recv(1))
        if len(calls) == 100:
            done.set()
        else:
            far.send(b"x")

    async def main() -> None:
        lean.loop.add_reader(near, reader)
        far.send(b"x")
        await done.wait()

    lean.loop._run_once = counted  # type: ignore[attr-defined]
    lean.run(main())
    assert len(calls) == 100
    assert turns < 10
    assert not select.select([near], [], [], 0)[0]


# Turns that are spaced out


class Busy:
    """A lean loop that rests for long after two turns, with a reader that always has something."""

    def __init__(self, lean: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lean_loop, "TURN", FAR)
        monkeypatch.setattr(lean_loop, "LONG_TURN", 2 * FAR)
        monkeypatch.setattr(lean_loop, "AT_ONCE", math.inf)
        monkeypatch.setattr(lean_loop, "BUSY", 2)
        monkeypatch.setattr(lean_loop.time, "sleep", self.slept)
        monkeypatch.setattr(lean_loop.os, "sched_yield", self.let_others_run)
        self.bed = lean
        self.loop = lean.loop
        self.turns = 0
        self.took = 0
        self.rests: list[float] = []
        self.yields = 0
        self.at_turn: Callable[[int], None] = lambda _: None
        self.loop.add_reader(lean.ringing(), self.turn)

    def slept(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.loop.stop()

    def let_others_run(self) -> None:
        self.yields += 1

    def turn(self) -> int:
        self.turns += 1
        self.at_turn(self.turns)
        return self.took

    def run(self) -> None:
        self.loop.run_forever()


@pytest.fixture
def busy(lean: Bed, monkeypatch: pytest.MonkeyPatch) -> Busy:
    return Busy(lean, monkeypatch)


def test_what_is_express_is_served_while_the_others_rest(busy: Busy) -> None:
    near, far = busy.bed.pair()
    heard: list[int] = []

    def express() -> None:
        near.recv(1)
        heard.append(busy.turns)
        busy.loop.stop()

    add_express_reader(busy.loop, near.fileno(), express)
    busy.at_turn = lambda turn: far.send(b"x") if turn == 4 else None  # in the fourth, after which they rest
    busy.run()
    assert heard == [4]
    assert busy.rests == [], "the wait can be ended"


def test_what_is_express_comes_first_in_a_turn(lean: Bed) -> None:
    order: list[str] = []

    def reader(name: str, near: socket.socket) -> None:
        near.recv(1)
        order.append(name)
        if len(order) == 6:
            lean.loop.stop()

    for name in ("a", "b", "express", "c", "d", "express"):
        near = lean.ringing()
        callback = functools.partial(reader, name, near)
        if name == "express":
            add_express_reader(lean.loop, near.fileno(), callback)
        else:
            lean.loop.add_reader(near, callback)
    lean.loop.run_forever()
    assert order == ["express", "express", "a", "b", "c", "d"]


def test_what_is_express_does_not_wait_for_two_others(lean: Bed) -> None:
    near, far = lean.pair()
    order: list[str] = []

    def other(end: socket.socket) -> None:
        end.recv(1)
        order.append("other")
        if order.count("other") == 1:
            far.send(b"x")
        else:
            lean.loop.stop()

    def express() -> None:
        near.recv(1)
        order.append("express")

    add_express_reader(lean.loop, near.fileno(), express)
    for _ in range(2):
        end = lean.ringing()
        lean.loop.add_reader(end, functools.partial(other, end))
    lean.loop.run_forever()
    assert order == ["other", "express", "other"]


def test_one_that_fails_meanwhile_is_reported_and_the_rest_goes_on(busy: Busy) -> None:
    near, far = busy.bed.pair()
    failures: list[int] = []

    def express() -> None:
        near.recv(1)
        failures.append(busy.turns)
        if len(failures) == 2:
            busy.loop.stop()
        else:
            far.send(b"x")
        raise ValueError("no")

    add_express_reader(busy.loop, near.fileno(), express)
    busy.at_turn = lambda turn: far.send(b"x") if turn == 4 else None
    busy.run()
    assert failures == [4, 4]
    assert [str(error) for error in busy.bed.reported] == ["no", "no"]


def test_what_is_express_and_no_more_than_games_send_never_waits(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_loop, "FAST", math.inf)
    calls: list[int] = []

    def express() -> None:
        calls.append(busy.turns)
        if len(calls) == 100:
            busy.loop.stop()

    add_express_reader(busy.loop, busy.bed.ringing().fileno(), express)
    busy.run()
    assert (len(calls), busy.rests) == (100, [])
    assert busy.turns < 10, "the others rest meanwhile"


@pytest.mark.parametrize(
    ("took", "longest"),
    [(0, 2 * FAR), (1, 2 * FAR), (2, FAR), (45, FAR)],
    ids=["nothing beside it", "an acknowledgement beside it", "a small stream beside it", "a stream beside it"],
)
def test_what_is_express_and_much_waits_but_a_stream_no_longer_than_ever(
    busy: Busy, monkeypatch: pytest.MonkeyPatch, took: int, longest: float
) -> None:
    monkeypatch.setattr(lean_loop, "FAST", 0)
    calls: list[int] = []
    add_express_reader(busy.loop, busy.bed.ringing().fileno(), lambda: calls.append(busy.turns))
    busy.took = took
    busy.run()
    assert len(busy.rests) == 1
    assert longest - FAR < busy.rests[0] <= longest
    assert len(calls) <= 5, "as often as turns may be quick"


def test_who_has_left_something_lets_others_run_and_goes_on(busy: Busy) -> None:
    busy.took = -1
    busy.at_turn = lambda turn: busy.loop.stop() if turn == 10 else None
    busy.run()
    assert (busy.turns, busy.yields, busy.rests) == (10, 10, [])


def rate_of(per_second: float, at_once: int, seconds: float) -> tuple[lean_loop._Rate, float]:
    """What is known after so many turns a second, and when the last one began."""
    rate, now = lean_loop._Rate(), 1000.0
    for _ in range(round(per_second * seconds)):
        now += 1 / per_second
        rate.count(at_once, now)
    return rate, now


@pytest.mark.parametrize(("per_second", "at_once"), [(64, 1), (1000, 1), (2900, 1), (900, 3), (48, 60)])
def test_what_games_send_is_not_fast(per_second: float, at_once: int) -> None:
    rate, now = rate_of(per_second, at_once, 1.0)
    assert not rate.is_fast(now)


def test_a_few_that_come_together_are_no_rate() -> None:
    rate, now = rate_of(64, 1, 1.0)
    for _ in range(40):
        now += 0.00001
        rate.count(1, now)
    assert not rate.is_fast(now)


@pytest.mark.parametrize(
    ("per_second", "at_once", "wait"),
    [
        (4500, 1, 0.0025),
        (800, 10, 0.0025),
        (12_000, 1, 0.002),
        (300, 50, 0.0016),
        (400, 60, 0.00125),
        (100_000, 1, 0.00125),
    ],
)
def test_above_it_the_next_one_waits_for_so_many_but_not_for_longer_than_a_little(
    per_second: float, at_once: int, wait: float
) -> None:
    rate, now = rate_of(per_second, at_once, 1.0)
    assert rate.is_fast(now)
    assert rate.next_turn() - now == pytest.approx(wait, rel=0.1)


def test_when_nothing_comes_any_more_it_is_no_longer_fast() -> None:
    rate, now = rate_of(8000, 1, 1.0)
    assert rate.is_fast(now + 0.03)
    assert not rate.is_fast(now + 0.04)
    rate.count(1, now + 0.2)
    assert not rate.is_fast(now + 0.2)


def test_an_express_reader_is_removed_like_any_other(lean: Bed) -> None:
    near = lean.ringing()
    calls: list[int] = []
    add_express_reader(lean.loop, near.fileno(), lambda: calls.append(1))
    assert lean.loop.remove_reader(near) is True
    assert lean.loop.remove_reader(near) is False
    lean.turn()
    assert calls == []
    assert lean.loop.selector._express.poll(0) == []  # type: ignore[attr-defined]


def test_other_loops_have_readers_of_one_kind() -> None:
    bed = Bed(asyncio.SelectorEventLoop())
    near = bed.ringing()
    done = asyncio.Event()
    add_express_reader(bed.loop, near.fileno(), lambda: (near.recv(1), done.set()))
    try:
        bed.run(done.wait())
    finally:
        bed.close()
