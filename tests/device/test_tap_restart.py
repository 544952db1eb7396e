from dataclasses import replace

import pytest
from tests.device.windows_fakes import ADAPTER, KEY, FakeWindows

from softlan.device.tap_adapters import TapAdapter
from softlan.device.tap_restart import REOPEN_LIMIT, get_mac, open_with_mac
from softlan.device.win32 import (
    CR_ACCESS_DENIED,
    CR_NEED_RESTART,
    CR_NO_SUCH_DEVNODE,
    CR_REMOVE_VETOED,
    ERROR_ACCESS_DENIED,
    ERROR_FILE_NOT_FOUND,
    ERROR_GEN_FAILURE,
    ERROR_INVALID_PARAMETER,
)
from softlan.errors import HostError

MAC = bytes.fromhex("02c0ffee0001")
RESTART = ["locate", "disable", "enable"]


class VirtualTime:
    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def windows() -> FakeWindows:
    return FakeWindows()


def open_as(windows: FakeWindows, mac: bytes = MAC, adapter: TapAdapter = ADAPTER) -> int:
    time = VirtualTime()
    return open_with_mac(adapter, mac, windows, windows.registry, windows, clock=time.clock, sleep=time.sleep)


def refusal(windows: FakeWindows, mac: bytes = MAC, adapter: TapAdapter = ADAPTER) -> str:
    """The error's text; whatever happens, no handle stays open."""
    with pytest.raises(HostError) as caught:
        open_as(windows, mac, adapter)
    assert windows.handles == {}
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_adapter_with_the_right_address_is_left_alone() -> None:
    windows = FakeWindows()
    windows.registry.set_text(KEY, "NetworkAddress", MAC.hex())
    windows = FakeWindows(windows.registry)
    handle = open_as(windows)
    assert get_mac(ADAPTER, windows, handle) == MAC
    assert windows.steps == ["open"]


def test_another_address_is_written_and_the_adapter_restarted_with_no_handle_open(windows: FakeWindows) -> None:
    handle = open_as(windows)
    assert get_mac(ADAPTER, windows, handle) == MAC
    assert windows.registry.keys[KEY] == {"NetworkAddress": "02C0FFEE0001"}
    assert windows.steps == ["open", "close", *RESTART, "open"]


def test_waits_until_the_restarted_adapter_is_there(windows: FakeWindows) -> None:
    windows.delay = 20
    assert open_as(windows)
    assert windows.steps == ["open", "close", *RESTART, *["open"] * 21]


def test_but_not_for_ever(windows: FakeWindows) -> None:
    windows.delay = 10_000
    assert refusal(windows) == (
        f"Ethernet 3 did not come back within {REOPEN_LIMIT:.0f} s of its restart (error 2): look for it in Windows'"
        " device manager, or restart Windows"
    )
    assert 100 < windows.steps.count("open") < 200


def test_old_drivers_read_their_address_elsewhere(windows: FakeWindows) -> None:
    windows.mac_values = ("MAC",)
    handle = open_as(windows)
    assert get_mac(ADAPTER, windows, handle) == MAC
    assert windows.registry.keys[KEY] == {"NetworkAddress": "02C0FFEE0001", "MAC": "02C0FFEE0001"}
    assert windows.steps == ["open", "close", *RESTART, "open", "close", *RESTART, "open"]


def test_an_address_that_still_differs_is_an_error_that_says_what_to_do(windows: FakeWindows) -> None:
    windows.mac_values = ()
    assert refusal(windows) == (
        "Ethernet 3 kept the address 00:ff:ab:0c:1d:2e instead of 02:c0:ff:ee:00:01 through a restart of the adapter:"
        " restart Windows and try again, or install the TAP-Windows6 driver anew"
    )
    assert windows.steps.count("disable") == 2


@pytest.mark.parametrize("mac", ["03c0ffee0001", "00c0ffee0001", "000000000000", "ffffffffffff", "02c0ffee00"])
def test_an_address_that_the_driver_would_ignore_is_refused(windows: FakeWindows, mac: str) -> None:
    assert "cannot be the adapter's address: it is " in refusal(windows, bytes.fromhex(mac))
    assert windows.steps == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ERROR_FILE_NOT_FOUND, "Ethernet 3 is not running: enable it in "),
        (ERROR_GEN_FAILURE, "Ethernet 3 is used by another program (another softlan, or OpenVPN): end that"),
        (ERROR_ACCESS_DENIED, "no permission to open Ethernet 3: run softlan as administrator"),
        (ERROR_INVALID_PARAMETER, "cannot open Ethernet 3: Windows error 87"),
    ],
)
def test_says_why_it_cannot_be_opened(windows: FakeWindows, error: int, text: str) -> None:
    windows.open_errors = [error]
    assert refusal(windows).startswith(text)
    assert windows.steps == ["open"]


def test_a_driver_that_does_not_answer_is_not_kept_open(windows: FakeWindows) -> None:
    windows.control_error = 1
    assert refusal(windows) == "cannot open Ethernet 3: Windows error 1"


def test_says_that_writing_the_address_needs_an_administrator(windows: FakeWindows) -> None:
    windows.registry.read_only.add(KEY)
    assert refusal(windows) == "no permission to give Ethernet 3 its address: run softlan as administrator"
    assert windows.steps == ["open", "close"]


def test_says_when_the_settings_are_gone(windows: FakeWindows) -> None:
    adapter = replace(ADAPTER, key=KEY + "1")
    assert refusal(windows, adapter=adapter).startswith("cannot write NetworkAddress of Ethernet 3 into the registry: ")


@pytest.mark.parametrize(
    ("failures", "steps"),
    [
        ({"locate": CR_NO_SUCH_DEVNODE}, ["locate"]),
        ({"disable": CR_REMOVE_VETOED}, ["locate", "disable"]),
        ({"disable": CR_NEED_RESTART}, ["locate", "disable", "enable"]),
    ],
)
def test_what_the_configuration_manager_cannot_do_pnputil_does(
    windows: FakeWindows, failures: dict[str, int], steps: list[str]
) -> None:
    windows.failures = failures
    assert get_mac(ADAPTER, windows, open_as(windows)) == MAC
    assert windows.steps == ["open", "close", *steps, "pnputil /restart-device", "open"]


@pytest.mark.parametrize(
    ("failures", "text"),
    [
        (
            {"locate": CR_NO_SUCH_DEVNODE},
            "cannot be (Windows does not know the device; pnputil /restart-device ended with 1): try pnputil"
            ' /restart-device "ROOT\\NET\\0000" as administrator, or restart Windows',
        ),
        ({"disable": CR_REMOVE_VETOED}, "cannot be (a program that uses the device objected; pnputil"),
        ({"disable": CR_NEED_RESTART}, "cannot be (Windows wants to be restarted first; pnputil"),
        ({"disable": 99}, "cannot be (configuration manager error 99; pnputil"),
        (
            {"disable": CR_ACCESS_DENIED},
            "cannot be (access denied; pnputil /restart-device ended with 1): run softlan as administrator",
        ),
    ],
)
def test_says_why_it_cannot_be_restarted(windows: FakeWindows, failures: dict[str, int], text: str) -> None:
    windows.failures = failures
    windows.pnputil_works = False
    assert refusal(windows).startswith(f"Ethernet 3 has to be restarted for its new address, and {text}")


def test_an_adapter_that_we_disabled_is_enabled_by_all_means(windows: FakeWindows) -> None:
    windows.failures = {"enable": 99}
    assert get_mac(ADAPTER, windows, open_as(windows)) == MAC
    assert windows.steps == ["open", "close", *RESTART, "enable", "enable", "pnputil /enable-device", "open"]


def test_or_it_is_said_how_a_person_does_it(windows: FakeWindows) -> None:
    windows.failures = {"enable": 99}
    windows.pnputil_works = False
    assert refusal(windows) == (
        "Ethernet 3 was disabled and cannot be enabled again (configuration manager error 99; pnputil /enable-device"
        ' ended with 1): run pnputil /enable-device "ROOT\\NET\\0000" as administrator, or restart Windows'
    )


def test_a_device_that_nobody_names_is_restarted_by_hand(windows: FakeWindows) -> None:
    text = refusal(windows, adapter=replace(ADAPTER, device_id=None))
    assert text.startswith("Ethernet 3 has to be restarted for its new address, and the registry does not name its")
    assert "disable and enable it" in text
    assert windows.steps == ["open", "close"]
