import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from softlan.device import tap_adapters, tap_restart, win32
from softlan.errors import HostError

ABI: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "winabi.json").read_text())
"""What a C program made of the headers of mingw-w64 says for 64-bit Windows."""

CONSTANTS = {
    name: value for name, value in vars(win32).items() if name.isupper() and name[0] != "_" and isinstance(value, int)
}
STRUCTURES = {
    name: kind
    for name, kind in vars(win32).items()
    if isinstance(kind, type) and issubclass(kind, ctypes.Structure | ctypes.Union)
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_is_what_the_headers_say(name: str) -> None:
    assert CONSTANTS[name] == ABI["constants"][name]


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="the ABI file is for 64 bits")
@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_lies_in_memory_as_the_headers_say(name: str) -> None:
    kind, expected = STRUCTURES[name], ABI["structs"][name]
    assert (ctypes.sizeof(kind), ctypes.alignment(kind)) == (expected["size"], expected["align"])
    fields = [field[0] for field in kind._fields_]
    assert {field: [getattr(kind, field).offset, getattr(kind, field).size] for field in fields} == {
        field: expected["fields"][field] for field in fields
    }


def test_these_are_all_there_are() -> None:
    assert {"OVERLAPPED"} == set(STRUCTURES)
    assert {"ERROR_IO_PENDING", "TAP_WIN_IOCTL_SET_MEDIA_STATUS", "CM_DISABLE_UI_NOT_OK"} < set(CONSTANTS)


def test_ioctls_are_made_as_the_driver_makes_them() -> None:
    numbers = {name: code for name, code in CONSTANTS.items() if name.startswith("TAP_WIN_IOCTL_")}
    assert {name: (code >> 16, code >> 2 & 0xFFF, code & 3) for name, code in numbers.items()} == {
        "TAP_WIN_IOCTL_GET_MAC": (0x22, 1, 0),
        "TAP_WIN_IOCTL_GET_VERSION": (0x22, 2, 0),
        "TAP_WIN_IOCTL_GET_MTU": (0x22, 3, 0),
        "TAP_WIN_IOCTL_SET_MEDIA_STATUS": (0x22, 6, 0),
    }


def test_names_in_the_registry_are_the_drivers() -> None:
    strings = ABI["strings"]
    assert strings["ADAPTER_KEY"] == tap_adapters.ADAPTER_KEY
    assert strings["NETWORK_CONNECTIONS_KEY"] == tap_adapters.NETWORK_CONNECTIONS_KEY
    assert strings["COMPONENT_IDS"] == list(tap_adapters.COMPONENT_IDS)
    assert [strings["MAC_VALUE"], strings["MAC_VALUE_OLD_DRIVER"]] == list(tap_restart.MAC_VALUES)


@pytest.mark.skipif(sys.platform == "win32", reason="elsewhere than on Windows")
@pytest.mark.parametrize("make", [win32.Win32Kernel, win32.Win32DeviceManager, tap_adapters.WindowsRegistry])
def test_elsewhere_it_ends_with_one_clear_error(make: type) -> None:
    with pytest.raises(HostError) as caught:
        make()
    assert caught.value.stage == "platform"
    assert str(caught.value) == (f"unsupported platform: TAP-Windows6 adapters exist on Windows, not on {sys.platform}")
