import pytest
from tests.device.windows_fakes import MemoryRegistry

from softlan.device.tap_adapters import (
    ADAPTER_KEY,
    NETWORK_CONNECTIONS_KEY,
    TapAdapter,
    adapters,
    choose,
    driver_warning,
    parse_version,
)
from softlan.errors import HostError, SoftlanError, UsageError

GUIDS = [f"{{AB0C1D2E-000{number}-4000-8000-00000000000A}}" for number in range(3)]


@pytest.fixture
def registry() -> MemoryRegistry:
    """A machine with a card, a WireGuard adapter, and the key that only the system reads."""
    registry = MemoryRegistry({ADAPTER_KEY: {}})
    registry.add("0000", "{11111111-0000-4000-8000-000000000001}", "Ethernet", "pci\\ven_8086&dev_15bc")
    registry.add("0001", "{11111111-0000-4000-8000-000000000002}", "WireGuard Tunnel", "Wintun")
    registry.keys[rf"{ADAPTER_KEY}\Properties"] = {}
    registry.forbidden.add(rf"{ADAPTER_KEY}\Properties")
    return registry


def refusal(kind: type[SoftlanError], found: list[TapAdapter], *wanted: str | None) -> str:
    with pytest.raises(kind) as caught:
        choose(found, *wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_finds_none(registry: MemoryRegistry) -> None:
    assert adapters(registry) == []
    assert refusal(HostError, []) == (
        "there is no TAP-Windows6 adapter: install the TAP-Windows6 driver (OpenVPN's installer has it),"
        " and look with --list-tap-adapters"
    )


def test_finds_one_and_takes_it(registry: MemoryRegistry) -> None:
    registry.add("0007", GUIDS[0], "Ethernet 3", r"ROOT\TAP0901", DriverVersion="9.27.0.0")
    found = adapters(registry)
    assert found == [
        TapAdapter(GUIDS[0], "Ethernet 3", r"root\tap0901", "9.27.0.0", r"ROOT\NET\0007", rf"{ADAPTER_KEY}\0007")
    ]
    assert choose(found) is found[0]
    assert found[0].path == rf"\\.\Global\{GUIDS[0]}.tap"


def test_finds_several_and_takes_the_one_that_is_meant(registry: MemoryRegistry) -> None:
    for number, guid in enumerate(GUIDS):
        registry.add(f"000{number + 2}", guid, f"Ethernet {number}")
    found = adapters(registry)
    assert [adapter.name for adapter in found] == ["Ethernet 0", "Ethernet 1", "Ethernet 2"]
    for wanted in (GUIDS[1], GUIDS[1].lower(), GUIDS[1][1:-1], f" {GUIDS[1]} "):
        assert choose(found, wanted) is found[1]
    for name in ("Ethernet 1", "ethernet 1"):
        assert choose(found, None, name) is found[1]
    assert choose(found, GUIDS[1], "Ethernet 1") is found[1]


def test_lists_what_there_is_when_the_choice_is_not_clear(registry: MemoryRegistry) -> None:
    registry.add("0002", GUIDS[0], "Ethernet 3")
    registry.add("0003", GUIDS[1], "Party")
    found = adapters(registry)
    there = f"there is 'Ethernet 3' {GUIDS[0]}, 'Party' {GUIDS[1]}"
    assert refusal(UsageError, found) == (
        f"2 TAP-Windows6 adapters could be meant, so say which with --tap-instance-id or --tap-name; {there}"
    )
    assert refusal(UsageError, found, GUIDS[2]) == (
        f"no TAP-Windows6 adapter is meant by --tap-instance-id {GUIDS[2]}; {there}"
    )
    assert refusal(UsageError, found, GUIDS[0], "Party") == (
        f"no TAP-Windows6 adapter is meant by --tap-instance-id {GUIDS[0]} and --tap-name 'Party'; {there}"
    )
    assert refusal(UsageError, found, "Party") == f"--tap-instance-id 'Party' is not an adapter's GUID; {there}"
    assert refusal(UsageError, found[:1], None, "Party") == (
        f"no TAP-Windows6 adapter is meant by --tap-name 'Party'; there is 'Ethernet 3' {GUIDS[0]}"
    )


def test_what_is_not_known_is_left_open(registry: MemoryRegistry) -> None:
    registry.add("0002", GUIDS[0], None, DriverVersion=9)
    assert adapters(registry) == [
        TapAdapter(GUIDS[0], GUIDS[0], "tap0901", None, None, rf"{ADAPTER_KEY}\0002"),
    ]


def test_a_connection_that_may_not_be_read_costs_only_its_name(registry: MemoryRegistry) -> None:
    registry.add("0002", GUIDS[0], "Ethernet 3")
    registry.forbidden.add(rf"{NETWORK_CONNECTIONS_KEY}\{GUIDS[0]}\Connection")
    assert [(adapter.name, adapter.device_id) for adapter in adapters(registry)] == [(GUIDS[0], None)]


@pytest.mark.parametrize(
    "values", [{"NetCfgInstanceId": None}, {"NetCfgInstanceId": "0007"}, {"NetCfgInstanceId": 7}, {"ComponentId": 1}]
)
def test_passes_over_what_is_no_whole_adapter(registry: MemoryRegistry, values: dict[str, object]) -> None:
    registry.add("0002", GUIDS[0], "Half")
    registry.keys[rf"{ADAPTER_KEY}\0002"].update(values)
    registry.add("0003", GUIDS[1], "Whole")
    assert [adapter.name for adapter in adapters(registry)] == ["Whole"]


def test_passes_over_adapters_that_may_not_be_read(registry: MemoryRegistry) -> None:
    registry.add("0002", GUIDS[0], "Hidden")
    registry.add("0003", GUIDS[1], "Open")
    registry.forbidden.add(rf"{ADAPTER_KEY}\0002")
    assert [adapter.name for adapter in adapters(registry)] == ["Open"]


def test_says_when_the_list_itself_may_not_be_read(registry: MemoryRegistry) -> None:
    registry.forbidden.add(ADAPTER_KEY)
    with pytest.raises(HostError, match=r"^cannot read the network adapters in the registry: .*denied"):
        adapters(registry)


@pytest.mark.parametrize(
    ("version", "is_safe"), [((9, 21, 2), False), ((9, 26, 0), False), ((9, 27, 0), True), ((10, 0, 0), True)]
)
def test_warns_of_drivers_with_a_known_hole(version: tuple[int, ...], is_safe: bool) -> None:
    warning = driver_warning(version)
    if is_safe:
        assert warning is None
    else:
        assert warning == (
            f"the TAP-Windows6 driver {version[0]}.{version[1]} has a known hole (CVE-2024-1305): install 9.27 or later"
        )


def test_reads_versions_as_the_registry_writes_them() -> None:
    assert parse_version("9.24.7.601") == (9, 24, 7, 601)
    assert [parse_version(text) for text in ("", "9", "9.x", "9.\u0662")] == [None] * 4
