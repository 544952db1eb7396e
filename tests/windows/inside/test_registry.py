"""Adapters in a real registry, and the address that the adapter gets by it."""

import pytest
from tests.windows.inside.bench import (
    GUID,
    KEY,
    NAME,
    PERMANENT_MAC,
    TAP,
    Adapter,
    End,
    get_value,
    registry_keys,
    set_value,
)

from softlan.device.tap_adapters import ADAPTER_KEY, NETWORK_CONNECTIONS_KEY, WindowsRegistry, adapters, choose
from softlan.device.tap_restart import open_with_mac
from softlan.device.win32 import CR_REMOVE_VETOED, CR_SUCCESS, REG_SZ, Win32DeviceManager, Win32Kernel
from softlan.errors import HostError, UsageError

MAC = bytes.fromhex("025e10000001")
OTHER_GUID = "{0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9}"


def test_the_only_adapter_is_found(adapter: Adapter) -> None:
    (found,) = adapters()
    assert choose([found]) == found
    assert (found.instance_id, found.name, found.path) == (GUID, NAME, TAP)
    assert (found.component_id, found.driver_version) == ("tap0901", "9.27.0.0")
    assert (found.device_id, found.key) == ("ROOT\\NET\\0000", KEY)


def test_other_network_adapters_are_passed_over(adapter: Adapter) -> None:
    others = {"0001": "pci\\ven_8086", "0002": "Wintun", "0003": "tap0801", "Properties": "tap0901"}
    with registry_keys(*(rf"{ADAPTER_KEY}\{name}" for name in others)):
        for name, component in others.items():
            set_value("ComponentId", component, rf"{ADAPTER_KEY}\{name}")
        set_value("DriverDesc", "an adapter without a component", rf"{ADAPTER_KEY}\0001")
        assert [found.instance_id for found in adapters()] == [GUID]


def test_of_several_one_has_to_be_chosen(adapter: Adapter) -> None:
    key = rf"{ADAPTER_KEY}\0012"
    connection = rf"{NETWORK_CONNECTIONS_KEY}\{OTHER_GUID}\Connection"
    with registry_keys(key, connection, connection.rpartition("\\")[0]):
        set_value("ComponentId", r"ROOT\TAP0901", key)
        set_value("NetCfgInstanceId", OTHER_GUID.lower(), key)
        set_value("Name", "LAN party, \u00e9t\u00e9", connection)
        found = adapters()
        assert [one.instance_id.upper() for one in found] == [GUID, OTHER_GUID]
        assert found[1].name == "LAN party, \u00e9t\u00e9"
        with pytest.raises(UsageError, match=NAME):
            choose(found)
        assert choose(found, name="lan PARTY, \u00c9t\u00e9") == choose(found, instance_id=OTHER_GUID) == found[1]


def test_without_an_adapter_it_says_what_to_install(adapter: Adapter) -> None:
    set_value("ComponentId", "tap0801")
    try:
        assert adapters() == []
        with pytest.raises(HostError, match="install the TAP-Windows6 driver"):
            choose([])
    finally:
        set_value("ComponentId", "tap0901")


def test_a_value_is_written_as_text_into_a_key_that_is_there(adapter: Adapter) -> None:
    registry = WindowsRegistry()
    registry.set_text(KEY, "NetworkAddress", "025E10000001")
    assert get_value("NetworkAddress") == ("025E10000001", REG_SZ)
    assert registry.value(KEY, "NetworkAddress") == "025E10000001"
    assert registry.value(KEY, "MAC") is None
    for nowhere in (lambda: registry.value(KEY + "x", "MAC"), lambda: registry.set_text(KEY + "x", "MAC", "1")):
        with pytest.raises(FileNotFoundError):
            nowhere()


def test_the_adapter_gets_its_address_by_a_restart(kernel: Win32Kernel, adapter: Adapter) -> None:
    assert adapter.state().mac == PERMANENT_MAC
    handle = open_with_mac(choose(adapters()), MAC, kernel, WindowsRegistry(), Win32DeviceManager())
    try:
        assert adapter.state().mac == MAC
        assert adapter.state().opened
    finally:
        kernel.close(handle)
    assert get_value("NetworkAddress") == (MAC.hex().upper(), REG_SZ)
    assert get_value("MAC") is None  # for old drivers only


def test_an_adapter_with_the_right_address_is_not_restarted(kernel: Win32Kernel, adapter: Adapter) -> None:
    class Untouched:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was asked for")

    set_value("NetworkAddress", MAC.hex())
    adapter.remove()
    adapter.insert()
    kernel.close(open_with_mac(choose(adapters()), MAC, kernel, Untouched(), Untouched()))


def test_an_adapter_that_keeps_its_address_is_refused(kernel: Win32Kernel, adapter: Adapter) -> None:
    class Forgetful(WindowsRegistry):
        """The value goes elsewhere, as with a driver that does not look for it."""

        def set_text(self, path: str, name: str, text: str) -> None:
            super().set_text(path, f"x{name}", text)

    with pytest.raises(HostError, match="kept the address 00:ff:5a:fe:1a:40 instead of 02:5e:10:00:00:01"):
        open_with_mac(choose(adapters()), MAC, kernel, Forgetful(), Win32DeviceManager())
    assert not adapter.state().opened


def test_a_device_in_use_is_not_disabled(kernel: Win32Kernel, adapter: Adapter) -> None:
    manager = Win32DeviceManager()
    node, error = manager.locate("ROOT\\NET\\0000")
    assert error == CR_SUCCESS
    with End(kernel, TAP):
        assert manager.disable(node) == CR_REMOVE_VETOED
    assert manager.disable(node) == CR_SUCCESS
    assert not adapter.state().inserted
    assert manager.enable(node) == CR_SUCCESS
    assert adapter.state().inserted


def test_a_device_that_windows_does_not_know_cannot_be_located() -> None:
    assert Win32DeviceManager().locate("ROOT\\NET\\0099")[1] != CR_SUCCESS
