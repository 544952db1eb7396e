"""Each check of a Linux machine, on a directory that stands for its /proc, /sys and /dev."""

import ipaddress
from pathlib import Path

import pytest

from softlan.client.doctor import linux
from softlan.client.doctor.finding import Outcome
from softlan.errors import HostError
from softlan.host.base import HostRoute
from softlan.host.memory import MemoryNetwork

RELAY = ipaddress.ip_address("192.0.2.7")
ANY = ipaddress.ip_network("0.0.0.0/0")
ROUTER = ipaddress.ip_address("10.9.0.1")
HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def write(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("capabilities", "outcome"),
    [
        ("000001ffffffffff", Outcome.OK),
        ("0000000000001000", Outcome.OK),
        ("0000000000002000", Outcome.FAILED),
        ("0000000000000000", Outcome.FAILED),
    ],
)
def test_privileges(tmp_path: Path, capabilities: str, outcome: Outcome) -> None:
    write(tmp_path, "proc/self/status", f"Name:\tsoftlan\nCapPrm:\tffff\nCapEff:\t{capabilities}\n")
    assert linux.privileges(tmp_path).outcome is outcome


@pytest.mark.parametrize("status", [None, "Name:\tsoftlan\n"])
def test_privileges_that_nobody_tells(tmp_path: Path, status: str | None) -> None:
    if status is not None:
        write(tmp_path, "proc/self/status", status)
    assert linux.privileges(tmp_path).outcome is Outcome.SKIPPED


def test_driver(tmp_path: Path) -> None:
    missing = linux.driver(tmp_path)
    assert (missing.outcome, "modprobe tun" in missing.advice) == (Outcome.FAILED, True)
    write(tmp_path, "dev/net/tun")
    assert linux.driver(tmp_path).outcome is Outcome.OK


def test_a_driver_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "dev/net/tun").mkdir(parents=True)
    assert linux.driver(tmp_path).outcome is Outcome.FAILED


def test_adapter(tmp_path: Path) -> None:
    assert linux.adapter("softlan0", tmp_path).outcome is Outcome.OK
    (tmp_path / "sys/class/net/softlan0").mkdir(parents=True)
    assert linux.adapter("softlan0", tmp_path).outcome is Outcome.WARNING


TUNNELS = {
    "wg0": {"uevent": "DEVTYPE=wireguard\nINTERFACE=wg0\n", "type": "65534"},
    "tun0": {"tun_flags": "0x1001", "type": "65534"},
    "ppp0": {"type": "512"},
}


def interface(root: Path, name: str, files: dict[str, str]) -> None:
    for file, text in files.items():
        write(root, f"sys/class/net/{name}/{file}", text)


@pytest.mark.parametrize("name", TUNNELS)
def test_the_relay_behind_another_vpn(tmp_path: Path, name: str) -> None:
    interface(tmp_path, name, TUNNELS[name])
    found = linux.route(MemoryNetwork(HostRoute(ANY, None, name)), RELAY, "softlan0", tmp_path)
    assert (found.outcome, f"directly on {name}" in found.found) == (Outcome.WARNING, True)


def test_the_relay_behind_a_cable(tmp_path: Path) -> None:
    interface(tmp_path, "eth0", {"type": "1", "uevent": "INTERFACE=eth0\n"})
    found = linux.route(MemoryNetwork(HostRoute(ANY, ROUTER, "eth0")), RELAY, "softlan0", tmp_path)
    assert (found.outcome, found.found) == (Outcome.OK, "The relay 192.0.2.7 is reached via 10.9.0.1 on eth0.")


def test_the_relay_behind_the_tunnel_itself(tmp_path: Path) -> None:
    found = linux.route(MemoryNetwork(HostRoute(ANY, None, "softlan0")), RELAY, "softlan0", tmp_path)
    assert (found.outcome, "ip route del" in found.advice) == (Outcome.FAILED, True)


def test_no_route_or_nothing_to_ask(tmp_path: Path) -> None:
    assert linux.route(MemoryNetwork(), RELAY, "softlan0", tmp_path).outcome is Outcome.FAILED
    loopback = ipaddress.ip_address("127.0.0.1")
    assert linux.route(MemoryNetwork(), loopback, "softlan0", tmp_path).outcome is Outcome.OK
    assert linux.route(MemoryNetwork(), None, "softlan0", tmp_path).outcome is Outcome.SKIPPED
    broken = MemoryNetwork()
    broken.fail(1, HostError("find route", "not now"))
    assert linux.route(broken, RELAY, "softlan0", tmp_path).outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n", Outcome.WARNING),
        ("tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000080\t0\t0\t0\n", Outcome.WARNING),  # 0.0.0.0/1
        ("tun0\t00000080\t00000000\t0001\t0\t0\t50\t00000080\t0\t0\t0\n", Outcome.WARNING),  # 128.0.0.0/1
        ("tun0\t0000000A\t00000000\t0001\t0\t0\t50\t000000FF\t0\t0\t0\n", Outcome.OK),  # 10.0.0.0/8
        ("eth0\t00000000\t0109000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", Outcome.OK),
    ],
)
def test_other_vpns(tmp_path: Path, line: str, outcome: Outcome) -> None:
    interface(tmp_path, "tun0", TUNNELS["tun0"])
    interface(tmp_path, "eth0", {"type": "1"})
    write(tmp_path, "proc/net/route", HEADER + line)
    assert linux.other_vpns(tmp_path).outcome is outcome


def test_routes_that_cannot_be_read(tmp_path: Path) -> None:
    assert linux.other_vpns(tmp_path).outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("config", "outcome"),
    [(None, Outcome.SKIPPED), ("ENABLED=yes\n", Outcome.WARNING), ("# ENABLED=yes\nENABLED=no\n", Outcome.OK)],
)
def test_firewall(tmp_path: Path, config: str | None, outcome: Outcome) -> None:
    if config is not None:
        write(tmp_path, "etc/ufw/ufw.conf", config)
    assert linux.firewall("softlan0", tmp_path).outcome is outcome
