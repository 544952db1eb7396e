from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.device.namespaces import Namespace, namespaces, unprivileged, wire

from softlan.device.wired import check_wired, wired_candidates
from softlan.errors import HostError

pytestmark = pytest.mark.netns


@pytest.fixture
def box() -> Iterator[Namespace]:
    """A machine with one wired interface, `lan0`, whose other end is `far0` on the same machine."""
    with namespaces(1) as (namespace,):
        wire(namespace, "lan0", namespace, "far0")
        with namespace.entered():
            yield namespace


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """An empty /sys."""
    (tmp_path / "class/net").mkdir(parents=True)
    return tmp_path


def describe(box: Namespace, sysfs: Path, interface: str, *, address: str | None = None) -> Path:
    """Let `sysfs` know `interface`, truly unless another address is given."""
    real = box.ip("-br", "link", "show", interface).split()
    entry = sysfs / "class/net" / interface
    entry.mkdir()
    index = box.ip("-o", "link", "show", interface).split(":")[0]
    (entry / "ifindex").write_text(index + "\n")
    (entry / "address").write_text((address or real[2]) + "\n")
    return entry


def refusal(interface: str, sysfs: Path) -> str:
    with pytest.raises(HostError) as caught:
        check_wired(interface, sysfs)
    assert caught.value.stage == "open interface"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_accepts_wired_ethernet(box: Namespace, sysfs: Path) -> None:
    check_wired("lan0", sysfs)
    describe(box, sysfs, "lan0")
    check_wired("lan0", sysfs)


def test_accepts_a_bridge(box: Namespace, sysfs: Path) -> None:
    box.ip("link", "add", "br0", "type", "bridge")
    box.ip("link", "set", "br0", "up")
    check_wired("br0", sysfs)


@pytest.mark.parametrize("name", ["eth9", "", "no such thing", "../../etc", "lan0%d", "x" * 300])
def test_names_what_would_do_when_there_is_no_such_interface(box: Namespace, sysfs: Path, name: str) -> None:
    assert refusal(name, sysfs) == f"there is no interface {name}; would do here: far0, lan0"


def test_says_that_nothing_would_do(box: Namespace, sysfs: Path) -> None:
    box.ip("link", "set", "lan0", "down")
    box.ip("link", "set", "far0", "down")
    assert "no interface here would do" in refusal("eth9", sysfs)


def test_shows_no_control_characters(box: Namespace, sysfs: Path) -> None:
    assert refusal("a\x1b[2J\n", sysfs).startswith("there is no interface a\\x1b[2J\\n; ")


def test_refuses_the_loopback(box: Namespace, sysfs: Path) -> None:
    assert refusal("lo", sysfs).startswith("lo is the loopback, not a wired Ethernet interface; would do here: ")


def test_refuses_an_interface_that_is_down_and_says_how_to_bring_it_up(box: Namespace, sysfs: Path) -> None:
    box.ip("link", "set", "lan0", "down")
    assert refusal("lan0", sysfs) == "lan0 is down; bring it up first: ip link set lan0 up"


@pytest.mark.parametrize("mode", ["tap", "tun"])
def test_refuses_a_tunnels_own_end(box: Namespace, sysfs: Path, mode: str) -> None:
    box.ip("tuntap", "add", "name", "tunnel0", "mode", mode)
    box.ip("link", "set", "tunnel0", "up")
    assert refusal("tunnel0", sysfs).startswith("tunnel0 is a TUN or TAP interface ")
    assert "tunnel0" not in wired_candidates(sysfs)


def test_refuses_what_sysfs_knows_to_be_a_tap(box: Namespace, sysfs: Path) -> None:
    (describe(box, sysfs, "lan0") / "tun_flags").write_text("0x1002")
    assert refusal("lan0", sysfs).startswith("lan0 is a TUN or TAP interface ")


def test_refuses_an_ethernet_tunnel(box: Namespace, sysfs: Path) -> None:
    box.ip("link", "add", "vx0", "type", "vxlan", "id", "3", "dstport", "4789", "remote", "192.0.2.1", "dev", "lan0")
    assert refusal("vx0", sysfs).startswith("vx0 is a tunnel (vxlan), ")


@pytest.mark.parametrize("mark", ["wireless", "phy80211"])
def test_refuses_wifi(box: Namespace, sysfs: Path, mark: str) -> None:
    (describe(box, sysfs, "lan0") / mark).mkdir()
    assert refusal("lan0", sysfs).startswith("lan0 is a Wi-Fi interface ")
    assert wired_candidates(sysfs) == ["far0"]


def test_does_not_believe_sysfs_about_another_namespaces_interface(box: Namespace, sysfs: Path) -> None:
    entry = describe(box, sysfs, "lan0", address="02:00:00:00:00:99")
    (entry / "wireless").mkdir()
    check_wired("lan0", sysfs)


def test_needs_no_privilege(box: Namespace, sysfs: Path) -> None:
    with unprivileged():
        check_wired("lan0", sysfs)
        assert refusal("lo", sysfs).startswith("lo is the loopback")
