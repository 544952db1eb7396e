"""The layouts, against what a C compiler makes of the headers; what of them needs Windows says so elsewhere."""

import ctypes
import ipaddress
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from softlan.errors import HostError
from softlan.host import winapi
from softlan.quic import winsock

ABI = json.loads((Path(__file__).parents[1] / "data/winabi.json").read_text())
LAYOUTS = {
    name: value
    for name, value in vars(winapi).items()
    if isinstance(value, type) and issubclass(value, ctypes.Structure | ctypes.Union)
}
NUMBERS = {
    name: value
    for module in (winapi, winsock)
    for name, value in vars(module).items()
    if isinstance(value, int) and not name.startswith("_") and name != "IPV6_DONTFRAG"
}


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_structure_is_laid_out_as_in_c(name: str) -> None:
    layout: Any = LAYOUTS[name]
    wanted = ABI["structs"][name]
    assert (ctypes.sizeof(layout), ctypes.alignment(layout)) == (wanted["size"], wanted["align"])
    fields = {field[0]: [getattr(layout, field[0]).offset, getattr(layout, field[0]).size] for field in layout._fields_}
    assert fields == wanted["fields"]


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_constant_is_that_of_the_headers(name: str) -> None:
    assert NUMBERS[name] == ABI["constants"][name]


def test_all_are_looked_at() -> None:
    assert {"MIB_IPINTERFACE_ROW", "MIB_IPFORWARD_ROW2", "SOCKADDR_INET", "MIB_UNICASTIPADDRESS_TABLE"} <= set(LAYOUTS)
    assert {"AF_INET6", "ERROR_OBJECT_ALREADY_EXISTS", "SIO_UDP_CONNRESET", "IP_DONTFRAGMENT"} <= set(NUMBERS)


@pytest.mark.parametrize("text", ["192.0.2.7", "0.0.0.0", "2001:db8::7", "::"])
def test_an_address_goes_there_and_back(text: str) -> None:
    address = ipaddress.ip_address(text)
    written = winapi.socket_address(address)
    assert winapi.ip_address(written) == address
    offset = 4 if address.version == 4 else 8
    assert bytes(written)[offset : offset + len(address.packed)] == address.packed, "in network order"


def test_a_call_that_this_windows_lacks_is_an_error_of_its_own() -> None:
    helper = winapi.IpHelper(lambda name: object())
    with pytest.raises(winapi.ApiError, match=r"^ConvertInterfaceGuidToLuid failed with error 50$") as caught:
        helper.luid("{3F2504E0-4F89-11D3-9A0C-0305E82C3301}")
    assert caught.value.code == winapi.ERROR_NOT_SUPPORTED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has it")
def test_elsewhere_it_is_one_clear_error() -> None:
    with pytest.raises(HostError, match=r"^unsupported platform: iphlpapi\.dll is part of Windows, and this is linux$"):
        winapi.IpHelper().addresses()
