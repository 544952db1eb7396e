"""The adapter's stand-in does as the driver does: without that, the other tests would show little."""

import pytest
from tests.windows.inside.bench import PERMANENT_MAC, STACK, TAP, Adapter, End, frame, set_value

from softlan.device.win32 import (
    ERROR_FILE_NOT_FOUND,
    ERROR_GEN_FAILURE,
    ERROR_INSUFFICIENT_BUFFER,
    ERROR_INVALID_PARAMETER,
    ERROR_IO_PENDING,
    ERROR_MORE_DATA,
    ERROR_OPERATION_ABORTED,
    ERROR_SUCCESS,
    TAP_WIN_IOCTL_GET_MAC,
    TAP_WIN_IOCTL_GET_MTU,
    TAP_WIN_IOCTL_GET_VERSION,
    TAP_WIN_IOCTL_SET_MEDIA_STATUS,
    Win32Kernel,
)

ON, OFF = (number.to_bytes(4, "little") for number in (1, 0))
ERROR_INVALID_FUNCTION = 1


@pytest.fixture
def tap(kernel: Win32Kernel, adapter: Adapter):
    with End(kernel, TAP) as tap:
        yield tap


def connect(tap: End) -> None:
    assert tap.control(TAP_WIN_IOCTL_SET_MEDIA_STATUS, ON, 4)[0] == ERROR_SUCCESS


def test_it_answers_the_drivers_questions(tap: End) -> None:
    assert tap.control(TAP_WIN_IOCTL_GET_MAC, b"", 6) == (ERROR_SUCCESS, PERMANENT_MAC)
    assert tap.control(TAP_WIN_IOCTL_GET_VERSION, b"", 12) == (ERROR_SUCCESS, bytes.fromhex("090000001b00000000000000"))
    assert tap.control(TAP_WIN_IOCTL_GET_MTU, b"", 4) == (ERROR_SUCCESS, (1500).to_bytes(4, "little"))


def test_it_refuses_other_questions(tap: End) -> None:
    assert tap.control(0x220ABC, b"", 4)[0] == ERROR_INVALID_FUNCTION
    assert tap.control(TAP_WIN_IOCTL_GET_MAC, b"", 2)[0] == ERROR_INSUFFICIENT_BUFFER


def test_without_medium_nothing_passes(tap: End, stack: End) -> None:
    assert tap.begin_read()[1] == ERROR_OPERATION_ABORTED
    assert tap.write(frame(1)) == ERROR_OPERATION_ABORTED


def test_closing_the_handle_disconnects_the_medium(kernel: Win32Kernel, adapter: Adapter) -> None:
    with End(kernel, TAP) as tap:
        connect(tap)
        assert adapter.state().media
    assert not adapter.state().media
    assert not adapter.state().opened


def test_a_read_waits_for_its_frame(tap: End, stack: End) -> None:
    connect(tap)
    read, error = tap.begin_read()
    assert error == ERROR_IO_PENDING
    assert tap.end_of(read, 50) is None
    assert stack.write(frame(7)) == ERROR_SUCCESS
    assert tap.end_of(read) == ERROR_SUCCESS
    assert read.received() == frame(7)


def test_reads_that_wait_can_be_cancelled(kernel: Win32Kernel, tap: End, stack: End) -> None:
    connect(tap)
    reads = [tap.begin_read()[0] for _ in range(4)]
    kernel.cancel(tap.handle)
    assert [tap.end_of(read) for read in reads] == [ERROR_OPERATION_ABORTED] * 4
    assert stack.write(frame(8)) == ERROR_SUCCESS
    assert tap.read() == frame(8)


def test_reads_that_wait_end_with_the_medium(tap: End) -> None:
    connect(tap)
    read, _ = tap.begin_read()
    assert tap.control(TAP_WIN_IOCTL_SET_MEDIA_STATUS, OFF, 4)[0] == ERROR_SUCCESS
    assert tap.end_of(read) == ERROR_OPERATION_ABORTED


def test_a_frame_that_its_read_is_too_small_for_is_lost(tap: End, stack: End) -> None:
    connect(tap)
    stack.write(frame(1, 200))
    stack.write(frame(2))
    with pytest.raises(OSError) as caught:
        tap.read(100)
    assert caught.value.errno == ERROR_MORE_DATA
    assert tap.read() == frame(2)


def test_short_frames_are_padded_and_tags_taken_off(tap: End, stack: End) -> None:
    connect(tap)
    assert tap.write(frame(3)[:20]) == ERROR_SUCCESS
    assert stack.read() == frame(3)
    plain = frame(4, 80)
    assert tap.write(plain[:12] + b"\x81\x00\x00\x05" + plain[12:]) == ERROR_SUCCESS
    assert stack.read() == plain


def test_what_is_no_frame_is_refused(tap: End) -> None:
    connect(tap)
    assert tap.write(b"\x02" * 13) == ERROR_INSUFFICIENT_BUFFER
    assert tap.write(frame(5, 1519)) == ERROR_INVALID_PARAMETER
    assert tap.write(frame(6, 1518)) == ERROR_SUCCESS


@pytest.mark.parametrize("path", [TAP, STACK])
def test_a_second_opener_gets_nothing(kernel: Win32Kernel, adapter: Adapter, path: str) -> None:
    with End(kernel, path), End(kernel, path) as second:  # Wine opens it all the same: CreateFile itself should fail
        assert second.write(frame(1)) == ERROR_GEN_FAILURE
        assert second.begin_read()[1] == ERROR_GEN_FAILURE


def test_pulled_out_it_ends_reads_and_cannot_be_opened(kernel: Win32Kernel, adapter: Adapter, tap: End) -> None:
    connect(tap)
    read, _ = tap.begin_read()
    adapter.remove()
    assert tap.end_of(read) == ERROR_OPERATION_ABORTED
    assert tap.write(frame(1)) == ERROR_OPERATION_ABORTED
    assert kernel.open(TAP)[1] == ERROR_FILE_NOT_FOUND


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("025E10000001", "025e10000001"),
        ("02-5e-10-00-00-01", "025e10000001"),
        ("02:5E:10:00:00:01", "00ff5afe1a40"),  # colons are not read
        ("005E10000001", "00ff5afe1a40"),  # not locally administered
        ("035E10000001", "00ff5afe1a40"),  # a multicast address
        ("025E100000", "00ff5afe1a40"),
        ("025E1000000102", "00ff5afe1a40"),
    ],
)
def test_the_address_is_read_when_it_initialises(adapter: Adapter, written: str, used: str) -> None:
    set_value("NetworkAddress", written)
    assert adapter.state().mac == PERMANENT_MAC
    adapter.remove()
    adapter.insert()
    assert adapter.state().mac == bytes.fromhex(used)
